"""The study of cells: every question is one that `asr compare` understands, and no cell is passed over."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from asr.experiment import RunRequest
from asr.model.cells import CELLS
from asr.recipe import find_recipes
from asr.resources import resource
from asr.studies.compare import make_plan
from asr.studies.pairs import compared

PATH = resource("recipes", "studies", "cells.py")


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("study_of_cells", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for its types
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("recipe", ["spoken_commands", "fsdd", "an4", "librispeech"])
def test_every_question_makes_a_plan(study: ModuleType, recipe: str) -> None:
    for question in study.questions(recipe).values():
        request = RunRequest(
            recipe=recipe,
            config=study.CORPORA[recipe].config or None,
            overrides=(*question.words, *study.CORPORA[recipe].settings),
        )
        plan = make_plan(request, None, num_seeds=3, match=question.match or None)
        assert len(plan.variants) >= 2
        # What does not ask about cells is asked of the GRU, whatever the corpus's configuration takes.
        assert plan.run(plan.variants[0], 0).experiment.encoder.cell == "gru"


def test_what_a_gru_starts_from_is_asked_one_by_one(study: ModuleType) -> None:
    request = RunRequest(recipe="fsdd", overrides=(*study.questions("fsdd")["start"].words,))
    plan = make_plan(request, None, num_seeds=1)
    plain, *others = (plan.run(variant, 0).experiment.encoder.model_dump() for variant in plan.variants)
    changed = [[key for key, value in other.items() if value != plain[key]] for other in others]
    assert changed == [["initial_state"], ["recurrent_init"], ["gate_bias"], ["highway"]]


def test_a_norm_inside_the_cell_is_tested_for_each_cell(study: ModuleType) -> None:
    request = RunRequest(recipe="fsdd", overrides=(*study.questions("fsdd")["cell_norm"].words,))
    pairs = list(compared(make_plan(request, None, num_seeds=1).variants))
    for cell in ("gru", "lstm"):
        assert (f"cell_norm=false, {cell}", f"cell_norm=true, {cell}") in pairs


def test_every_cell_is_asked_about(study: ModuleType) -> None:
    (cells,) = study.questions("fsdd")["cells"].words
    asked = cells.partition("=")[2].split(",")
    assert asked[0] == "gru"  # which the others are compared with
    assert sorted([*asked, *study.REWRITTEN]) == sorted(CELLS)


def test_it_is_no_recipe() -> None:
    assert PATH.is_file()
    assert "cells" not in {recipe.name for recipe in find_recipes()}


def test_answers_stand_in_the_order_of_the_questions(study: ModuleType, tmp_path: Path) -> None:
    for recipe, name in (("fsdd", "norm"), ("fsdd", "cells"), ("spoken_commands", "norm")):
        folder = tmp_path / recipe / name
        folder.mkdir(parents=True)
        (folder / "comparison.md").write_text(f"- {recipe} {name} says something.\n", encoding="utf-8")
    found = [line for line in study.answers(tmp_path).splitlines() if line.startswith(("#", "-"))]
    assert found == [
        "## `spoken_commands`, norm: Does layer normalisation pay?",
        "- spoken_commands norm says something.",
        "## `fsdd`, cells: Which cell, at equal size?",
        "- fsdd cells says something.",
        "## `fsdd`, norm: Does layer normalisation pay?",
        "- fsdd norm says something.",
    ]
