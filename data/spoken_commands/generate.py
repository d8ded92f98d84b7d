"""Makes the corpus again: `python data/spoken_commands/generate.py --out FOLDER`.

Needs espeak-ng, flite and festival with a voice (Debian: espeak-ng flite festival festvox-kdlpc16k).
Every utterance follows from the seed, its split and its number alone: the same versions of the synthesisers and of
libsndfile give the same bytes, on any number of processors.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from acoustics import SAMPLE_RATE, Scene, draw_scene, record
from sentences import draw
from shards import encode_opus, write_shards
from voices import FESTIVAL_VOICES, UNSEEN, Voice, draw_voice, speak

SEED = 20261121
NUM_UTTERANCES = {"train": 1110, "dev": 70, "test": 150, UNSEEN: 120}
SENTENCE_WORDS = range(3, 12)
LEAST_EACH_WORD = 14
PROGRAMS = ("espeak-ng", "flite", "festival", "text2wave")
PACKAGES = "espeak-ng flite festival festvox-kdlpc16k"


def texts(seed: int) -> dict[str, list[str]]:
    """The sentences of each split. Those of training come first and know nothing of the others, which avoid all before."""
    result: dict[str, list[str]] = {}
    for split, number in NUM_UTTERANCES.items():
        train = split == "train"
        result[split] = draw(
            number,
            random.Random(f"{seed} {split} texts"),
            words=SENTENCE_WORDS,
            each_word=LEAST_EACH_WORD if train else 0,
            unlike=[text for before in result.values() for text in before],
        )
    return result


def _digest(seed: int, split: str, number: int) -> bytes:
    return hashlib.blake2b(f"{seed} {split} {number}".encode(), digest_size=8).digest()


def plan(
    seed: int, split: str, number: int, shares: Mapping[str, float] | None = None
) -> tuple[Voice, Scene, np.random.Generator]:
    """Who speaks utterance `number` of `split`, what stands between them and us, and the chance that is left for noise."""
    digest = _digest(seed, split, number)
    numbers = np.random.default_rng(int.from_bytes(digest))
    return draw_voice(split, random.Random(digest), shares), draw_scene(split, numbers), numbers


def make_utterance(job: tuple[int, str, int, str]) -> tuple[dict[str, object], bytes]:
    """The description and the Opus file of one utterance; a job is seed, split, number and text."""
    seed, split, number, text = job
    voice, scene, numbers = plan(seed, split, number)
    samples, rate = speak(text, voice)
    waveform = record(samples, rate, scene, numbers)
    description = {
        "id": f"{split}-{number:04d}",
        "text": text,
        "speaker": voice.speaker,
        "seconds": round(len(waveform) / SAMPLE_RATE, 3),
        **voice.described(),
        **scene.described(),
    }
    return description, encode_opus(waveform, SAMPLE_RATE, int.from_bytes(_digest(seed, split, number)[:4]))


def summary(rows: Sequence[dict[str, object]], train_texts: Sequence[str]) -> dict[str, object]:
    """What the index tells of a split, beside its shards."""
    spoken = [str(row["text"]) for row in rows]
    return {
        "utterances": len(rows),
        "seconds": round(sum(float(str(row["seconds"])) for row in rows), 1),
        "words": sum(len(text.split()) for text in spoken),
        "vocabulary": len({word for text in spoken for word in text.split()}),
        "speakers": len({row["speaker"] for row in rows}),
        "synthesisers": dict(sorted(Counter(str(row["synthesiser"]) for row in rows).items())),
        "sentences": len(set(spoken)),
        "sentences_in_train": len(set(spoken) & set(train_texts)),
    }


def missing_programs() -> list[str]:
    """What must be installed first: programs that are not found, and voices that festival does not know."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return missing
    known = subprocess.run(
        ["festival", "--pipe"], input=b"(print (voice.list))", capture_output=True, check=True
    ).stdout
    voices = known.decode().replace("(", " ").replace(")", " ").split()
    return [f"festival's voice {voice}" for voice in FESTIVAL_VOICES.values() if voice not in voices]


def main() -> None:
    """Make all splits, write shards, index and a clip to try things on, print what the splits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards and index.json")
    parser.add_argument("--seed", type=int, default=SEED, help="another seed, another corpus (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=None, help="as many as there are processors by default")
    arguments = parser.parse_args()
    missing = missing_programs()
    if missing:
        sys.exit(f"error: not found: {', '.join(missing)}; on Debian: apt-get install {PACKAGES}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for old in arguments.out.glob("*-[0-9][0-9][0-9].tar"):
        old.unlink()
    text_of = texts(arguments.seed)
    splits: dict[str, object] = {}
    with multiprocessing.Pool(arguments.processes) as pool:
        for split, sentences in text_of.items():
            jobs = [(arguments.seed, split, number, text) for number, text in enumerate(sentences)]
            samples = pool.map(make_utterance, jobs, chunksize=8)
            shards = write_shards(samples, split, arguments.out)
            told = summary([row for row, _ in samples], text_of["train"])
            print(split, json.dumps(told), flush=True)
            splits[split] = told | {"shards": shards}
            if split == "test":
                clip, audio = samples[0]
                (arguments.out / "clip.opus").write_bytes(audio)
    index = {
        "seed": arguments.seed,
        "splits": splits,
        "clip": {"file": "clip.opus", "id": clip["id"], "text": clip["text"]},
    }
    (arguments.out / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
