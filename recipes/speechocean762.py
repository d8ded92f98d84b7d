"""speechocean762: English sentences read by native speakers of Mandarin, half of them children, 16 kHz.

Origin: https://www.openslr.org/101; J. Zhang et al., "speechocean762: An Open-Source Non-native English Speech Corpus For
Pronunciation Assessment", Interspeech 2021; CC BY 4.0, free for any use.

Layout, at the root or in `speechocean762/`, where the archive unpacks to: `train/` and `test/` with Kaldi's `text`,
`wav.scp`, `utt2spk`, `spk2gender` and `spk2age`; or a `manifest.jsonl` whose column `split` says train or test.

The publisher has no development part: `dev` is twelve of the 125 training speakers, those with a low CRC of their name,
`train` the others, `train-all` both together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asr.corpus.download import Download
from asr.corpus.utterance import Utterance, read_manifest, write_manifest
from asr.errors import CorpusError
from asr.recipe import Recipe, holding_out_dev, tone

DEV_SHARE = 0.091
"""Between the CRCs of the twelfth and the thirteenth speaker: another value would move speakers that models learnt from."""
CHILD_AGE = 16


def read_published(root: Path, split: str) -> Iterator[Utterance]:
    """The utterances of the publisher's own part `split`, train or test."""
    for folder in (root / "speechocean762", root):
        if (folder / "manifest.jsonl").is_file():
            for utterance in read_manifest(folder / "manifest.jsonl"):
                if "split" not in utterance.metadata:
                    raise CorpusError(
                        f"{folder / 'manifest.jsonl'}: '{utterance.id}' has no key 'split' (train or test)"
                    )
                if utterance.metadata["split"] == split:
                    yield utterance
            return
        if (folder / split / "wav.scp").is_file():
            yield from read_kaldi(folder, split)
            return
    raise CorpusError(f"{root}: expected {split}/wav.scp or manifest.jsonl, there or in speechocean762/")


def read_kaldi(folder: Path, split: str) -> Iterator[Utterance]:
    """The utterances of `split` by Kaldi's lists; readers below sixteen are the group "child", the others "adult"."""
    texts, speakers, ages, sexes = (
        table(folder / split / name) for name in ("text", "utt2spk", "spk2age", "spk2gender")
    )
    for utterance_id, audio in table(folder / split / "wav.scp").items():
        if utterance_id not in texts or utterance_id not in speakers:
            raise CorpusError(f"{folder / split}: '{utterance_id}' is in wav.scp but not in text and utt2spk")
        speaker = speakers[utterance_id]
        metadata = {"sex": sexes.get(speaker, "")}
        if speaker in ages:
            age = ages[speaker]
            if not age.isdecimal():
                raise CorpusError(
                    f"{folder / split / 'spk2age'}: expected a number of years for '{speaker}', found '{age}'"
                )
            metadata |= {"age": age, "group": "child" if int(age) < CHILD_AGE else "adult"}
        yield Utterance(
            id=utterance_id, audio=folder / audio, text=texts[utterance_id], speaker=speaker, metadata=metadata
        )


def table(path: Path) -> dict[str, str]:
    """First word to the rest of each line of a list of Kaldi's; empty where there is no such file."""
    if not path.is_file():
        return {}
    rows = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def imitate(root: Path) -> None:
    """Two training speakers and one test speaker with three utterances each: tones instead of voices."""
    utterances = []
    for number, (speaker, split) in enumerate((("0001", "train"), ("0002", "train"), ("0003", "test"))):
        for count, text in enumerate(("WE CALL IT BEAR", "MARK IS GOING", "A TONE")):
            path = root / "audio" / f"{speaker}{count}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tone(200 + 100 * number + 30 * count, 0.4))
            utterances.append(
                Utterance(id=path.stem, audio=path, text=text, speaker=speaker, metadata={"split": split})
            )
    write_manifest(root / "manifest.jsonl", utterances)


RECIPE = Recipe(
    name="speechocean762",
    title="English read by native speakers of Mandarin, half of them children",
    hours=2.9,
    speakers=125,
    licence="CC BY 4.0",
    source="https://www.openslr.org/101",
    read=holding_out_dev("speechocean762", read_published, DEV_SHARE),
    imitate=imitate,
    config="own_files.yaml",
    downloads=(Download(url="https://www.openslr.org/resources/101/speechocean762.tar.gz"),),
    sizes={"train-all": 2500, "test": 2500},
    speakers_disjoint=True,
)
