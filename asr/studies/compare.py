"""Trainings that differ in what is asked about, each with several seeds, under conditions that are otherwise the same.

Every training is an ordinary run in a folder of its own. What they share is prepared once. What is finished is not done
again, and what was cut off goes on.
"""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from filelock import FileLock

from asr.atomic import only_one, write_text
from asr.errors import ConfigError
from asr.experiment import Run, RunRequest
from asr.inputs import in_todays_words
from asr.learner import load_tokenizer
from asr.model.device import select_device
from asr.pipeline import STAGES, forget, is_done, other_code, run_stages, stage_inputs
from asr.studies.grammar import split_axes
from asr.studies.jobs import Job, Place, run_jobs
from asr.studies.measures import NetworkSize, hidden_size_for, network_size, peak_memory_bytes, seconds_per_utterance

MATCHES = {"parameters": "encoder.hidden_size", "time": "training.epochs"}
"""What variants can be made equal in, and the setting by which they are."""

MEASURES_FILE = "measures.json"
# No .txt: a folder of sounds with their texts may hold the study, too.
OUTPUT_FILE = "output.log"
# Of `asr model info` too: what a model of letters has, about.
ASSUMED_VOCABULARY = 32
_LONGEST_NAME = 80
_SPEEDS = "speeds"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the things that are compared.

    Attributes:
        name: for people: what it has of what varies.
        values: value of each setting that varies, by its key.
        adjusted: what `--match` changes, as `key.path=value`.
        vocabulary_size: tokens with blank; before the preparation, an assumption.
    """

    name: str
    values: dict[str, str]
    adjusted: tuple[str, ...] = ()
    vocabulary_size: int = ASSUMED_VOCABULARY

    @property
    def overrides(self) -> tuple[str, ...]:
        """The variant as `key.path=value`."""
        return (*(f"{key}={value}" for key, value in self.values.items()), *self.adjusted)

    @property
    def slug(self) -> str:
        """The name as a file can have it; two variants have two."""
        return slug(self.name)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared, and how.

    Attributes:
        folder: where everything is written.
        request: what all runs have in common.
        variants: the first is what the others are compared with.
        seeds: each variant is trained with each of them.
        match: what the variants are made equal in.
    """

    folder: Path
    request: RunRequest
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    match: str | None = None

    def run(self, variant: Variant, seed: int) -> Run:
        """The run of `variant` with `seed`."""
        folder = self.folder / "runs" / f"{variant.slug}-seed{seed}"
        return in_study(self.folder, self.request.run(folder, self._changes(variant, seed)))

    def runs(self) -> Iterator[tuple[Variant, int]]:
        """Every variant with every seed; all variants with the first seed come first, so that there is soon a result."""
        for seed in self.seeds:
            for variant in self.variants:
                yield variant, seed

    def command(self, variant: Variant, seed: int) -> tuple[str, ...]:
        """The overrides with which `asr run` does the same."""
        return (*self.request.overrides, *self._changes(variant, seed))

    def size(self, variant: Variant) -> NetworkSize:
        """The size of the network of `variant`."""
        return network_size(self.run(variant, self.seeds[0]).experiment.acoustic, variant.vocabulary_size)

    def _changes(self, variant: Variant, seed: int) -> tuple[str, ...]:
        return (*variant.overrides, f"seed={seed}")


def make_plan(request: RunRequest, folder: Path | None, *, num_seeds: int, match: str | None = None) -> Plan:
    """The plan for what varies in the overrides of `request`; nothing is matched and nothing prepared yet.

    Raises:
        ConfigError: nothing varies, what varies is what `--match` sets, or a variant's configuration is wrong.
        CorpusError: no such recipe.
    """
    axes, fixed = split_axes(request.overrides)
    if not axes:
        raise ConfigError("nothing varies: give one setting several values, such as cells=gru,lstm")
    keys = [axis.key for axis in axes]
    if "seed" in keys:
        raise ConfigError("seed: --seeds says with how many seeds each variant is trained")
    if match is not None and match not in MATCHES:
        raise ConfigError(f"--match {match}: expected {' or '.join(MATCHES)}")
    if match is not None and MATCHES[match] in keys:
        raise ConfigError(f"--match {match} sets {MATCHES[match]}, so that cannot vary")
    request = replace(request, overrides=tuple(fixed))
    names = _names_of_keys(keys)
    variants = []
    for values in product(*(axis.values for axis in axes)):
        of_variant = dict(zip((axis.key for axis in axes), values, strict=True))
        name = ", ".join(names[key] + value for key, value in of_variant.items())
        variants.append(Variant(name=name, values=of_variant))
    # With what varies: settings beside it may suit the variants only, such as a loss of layer 3 beside `num_layers=4,5`.
    base = _checked_runs(request, variants)[0]
    plan = Plan(
        folder=folder or Path("runs") / f"compare-{base.recipe.name}-{slug('-'.join(map(_last, keys)))}",
        request=request,
        variants=tuple(variants),
        seeds=tuple(base.experiment.seed + number for number in range(num_seeds)),
        match=match,
    )
    for variant in plan.variants:
        plan.run(variant, plan.seeds[0])  # complains of what is wrong before anything is computed
    return plan


def _checked_runs(request: RunRequest, variants: Sequence[Variant]) -> list[Run]:
    """The runs of `variants` by their settings alone.

    Raises:
        ConfigError: some cannot be, of which the first is named; what is wrong in all of them alike is no variant's.
    """
    runs: list[Run] = []
    refused: dict[str, str] = {}
    for variant in variants:
        try:
            runs.append(request.run(changes=variant.overrides))
        except ConfigError as error:
            refused[variant.name] = str(error)
    if not refused:
        return runs
    name, why = next(iter(refused.items()))
    if not runs and len(set(refused.values())) == 1:
        raise ConfigError(why)
    raise ConfigError(f"{len(refused)} of {len(variants)} variants cannot be, such as '{name}': {why}")


def _names_of_keys(keys: Sequence[str]) -> dict[str, str]:
    """What stands before a value in a variant's name: nothing for a cell, else as much of the key as tells it apart."""
    last = [_last(key) for key in keys]
    return {
        key: "" if key == "encoder.cell" else f"{_last(key) if last.count(_last(key)) == 1 else key}=" for key in keys
    }


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def slug(name: str) -> str:
    """`name` in letters that a file's name may have; where that loses something, its CRC makes up for it.

    Example:
        >>> slug("gru, num_layers=2"), slug("speed={}")
        ('gru,num_layers=2', 'speed-d8f644ce')
    """
    short = name.replace(", ", ",")
    plain = re.sub(r"[^\w.,=+-]+", "", short)
    if plain == short and len(plain) <= _LONGEST_NAME:
        return plain
    return f"{plain[: _LONGEST_NAME - 9].rstrip('=,.')}-{zlib.crc32(name.encode()):08x}"


def in_study(folder: Path, run: Run) -> Run:
    """`run` with shards and tokenizer in the study's `folder`, where all that prepare alike have them in common."""
    inputs = json.dumps(stage_inputs(run, "prepare"), sort_keys=True)
    named = folder / "prepared" / f"{zlib.crc32(inputs.encode()):08x}"
    # One that was made before there were as many settings has another name.
    others = () if named.exists() else sorted(named.parent.glob("*"))
    found = next((each for each in others if is_done(replace(run, preparation=each), "prepare")), named)
    return replace(run, preparation=found)


def prepare_run(run: Run) -> None:
    """Prepare what `run` needs, unless that is done; several processes may call this at a time."""
    run.prepared_in.mkdir(parents=True, exist_ok=True)
    with FileLock(run.prepared_in / ".lock"):
        if not is_done(run, "prepare"):
            run_stages(run, ["prepare"])


def forget_all(plan: Plan) -> None:
    """Delete what earlier calls made of `plan`: at once, so that nothing old counts if this call is cut off."""
    shutil.rmtree(plan.folder / _SPEEDS, ignore_errors=True)
    for variant, seed in plan.runs():
        forget(plan.run(variant, seed), STAGES)


def prepared(plan: Plan) -> Plan:
    """`plan` once all that its runs share is prepared, with the sizes of the vocabularies."""
    for variant in plan.variants:
        prepare_run(plan.run(variant, plan.seeds[0]))
    return looked_up(plan)[0]


def looked_up(plan: Plan) -> tuple[Plan, bool]:
    """`plan` with the sizes of the vocabularies as far as an earlier preparation tells them, and whether it tells all."""
    runs = [plan.run(variant, plan.seeds[0]) for variant in plan.variants]
    sizes = [load_tokenizer(run).size if is_done(run, "prepare") else None for run in runs]
    pairs = zip(plan.variants, sizes, strict=True)
    variants = (variant if size is None else replace(variant, vocabulary_size=size) for variant, size in pairs)
    return replace(plan, variants=tuple(variants)), None not in sizes


def matched(plan: Plan, say: Callable[[str], None], *, dry: bool = False) -> Plan:
    """`plan` with its variants made equal in what `plan.match` says; with `dry`, nothing is measured for it.

    "parameters" gives each the `encoder.hidden_size` whose number of parameters is nearest to the first variant's. "time"
    gives each as many epochs as take the first variant's time, by the seconds that some updates of both take; the first
    keeps what it has.

    Raises:
        ConfigError: a variant's updates could not be timed.
    """
    if plan.match is None or (plan.match == "time" and dry):
        return plan
    first, *others = plan.variants
    experiments = [plan.run(variant, plan.seeds[0]).experiment for variant in plan.variants]
    if plan.match == "parameters":
        wanted, pairs = plan.size(first).parameters, zip(experiments[1:], others, strict=True)
        values = [hidden_size_for(experiment, wanted, variant.vocabulary_size) for experiment, variant in pairs]
    else:
        speeds = _speeds(plan, say)
        epochs = [max(1, round(experiments[0].training.epochs * speeds[0] / speed)) for speed in speeds]
        for variant, speed, number in zip(plan.variants, speeds, epochs, strict=True):
            say(f"{variant.name}: {1000 * speed:.2f} ms of training for an utterance, so training.epochs={number}")
        values = epochs[1:]
    settings = [f"{MATCHES[plan.match]}={value}" for value in values]
    adjusted = [replace(variant, adjusted=(each,)) for variant, each in zip(others, settings, strict=True)]
    return replace(plan, variants=(first, *adjusted))


def _speeds(plan: Plan, say: Callable[[str], None]) -> list[float]:
    """Seconds per utterance of each variant. Measured once, one after the other: a resumed study must find the same."""
    files, jobs = [], []
    for variant in plan.variants:
        file = plan.folder / _SPEEDS / f"{variant.slug}.json"
        files.append(file)
        if not _is_timed(file, plan.run(variant, plan.seeds[0])):
            arguments = (plan.request, plan.folder, plan.command(variant, plan.seeds[0]), file)
            output = file.with_suffix(".txt")
            jobs.append(Job(name=f"speed of {variant.name}", work=time_updates, arguments=arguments, output=output))
    for name, failure in run_jobs(jobs, 1, say).items():
        raise ConfigError(f"{name}: {failure}")
    return [float(json.loads(file.read_text(encoding="utf-8"))["seconds_per_utterance"]) for file in files]


def _is_timed(file: Path, run: Run) -> bool:
    """Whether `file` tells how long the updates of `run` took, with its settings."""
    if not file.is_file():
        return False
    now = stage_inputs(run, "train")
    return in_todays_words(json.loads(file.read_text(encoding="utf-8"))["inputs"], now) == now


def time_updates(request: RunRequest, study: Path, overrides: tuple[str, ...], file: Path, place: Place) -> None:
    """Write to `file` how long training takes per utterance of a prepared run."""
    run = in_study(study, place.of(replace(request, overrides=overrides).run(study)))
    found = {"seconds_per_utterance": seconds_per_utterance(run), "inputs": stage_inputs(run, "train")}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(found))


def train_all(plan: Plan, num_at_once: int, say: Callable[[str], None]) -> dict[str, str]:
    """Does all runs of `plan`, which is prepared and matched; why each failed, by its folder's name, for those that did."""
    jobs, num_done, of_others = [], 0, []
    for variant, seed in plan.runs():
        run = plan.run(variant, seed)
        if all(is_done(run, stage) for stage in STAGES):
            num_done += 1
            if found := other_code(run):
                of_others.append(f"{run.folder.name}: {found}")
            continue
        arguments = (plan.request, run.folder, plan.command(variant, seed), run.preparation)
        jobs.append(Job(name=run.folder.name, work=train_one, arguments=arguments, output=run.folder / OUTPUT_FILE))
    if num_done:
        say(f"{num_done} of {num_done + len(jobs)} runs are done already")
    if of_others:
        say(
            f"note: runs made by other code than this: {len(of_others)}, such as {of_others[0]}; --fresh makes all anew"
        )
    return run_jobs(jobs, num_at_once, say)


def train_one(request: RunRequest, folder: Path, overrides: tuple[str, ...], preparation: Path, place: Place) -> None:
    """One run of a study, and beside its results what it took."""
    run = place.of(replace(request, overrides=overrides).run(folder, preparation=preparation))
    with only_one(folder / ".lock", "another process"):
        is_to_train = not is_done(run, "train")
        device = select_device(run.experiment.device)
        before = peak_memory_bytes(device)
        run_stages(run, ["train"])
        if is_to_train:
            measures = Measures(peak_memory_bytes(device), str(device), place.num_threads, before)
            write_text(folder / MEASURES_FILE, json.dumps(asdict(measures)))
        run_stages(run, ["average", "evaluate"])


@dataclass(frozen=True)
class Measures:
    """What a training took besides time, None where it is unknown.

    Attributes:
        peak_memory_bytes: the most that the process, or torch of a GPU, took.
        device: on which it trained.
        num_threads: of a CPU, 0: all.
        memory_before_bytes: the most that it had taken before the model was built.
    """

    peak_memory_bytes: int | None = None
    device: str = ""
    num_threads: int = 0
    memory_before_bytes: int | None = None

    @property
    def training_memory_bytes(self) -> int | None:
        """What the training took over what the program takes without it, on a CPU most of the peak of a small model."""
        if self.peak_memory_bytes is None or self.memory_before_bytes is None:
            return None
        return self.peak_memory_bytes - self.memory_before_bytes


def read_measures(folder: Path) -> Measures:
    """What the training of the run in `folder` took; nothing is known of one that was cut off before that was written."""
    path = folder / MEASURES_FILE
    return Measures(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else Measures()
