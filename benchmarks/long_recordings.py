"""What becomes of errors and memory where a long recording is heard at once, or cut at pauses into pieces.

    python benchmarks/long_recordings.py --model data/models/english_small/model.pt --root ROOT
    python benchmarks/long_recordings.py --model runs/spoken_commands --data spoken_commands:test --pause 0.6

The utterances of each chapter of a part of LibriSpeech, or of each speaker elsewhere, in order and with a pause of silence
between them, make one recording. It is heard utterance by utterance, in pieces of several lengths, in those that the model
takes by itself, and at once; greedy decoding, one thread. Each way has a process of its own, whose peak of memory is told,
what is imported included.
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from record import record

from asr.audio import read_audio
from asr.corpus.utterance import Utterance
from asr.decoding import GreedyDecoderConfig
from asr.recipe import find_corpus, find_part, find_recipe
from asr.recognizer import Recognizer
from asr.scoring import Transcript, score_systems
from asr.terminal import progress_bar

UTTERANCES = "utterance by utterance"
WAYS = {
    UTTERANCES: math.inf,
    "pieces of 10 s": 10,
    "pieces of 20 s": 20,
    "pieces of 40 s": 40,
    "pieces of 80 s": 80,
    "pieces as long as what the model learnt from": None,
    "at once": math.inf,
}


@dataclass(frozen=True)
class Heard:
    """What one way of hearing gives: texts by chapter, and what it cost."""

    texts: dict[str, str]
    cpu_seconds: float
    peak_mb: int
    audio_seconds: float


def chapters_of(data: str, root: Path | None) -> dict[str, list[Utterance]]:
    """Utterances in order, by what their ids begin with, in LibriSpeech speaker and chapter, and by speaker."""
    recipe, _, split = data.partition(":")
    corpus = find_corpus(find_recipe(recipe), [split], root=root)

    def chapter_of(utterance: Utterance) -> str:
        return f"{utterance.id.rpartition('-')[0]} {utterance.speaker}"

    utterances = list(find_part(data, find_recipe(recipe)).read(corpus))
    utterances.sort(key=lambda utterance: (chapter_of(utterance), utterance.id))
    return {chapter: list(group) for chapter, group in itertools.groupby(utterances, key=chapter_of)}


def hear(model: Path, data: str, root: Path | None, pause: float, way: str) -> Heard:
    """All chapters, with a `pause` in seconds behind each utterance, heard in one way."""
    torch.set_num_threads(1)
    recognizer = Recognizer.load(model, GreedyDecoderConfig(), device="cpu")
    rate = recognizer.sample_rate
    silence = np.zeros(round(pause * rate), np.float32)
    chapters = chapters_of(data, root)
    texts, cpu_seconds, audio_seconds = {}, 0.0, 0.0
    with progress_bar(way, len(chapters)) as advance:
        for chapter, utterances in chapters.items():
            waveforms = [read_audio(utterance.audio, rate) for utterance in utterances]
            if way != UTTERANCES:
                waveforms = [np.concatenate([part for waveform in waveforms for part in (waveform, silence)])]
            began = time.process_time()
            found = [
                recognizer.transcribe(waveform, sample_rate=rate, longest_piece=WAYS[way]) for waveform in waveforms
            ]
            cpu_seconds += time.process_time() - began
            audio_seconds += sum(each.seconds for each in found)
            texts[chapter] = " ".join(each.best.text for each in found)
            advance(1)
    return Heard(texts, cpu_seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, audio_seconds)


def main() -> None:
    """Hears the chapters in every way and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--root", type=Path, help="folder that holds the corpus")
    parser.add_argument("--data", default="librispeech:dev-clean")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of silence behind each utterance")
    options = parser.parse_args()

    heard: dict[str, Heard] = {}
    for way in WAYS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            heard[way] = process.submit(hear, options.model, options.data, options.root, options.pause, way).result()
    normalize = Recognizer.load(options.model, GreedyDecoderConfig(), device="cpu").normalize
    said = {
        chapter: Transcript(text=" ".join(normalize(each.text) for each in utterances), speaker=utterances[0].speaker)
        for chapter, utterances in chapters_of(options.data, options.root).items()
    }
    texts = {
        way: {chapter: Transcript(text=text) for chapter, text in each.texts.items()} for way, each in heard.items()
    }
    card = score_systems(said, texts, subset=options.data, keep_scores=False)
    against_first = [None, *card.comparisons]
    rows = []
    for system, compared in zip(card.systems, against_first, strict=True):
        found, result = heard[system.name], system.result
        row: dict[str, object] = {"way": system.name, "wer": result.wer, "low": result.wer_low, "high": result.wer_high}
        if compared is not None:
            row["better_than_first_by"] = compared.difference
            row |= {"p": compared.p, "p_holm": compared.p_holm}
        row |= {"cpu_per_audio": found.cpu_seconds / found.audio_seconds, "peak_mb": found.peak_mb}
        rows.append(row)
    seconds = heard[UTTERANCES].audio_seconds
    about = {"model": str(options.model), "data": options.data, "pause": options.pause}
    about |= {"hours": seconds / 3600, "recordings": len(said)}
    recipe = options.data.partition(":")[0]
    record("long_recordings" if recipe == "librispeech" else f"long_recordings_{recipe}", about | {"results": rows})


if __name__ == "__main__":
    main()
