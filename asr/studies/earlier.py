"""What was made before a comparison: by earlier calls in its own folder, and by other comparisons."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from asr.errors import ConfigError
from asr.marks import STAGES_FILE, read_marks
from asr.pipeline import STAGES, check_before_work, is_done, other_settings
from asr.studies.compare import MATCHES, Plan
from asr.studies.outcome import COMPARISON_STEM


def check_settings(plan: Plan, *, is_matched: bool) -> None:
    """Do nothing if no run of `plan` was begun with other settings.

    Args:
        plan: what is to be done.
        is_matched: whether its variants are made equal; if not, what that will set may be another.

    Raises:
        ConfigError: some were, of which the first is named; to go on with the others would mix two comparisons in a folder.
    """
    found = {}
    for variant, seed in plan.runs():
        is_open = not is_matched and plan.match is not None and variant is not plan.variants[0]
        run = plan.run(variant, seed)
        if why := other_settings(run, "train", apart_from=MATCHES[plan.match or ""] if is_open else ""):
            found[run.folder.name] = why
    if found:
        name, why = next(iter(found.items()))
        raise ConfigError(
            f"{plan.folder}: begun here with other settings: {len(found)} of {len(plan.variants) * len(plan.seeds)} runs, "
            f"such as {name} ({why}); nothing was done now: give the earlier ones again, or use another --out, or --fresh "
            "to throw away what these runs have made"
        )


def check_before_runs(plan: Plan, others: Sequence[Path], *, fresh: bool) -> None:
    """Do nothing if what the runs of `plan` need besides data is there, such as the device of those still to be trained.

    Args:
        plan: what is to be done; its variants need not be made equal yet.
        others: folders of runs of other comparisons, of which some may be copied in the place of a training.
        fresh: whether all is to be done again.

    Raises:
        ConfigError: something is not there, which run by run would be told once for each.
    """
    copied = {folder.name for folder in others}
    for variant, seed in plan.runs():
        run = plan.run(variant, seed)
        mark = read_marks(run.folder).get("train")
        # By its mark alone: of a variant that is not made equal yet, the settings are others.
        is_trained = mark is not None and mark["done"] and not fresh
        check_before_work(run, ["evaluate"] if is_trained or run.folder.name in copied else STAGES, fresh=fresh)


def replaced(plan: Plan) -> str:
    """Of the page of an earlier comparison in the folder of `plan`, what that of `plan` will not show; "" for nothing."""
    path = plan.folder / f"{COMPARISON_STEM}.json"
    try:
        shown = json.loads(path.read_text(encoding="utf-8"))
        names, seeds = [variant["name"] for variant in shown["variants"]], shown["seeds"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # none, or of no use to anybody
    lost = [name for name in names if name not in {variant.name for variant in plan.variants}]
    lost += [f"seed {seed}" for seed in seeds if seed not in plan.seeds]
    if not lost:
        return ""
    return (
        f"note: {path.with_suffix('.html')} shows what is not compared now ({'; '.join(lost)}) and will be replaced; these "
        "runs stay, and the earlier command writes it again from them; another --out keeps it"
    )


def runs_of(studies: Sequence[Path]) -> list[Path]:
    """The folders of the runs of other `studies`.

    Raises:
        ConfigError: one of them is no folder of a comparison.
    """
    for folder in studies:
        if not (folder / "runs").is_dir():
            raise ConfigError(f"--reuse {folder}: expected the folder of a comparison, which has a folder runs")
    return [run for folder in studies for run in sorted((folder / "runs").iterdir())]


def take_over(plan: Plan, others: Sequence[Path]) -> int:
    """Copy those runs of `plan`, which is prepared and matched, that are done in one of the `others`; how many that were.

    They are the same where corpus, settings and seed are. Their seconds are those that they took there.
    """
    num_taken = 0
    for variant, seed in plan.runs():
        run = plan.run(variant, seed)
        if read_marks(run.folder):
            continue  # done, or begun
        same = (each for each in others if all(is_done(replace(run, folder=each), stage) for stage in STAGES))
        if (folder := next(same, None)) is not None:
            shutil.copytree(folder, run.folder, ignore=shutil.ignore_patterns(STAGES_FILE), dirs_exist_ok=True)
            shutil.copy(folder / STAGES_FILE, run.folder)  # from now on it counts
            num_taken += 1
    return num_taken
