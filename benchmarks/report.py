"""Size and opening time of a report: 3,000 utterances of LibriSpeech's lengths, two systems, pictures and probabilities.

Claim: it opens in under two seconds.

    python benchmarks/report.py

The utterances are made up: texts of random words, some of them wrong, log-mel pictures of moving bands with noise.
What is collected comes from a model of the default size, untrained, that hears seeded noise. "Opened" is the time from the
request of the file to the moment when page and keyboard are ready, as the page's own clock has it; the rest of the file,
which holds what is read utterance by utterance, arrives after that ("loaded").
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from chromium import Chromium, find_chromium
from record import record, spread, take_no_options

from asr.corpus.batches import Batch
from asr.decoding import GreedyDecoderConfig, build_decoder
from asr.model.acoustic import AcousticConfig, AcousticModel
from asr.recognizer import Recognizer
from asr.report import Recording, System, UtteranceDetails, write_report
from asr.report.collect import Collector
from asr.report.details import PICTURE_LEVELS
from asr.scoring import UtteranceScore, score_utterance, summarize
from asr.text.tokenizer import CharacterTokenizer, CharacterTokenizerConfig

NUM_UTTERANCES = 3000
NUM_SPEAKERS = 40
NUM_RUNS = 5
SEED = 1
WRONG_WORDS = 0.08
FRAME_SECONDS = 0.04
EMBED = {"without_audio": False, "with_audio": True}
BATCH, BATCH_SECONDS = 12, 10
PIECES = ("<blank>", "▁", *"abcdefghijklmnopqrstuvwxyz'")


def main() -> None:
    """Writes the report, opens it several times, and records what that took."""
    take_no_options(__doc__)
    program = find_chromium()
    if program is None:
        raise SystemExit("benchmarks/report.py needs Chromium, and found none")
    systems = made_up_systems(NUM_UTTERANCES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        start = time.perf_counter()
        write_report(path, title="3,000 utterances", systems=systems)
        writing = time.perf_counter() - start
        megabytes = path.stat().st_size / 1e6
        times = [opened(program, path) for _ in range(NUM_RUNS)]
    scores = systems[0].scores
    record(
        "report",
        {
            "unit": "seconds, but for sizes",
            "utterances": NUM_UTTERANCES,
            "systems": len(systems),
            "seed": SEED,
            "audio_hours": round(sum(score.seconds or 0 for score in scores) / 3600, 2),
            "megabytes": round(megabytes, 1),
            "kilobytes_per_utterance": round(1000 * megabytes / NUM_UTTERANCES, 2),
            "writing": round(writing, 2),
            "opened": spread([round(each["opened"], 3) for each in times]),
            "loaded": spread([round(each["loaded"], 3) for each in times]),
            "sorting": spread([round(each["sorting"], 3) for each in times]),
            "searching": spread([round(each["searching"], 3) for each in times]),
            "opening_an_utterance": spread([round(each["utterance"], 3) for each in times]),
            "collecting_per_hour_of_audio": {name: collecting(embed) for name, embed in EMBED.items()},
            "recognising_per_hour_of_audio": collecting(None),
            "omp_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
            "peak_memory_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "browser": times[0]["browser"],
        },
    )


def opened(program: str, path: Path) -> dict[str, float]:
    """What one visit takes, in a browser of its own, in seconds."""
    timed = "(async () => {{ const start = performance.now(); {0}; return (performance.now() - start) / 1000; }})()"
    with Chromium(program) as browser:
        browser.emulate()
        browser.open(path)
        browser.wait("document.readyState === 'complete'")
        browser.press("u")
        entry = "performance.getEntriesByType('navigation')[0]"
        painted = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        search = (
            "const box = document.getElementById('search'); box.value = 'ab'; box.dispatchEvent(new Event('input')); "
            f"await new Promise((done) => setTimeout(done, 81)); await {painted}"
        )
        result = {
            "opened": float(browser.run("document.documentElement.dataset.ready")) / 1000,
            "loaded": browser.run(f"{entry}.loadEventEnd / 1000"),
            "sorting": browser.run(
                timed.format(f"document.querySelector('[data-order=duration]').click(); await {painted}")
            ),
            "searching": browser.run(timed.format(search)) - 0.081,
            "utterance": browser.run(
                timed.format(
                    "document.querySelector('.row').click(); while (!document.querySelector('#utterance canvas')) "
                    f"await {painted}"
                )
            ),
            "browser": browser.call("Browser.getVersion")["product"],
        }
        if browser.errors:
            raise RuntimeError(f"the page reports errors: {browser.errors}")
    return result


def collecting(embed_audio: bool | None) -> dict[str, float]:
    """Seconds that collecting takes per hour of audio, or recognising (greedily) where `embed_audio` is None."""
    torch.manual_seed(SEED)
    tokenizer = CharacterTokenizer(" abcdefghijklmnopqrstuvwxyz'", CharacterTokenizerConfig())
    decoder = build_decoder(GreedyDecoderConfig(), tokenizer)
    model = AcousticModel(AcousticConfig(), tokenizer.size)
    recognizer = Recognizer(model, tokenizer, decoder, torch.device("cpu"))
    length = BATCH_SECONDS * recognizer.sample_rate
    ids = tuple(map(str, range(BATCH)))
    batch = Batch(ids, ids, ids, 0.1 * torch.randn(BATCH, length), torch.full((BATCH,), length))
    times = []
    for _ in range(NUM_RUNS + 1):
        with Collector(recognizer, embed_audio=bool(embed_audio)) as collector:
            start = time.perf_counter()
            encoded = recognizer.encode(batch)
            recognized = recognizer.read(batch, encoded)
            middle = time.perf_counter()
            collector.add(batch, encoded, recognized)
        times.append(middle - start if embed_audio is None else time.perf_counter() - middle)
    return spread([round(each * 3600 / (BATCH * BATCH_SECONDS), 1) for each in times[1:]])


def made_up_systems(num_utterances: int) -> list[System]:
    """A better and a worse system over the same utterances, the recordings with the first."""
    generator = np.random.default_rng(SEED)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    shares = 0.9 ** np.arange(26)
    lengths = generator.integers(2, 9, 4000)
    words = ["".join(generator.choice(letters, length, p=shares / shares.sum())) for length in lengths]
    texts = [[str(word) for word in generator.choice(words, generator.integers(4, 36))] for _ in range(num_utterances)]
    systems: list[System] = []
    for name, factor in (("beam", 1.0), ("greedy", 1.5)):
        wrong = factor * WRONG_WORDS
        scores = [made_up_score(number, text, words, wrong, generator) for number, text in enumerate(texts)]
        details = {score.id: made_up_details(score, generator) for score in scores}
        if systems:
            details = {key: replace(each, recording=None) for key, each in details.items()}
        result = summarize(scores, subset="made-up", decoder=name)
        systems.append(System(name=name, result=result, scores=scores, details=details, pieces=PIECES))
    return systems


def made_up_score(
    number: int, text: list[str], words: list[str], wrong: float, generator: np.random.Generator
) -> UtteranceScore:
    """The score of a text in which some words are exchanged and, less often, missing or doubled."""
    heard = []
    for word in text:
        chance = generator.random()
        if chance < 0.7 * wrong:
            heard.append(str(generator.choice(words)))
        elif chance > 1 - 0.15 * wrong:
            heard += [word, word]
        elif chance < 1 - 0.3 * wrong:
            heard.append(word)
    return score_utterance(
        id=f"{1000 + number % NUM_SPEAKERS}-{number // NUM_SPEAKERS:06d}",
        speaker=str(1000 + number % NUM_SPEAKERS),
        reference=" ".join(text),
        hypothesis=" ".join(heard),
        seconds=round(0.42 * len(text) + float(generator.random()), 2),
    )


def made_up_details(score: UtteranceScore, generator: np.random.Generator) -> UtteranceDetails:
    """Tokens evenly over the utterance, with spikes there, and a picture of bands that move."""
    spelt = [PIECES.index(letter if letter != " " else "▁") for letter in score.hypothesis]
    num_frames = max(int((score.seconds or 0) / FRAME_SECONDS), len(spelt) + 1)
    frames = np.linspace(0, num_frames - 1, len(spelt)).astype(int)
    certainty = generator.beta(8, 1, len(spelt))
    tokens = generator.integers(1, len(PIECES), (num_frames, 3)).astype(np.uint16)
    probabilities = (generator.random((num_frames, 3)) < 0.1) * generator.integers(3, 80, (num_frames, 3))
    tokens[frames, 0], probabilities[frames, 0] = spelt, 255 * certainty
    time_axis, bands = np.arange(num_frames), np.arange(40)[:, None]
    waves = np.sin(time_axis / 5) * np.cos(bands / 6 + time_axis / 17)
    level = 20 + 18 * waves + generator.normal(0, 4, (40, num_frames))
    recording = Recording(
        audio=None,
        envelope=generator.integers(0, 256, 2 * num_frames).astype(np.uint8),
        picture=level.clip(0, PICTURE_LEVELS - 1).astype(np.uint8),
        column_seconds=FRAME_SECONDS,
        blank=(255 - probabilities.sum(1)).clip(0, 255).astype(np.uint8),
        tokens=tokens,
        probabilities=probabilities.astype(np.uint8),
        frame_seconds=FRAME_SECONDS,
    )
    return UtteranceDetails(
        tokens=tuple(spelt), frames=tuple(frames.tolist()), probabilities=tuple(certainty.tolist()), recording=recording
    )


if __name__ == "__main__":
    main()
