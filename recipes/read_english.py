"""A few hours of English by three single readers: CMU Arctic prompts and two readings of LJ Speech's text, 16 kHz.

Origin: rhasspy's dataset-voice-kathleen (CC0), the sample of dc_tts (Apache-2.0), LJ Speech (public domain).

Layout: `manifest.jsonl` with the columns id, audio, seconds, text, speaker and split. Four ids stand there twice, for two
readers of one text, while one sound file is there: the reader whose stated duration is nearer to the file's is right, and
the other line is left out with a warning.

All of it is one part, "all"; `train`, `dev` and `test` divide it by the CRC of the ids, with every reader in each.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from pathlib import Path

from asr.audio import audio_info
from asr.corpus.utterance import Utterance, records_of_manifest, utterance_of_record, write_manifest
from asr.errors import CorpusError
from asr.recipe import Recipe, tone

SPLITS = {"all": range(100), "train": range(10, 100), "dev": range(5), "test": range(5, 10)}


def read(root: Path, split: str) -> Iterator[Utterance]:
    """The utterances of `split` in the manifest's order."""
    if split not in SPLITS:
        raise CorpusError(f"read_english: no split '{split}'; known: {', '.join(SPLITS)}")
    yield from (each for each in read_all(root) if zlib.crc32(each.id.encode()) % 100 in SPLITS[split])


def read_all(root: Path) -> Iterator[Utterance]:
    """Every utterance whose sound file is its own."""
    path = root / "manifest.jsonl"
    if not path.is_file():
        raise CorpusError(f"{root}: expected manifest.jsonl there")
    utterances = [utterance_of_record(record, root, where) for where, record in records_of_manifest(path)]
    best: dict[str, Utterance] = {}
    for utterance in utterances:
        other = best.get(utterance.id)
        if other is None or difference_of_durations(utterance) < difference_of_durations(other):
            best[utterance.id] = utterance
    left_out = [each.id for each in utterances if best[each.id] is not each]
    if left_out:
        logging.getLogger(__name__).warning(
            "%s: %d lines left out, another reader's file lies there: %s", path, len(left_out), ", ".join(left_out)
        )
    yield from (each for each in utterances if best[each.id] is each)


def difference_of_durations(utterance: Utterance) -> float:
    """Seconds between the stated duration and that of the sound file."""
    return abs((utterance.seconds or 0.0) - audio_info(utterance.audio, name=utterance.id).seconds)


def imitate(root: Path) -> None:
    """Sixty utterances of one reader, enough for every part: tones instead of voices."""
    (root / "audio").mkdir(parents=True)
    utterances = []
    for number in range(60):
        path = root / "audio" / f"tone-{number}.flac"
        path.write_bytes(tone(200 + 10 * number, 0.2))
        utterances.append(Utterance(id=path.stem, audio=path, text="A TONE", speaker="reader", seconds=0.2))
    write_manifest(root / "manifest.jsonl", utterances)


RECIPE = Recipe(
    name="read_english",
    title="English prompts and book text by three single readers",
    hours=2.3,
    speakers=3,
    licence="CC0, Apache-2.0, public domain",
    source="https://github.com/rhasspy/dataset-voice-kathleen, https://keithito.com/LJ-Speech-Dataset",
    read=read,
    imitate=imitate,
    config="own_files.yaml",
)
