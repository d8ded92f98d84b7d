"""Which recurrent network hears best? Questions about cells, depth, direction and what is around them, asked of two corpora.

    python recipes/studies/cells.py --root-fsdd CORPORA/fsdd --out runs/cells [--only NAME ...] [-- key.path=value ...]

Each question is one call of `asr compare`, which is printed, with three seeds and short trainings; settings behind the
options hold for all. What is done is not done again. Without `--root-fsdd`, only `spoken_commands` is asked. `--list` tells
the questions. At the end OUT/answers.md holds all tables and what each of them says; `docs/cells.md` is one of these.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from asr.atomic import write_text
from asr.model.cells import CELLS

# Every cell of the table is asked about. These are expected there: one that is missing is named, not passed over.
EXPECTED_CELLS = (
    "gru", "lstm", "rnn", "gru_reference", "gru_peephole", "gru_reset_before", "gru_adaptive", "ligru", "sligru", "mingru",
    "mgu", "sru", "lstm_peephole",
)  # fmt: skip

# Short, so that all questions are answered in a night; for `fsdd` still long enough that few errors are left.
SHORT = {
    "spoken_commands": ("training.epochs=8",),
    "fsdd": ("training.epochs=15",),
}
# A section of another kind starts from its defaults, so what a corpus needs is said again.
FEATURES = {
    "spoken_commands": ("features.n_mels=64",),
    "fsdd": ("features.sample_rate=8000", "features.n_mels=40", "features.normalization=global", "augment.warp=null"),
}


@dataclass(frozen=True)
class Question:
    """What is asked, and how: what `asr compare` is told besides the recipe.

    Attributes:
        text: the question.
        words: what varies, and what is fixed for that.
        match: what the variants are made equal in, "" for nothing.
    """

    text: str
    words: tuple[str, ...]
    match: str = ""


def questions(recipe: str) -> dict[str, Question]:
    """All questions by name, as they are asked of `recipe`."""
    cells = ["gru", *(cell for cell in CELLS if cell != "gru")]
    peepholes = [cell for cell in ("gru", "gru_peephole", "lstm", "lstm_peephole") if cell in CELLS]
    return {
        "cells": Question("Which cell, at equal size?", (f"cells={','.join(cells)}",), "parameters"),
        "time": Question("Which cell, in equal time?", (f"cells={','.join(cells)}",), "time"),
        "size": Question("GRU or LSTM, at equal size?", ("cells=gru,lstm",), "parameters"),
        "depth": Question(
            "GRU or LSTM at equal depth, and how deep?", ("cells=gru,lstm", "encoder.num_layers=1,2,3,4,5,6")
        ),
        "directions": Question(
            "Both directions, or one of equal size?", ("encoder.bidirectional=true,false",), "parameters"
        ),
        "peepholes": Question("Do peepholes pay?", (f"cells={','.join(peepholes)}",)),
        "residual": Question(
            "Do residual connections pay, and at which depth?",
            ("encoder.residual=true,false", "encoder.num_layers=2,4,6"),
        ),
        "norm": Question("Does layer normalisation pay?", ("encoder.norm=layer,none,batch",)),
        "features": Question("MFCC or log-mel?", ("features.kind=log_mel,mfcc", *FEATURES[recipe])),
    }


def main() -> None:
    """Asks every question of every corpus that is there."""
    options, common = parsed()
    recipes = {"spoken_commands": None, **({"fsdd": options.root_fsdd} if options.root_fsdd else {})}
    missing = [cell for cell in EXPECTED_CELLS if cell not in CELLS]
    if missing:
        print(f"not in this version, so not asked about: {', '.join(missing)}", flush=True)
    names = options.only or list(questions("spoken_commands"))
    for name in names:
        print(f"{name:12} {questions('spoken_commands')[name].text}", flush=True)
    if options.list:
        return
    failed = []
    for recipe, root in recipes.items():
        if recipe in options.skip:
            continue
        for name in names:
            words = command(recipe, root, name, options, common)
            print(f"\n{shlex.join(['asr', *words])}", flush=True)
            if subprocess.run([sys.executable, "-m", "asr.cli", *words], check=False).returncode:
                failed.append(f"{recipe} {name}")
            write_text(options.out / "answers.md", answers(options.out))
    if failed:
        sys.exit(f"without an answer, or not from all runs: {', '.join(failed)}")


def answers(out: Path) -> str:
    """What was answered so far in the folder `out`, by corpus and question, as Markdown."""
    found = []
    for recipe in SHORT:
        for name, question in questions(recipe).items():
            path = out / recipe / name / "comparison.md"
            if path.is_file():
                found.append(f"## `{recipe}`, {name}: {question.text}\n\n{path.read_text(encoding='utf-8')}")
    return "\n".join(found)


def command(recipe: str, root: Path | None, name: str, options: argparse.Namespace, common: list[str]) -> list[str]:
    """The `asr compare` that asks question `name` of `recipe`."""
    question = questions(recipe)[name]
    words = ["compare", "--recipe", recipe, "--seeds", str(options.seeds), "--out", str(options.out / recipe / name)]
    words += ["--root", str(root)] if root else []
    words += ["--match", question.match] if question.match else []
    words += ["--jobs", str(options.jobs)] if options.jobs else []
    return [*words, *question.words, *SHORT[recipe], *common]


def parsed() -> tuple[argparse.Namespace, list[str]]:
    """The options of the command line, and the settings of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root-fsdd", type=Path, help="folder that holds the corpus fsdd")
    parser.add_argument("--out", type=Path, default=Path("runs/cells"), help="folder for RECIPE/QUESTION")
    parser.add_argument("--only", nargs="*", choices=list(questions("fsdd")), help="questions to ask; all without it")
    parser.add_argument("--skip", nargs="*", default=[], choices=list(SHORT), help="corpora not to ask")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, help="runs at a time")
    parser.add_argument("--list", action="store_true", help="tell the questions and do nothing")
    options, common = parser.parse_known_args()
    return options, [setting for setting in common if setting != "--"]


if __name__ == "__main__":
    main()
