"""What each piece of training is worth: one configuration, and the same with one thing changed at a time.

    OMP_NUM_THREADS=1 python benchmarks/ablation.py an4 --config an4_cepstra --root CORPORA/an4 [-- key.path=value ...]

Settings behind the options hold for all runs: with `init.model=RUN` a trained model learns on in each of these ways.
`--also` names a further change, such as what is mixed in:

    --also with-synthetic 'splits.train=[train-clean-5, {data: shards:READ_ALOUD, weight: 0.2}]' training.epochs=2

Each training is an ordinary run in runs/ablation-RECIPE-CHANGE, so what is done is not done again. One seed each:
`p_against_first` says how often chance alone would show as much as lies between a variant and the first one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from record import record

from asr.scoring import compare
from asr.studies.outcome import read_scores
from asr.training.run_log import read_metrics

CHANGES: dict[str, tuple[str, ...]] = {
    "base": (),
    "without-spec-augment": ("augment.spec_augment=null",),
    "without-speed": ("augment.speed=null",),
    "with-warp": ("augment.warp={}",),
    "with-reverberation": ("augment.reverberation={}",),
    "with-noise": ("augment.noise={}",),
    "dropout-0.1": ("encoder.dropout=0.1",),
    "dropout-over-frames": ("encoder.dropout_over=frame",),
    "batch-normalisation": ("encoder.norm=batch",),
    "without-residual": ("encoder.residual=false",),
    "normalised-by-utterance": ("features.normalization=utterance",),
    "intermediate-ctc": ("loss.intermediate_ctc={layers: [2]}",),
    "consistency": ("loss.consistency={}",),
    "label-smoothing": ("loss.label_smoothing=0.1",),
    "moving-average": ("training.moving_average=0.998",),
    "sorted-first-epoch": ("batches.sorted_first_epoch=true",),
    "bpe": ("tokenizer={kind: bpe, size: 120}",),
}


def main() -> None:
    """Trains and measures every variant that suits the features, and records the error rates."""
    options, common = parsed()
    results: dict[str, object] = {}
    runs: dict[str, Path] = {}
    changes = CHANGES | {name: tuple(change) for name, *change in options.also}
    names = options.only or [name for name in CHANGES if name not in options.skip]
    for name in [*names, *(name for name, *_ in options.also)]:
        change = changes[name]
        out = runs[name] = Path("runs", f"ablation-{options.recipe}-{name}")
        command = [sys.executable, "-m", "asr.cli", "run", options.recipe, "--config", options.config]
        command += ["--root", str(options.root), "--out", str(out), *common, *change]
        subprocess.run(command, check=True)
        rows = json.loads((out / "results.json").read_text(encoding="utf-8"))
        kept = ("subset", "decoder", "wer", "wer_low", "wer_high", "cer")
        found = [{key: row[key] for key in kept} for row in rows]
        results[name] = {"change": change, **on_dev(out), "results": found}
    record(
        f"ablation_{options.recipe}", {"common": common, "variants": results, "p_against_first": against_first(runs)}
    )


def on_dev(run: Path) -> dict[str, float]:
    """Of the validations of `run`: the lowest word error rate, and the last loss in nats per token."""
    found = read_metrics(run, "validation")
    return {"dev_wer": min(float(entry["wer"]) for entry in found), "dev_loss": float(found[-1]["loss"])}


def against_first(runs: dict[str, Path]) -> dict[str, dict[str, float]]:
    """For each file of hypotheses, how often chance would show as much as lies between the first of `runs` and another."""
    (first, reference), *others = runs.items()
    found = {}
    for path in sorted((reference / "hypotheses").glob("*.tsv")):
        base = read_scores(path)
        found[path.stem] = {
            name: compare(base, read_scores(run / "hypotheses" / path.name), names=(first, name)).p
            for name, run in others
        }
    return found


def parsed() -> tuple[argparse.Namespace, list[str]]:
    """The options of the command line, and the settings of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--config", required=True)
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the corpus")
    parser.add_argument("--skip", nargs="*", default=[], choices=CHANGES, help="variants to leave out")
    parser.add_argument("--only", nargs="*", choices=CHANGES, help="variants of the list to train; all without it")
    parser.add_argument("--also", nargs="+", action="append", default=[], help="name and settings of a further variant")
    options, common = parser.parse_known_args()
    return options, [setting for setting in common if setting != "--"]


if __name__ == "__main__":
    main()
