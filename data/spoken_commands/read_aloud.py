r"""Lets the synthesisers of this corpus read the training texts of another, as shards to be mixed into its training.

    python data/spoken_commands/read_aloud.py LibriSpeech/train-clean-100 --out corpora/read-aloud
    asr run librispeech "splits.train=[train-clean-100, {data: 'shards:corpora/read-aloud', weight: 0.3}]"

Reads all `*.trans.txt` (lines of `ID TEXT`) below the folders, and the lines of text files (also `.gz`). They must be of
training parts: words of a test set that a model has heard, from whatever voice, are no test. Each text is read once, with a
voice, room, noise and microphone drawn by its id. Needs espeak-ng and flite; `--shares` asks for other synthesisers, too.

Source of the idea: Rosenberg et al. 2019, "Speech recognition with augmented synthesized speech".
"""

from __future__ import annotations

import argparse
import functools
import gzip
import multiprocessing
import random
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from acoustics import SAMPLE_RATE, record
from generate import plan
from voices import MORE_VOICES, speak

from asr.audio import encode_audio
from asr.corpus.shards import ShardsConfig, write_shards
from asr.corpus.utterance import Utterance

SEED = 1
# The last two are in Debian's section non-free.
PACKAGES = {
    "espeak-ng": "espeak-ng",
    "flite": "flite",
    "pico2wave": "libttspico-utils",
    "RHVoice-test": "rhvoice rhvoice-english",
}
SYNTHESISERS = ("flite", *MORE_VOICES)
NOT_FOR_TRAINING = ("dev", "test")


def texts_of(source: Path) -> Iterator[tuple[str, str]]:
    """Ids and texts of all transcripts below the folder `source`, or of the lines of the file `source`, in a fixed order."""
    if source.is_dir():
        for transcript in sorted(source.rglob("*.trans.txt")):
            for line in transcript.read_text(encoding="utf-8").splitlines():
                utterance_id, _, text = line.partition(" ")
                yield utterance_id, text
        return
    packed = source.read_bytes()
    lines = (gzip.decompress(packed) if source.suffix == ".gz" else packed).decode("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{source.name.partition('.')[0]}-{number:06d}", line


def check_sources(sources: list[Path]) -> None:
    """Ends the program where one of `sources` is not there, or is a part to measure on."""
    for source in sources:
        # In LibriSpeech's folders PART/SPEAKER/CHAPTER, wherever among these `source` is.
        parts = [source.resolve()]
        for transcript in source.rglob("*.trans.txt"):
            parts += transcript.resolve().parents[2:3]
        if wrong := next((part for part in parts if part.name.startswith(NOT_FOR_TRAINING)), None):
            sys.exit(f"error: {wrong}: expected a training part, found one to measure on; nothing was written")
        if not source.exists():
            sys.exit(
                f"error: {source}: expected a folder with *.trans.txt below or a file of texts, found nothing there"
            )


def share(text: str) -> tuple[str, float]:
    """A synthesiser and its share, of PROGRAM=SHARE.

    Raises:
        ValueError: no number.
        ArgumentTypeError: no such synthesiser, or no share.
    """
    program, _, number = text.partition("=")
    if program not in SYNTHESISERS or not 0 <= float(number) <= 1:
        raise argparse.ArgumentTypeError(f"expected PROGRAM=SHARE of {', '.join(SYNTHESISERS)}, found {text}")
    return program, float(number)


def read_aloud(job: tuple[str, str], shares: Mapping[str, float]) -> Utterance:
    """The utterance that a synthesiser made of (id, text); the same in every run."""
    utterance_id, text = job
    voice, scene, numbers = plan(SEED, "train", zlib.crc32(utterance_id.encode()), shares)
    samples, rate = speak(text.lower(), voice)
    waveform = record(samples, rate, scene, numbers).astype(np.float32)
    audio = encode_audio(waveform, SAMPLE_RATE, "flac")
    return Utterance(id=f"{utterance_id}-aloud", audio=audio, text=text, speaker=voice.speaker)


def main() -> None:
    """Read the texts aloud and write the shards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sources", nargs="+", type=Path, help="training parts of a corpus, or files of texts, one a line"
    )
    parser.add_argument("--utterances", type=int, default=None, help="so many, drawn at random (default: all)")
    parser.add_argument(
        "--shares",
        nargs="+",
        type=share,
        default=[("flite", 0.6)],
        metavar="PROGRAM=SHARE",
        help=f"of {', '.join(SYNTHESISERS)}; what they leave is espeak-ng's, the least human (default: flite=0.6)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--processes", type=int, default=None, help="as many as there are processors by default")
    options = parser.parse_args()
    check_sources(options.sources)
    shares = dict(options.shares)
    if sum(shares.values()) > 1:
        parser.error(f"--shares: expected 1 in all at most, found {sum(shares.values()):g}")
    needed = {program: PACKAGES[program] for program in ("espeak-ng", *shares)}
    missing = {program: package for program, package in needed.items() if shutil.which(program) is None}
    if missing:
        sys.exit(f"error: not found: {', '.join(missing)}; on Debian: apt-get install {' '.join(missing.values())}")
    jobs = [job for source in options.sources for job in texts_of(source)]
    if not jobs:
        sys.exit(
            f"error: {options.sources[0]}: expected texts (lines of a file, or *.trans.txt below a folder), found none"
        )
    if options.utterances is not None:
        jobs = random.Random(SEED).sample(jobs, min(options.utterances, len(jobs)))
    reader = functools.partial(read_aloud, shares=shares)
    with multiprocessing.Pool(options.processes) as pool:
        index = write_shards(
            pool.imap(reader, jobs, chunksize=4), options.out, sample_rate=SAMPLE_RATE, config=ShardsConfig()
        )
    print(
        f"{options.out}: {index.num_utterances} utterances, {index.seconds / 3600:.2f} h, {index.num_speakers} voices"
    )


if __name__ == "__main__":
    main()
