"""Free Spoken Digit Dataset: isolated English digits, six speakers, 50 recordings of each digit by each, 8 kHz.

Origin: https://github.com/Jakobovski/free-spoken-digit-dataset (Jackson et al.), CC BY-SA 4.0.

Layout: `recordings/DIGIT_SPEAKER_INDEX.wav` (or `.flac`), at the root or in the one folder that the archive unpacks to.
The official test set is indices 0 to 4; indices 5 to 49 are for training, of which 5 to 7 are held out here as dev.

Splits for leaving one speaker out, to be named in a configuration: `train-without-theo`, `dev-without-theo` and
`only-theo` (all 500 recordings of that speaker); `test-theo` is the speaker's part of the official test set.

The publisher states no checksum of the archive, so a download is checked by what it must hold: 3,000 recordings.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from asr.corpus.download import Download
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError
from asr.recipe import Recipe, tone

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
NUM_RECORDINGS = 3000
INDICES = {"train": range(8, 50), "dev": range(5, 8), "test": range(5)}
NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[a-z]+)_(?P<index>[0-9]+)")


def parts() -> dict[str, tuple[frozenset[str], range]]:
    """Speakers and indices of each split, by the split's name."""
    everyone = frozenset(SPEAKERS)
    result = {split: (everyone, indices) for split, indices in INDICES.items()}
    for name in SPEAKERS:
        alone = frozenset({name})
        result[f"train-without-{name}"] = everyone - alone, INDICES["train"]
        result[f"dev-without-{name}"] = everyone - alone, INDICES["dev"]
        result[f"test-{name}"] = alone, INDICES["test"]
        result[f"only-{name}"] = alone, range(50)
    return result


def read(root: Path, split: str) -> Iterator[Utterance]:
    """The recordings of `split`, ordered by index, so that digits and speakers alternate."""
    known = parts()
    if split not in known:
        listed = ", ".join(known)
        raise CorpusError(f"fsdd: no split '{split}'; known: {listed}")
    speakers, indices = known[split]
    for index, digit, speaker, path in recordings(root):
        if speaker in speakers and index in indices:
            yield Utterance(id=path.stem, audio=path, text=WORDS[digit], speaker=speaker)


def recordings(root: Path) -> list[tuple[int, int, str, Path]]:
    """Index, digit, speaker and file of every recording below `root`, in this order."""
    folders = [root / "recordings", *sorted(root.glob("free-spoken-digit-dataset-*/recordings")), root]
    folder = next((folder for folder in folders if next(folder.glob("*_*_*.*"), None)), None)
    if folder is None:
        raise CorpusError(f"{root}: no recordings; expected recordings/DIGIT_SPEAKER_INDEX.wav or .flac there")
    found = []
    for path in folder.iterdir():
        name = NAME.fullmatch(path.stem)
        if name and path.suffix in {".wav", ".flac"}:
            found.append((int(name["index"]), int(name["digit"]), name["speaker"], path))
    if len(found) != NUM_RECORDINGS:
        logging.getLogger(__name__).warning("%s: %d recordings, expected %d", folder, len(found), NUM_RECORDINGS)
    return sorted(found)


def imitate(root: Path) -> None:
    """Three recordings for each split: tones instead of voices."""
    (root / "recordings").mkdir(parents=True)
    for index in (0, 5, 8):
        for digit, speaker in enumerate(("george", "jackson", "theo")):
            path = root / "recordings" / f"{digit}_{speaker}_{index}.wav"
            path.write_bytes(tone(200 + 100 * digit + index, 0.3, 8000, "wav"))


RECIPE = Recipe(
    name="fsdd",
    title="Free Spoken Digit Dataset: isolated English digits",
    hours=0.31,
    speakers=6,
    licence="CC BY-SA 4.0",
    source="https://github.com/Jakobovski/free-spoken-digit-dataset",
    read=read,
    imitate=imitate,
    config="fsdd.yaml",
    downloads=(
        Download(
            url="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
            name="free-spoken-digit-dataset-1.0.10.zip",
        ),
    ),
)
