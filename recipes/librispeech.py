"""LibriSpeech: a thousand hours of English read aloud from public-domain books, 16 kHz.

Origin: https://www.openslr.org/12 and, for train-clean-5 and dev-clean-2, https://www.openslr.org/31 ("mini LibriSpeech");
V. Panayotov, G. Chen, D. Povey, S. Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio books", ICASSP
2015; CC BY 4.0.

Layout, at the root or in `LibriSpeech/`, where the archives unpack to: `SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac`
(or .wav, .mp3, .opus, .ogg) with `SPEAKER-CHAPTER.trans.txt` beside, lines of `ID TEXT`; `SPEAKERS.TXT` tells the sex of
each reader, and who is missing. A subset may be there in part: lines without a file are counted and named, and so are gaps
in the numbers of a chapter, and readers.

The configurations: `librispeech_mini` (5 h, 28 readers), `librispeech_100h`, `librispeech_460h`, `librispeech_960h`.

A plan, computed from measured figures by `benchmarks/plan.py` (`benchmarks/results/plan.json`). One core trains the 5 x
800 network of `librispeech_960h` on 17.9 hours of speech in an hour. In cores at 0.04 an hour, with 0.15 lost at each
doubling as measured at the first: 960 h, 40 epochs: 56 h an epoch on one core, 56 h in all on 128 cores, 7.14 an epoch;
10,000 h, 12 epochs: 587 h, 61 h on 512 cores, 103.47 an epoch. Storage, by the FLAC of 51 utterances of test-other: 61 GB
of archives, 64 GB unpacked, 62 GB of shards; 634, 668 and 646 GB. Preparation 0.4 and 4 core-hours; one core, with one
thread for the loader, loads for a device that trains at 4,400 times real time. No GPU was at hand: after
`benchmarks/gpu_step.py` the same script plans in GPUs.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from asr.corpus.download import Download
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError, did_you_mean, first_of
from asr.recipe import Recipe, Splits, tone

# Subset: utterances, OpenSLR's number of the resource, MD5 sum of the archive as OpenSLR states it.
SUBSETS = {
    "train-clean-5": (1519, 31, "5df7d4e78065366204ca6845bb08f490"),
    "dev-clean-2": (1089, 31, "6d7ab67ac6a1d2c993d050e16d61080d"),
    "train-clean-100": (28539, 12, "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": (104014, 12, "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": (148688, 12, "d1a0fd59409feb2c614ce4d30c387708"),
    "dev-clean": (2703, 12, "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": (2864, 12, "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": (2620, 12, "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": (2939, 12, "fb5a50374b501bb3bac4815ee91d3135"),
}
SUFFIXES = (".flac", ".wav", ".opus", ".ogg", ".mp3")


def read(root: Path, split: str) -> Generator[Utterance, None, list[str]]:
    """The utterances of the subset `split`, by speaker, chapter and number; then the names of what a partial copy lacks."""
    folder = folder_of(root, split)
    speakers = read_speakers(folder.parent / "SPEAKERS.TXT")
    num_found, without_file, gaps, found_readers = 0, list[str](), list[str](), set[str]()
    for transcript in sorted(folder.glob("*/*/*.trans.txt"), key=order_of):
        files, texts = sound_files(transcript.parent), list(read_transcript(transcript))
        speaker, chapter = transcript.parent.parent.name, transcript.parent.name
        metadata = {"chapter": chapter} | ({"sex": speakers[speaker].sex} if speaker in speakers else {})
        gaps += gaps_in([utterance_id for utterance_id, _ in texts])
        for utterance_id, text in texts:
            if utterance_id not in files:
                without_file.append(utterance_id)
                continue
            num_found += 1
            found_readers.add(speaker)
            yield Utterance(id=utterance_id, audio=files[utterance_id], text=text, speaker=speaker, metadata=metadata)
    if num_found == 0:
        raise CorpusError(f"{folder}: no SPEAKER/CHAPTER/*.trans.txt with sound files ({', '.join(SUFFIXES)}) beside")
    readers = [name for name, each in speakers.items() if each.subset == split and name not in found_readers]
    if num_found != SUBSETS[split][0]:
        report_missing(folder, num_found, without_file, gaps, readers)
    return [*without_file, *gaps, *(f"reader {name}" for name in readers)]


def folder_of(root: Path, split: str) -> Path:
    """The folder of the subset `split`, at `root` or in `LibriSpeech/` there."""
    if split not in SUBSETS:
        raise CorpusError(f"librispeech: no split '{split}'{did_you_mean(split, SUBSETS)}")
    places = (root / "LibriSpeech", root)
    folder = next((each / split for each in places if (each / split).is_dir()), None)
    if folder is None:
        found = ", ".join(name for name in SUBSETS if any((each / name).is_dir() for each in places))
        raise CorpusError(
            f"{root}: no {split}; expected {split}/SPEAKER/CHAPTER/ there or in LibriSpeech/, found "
            + (f"{found}: name these in splits.train, splits.dev and splits.test, or add {split}" if found else "none")
        )
    return folder


def sound_files(folder: Path) -> dict[str, Path]:
    """The sound file of each id in the folder of a chapter; of several, the first by `SUFFIXES`."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    files.sort(key=lambda path: (SUFFIXES.index(path.suffix.lower()), path.name), reverse=True)
    return {path.stem: path for path in files}


def order_of(transcript: Path) -> tuple[str, ...]:
    """What transcripts are sorted by: speaker and chapter as numbers, so that 84 comes before 174."""
    return tuple(part.zfill(8) for part in transcript.parts[-3:-1])


def read_transcript(path: Path) -> Iterator[tuple[str, str]]:
    """Id and text of each line of a `.trans.txt`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot read the transcripts: {error}") from error
    for number, line in enumerate(lines, start=1):
        utterance_id, _, text = line.strip().partition(" ")
        if not utterance_id:
            continue
        if not text.strip():
            raise CorpusError(f"{path}:{number}: expected 'ID TEXT', found {line!r}")
        yield utterance_id, text.strip()


class Speaker(NamedTuple):
    """What SPEAKERS.TXT knows of a reader: M or F, and the subset that they read for."""

    sex: str
    subset: str


def read_speakers(path: Path) -> dict[str, Speaker]:
    """The readers that SPEAKERS.TXT names, by number; none where the file is missing, as in partial copies."""
    if not path.is_file():
        return {}
    # Of another encoding than UTF-8 only names may be, which are not read.
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = ([field.strip() for field in line.split("|")] for line in lines if not line.startswith(";"))
    return {row[0]: Speaker(row[1], row[2]) for row in rows if len(row) > 2}


def gaps_in(ids: list[str]) -> list[str]:
    """The ids that lack among those of a chapter, which count from 0; how many come behind its last nobody knows."""
    numbers = {int(number) for _, _, number in (name.rpartition("-") for name in ids) if number.isdecimal()}
    return [
        f"{ids[0].rpartition('-')[0]}-{number:04d}"
        for number in range(max(numbers, default=0))
        if number not in numbers
    ]


def report_missing(folder: Path, num_found: int, without_file: list[str], gaps: list[str], readers: list[str]) -> None:
    """Says what a partial copy lacks: sounds of transcripts, numbers in chapters, readers."""
    log = logging.getLogger(__name__)
    if without_file:
        log.warning("%s: %d transcripts have no sound file: %s", folder, len(without_file), first_of(without_file))
    told = f"; {len(gaps)} more are not there by the numbers of their chapters: {first_of(gaps)}" if gaps else ""
    if readers:
        told += f"; {len(readers)} of its readers are not there: {first_of(readers)}"
    if not (folder.parent / "SPEAKERS.TXT").is_file():
        told += f"; which readers are not there, SPEAKERS.TXT in {folder.parent} would tell"
    log.warning("%s: %d utterances, the whole subset has %d%s", folder, num_found, SUBSETS[folder.name][0], told)


def imitate(root: Path) -> None:
    """Three utterances by one reader for each subset: tones instead of voices."""
    for speaker, split in enumerate(SUBSETS, start=1000):
        folder = root / "LibriSpeech" / split / str(speaker) / "7"
        folder.mkdir(parents=True)
        lines = []
        for number, text in enumerate(("ONE TONE", "A SECOND TONE", "THE THIRD")):
            utterance_id = f"{speaker}-7-{number:04d}"
            (folder / f"{utterance_id}.flac").write_bytes(tone(200 + 100 * number, 0.4))
            lines.append(f"{utterance_id} {text}\n")
        (folder / f"{speaker}-7.trans.txt").write_text("".join(lines), encoding="utf-8")
    rows = "".join(f"{1000 + number} | F | {split} | 25.0 | Tone\n" for number, split in enumerate(SUBSETS))
    (root / "LibriSpeech" / "SPEAKERS.TXT").write_text(f"; readers\n{rows}", encoding="utf-8")


RECIPE = Recipe(
    name="librispeech",
    title="LibriSpeech: English read aloud, with the mini sets",
    hours=960.9,
    speakers=2338,
    licence="CC BY 4.0",
    source="https://www.openslr.org/12",
    splits=Splits(
        train=("train-clean-100",), dev="dev-clean", test=("dev-clean", "dev-other", "test-clean", "test-other")
    ),
    read=read,
    imitate=imitate,
    config="librispeech_100h.yaml",
    downloads=tuple(
        Download(url=f"https://www.openslr.org/resources/{resource}/{name}.tar.gz", md5=md5, splits=(name,))
        for name, (_, resource, md5) in SUBSETS.items()
    ),
    sizes={name: size for name, (size, _, _) in SUBSETS.items()},
    speakers_disjoint=True,
)
