"""Training of a 5 x 800 bidirectional GRU on a GPU: bfloat16 against float32, and what a step costs besides the encoder.

    python benchmarks/gpu_step.py

Tells hours of audio per hour of training, and the share of a step that is not the encoder's own forward and backward pass
(aim: below a tenth). Both kinds of pass run in turn on the same batch; the device is waited for around each.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from record import record, spread, take_no_options
from step import bare_encoder, encoder_inputs, speech_batch, updater_of

from asr.experiment import load_experiment

CONFIG = "librispeech_960h"
BATCH_SECONDS = (200.0, 800.0, 1600.0)
NUM_RUNS = 15
NUM_WARM_UPS = 5


def main() -> None:
    """Measures every batch size in both number formats and records the results."""
    take_no_options(__doc__)
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs a CUDA GPU")
    rows = [measured(seconds, dtype) for seconds in BATCH_SECONDS for dtype in (torch.bfloat16, torch.float32)]
    record(
        "gpu_step",
        {
            "gpu": torch.cuda.get_device_name(),
            "config": CONFIG,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "rows": rows,
        },
    )


def measured(seconds: float, dtype: torch.dtype) -> dict[str, object]:
    """One row: throughput and shares at one batch size in one number format."""
    experiment = load_experiment(CONFIG)
    batch = speech_batch(experiment.features.sample_rate, seconds=seconds)
    updater = updater_of(batch, CONFIG, device="cuda", dtype=dtype)
    times: dict[str, list[float]] = {"step": [], "encoder": []}
    torch.cuda.reset_peak_memory_stats()
    for number in range(NUM_WARM_UPS + NUM_RUNS):
        on_device = replace(batch, waveforms=batch.waveforms.to("cuda"))
        features, num_frames = encoder_inputs(updater, on_device, number)
        step = timed(partial(updater.update, [batch], number, 1e-4))
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            bare = timed(partial(bare_encoder, updater.model.encoder, features, num_frames))
        if number >= NUM_WARM_UPS:
            times["step"].append(step)
            times["encoder"].append(bare)
    audio = float(batch.num_samples.sum()) / experiment.features.sample_rate
    step, encoder = statistics.median(times["step"]), statistics.median(times["encoder"])
    return {
        "batch_seconds": round(audio, 1),
        "utterances": len(batch),
        "dtype": str(dtype).removeprefix("torch."),
        "audio_hours_per_hour": round(audio / step),
        "share_besides_the_encoder": round(1 - encoder / step, 4),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "seconds": {name: spread(values) for name, values in times.items()},
    }


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes, the device's work included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
