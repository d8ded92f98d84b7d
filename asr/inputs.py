"""What the result of a stage depends on, as far as the user says it: settings, and files by what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from asr.audio.stored import file_and_offset
from asr.config import Tree
from asr.corpus.folder import is_read, visible_files
from asr.decoding import LexiconDecoderConfig
from asr.experiment import Experiment, Run

_CONTENTS = "contents of "
_PLUS = "+"
# Settings that may change between a training and its resumption, since they change no result.
_SPEED_ONLY = {"shards": ("num_threads", "cache"), "batches": ("num_workers", "prefetch")}


def own_files(run: Run, name: str) -> Tree:
    """The user's own files that the result of the stage `name` depends on; a training does not on those to test."""
    is_of_training = name in ("train", "average")
    paths = {split: str(path.resolve()) for split, path in run.recipe.files.items()}
    files = {split: path for split, path in paths.items() if not (is_of_training and split.startswith("test:"))}
    # By what is in them: a transcript is corrected, a list of words is edited, and it is tried again.
    found = {}
    if name == "prepare" or run.preparation is not None:
        # Elsewhere the run's own mark of its preparation tells.
        spoken = {path for split, path in run.recipe.files.items() if split in files}
        found = {path: _digest_with_sounds(path) for path in spoken}
    texts = set()
    if is_of_training and run.experiment.loss.phones is not None:
        texts.add(Path(run.experiment.loss.phones.lexicon))
    if name == "evaluate":
        texts |= {decoder.words for decoder in run.experiment.decoders if isinstance(decoder, LexiconDecoderConfig)}
    found |= {path: _digest(path) for path in texts}
    return files | {f"{_CONTENTS}{path.resolve()}": found[path] for path in sorted(found)}


def _digest_with_sounds(path: Path) -> str:
    """As `_digest`; of a manifest, behind that of its lines and a plus that of the sizes of the sound files it names.

    Nothing stands behind the plus where none of them is there.
    """
    found = _digest(path)
    return f"{found}{_PLUS}{_digest_of_sizes(path)}" if found and path.is_file() else found


def _digest_of_sizes(manifest: Path) -> str:
    with manifest.open("rb") as lines:
        sizes = [_size_of_sound(line, manifest.parent) for line in lines]
    known = any(size is not None for size in sizes)
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest() if known else ""


def _size_of_sound(line: bytes, folder: Path) -> int | None:
    """Bytes of the file that `line` of a manifest in `folder` names; None where there is none, which its reader tells."""
    try:
        found = file_and_offset(folder / json.loads(line)["audio"])[0].stat()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


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

    What can no longer be read as settings is returned as it is, and what nobody can compare any more is as it is `now`.
    """
    files, files_now = inputs["files"], now["files"]
    shared = (key for key in files if key.startswith(_CONTENTS) and key in files_now)
    inputs = {**inputs, "files": files | {key: _compared(files[key], files_now[key]) for key in shared}}
    sections = [section for section in now if section in Experiment.model_fields]
    try:
        experiment = Experiment.model_validate({section: inputs[section] for section in sections if section in inputs})
    except ValidationError:
        return inputs
    return {key: value for key, value in inputs.items() if key not in sections} | settings(experiment, sections)


def _compared(before: str, now: str) -> str:
    """`before`, or `now` where both are of the same lines and none of the sounds is there any more."""
    (lines, _, _), (lines_now, _, sounds_now) = before.partition(_PLUS), now.partition(_PLUS)
    return now if lines == lines_now and not sounds_now else before


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
            path = key.removeprefix(_CONTENTS)
            if before.partition(_PLUS)[0] == after.partition(_PLUS)[0]:
                return f"sound files that {path} names have changed since"
            return f"{path} has been edited since"
        if before != after:
            return f"{prefix}{key} was {json.dumps(before)}, is {json.dumps(after)}"
    return "order of keys"
