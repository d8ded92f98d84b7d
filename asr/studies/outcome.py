"""What the runs of a comparison say together: costs, learning curves, error rates over all seeds, and tests."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from asr import __version__
from asr.atomic import write_text
from asr.evaluation import hypotheses_file
from asr.experiment import Run
from asr.pipeline import STAGES, is_done, other_code
from asr.scoring import Columns, Result, UtteranceScore, read_results, read_transcripts, score_utterance, summarize
from asr.studies.compare import Measures, Plan, Variant, read_measures
from asr.studies.pairs import Pair, Scores, tested_pairs
from asr.training.run_log import read_metrics

COMPARISON_STEM = "comparison"
"""Name of the files of a comparison, without suffix."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One validation of a training; losses are in nats per token."""

    epoch: int
    train_loss: float
    loss: float
    wer: float


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """One finished run.

    Attributes:
        seed: its seed.
        folder: where it lies, below the study's.
        curve: its validations.
        train_seconds: of updates and validations.
        seconds_per_epoch: the median epoch's.
        measures: what else the training took.
        results: of every subset and decoder.
        other_code: what of it other code than this has made, "" for nothing.
    """

    seed: int
    folder: str
    curve: tuple[Epoch, ...]
    train_seconds: float
    seconds_per_epoch: float
    measures: Measures
    results: tuple[Result, ...]
    other_code: str = ""


@dataclass(frozen=True, kw_only=True)
class VariantOutcome:
    """One variant.

    Attributes:
        name: of the variant.
        overrides: what it has of what varies and what was matched.
        command: the overrides with which `asr run` does its first run again.
        parameters, multiply_adds: size of the network; multiplications are per second of audio.
        runs: those that are finished, by seed.
    """

    name: str
    overrides: tuple[str, ...]
    command: tuple[str, ...]
    parameters: int
    multiply_adds: float
    runs: tuple[RunOutcome, ...]

    def mean(self, of_run: Callable[[RunOutcome], float]) -> float | None:
        """The mean over the seeds of what `of_run` gives, None without a run."""
        return statistics.mean(map(of_run, self.runs)) if self.runs else None

    @property
    def training_memory_bytes(self) -> int | None:
        """The most that any run's training took, None where that is unknown."""
        known = [most for run in self.runs if (most := run.measures.training_memory_bytes) is not None]
        return max(known, default=None)

    def real_time_factor(self, decoder: str) -> float | None:
        """The mean over seeds and subsets, None where nothing was timed."""
        known = [
            each.rtf for run in self.runs for each in run.results if each.decoder == decoder and each.rtf is not None
        ]
        return statistics.mean(known) if known else None


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """The error rate of one variant on one subset under one decoder, over all seeds.

    Attributes:
        variant: its name.
        result: of the errors summed over the seeds; `words` and `utterances` count each once.
        repetitions: seeds over which `substitutions`, `deletions` and `insertions` there are summed, so that their sum is
            `wer` times this times `words`.
        wer_by_seed: the word error rate of each seed.
    """

    variant: str
    result: Result
    repetitions: int
    wer_by_seed: dict[int, float]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that a comparison found.

    Attributes:
        title: what was compared.
        match: what the variants were made equal in, "" for nothing.
        seeds: that each was to be trained with.
        variants, pooled, pairs: see their types; the first variant is what the others are compared with.
        failures: why runs failed, by the names of their folders.
        circumstances: versions, processor and how many runs went on at a time.
    """

    title: str
    match: str
    seeds: tuple[int, ...]
    variants: tuple[VariantOutcome, ...]
    pooled: tuple[Pooled, ...]
    pairs: tuple[Pair, ...]
    failures: dict[str, str]
    circumstances: dict[str, str | int]

    def parts(self) -> list[tuple[str, str]]:
        """Every subset with every decoder."""
        return list(dict.fromkeys((each.result.subset, each.result.decoder) for each in self.pooled))

    def pooled_of(self, subset: str, decoder: str) -> list[Pooled]:
        """The error rates of all variants there, in the order of the variants."""
        return [each for each in self.pooled if (each.result.subset, each.result.decoder) == (subset, decoder)]

    def of_other_code(self) -> dict[tuple[str, int], str]:
        """What of each run other code than this has made, by variant and seed, for those of which it has made any."""
        return {
            (variant.name, run.seed): run.other_code
            for variant in self.variants
            for run in variant.runs
            if run.other_code
        }

    def pairs_of(self, subset: str, decoder: str) -> list[Pair]:
        """The pairs of variants there."""
        return [pair for pair in self.pairs if (pair.subset, pair.decoder) == (subset, decoder)]


def collect(plan: Plan, failures: dict[str, str], num_at_once: int) -> Outcome:
    """What the finished runs of `plan` say.

    Raises:
        ScoringError: results of a finished run are missing or damaged.
    """
    variants = tuple(_variant_outcome(plan, variant) for variant in plan.variants)
    scores = _all_scores(plan.folder, variants)
    whole = {each.subset: each.whole for variant in variants for run in variant.runs for each in run.results}
    pooled = tuple(_pooled(scores, whole))
    recipe = plan.run(plan.variants[0], plan.seeds[0]).recipe
    return Outcome(
        title=f"{recipe.name}: {' / '.join(variant.name for variant in variants)}",
        match=plan.match or "",
        seeds=plan.seeds,
        variants=variants,
        pooled=pooled,
        pairs=tuple(tested_pairs(plan, scores)),
        failures=failures,
        circumstances=circumstances() | {"runs at a time": num_at_once},
    )


def circumstances() -> dict[str, str | int]:
    """Versions and devices that results depend on."""
    found: dict[str, str | int] = {
        "bigru-asr": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def file_stem(folder: Path, failures: Mapping[str, str]) -> str:
    """What the files of a comparison in `folder` are called: another name where runs failed and those there are of none.

    So a comparison that all runs came through is never overwritten by what others have left.
    """
    path = folder / f"{COMPARISON_STEM}.json"
    if not failures or not path.is_file():
        return COMPARISON_STEM
    try:
        is_whole = not json.loads(path.read_text(encoding="utf-8"))["failures"]
    except (ValueError, KeyError, TypeError):
        is_whole = False  # of no use to anybody
    return f"{COMPARISON_STEM}-incomplete" if is_whole else COMPARISON_STEM


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Writes `outcome` to `path` as JSON with the fields of its types."""
    write_text(path, json.dumps(asdict(outcome), indent=1, ensure_ascii=False) + "\n")


def _variant_outcome(plan: Plan, variant: Variant) -> VariantOutcome:
    size = plan.size(variant)
    runs = [(seed, plan.run(variant, seed)) for seed in plan.seeds]
    return VariantOutcome(
        name=variant.name,
        overrides=variant.overrides,
        command=plan.command(variant, plan.seeds[0]),
        parameters=size.parameters,
        multiply_adds=size.multiply_adds,
        runs=tuple(
            _run_outcome(plan.folder, run, seed) for seed, run in runs if all(is_done(run, stage) for stage in STAGES)
        ),
    )


def _run_outcome(study: Path, run: Run, seed: int) -> RunOutcome:
    folder = run.folder
    records = read_metrics(folder, "validation")
    ends = [0.0, *(float(record["wall_seconds"]) for record in records)]
    epochs = [0, *(int(record["epoch"]) for record in records)]
    per_epoch = [(ends[at] - ends[at - 1]) / max(1, epochs[at] - epochs[at - 1]) for at in range(1, len(ends))]
    return RunOutcome(
        seed=seed,
        folder=folder.relative_to(study).as_posix(),
        curve=tuple(read_curve(folder)),
        train_seconds=ends[-1],
        seconds_per_epoch=statistics.median(per_epoch) if per_epoch else 0.0,
        measures=read_measures(folder),
        results=tuple(read_results(folder / "results.json")),
        other_code=other_code(run),
    )


def read_curve(folder: Path) -> Iterator[Epoch]:
    """The validations of the run in `folder`; one without a finite loss is left out."""
    for record in read_metrics(folder, "validation"):
        values = [record.get(name) for name in ("train_loss", "loss", "wer")]
        if all(isinstance(value, int | float) for value in values):
            train_loss, loss, wer = map(float, values)  # type: ignore[arg-type]
            yield Epoch(epoch=int(record["epoch"]), train_loss=train_loss, loss=loss, wer=wer)


def _all_scores(study: Path, variants: Sequence[VariantOutcome]) -> Scores:
    found: Scores = {}
    for variant in variants:
        for run in variant.runs:
            # Where nobody speaks there is no rate to compare; the runs' own results count what was heard there.
            for result in (each for each in run.results if each.words):
                of_part = found.setdefault((result.subset, result.decoder), {})
                path = study / run.folder / "hypotheses" / hypotheses_file(result.subset, result.decoder)
                of_part.setdefault(variant.name, {})[run.seed] = read_scores(path)
    return found


def read_scores(path: Path) -> list[UtteranceScore]:
    """The scores in a file of hypotheses that an evaluation wrote, by id.

    Raises:
        ScoringError: the file is missing or damaged.
    """
    said = read_transcripts(path, format="tsv", columns=Columns(text="reference"))
    heard = read_transcripts(path, format="tsv", columns=Columns(text="hypothesis"))
    return [
        score_utterance(id=name, reference=said[name].text, hypothesis=heard[name].text, speaker=said[name].speaker)
        for name in sorted(said)
    ]


def _pooled(scores: Scores, whole: Mapping[str, int]) -> Iterator[Pooled]:
    """All seeds of each variant together; `whole` is the number of utterances of each whole subset, 0 where unknown."""
    for (subset, decoder), of_variants in scores.items():
        for variant, of_seeds in of_variants.items():
            one = next(iter(of_seeds.values()))
            # An utterance has the same id in every seed, so that all its errors are in one block of the resampling.
            result = summarize(
                [each for scores in of_seeds.values() for each in scores],
                subset=subset,
                decoder=decoder,
                whole=whole[subset],
            )
            words = sum(each.words.reference_length for each in one)
            yield Pooled(
                variant=variant,
                result=replace(
                    result, utterances=len(one), words=words, without_speaker=result.without_speaker // len(of_seeds)
                ),
                repetitions=len(of_seeds),
                wer_by_seed={
                    seed: sum(each.words.errors for each in scores) / words for seed, scores in of_seeds.items()
                },
            )
