"""A corpus that a tiny model learns in seconds: each word is a tone of its own."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 8000
TONES_HZ = {"ba": 300.0, "do": 600.0, "ki": 1100.0, "lu": 1900.0}

# Settings under which the tones are learnt in seconds on one core.
TINY = [
    "features.sample_rate=8000",
    "features.n_mels=20",
    "augment.spec_augment=null",
    "encoder.hidden_size=24",
    "encoder.num_layers=1",
    "encoder.dropout=0.0",
    "encoder.subsampling.factor=2",
    "encoder.subsampling.channels=4",
    "batches.seconds=8",
    "batches.window_batches=2",
    "optimizer.lr=1e-2",
    "schedule.warmup_updates=5",
]


def tone_waveform(words: list[str], generator: random.Random) -> np.ndarray:
    """Samples (N,) in which each of `words` sounds for about a sixth of a second."""
    parts = [np.zeros(generator.randrange(200, 600))]
    for word in words:
        times = np.arange(generator.randrange(1000, 1500)) / SAMPLE_RATE
        tone = np.sin(2 * np.pi * TONES_HZ[word] * times) * np.hanning(len(times))
        parts += [0.3 * tone, np.zeros(generator.randrange(300, 600))]
    noise = np.random.default_rng(generator.randrange(2**32))
    waveform = np.concatenate(parts)
    return (waveform + 1e-3 * noise.standard_normal(len(waveform))).astype(np.float32)


def write_tone_corpus(folder: Path, num_utterances: int, *, seed: int, prefix: str = "u") -> Path:
    """The path of a manifest over `num_utterances` sound files written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(seed)
    lines = []
    for number in range(num_utterances):
        words = [generator.choice(list(TONES_HZ)) for _ in range(generator.randrange(1, 5))]
        name = f"{prefix}{number:03d}"
        soundfile.write(folder / f"{name}.flac", tone_waveform(words, generator), SAMPLE_RATE)
        speaker = f"speaker{number % 3}"
        lines.append(json.dumps({"id": name, "audio": f"{name}.flac", "text": " ".join(words), "speaker": speaker}))
    manifest = folder / f"{folder.name}.jsonl"
    manifest.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return manifest
