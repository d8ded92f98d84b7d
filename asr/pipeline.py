"""The stages of a run, in order, and the record of which are done with which settings.

`stages.json` in the run folder says for each stage what it was made from. A stage that is done with the same inputs is
skipped; one that was cut off goes on; one that was made from other inputs stops the run before anything is lost. What other
code has made is kept, since a new version of this program must not cost a week of training, but it is said.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.atomic import only_one
from asr.config import Tree
from asr.corpus.shards import ShardIndex
from asr.decoding import LexiconDecoderConfig
from asr.errors import ConfigError, CorpusError, StoppedByUserError
from asr.experiment import Run
from asr.inputs import (
    first_difference,
    in_todays_words,
    is_correction,
    own_files,
    settings,
    without_setting,
    without_tests,
)
from asr.marks import STAGES_FILE, drop_mark, marked_at_end, read_marks, write_mark
from asr.model.checkpoint import CHECKPOINT_FOLDER
from asr.model.device import select_device
from asr.source_code import edited_files, source_files
from asr.training.distributed import join_workers


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a run.

    Attributes:
        work: does it; must be able to go on after being killed at any moment.
        sections: the sections of the configuration that its result depends on, besides those of the stages before.
        rooms: the folders of this package that its result depends on, besides those of the stages before.
        redo: whether it is simply done again when its inputs change, or only after `--fresh`.
        outputs: names in the run folder that `--fresh` deletes.
        shared: whether all processes work at it together, or the first one while the others wait.
        recall: says again what it found, when it is skipped.
        lost: what is wrong with its result, of that which one of these later stages reads; "" if nothing. It is made again,
            and what came of it before is kept.
    """

    work: Callable[[Run], None]
    sections: tuple[str, ...]
    rooms: tuple[str, ...]
    redo: bool
    outputs: tuple[str, ...]
    shared: bool = False
    recall: Callable[[Run], None] = lambda run: None
    lost: Callable[[Run, Sequence[str]], str] = lambda run, later: ""


def _stages() -> dict[str, Stage]:
    from asr import preparation, stages

    return {
        "prepare": Stage(
            work=preparation.prepare,
            sections=("splits", "shards", "tokenizer"),
            rooms=("text", "audio", "corpus"),
            redo=False,
            outputs=("shards", "tokenizer.json"),
            lost=_lost_of_preparation,
        ),
        "train": Stage(
            work=stages.train,
            sections=(
                "seed", "batches", "features", "augment", "encoder", "attention", "init", "loss", "optimizer", "schedule",
                "training",
            ),
            # Epochs are chosen by what a decoder writes and a scorer counts.
            rooms=("features", "model", "decoding", "scoring", "recognizer", "training"),
            redo=False,
            outputs=(CHECKPOINT_FOLDER, "metrics.jsonl", "tensorboard", "training.png"),
            shared=True,
        ),
        "average": Stage(work=stages.average, sections=(), rooms=(), redo=True, outputs=("model.pt",)),
        "evaluate": Stage(
            work=stages.evaluate,
            sections=("decoders",),
            rooms=(),
            redo=True,
            outputs=("results.json", "hypotheses", "report.html"),
            recall=stages.show_results,
        ),
    }  # fmt: skip


def _lost_of_preparation(run: Run, later: Sequence[str]) -> str:
    """What has become of what was prepared, if one of the stages `later` reads it: deleted, cut short, damaged.

    A tokenizer was not made where that of a model to start from was to do.
    """
    if "train" in later and not run.experiment.init.keeps_tokens and not run.tokenizer_file.is_file():
        return f"{run.tokenizer_file}: no such file"
    read = {"train": (*run.train_parts, run.dev_part), "average": (run.dev_part,), "evaluate": run.test_parts}
    parts = (part for stage in later for part in read[stage] if part.shards is None)
    for folder in dict.fromkeys(map(run.own_shards, parts)):
        try:
            ShardIndex.load(folder)
        except CorpusError as error:
            return str(error).removesuffix("; prepare the shards again")
    return ""


STAGES = ("prepare", "train", "average", "evaluate")


def run_stages(run: Run, wanted: Sequence[str], *, fresh: bool = False) -> None:
    """Run the stages `wanted` of `run`, in their order, skipping what is done with the same inputs.

    Raises:
        ConfigError: the run folder holds work made with other settings or another process works there, or a stage's
            predecessor is missing.
        StoppedByUserError: Ctrl-C, or in the training SIGTERM.
        AsrError: whatever a stage finds wrong.
    """
    try:
        for folder in (run.folder, run.prepared_in):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {run.folder}: cannot make a run folder there: {error.strerror or error}; choose another"
        ) from error
    with join_workers() as workers, contextlib.ExitStack() as stack:
        run = replace(run, workers=workers)
        if workers.is_first:
            stack.enter_context(only_one(run.folder / f".{STAGES_FILE}.lock", "another run"))
        check_before_work(run, wanted, fresh=fresh)
        if fresh and workers.is_first:
            _check_before_deleting(run)
            forget(run, wanted)
        if workers.is_first and (found := other_code(run, wanted)):
            print(f"note: {run.folder}: {found}; --fresh does it again with this", flush=True)
        try:
            for name in STAGES:
                if name in wanted:
                    _run_stage(run, name)
        except KeyboardInterrupt:
            raise StoppedByUserError("stopped, what is done is kept; the same command continues") from None


def _run_stage(run: Run, name: str) -> None:
    """Run one stage, in the first process; training, in all of them."""
    is_to_be_done = run.workers.from_first(run.workers.is_first and _begin_stage(run, name))
    work = _stages()[name].work
    if is_to_be_done and run.workers.is_first:
        with marked_at_end(_folder(run, name), name):
            work(run)
    elif is_to_be_done and _stages()[name].shared:
        work(run)


def is_done(run: Run, name: str) -> bool:
    """Whether the stage `name` of `run` is done, with the settings of `run`."""
    mark = read_marks(_folder(run, name)).get(name)
    if mark is None or not mark["done"]:
        return False
    before, inputs = _before_and_now(run, name, mark)
    return before == inputs


def other_code(run: Run, wanted: Sequence[str] = STAGES) -> str:
    """What `run` keeps that other code than this has made, up to the last stage `wanted`, for people; "" for nothing."""
    last = max((STAGES.index(name) for name in wanted), default=-1)
    for name in STAGES[: last + 1]:
        mark = read_marks(_folder(run, name)).get(name)
        if mark is None or not _is_kept(run, name, mark):
            continue
        what = f"'{name}' was {'done' if mark['done'] else 'begun'} by"
        if edited := edited_files(mark["code"], _code(run, name)):
            return f"{what} other code than this (different since: {edited})"
    return ""


def _is_kept(run: Run, name: str, mark: dict[str, Any]) -> bool:
    """Whether the next call takes over what the stage `name` has made so far: all of it, or what it was cut off with."""
    stage = _stages()[name]
    return is_done(run, name) or (not stage.redo and _holds_files(_folder(run, name) / stage.outputs[0]))


def _code(run: Run, name: str) -> dict[str, str]:
    """The source files that the stage `name` of `run` is done by: this package's, and to prepare, the recipes'."""
    rooms = {room for stage in STAGES[: STAGES.index(name) + 1] for room in _stages()[stage].rooms}
    parts = run.parts if name == "prepare" else []
    recipes = {part.recipe.source_file for part in parts if part.shards is None}
    return source_files(rooms, [path for path in recipes if path is not None])


def _folder(run: Run, name: str) -> Path:
    return run.prepared_in if name == "prepare" else run.folder


def _begin_stage(run: Run, name: str) -> bool:
    """Whether a stage has to be done; if so, it is marked as begun."""
    stage, folder = _stages()[name], _folder(run, name)
    mark: dict[str, Any] | None = read_marks(folder).get(name)
    before, inputs = _before_and_now(run, name, mark)
    left = _left(run, name)
    if mark is None and left:
        raise ConfigError(
            f"{folder / left}: nothing in {STAGES_FILE} there tells what '{name}' made this from, so that nothing can be "
            "gone on with; use another --out, or move it away"
        )
    if mark is not None and before != inputs:
        if name == "prepare" and not mark["done"] and is_correction(before, inputs):
            # As a complaint asked for. Parts that are there are compared with what they are made of, and kept or made anew.
            _delete_parts_of_before(run)
        elif found := other_settings(run, name):
            raise ConfigError(
                f"{folder}: '{name}' was begun here with other settings ({found}); "
                f"{_onwards(run, name, before, inputs)}or --fresh to throw this one away"
            )
        else:
            mark = None
    if mark is not None and mark["done"]:
        open_stages = [later for later in STAGES[STAGES.index(name) + 1 :] if not is_done(run, later)]
        if lost := stage.lost(run, open_stages):
            print(f"{name}: once more for what is lost: {lost}", flush=True)
            return True
        print(f"{name}: done already, in {folder} ({mark['seconds']:.0f} s at the time)", flush=True)
        stage.recall(run)
        return False
    for earlier in STAGES[: STAGES.index(name)]:
        _check_is_done(run, earlier, name)
    print(f"{name}: {'continuing' if mark else 'starting'} in {folder}", flush=True)
    so_far = {"code": _code(run, name), "seconds": 0.0} if mark is None or not _is_kept(run, name, mark) else mark
    write_mark(folder, name, {**so_far, "inputs": inputs, "done": False})
    # What comes after this stage was made from its old result. What several runs share gives the same again, since it lies
    # where its inputs say, and their marks tell what was in the user's files.
    for later in STAGES[STAGES.index(name) + 1 :] if folder == run.folder else ():
        drop_mark(run.folder, later)
    return True


def _delete_parts_of_before(run: Run) -> None:
    """Delete the shards of parts that are none of `run` any more."""
    _check_before_deleting(run)
    kept = [run.own_shards(part) for part in run.parts]
    for shards in (run.prepared_in / "shards").glob("*"):
        if shards not in kept:
            delete(shards)


def other_settings(run: Run, name: str, *, apart_from: str = "") -> str:
    """The first setting in which the stage `name` of `run` was begun otherwise, so that it cannot go on; "" for nothing.

    Args:
        run: with the settings of now.
        name: of the stage.
        apart_from: key of a setting that may be another.
    """
    mark = read_marks(_folder(run, name)).get(name)
    # Where it was begun and came to nothing, such as by a wrong --root, nothing can be overwritten.
    if mark is None or _stages()[name].redo or not (mark["done"] or _left(run, name)):
        return ""
    before, inputs = (without_setting(each, apart_from) for each in _before_and_now(run, name, mark))
    return "" if before == inputs else first_difference(before, inputs)


def _left(run: Run, name: str) -> str:
    """Which output of the stage `name` there is that another work would overwrite; "" for none."""
    stage = _stages()[name]
    return "" if stage.redo else next((each for each in stage.outputs if _holds_files(_folder(run, name) / each)), "")


def _onwards(run: Run, name: str, before: Tree, inputs: Tree) -> str:
    """What somebody may do who asks for the stage `name` with other `inputs` than those it had `before`."""
    mark = read_marks(run.folder).get("train")
    is_trained = mark is not None and mark["done"]
    if name == "prepare" and is_trained and without_tests(before) == without_tests(inputs):
        return f"`asr evaluate --model {run.folder} --data TEST` measures on any; else use another --out, "
    if name == "train" or is_trained:
        return f"use another --out, with --init {run.folder} to train on from its weights, "
    return "use another --out, "


def _before_and_now(run: Run, name: str, mark: dict[str, Any] | None) -> tuple[Tree, Tree]:
    """The inputs of the stage `name` as its `mark` has them ({} without one), and as `run` has them."""
    inputs = stage_inputs(run, name)
    if mark is None:
        return {}, inputs
    before = in_todays_words(mark["inputs"], inputs)
    if mark["done"] and run.root is None and "root" in before:
        inputs["root"] = before["root"]  # once prepared, a corpus need not be there any more
    if run.experiment.init.keeps_tokens and "tokenizer" in before:
        inputs["tokenizer"] = before["tokenizer"]  # which has no say
    return before, inputs


def _check_is_done(run: Run, name: str, later: str) -> None:
    """Complains if what the stage `later` of `run` sets out from, the result of `name`, is not there or is another's."""
    mark = read_marks(_folder(run, name)).get(name)
    if mark is None or not mark["done"]:
        raise ConfigError(f"{run.folder}: '{later}' needs the stage '{name}' first; `asr run` does both")
    before, inputs = _before_and_now(run, name, mark)
    if before != inputs:
        raise ConfigError(
            f"{run.folder}: '{later}' needs the stage '{name}' with the same settings, and it was done with others "
            f"({first_difference(before, inputs)}); give these again, or use another --out"
        )
    if lost := _stages()[name].lost(run, [later]):
        raise ConfigError(f"{run.folder}: '{later}' needs what is lost, and `asr run` makes again: {lost}")


def _holds_files(path: Path) -> bool:
    """Whether `path` is a file, or a folder with one somewhere below."""
    return path.is_file() or any(below.is_file() for below in path.rglob("*"))


def check_before_work(run: Run, wanted: Sequence[str], *, fresh: bool = False) -> None:
    """Do nothing if what the stages `wanted` of `run` need besides data is there; `fresh`: done or not, they are done again.

    Raises:
        AsrError: a device is not there, or a list of words, or `--root`: told before a preparation or a training, not after.
    """
    if "prepare" in wanted and run.root and not run.root.is_dir() and (fresh or not is_done(run, "prepare")):
        raise CorpusError(f"--root {run.root}: no such folder; nothing was begun or deleted")
    if "train" in wanted and (fresh or not is_done(run, "train")):
        select_device(run.experiment.device)
    for decoder in run.experiment.decoders if "evaluate" in wanted else ():
        if isinstance(decoder, LexiconDecoderConfig) and not decoder.words.is_file():
            raise ConfigError(f"decoders: {decoder.words}: expected a file of words, found none")


def check_not_begun(run: Run) -> None:
    """Do nothing if no training was begun in the run's folder.

    Raises:
        ConfigError: one was, and the user should say whether to continue.
    """
    mark = read_marks(run.folder).get("train")
    if mark is not None and not mark["done"]:
        raise ConfigError(f"{run.folder}: a training was cut off here; --resume continues it, --fresh starts over")


def stage_inputs(run: Run, name: str) -> Tree:
    """What the result of the stage `name` depends on, as far as the user says it."""
    sections = [section for stage in STAGES[: STAGES.index(name) + 1] for section in _stages()[stage].sections]
    root = "" if run.root is None else str(run.root.resolve())
    own = {
        "recipe": run.recipe.name,
        # What comes after preparing reads nothing there any more.
        **({"root": root} if name == "prepare" else {}),
        "files": own_files(run, name),
        "sample_rate": run.experiment.features.sample_rate,
        "num_stored_features": run.experiment.acoustic.num_stored_features,
    }
    return own | settings(run.experiment, sections)


def forget(run: Run, names: Sequence[str]) -> None:
    """Delete what the stages `names` of `run` have made, and what later ones made from it, as if they had never run."""
    first = min((STAGES.index(name) for name in names), default=len(STAGES))
    for name in STAGES[first:]:
        folder = _folder(run, name)
        for output in _stages()[name].outputs:
            delete(folder / output)
        drop_mark(folder, name)


def delete(path: Path) -> None:
    """Delete a file, or a folder with all that it holds; of a link to a folder, such as on a larger disk, what is there."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
    elif path.is_symlink():
        for below in path.iterdir():
            delete(below)
    else:
        shutil.rmtree(path)


def _check_before_deleting(run: Run) -> None:
    """Complains of `--fresh` where it would delete what no run has made, or what the run still needs."""
    for folder in {run.folder, run.prepared_in}:
        found = [output for stage in _stages().values() for output in stage.outputs if (folder / output).exists()]
        if found and not (folder / STAGES_FILE).is_file():
            raise ConfigError(
                f"--out {folder}: --fresh would delete '{found[0]}' there, which may not be a run's: there is no "
                f"{STAGES_FILE}; use another --out"
            )
    own = (run.prepared_in / "shards").resolve()
    for part in run.parts:
        if isinstance(part.shards, Path) and part.shards.resolve().is_relative_to(own):
            raise ConfigError(
                f"{part.name}: --fresh would delete these shards, which lie in the run folder; move them first"
            )
