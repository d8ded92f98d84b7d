"""What the result of a stage depends on, as far as the user says it: settings, and files by what is in them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from asr.config import Tree
from asr.corpus.utterance import is_read, visible_files
from asr.decoding import LexiconDecoderConfig
from asr.experiment import Experiment, Run

_CONTENTS = "contents of "
# Settings that may change between a training and its resumption, since they change no result.
_SPEED_ONLY = {"shards": ("num_threads", "cache"), "batches": ("num_workers", "prefetch")}


def own_files(run: Run, name: str) -> Tree:
    """The user's own files that the result of the stage `name` depends on; a training does not on those to test."""
    is_of_training = name in ("train", "average")
    paths = {split: str(path.resolve()) for split, path in run.recipe.files.items()}
    files = {split: path for split, path in paths.items() if not (is_of_training and split.startswith("test:"))}
    # By what is in them: a transcript is corrected, a list of words is edited, and it is tried again.
    read = set()
    if name == "prepare" or run.preparation is not None:
        # Elsewhere the run's own mark of its preparation tells.
        read = {path for split, path in run.recipe.files.items() if split in files}
    if is_of_training and run.experiment.loss.phones is not None:
        read.add(Path(run.experiment.loss.phones.lexicon))
    if name == "evaluate":
        read |= {decoder.words for decoder in run.experiment.decoders if isinstance(decoder, LexiconDecoderConfig)}
    return files | {f"{_CONTENTS}{path.resolve()}": _digest(path) for path in sorted(read)}


def _digest(path: Path) -> str:
    """Of what is in the file `path`, or of the texts and the names and sizes of sound files below it.

    "" where none can be read, which whoever needs it will say.
    """
    digest = hashlib.sha256()
    try:
        if path.is_file():
            digest.update(path.read_bytes())
        elif not path.is_dir():
            return ""
        else:
            # Nothing else: the run folder itself may lie there.
            for below in filter(is_read, visible_files(path)):
                is_text = below.suffix.lower() == ".txt"
                found = below.read_bytes() if is_text else str(below.stat().st_size).encode()
                digest.update(b"\0".join((os.fsencode(below.relative_to(path)), found, b"")))
    except OSError:
        return ""
    return digest.hexdigest()


def is_correction(before: Tree, inputs: Tree) -> bool:
    """Whether `inputs` of the preparation are those `before` but for what is in the user's files and is only measured on."""
    return _without_contents(without_tests(before)) == _without_contents(without_tests(inputs))


def _without_contents(inputs: Tree) -> Tree:
    files = {key: path for key, path in inputs["files"].items() if not key.startswith(_CONTENTS)}
    return {**inputs, "files": files}


def without_tests(inputs: Tree) -> Tree:
    """`inputs` of the preparation but for what is only measured on."""
    kept = {split: path for split, path in inputs["files"].items() if not split.startswith(("test:", _CONTENTS))}
    contents = {f"{_CONTENTS}{path}": inputs["files"].get(f"{_CONTENTS}{path}") for path in kept.values()}
    return {**inputs, "files": kept | contents, "splits": {**inputs["splits"], "test": None}}


def without_setting(inputs: Tree, key: str) -> Tree:
    """`inputs` but for the setting `key`, such as "encoder.hidden_size"; as they are without it."""
    section, _, name = key.rpartition(".")
    if not isinstance(inputs.get(section), dict):
        return inputs
    return {**inputs, section: {each: value for each, value in inputs[section].items() if each != name}}


def in_todays_words(inputs: Tree, now: Tree) -> Tree:
    """Recorded `inputs` with what has come to be a setting since at its default: so it was done before there was a choice.

    What can no longer be read as settings is returned as it is.
    """
    sections = [section for section in now if section in Experiment.model_fields]
    try:
        experiment = Experiment.model_validate({section: inputs[section] for section in sections if section in inputs})
    except ValidationError:
        return inputs
    return {key: value for key, value in inputs.items() if key not in sections} | settings(experiment, sections)


def settings(experiment: Experiment, sections: Sequence[str]) -> Tree:
    """The `sections` of `experiment`, but for what changes no result."""
    tree = experiment.tree()
    for section, names in _SPEED_ONLY.items():
        for key in names:
            del tree[section][key]
    return {section: tree[section] for section in sections}


def first_difference(old: Tree, new: Tree, prefix: str = "") -> str:
    """What the first key of which `old` and `new` say other things was and is, files last."""
    for key in sorted(old.keys() | new.keys(), key=lambda key: (key.startswith(_CONTENTS), key)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict) and before != after:
            return first_difference(before, after, f"{prefix}{key}.")
        if before and after and before != after and key.startswith(_CONTENTS):
            return f"{key.removeprefix(_CONTENTS)} has been edited since"
        if before != after:
            return f"{prefix}{key} was {json.dumps(before)}, is {json.dumps(after)}"
    return "order of keys"
