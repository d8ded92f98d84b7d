"""The stages of a run, in order, and the record of which are done with which settings.

`stages.json` in the run folder says for each stage what it was made from. A stage that is done with the same inputs is
skipped; one that was cut off goes on; one that was made from other inputs stops the run before anything is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from asr.atomic import only_one, write_text
from asr.config import Tree
from asr.corpus.utterance import is_read, visible_files
from asr.decoding import LexiconDecoderConfig
from asr.errors import ConfigError
from asr.experiment import Experiment, Run
from asr.training.distributed import join_workers

STAGES_FILE = "stages.json"
_CONTENTS = "contents of "
# Settings that may change between a training and its resumption, since they change no result.
_SPEED_ONLY = {"shards": ("num_threads",), "batches": ("num_workers", "prefetch")}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a run.

    Attributes:
        work: does it; must be able to go on after being killed at any moment.
        sections: the sections of the configuration that its result depends on, besides those of the stages before.
        redo: whether it is simply done again when its inputs change, or only after `--fresh`.
        outputs: names in the run folder that `--fresh` deletes.
        shared: whether all processes work at it together, or the first one while the others wait.
        recall: says again what it found, when it is skipped.
    """

    work: Callable[[Run], None]
    sections: tuple[str, ...]
    redo: bool
    outputs: tuple[str, ...]
    shared: bool = False
    recall: Callable[[Run], None] = lambda run: None


def _stages() -> dict[str, Stage]:
    from asr import stages

    return {
        "prepare": Stage(
            work=stages.prepare,
            sections=("splits", "shards", "tokenizer"),
            redo=False,
            outputs=("shards", "tokenizer.json"),
        ),
        "train": Stage(
            work=stages.train,
            sections=(
                "seed", "batches", "features", "augment", "encoder", "attention", "init", "loss", "optimizer", "schedule",
                "training",
            ),
            redo=False,
            outputs=("checkpoints", "metrics.jsonl", "tensorboard", "training.png"),
            shared=True,
        ),
        "average": Stage(work=stages.average, sections=(), redo=True, outputs=("model.pt",)),
        "evaluate": Stage(
            work=stages.evaluate,
            sections=("decoders",),
            redo=True,
            outputs=("results.json", "hypotheses", "report.html"),
            recall=stages.show_results,
        ),
    }  # fmt: skip


STAGES = ("prepare", "train", "average", "evaluate")


def run_stages(run: Run, wanted: Sequence[str], *, fresh: bool = False) -> None:
    """Run the stages `wanted` of `run`, in their order, skipping what is done with the same inputs.

    Raises:
        ConfigError: the run folder holds work made with other settings or another process works there, or a stage's
            predecessor is missing.
        AsrError: whatever a stage finds wrong.
    """
    try:
        for folder in (run.folder, run.prepared_in):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {run.folder}: cannot make a run folder there: {error.strerror or error}; choose another"
        ) from error
    table = _stages()
    with join_workers() as workers, contextlib.ExitStack() as stack:
        run = replace(run, workers=workers)
        if workers.is_first:
            stack.enter_context(only_one(run.folder / f".{STAGES_FILE}.lock", "another run"))
        if fresh and workers.is_first:
            _check_before_deleting(run)
            forget(run, wanted)
        if "evaluate" in wanted:
            _check_words(run)
        for name in STAGES:
            if name in wanted:
                _run_stage(run, name, table)


def _run_stage(run: Run, name: str, table: dict[str, Stage]) -> None:
    """Run one stage, in the first process; training, in all of them."""
    is_to_be_done = run.workers.from_first(run.workers.is_first and _begin_stage(run, name, table))
    start = time.perf_counter()
    if is_to_be_done and (run.workers.is_first or table[name].shared):
        table[name].work(run)
    if is_to_be_done and run.workers.is_first:
        # With the inputs that it was begun with: a file may have been edited since.
        begun = read_marks(_folder(run, name))[name]
        _write_mark(_folder(run, name), name, {**begun, "done": True, "seconds": time.perf_counter() - start})


def is_done(run: Run, name: str) -> bool:
    """Whether the stage `name` of `run` is done, with the settings of `run`."""
    mark = read_marks(_folder(run, name)).get(name)
    if mark is None or not mark["done"]:
        return False
    before, inputs = _before_and_now(run, name, mark)
    return before == inputs


def _folder(run: Run, name: str) -> Path:
    return run.prepared_in if name == "prepare" else run.folder


def _begin_stage(run: Run, name: str, table: dict[str, Stage]) -> bool:
    """Whether a stage has to be done; if so, it is marked as begun."""
    stage, folder = table[name], _folder(run, name)
    mark: dict[str, Any] | None = read_marks(folder).get(name)
    before, inputs = _before_and_now(run, name, mark)
    # Where it was begun and came to nothing, such as by a wrong --root, nothing can be overwritten.
    left = None if stage.redo else next((each for each in stage.outputs if _holds_files(folder / each)), None)
    if mark is None and left is not None:
        raise ConfigError(
            f"{folder / left}: nothing in {STAGES_FILE} there tells what '{name}' made this from, so that nothing can be "
            "gone on with; use another --out, or move it away"
        )
    if mark is not None and before != inputs:
        if not stage.redo and (mark["done"] or left is not None):
            difference = _first_difference(before, inputs)
            onwards = f", with --init {folder} to train on from its weights" if name == "train" else ""
            raise ConfigError(
                f"{folder}: '{name}' was begun here with other settings ({difference}); "
                f"use another --out{onwards}, or --fresh to throw this one away"
            )
        mark = None
    if mark is not None and mark["done"]:
        print(f"{name}: done already, in {folder} ({mark['seconds']:.0f} s at the time)", flush=True)
        stage.recall(run)
        return False
    for earlier in STAGES[: STAGES.index(name)]:
        _check_is_done(run, earlier, name)
    print(f"{name}: {'continuing' if mark else 'starting'} in {folder}", flush=True)
    _write_mark(folder, name, {"inputs": inputs, "done": False, "seconds": 0.0})
    # What comes after this stage was made from its old result.
    for later in STAGES[STAGES.index(name) + 1 :]:
        _drop_mark(run.folder, later)
    return True


def _before_and_now(run: Run, name: str, mark: dict[str, Any] | None) -> tuple[Tree, Tree]:
    """The inputs of the stage `name` as its `mark` has them ({} without one), and as `run` has them."""
    inputs = stage_inputs(run, name)
    if mark is None:
        return {}, inputs
    before = _in_todays_words(mark["inputs"], inputs)
    if mark["done"] and run.root is None and "root" in before:
        inputs["root"] = before["root"]  # once prepared, a corpus need not be there any more
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
            f"({_first_difference(before, inputs)}); give these again, or use another --out"
        )


def _check_words(run: Run) -> None:
    """Complains of a list of words that is not there before a training, not after it."""
    for decoder in run.experiment.decoders:
        if isinstance(decoder, LexiconDecoderConfig) and not decoder.words.is_file():
            raise ConfigError(f"decoders: {decoder.words}: expected a file of words, found none")


def _holds_files(path: Path) -> bool:
    """Whether `path` is a file, or a folder with one somewhere below."""
    return path.is_file() or any(below.is_file() for below in path.rglob("*"))


def check_not_begun(run: Run) -> None:
    """Do nothing if no training was begun in the run's folder.

    Raises:
        ConfigError: one was, and the user should say whether to continue.
    """
    mark = read_marks(run.folder).get("train")
    if mark is not None and not mark["done"]:
        raise ConfigError(f"{run.folder}: a training was cut off here; --resume continues it, --fresh starts over")


def read_marks(folder: Path) -> dict[str, dict[str, Any]]:
    """What is known of each stage in the run folder `folder`: its inputs, whether it is done, how long it took.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / STAGES_FILE
    if not path.is_file():
        return {}
    try:
        marks = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: damaged; put it back as it was, or use another --out") from error
    if not isinstance(marks, dict):
        raise ConfigError(f"{path}: damaged; put it back as it was, or use another --out")
    return marks


def stage_inputs(run: Run, name: str) -> Tree:
    """What the result of the stage `name` depends on, as far as the user says it."""
    table = _stages()
    sections = [section for stage in STAGES[: STAGES.index(name) + 1] for section in table[stage].sections]
    root = "" if run.root is None else str(run.root.resolve())
    own = {
        "recipe": run.recipe.name,
        # What comes after preparing reads nothing there any more.
        **({"root": root} if name == "prepare" else {}),
        "files": _own_files(run, name),
        "sample_rate": run.experiment.features.sample_rate,
        "num_stored_features": run.experiment.acoustic.num_stored_features,
    }
    return own | _settings(run.experiment, sections)


def _own_files(run: Run, name: str) -> Tree:
    """The user's own files that the result of the stage `name` depends on; a training does not on those to test."""
    is_of_training = name in ("train", "average")
    paths = {split: str(path.resolve()) for split, path in run.recipe.files.items()}
    files = {split: path for split, path in paths.items() if not (is_of_training and split.startswith("test:"))}
    # By what is in them: a transcript is corrected, a list of words is edited, and it is tried again.
    read = set()
    if name == "prepare":
        read = set(run.recipe.files.values())
    elif is_of_training and run.experiment.loss.phones is not None:
        read = {Path(run.experiment.loss.phones.lexicon)}
    elif name == "evaluate":
        read = {decoder.words for decoder in run.experiment.decoders if isinstance(decoder, LexiconDecoderConfig)}
    return files | {f"{_CONTENTS}{path.resolve()}": _digest(path) for path in sorted(read)}


def _digest(path: Path) -> str:
    """Of what is in the file `path`, or of the texts and the names and sizes of sound files below it.

    "" where none can be read, which whoever needs it will say.
    """
    digest = hashlib.sha256()
    try:
        if path.is_file():
            digest.update(path.read_bytes())
        else:
            # Nothing else: the run folder itself may lie there.
            for below in filter(is_read, visible_files(path)):
                is_text = below.suffix.lower() == ".txt"
                found = below.read_bytes() if is_text else str(below.stat().st_size).encode()
                digest.update(b"\0".join((os.fsencode(below.relative_to(path)), found, b"")))
    except OSError:
        return ""
    return digest.hexdigest()


def _in_todays_words(inputs: Tree, now: Tree) -> Tree:
    """Recorded `inputs` with what has come to be a setting since at its default: so it was done before there was a choice.

    What can no longer be read as settings is returned as it is.
    """
    sections = [section for section in now if section in Experiment.model_fields]
    own = {key: value for key, value in inputs.items() if key not in sections and (key != "root" or key in now)}
    # Which files it was, was not always recorded; and there was only sound before.
    for key, before in (("files", now.get("files")), ("num_stored_features", 0)):
        if key in now:
            own.setdefault(key, before)
    # Nor what was in them.
    contents = {key: digest for key, digest in now.get("files", {}).items() if key.startswith(_CONTENTS)}
    own["files"] = contents | own["files"] if "files" in now else {}
    try:
        experiment = Experiment.model_validate({section: inputs[section] for section in sections if section in inputs})
    except ValidationError:
        return inputs
    return own | _settings(experiment, sections)


def _settings(experiment: Experiment, sections: Sequence[str]) -> Tree:
    tree = experiment.tree()
    for section, names in _SPEED_ONLY.items():
        for key in names:
            del tree[section][key]
    return {section: tree[section] for section in sections}


def _first_difference(old: Tree, new: Tree, prefix: str = "") -> str:
    for key in sorted(old.keys() | new.keys(), key=lambda key: (key.startswith(_CONTENTS), key)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict) and before != after:
            return _first_difference(before, after, f"{prefix}{key}.")
        if before and after and before != after and key.startswith(_CONTENTS):
            return f"{key.removeprefix(_CONTENTS)} has been edited since"
        if before != after:
            return f"{prefix}{key} was {json.dumps(before)}, is {json.dumps(after)}"
    return "order of keys"


def _write_mark(folder: Path, name: str, mark: dict[str, Any]) -> None:
    write_text(folder / STAGES_FILE, json.dumps({**read_marks(folder), name: mark}, indent=1))


def _drop_mark(folder: Path, name: str) -> None:
    marks = read_marks(folder)
    if marks.pop(name, None) is not None:
        write_text(folder / STAGES_FILE, json.dumps(marks, indent=1))


def forget(run: Run, names: Sequence[str]) -> None:
    """Delete what the stages `names` of `run` have made, and what later ones made from it, as if they had never run."""
    first = min((STAGES.index(name) for name in names), default=len(STAGES))
    for name in STAGES[first:]:
        folder = _folder(run, name)
        for output in _stages()[name].outputs:
            _delete(folder / output)
        _drop_mark(folder, name)


def _delete(path: Path) -> None:
    """Deletes a file, or a folder with all that it holds; of a link to a folder, such as on a larger disk, what is there."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
    elif path.is_symlink():
        for below in path.iterdir():
            _delete(below)
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
    if run.root is not None and not run.root.is_dir():
        raise ConfigError(f"--root {run.root}: no such folder; nothing was deleted")
    for part in (*run.train_parts, run.dev_part, *run.test_parts):
        if isinstance(part.shards, Path) and part.shards.resolve().is_relative_to(
            (run.prepared_in / "shards").resolve()
        ):
            raise ConfigError(
                f"{part.name}: --fresh would delete these shards, which lie in the run folder; move them first"
            )
