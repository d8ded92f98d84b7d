"""What a model's errors grow to where speech is not as the corpus has it: silence, noise, a room, a low level.

    python benchmarks/robustness.py --model data/models/english_small/model.pt --data speechocean762:test --root ROOT

Every condition is made of the same utterances, batch by batch, by the augmentation that training has for it, with fixed
draws; greedy decoding.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from record import record

from asr.corpus.batch_order import BatchesConfig
from asr.corpus.batches import Batch, Unusable
from asr.decoding import GreedyDecoderConfig
from asr.evaluation import Subset, evaluate_subsets, open_subsets
from asr.features import AugmentConfig, Augmenter
from asr.model.acoustic import AcousticConfig

TWO_SECONDS = {"probability": 1, "low_seconds": 2, "high_seconds": 2}
CONDITIONS: dict[str, dict[str, Any]] = {
    "as recorded": {},
    "2 s of digital silence on both sides": {"silence": {**TWO_SECONDS, "low_db": 200, "high_db": 200}},
    "2 s of noise 40 dB below on both sides": {"silence": {**TWO_SECONDS, "low_db": 40, "high_db": 40}},
    "20 dB quieter": {"gain": {"low_db": -20, "high_db": -20}},
    "noise 20 dB below": {"noise": {"probability": 1, "low_db": 20, "high_db": 20}},
    "noise 10 dB below": {"noise": {"probability": 1, "low_db": 10, "high_db": 10}},
    "a room of 0.6 s, as loud as the speaker": {
        "reverberation": {"probability": 1, "low_seconds": 0.6, "high_seconds": 0.6, "low_db": 0, "high_db": 0}
    },
    "played 15 % faster": {"speed": {"factors": [1.15]}},
    "played 15 % slower": {"speed": {"factors": [0.85]}},
}


def under(condition: str, subset: Subset) -> Subset:
    """`subset` as it sounds under a condition."""
    config = AugmentConfig.model_validate({**CONDITIONS[condition], "spec_augment": None})

    def batches(model: AcousticConfig, options: BatchesConfig, unusable: Unusable) -> Iterator[Batch]:
        for number, batch in enumerate(subset.batches(model, options, unusable)):
            augmenter = Augmenter(config, number, model.features.sample_rate)
            waveforms, num_samples = augmenter.waveforms(batch.waveforms, batch.num_samples)
            yield replace(batch, waveforms=waveforms, num_samples=num_samples)

    return replace(subset, batches=batches)


def main() -> None:
    """Evaluate under all conditions and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--name", default="robustness", help="of the file with the results")
    options = parser.parse_args()
    rows = []
    for subset in open_subsets(options.data, options.root):
        for condition in CONDITIONS:
            (found,) = evaluate_subsets(options.model, [under(condition, subset)], [GreedyDecoderConfig()])
            row: dict[str, object] = {"subset": subset.name, "condition": condition}
            rows.append(row | {name: getattr(found.result, name) for name in ("wer", "wer_low", "wer_high")})
            print(rows[-1], flush=True)
    record(options.name, {"model": str(options.model), "results": rows})


if __name__ == "__main__":
    main()
