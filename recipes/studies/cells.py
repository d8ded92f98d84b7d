"""Which recurrent network hears best? Questions about cells, depth, directions and what is around them, for four corpora.

    python recipes/studies/cells.py --root fsdd=CORPORA/fsdd --root an4=CORPORA/an4 [--only NAME ...] [-- key.path=value ...]
    python recipes/studies/cells.py --root librispeech=CORPORA/librispeech --skip spoken_commands fsdd an4 --only size

Each question is one call of `asr compare`, which is printed, with three seeds and short trainings; settings behind the
options hold for all. What is done is not done again. `spoken_commands` comes along; the others are asked where `--root` says
where they lie. `--list` tells the questions. At the end OUT/answers.md holds all tables and what each of them says;
`benchmarks/results/cells_study.md` is one of these, and `docs/cells.md` says what it means.
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

# The kernels' equations written out. One of them is asked about, since it tells what rounding alone does to a training.
REWRITTEN = ("lstm_reference", "rnn_reference")
# Questions of other things are asked of the GRU, whatever the corpus's own settings take.
GRU = "encoder.cell=gru"
# Where a GRU starts, and what it passes by: each alone. As whole sections, since several keys would give all combinations.
STARTS = ("initial_state: learnt", "recurrent_init: orthogonal", "gate_bias: 1", "highway: true")


@dataclass(frozen=True)
class Corpus:
    """A corpus that is asked, by its recipe.

    Attributes:
        settings: what all trainings have; short, so that all questions are answered in a night.
        features: what both kinds of features need, None where the corpus comes as features.
        config: file of settings, "" for the recipe's own.
    """

    settings: tuple[str, ...]
    features: tuple[str, ...] | None = ()
    config: str = ""


CORPORA = {
    "spoken_commands": Corpus(settings=("training.epochs=4",)),
    # Warping moves mel bands, which MFCC have no more.
    "fsdd": Corpus(settings=("training.epochs=5",), features=("augment.warp=null",)),
    # As mel cepstra, which leave no choice of features; without the second view of each utterance, which doubles the time.
    "an4": Corpus(settings=("training.epochs=15", "loss.consistency=null"), features=None, config="an4_cepstra"),
    # Five hours of read English. One look at what is tested on, at the end, however many epochs, so that it chooses none.
    "librispeech": Corpus(
        settings=(
            *("training.epochs=8", "training.validate_every_epochs=1000", "training.keep_best=1"),
            *("splits.dev=dev-clean", "splits.test=[dev-clean]"),
        ),
        config="librispeech_mini",
    ),
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
    cells = ",".join(["gru", *(cell for cell in CELLS if cell not in ("gru", *REWRITTEN))])
    features = CORPORA[recipe].features
    asked = {
        "cells": Question("Which cell, at equal size?", (f"cells={cells}",), "parameters"),
        "time": Question("Which cell, in equal time?", (f"cells={cells}",), "time"),
        "size": Question("GRU, LSTM or light GRU, at equal size?", ("cells=gru,lstm,ligru",), "parameters"),
        "depth": Question(
            "GRU or LSTM at equal depth, and how deep?", ("cells=gru,lstm", "encoder.num_layers=1,2,3,4,5,6")
        ),
        "directions": Question(
            "Both directions, or one of equal size?", ("encoder.bidirectional=true,false", GRU), "parameters"
        ),
        "peepholes": Question("Do peepholes pay?", ("cells=gru,gru_peephole,lstm,lstm_peephole",)),
        "residual": Question(
            "Do residual connections pay, and at which depth?",
            ("encoder.residual=true,false", "encoder.num_layers=2,4,6", GRU),
        ),
        "norm": Question("Does layer normalisation pay?", ("encoder.norm=layer,none,batch", GRU)),
        "cell_norm": Question(
            "Does layer normalisation inside the cell pay?", ("encoder.cell_norm=false,true", "cells=gru,lstm")
        ),
        "start": Question(
            "Do a learnt first state, orthogonal weights, a bias of the gate or highways pay?",
            (f"encoder={{cell: gru}},{','.join(f'{{cell: gru, {each}}}' for each in STARTS)}",),
        ),
    }
    if features is not None:
        asked["features"] = Question("MFCC or log-mel?", ("features.kind=log_mel,mfcc", *features, GRU))
    return asked


def main() -> None:
    """Asks every question of every corpus that is there."""
    options, common = parsed()
    names = options.only or list(questions("spoken_commands"))
    for name in names:
        print(f"{name:12} {questions('spoken_commands')[name].text}", flush=True)
    if options.list:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for recipe in CORPORA:
        if recipe in options.skip or (recipe not in options.root and recipe != "spoken_commands"):
            continue
        for name in (name for name in names if name in questions(recipe)):
            words = command(recipe, name, options, common)
            print(f"\n{shlex.join(['asr', *words])}", flush=True)
            if subprocess.run([sys.executable, "-m", "asr.cli", *words], check=False).returncode:
                failed.append(f"{recipe} {name}")
            write_text(options.out / "answers.md", answers(options.out))
    if failed:
        sys.exit(f"without an answer, or not from all runs: {', '.join(failed)}")


def answers(out: Path) -> str:
    """What was answered so far in the folder `out`, by corpus and question, as Markdown."""
    found = []
    for recipe in CORPORA:
        for name, question in questions(recipe).items():
            path = out / recipe / name / "comparison.md"
            if path.is_file():
                found.append(f"## `{recipe}`, {name}: {question.text}\n\n{path.read_text(encoding='utf-8')}")
    return "\n".join(found)


def command(recipe: str, name: str, options: argparse.Namespace, common: list[str]) -> list[str]:
    """The `asr compare` that asks question `name` of `recipe`."""
    corpus, question = CORPORA[recipe], questions(recipe)[name]
    words = ["compare", "--recipe", recipe, "--seeds", str(options.seeds), "--out", str(options.out / recipe / name)]
    words += ["--config", corpus.config] if corpus.config else []
    words += ["--root", str(options.root[recipe])] if recipe in options.root else []
    words += ["--match", question.match] if question.match else []
    words += ["--jobs", str(options.jobs)] if options.jobs else []
    # Several questions ask of the plain network; what another has trained is taken from there.
    others = [options.out / recipe / other for other in questions(recipe) if other != name]
    words += [word for other in others if (other / "runs").is_dir() for word in ("--reuse", str(other))]
    return [*words, *question.words, *corpus.settings, "decoders=[{kind: greedy}]", *common]


def parsed() -> tuple[argparse.Namespace, list[str]]:
    """The options of the command line, and the settings of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="RECIPE=DIR",
        help="folder that holds a corpus; again for another",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/cells"), help="folder for RECIPE/QUESTION")
    parser.add_argument(
        "--only", nargs="*", choices=list(questions("spoken_commands")), help="questions to ask; all without it"
    )
    parser.add_argument("--skip", nargs="*", default=[], choices=list(CORPORA), help="corpora not to ask")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, help="runs at a time")
    parser.add_argument("--list", action="store_true", help="tell the questions and do nothing")
    options, common = parser.parse_known_args()
    roots = [each.partition("=") for each in options.root]
    for recipe, _, folder in roots:
        if recipe not in CORPORA or not folder:
            parser.error(f"--root {recipe}: expected RECIPE=DIR, where RECIPE is one of {', '.join(CORPORA)}")
    options.root = {recipe: Path(folder) for recipe, _, folder in roots}
    return options, [setting for setting in common if setting != "--"]


if __name__ == "__main__":
    main()
