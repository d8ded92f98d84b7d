"""Spoken commands: the embedded corpus, synthetic speech made by this project, so that everything runs without a download.

Home control, numbers up to a million, times and dates, spoken by espeak-ng and flite with varied speed, pitch, level, noise
and room. Voices of the test parts never occur in training; `test-unseen-synthesiser` is spoken by festival, which occurs
nowhere else. `data/README.md` tells where each voice comes from, `data/spoken_commands/generate.py` makes it again.

Layout: `SPLIT-000.tar`, ... with `ID.opus` and `ID.json` (id, text, speaker, seconds, and how it was spoken) for each
utterance, and `index.json` with the SHA-256 of each tar.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from asr.corpus.utterance import Utterance
from asr.errors import CorpusError
from asr.recipe import Recipe, Splits

SPLITS = ("train", "dev", "test", "test-unseen-synthesiser")
OWN_KEYS = ("id", "text", "speaker", "seconds")


def read(root: Path, split: str) -> Iterator[Utterance]:
    """The utterances of `split` in the shards below `root`, with their audio as bytes.

    Raises:
        CorpusError: no such split, no shards of it, or a shard that cannot be read.
    """
    if split not in SPLITS:
        raise CorpusError(f"spoken_commands: no split '{split}'; known: {', '.join(SPLITS)}")
    shards = sorted(root.glob(f"{split}-[0-9][0-9][0-9].tar"))
    if not shards:
        raise CorpusError(f"{root}: no {split}-000.tar; expected the folder data/spoken_commands")
    for shard in shards:
        try:
            yield from _read_shard(shard)
        except (OSError, tarfile.TarError, ValueError, KeyError) as error:
            raise CorpusError(f"{shard}: damaged shard, take a fresh copy of it: {error}") from error


def _read_shard(shard: Path) -> Iterator[Utterance]:
    with tarfile.open(shard) as tar:
        audio = b""
        for member in tar:
            file = tar.extractfile(member)
            content = b"" if file is None else file.read()
            if member.name.endswith(".opus"):
                audio = content
                continue
            row = json.loads(content)
            yield Utterance(
                id=row["id"],
                audio=audio,
                text=row["text"],
                speaker=row["speaker"],
                seconds=row["seconds"],
                metadata={key: str(value) for key, value in row.items() if key not in OWN_KEYS},
            )


def imitate(root: Path) -> None:
    """Three utterances of each split: tones instead of voices."""
    import numpy as np

    from asr.audio import encode_audio

    for number, split in enumerate(SPLITS):
        with tarfile.open(root / f"{split}-000.tar", "w") as tar:
            for index in range(3):
                times = np.arange(8000 + 800 * index, dtype=np.float32) / 16000
                tone = np.sin(2 * np.pi * (300 + 100 * index) * times).astype(np.float32)
                audio = encode_audio(0.1 * tone, 16000, "opus")
                row = {
                    "id": f"{split}-{index:04d}",
                    "text": ("turn on the light", "seven", "half past nine")[index],
                    "speaker": f"tone{number}",
                    "seconds": round(len(times) / 16000, 3),
                }
                for suffix, data in (("opus", audio), ("json", json.dumps(row).encode())):
                    member = tarfile.TarInfo(f"{row['id']}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


RECIPE = Recipe(
    name="spoken_commands",
    title="synthetic home commands, numbers, times and dates, with voices and a synthesiser that are held out",
    hours=0.8,
    speakers=335,
    licence="Apache-2.0",
    source="comes with this package",
    splits=Splits(train="train", dev="dev", test=("test", "test-unseen-synthesiser")),
    read=read,
    imitate=imitate,
    config="spoken_commands.yaml",
    default_root="data/spoken_commands",
    speakers_disjoint=True,
)
