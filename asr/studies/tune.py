"""The search for good settings: trials that each train once, stopped early where others did better by then.

A trial is an ordinary run, but for its test parts, which are never heard. Optuna proposes, and holds all trials in one
SQLite file, so that several processes search together. The lock of a trial's folder says that its process lives: a trial
whose process is gone goes on in the next one, from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, Trial, TrialState

from asr.atomic import write_text
from asr.config import parse_yaml
from asr.errors import AsrError, ConfigError, StoppedByUserError, TrainingError
from asr.experiment import Run
from asr.inputs import first_difference, in_todays_words
from asr.model.checkpoint import CHECKPOINT_FOLDER
from asr.pipeline import check_before_work, delete, other_code, run_stages, stage_inputs
from asr.studies.compare import OUTPUT_FILE, in_study, prepare_run
from asr.studies.grammar import Space
from asr.studies.jobs import Job, Place, one_line, run_jobs
from asr.studies.outcome import read_curve
from asr.studies.search import Search, changes_of
from asr.studies.tune_page import best_trial, trial_number, write_search_page
from asr.training.validation import Validation, choosing_rate

BEST_FILE = "best.yaml"

_STUDY = "tune"
_DATABASE = "trials.db"
_PREPARED, _TRIALS = "prepared", "trials"
_LIST, _PAGE = "trials.json", "tune.html"
_OF_TRIALS = ("prepare", "train")
_TRIALS_TO_LEARN_FROM = 5


def search_all(search: Search, num_at_once: int) -> dict[str, str]:
    """Search until all trials have ended, here and in other processes on the same folder; why workers failed, by name.

    Raises:
        ConfigError: the folder holds another search, or one with other settings or data, or a device is not there.
        StoppedByUserError: Ctrl-C; the trials that were under way will go on.
    """
    search.folder.mkdir(parents=True, exist_ok=True)
    with _lock(search):
        study = open_study(search)
        if len(ended_trials(study)) < search.num_trials:
            _check_before_trials(search)
        _check_inputs(search, study)
    for text in _of_other_code(search, study):
        print(text, flush=True)
    runs = [in_study(search.folder, run) for run in search.ends()]
    if len({run.prepared_in for run in runs}) == 1:
        # What all trials share: here, where one sees it, before the workers, who would wait for each other.
        prepare_run(runs[0])
    workers = [Job(name=f"worker {number + 1}", work=search_on, arguments=(search,)) for number in range(num_at_once)]
    return run_jobs(workers, num_at_once, lambda text: None)


def forget_search(search: Search) -> None:
    """Delete the trials of earlier calls and what came of them, as if there had been none.

    Raises:
        ConfigError: another process works at one of them, what would be deleted may be no search's, or a device for those
            that would follow is not there.
    """
    _check_before_trials(search)
    outputs = (_TRIALS, _PREPARED, _LIST, BEST_FILE, _PAGE, _DATABASE)  # without the last, nothing else is a search's
    found = [name for name in outputs if (search.folder / name).exists()]
    if not found:
        return
    if _DATABASE not in found:
        raise ConfigError(
            f"--out {search.folder}: --fresh would delete '{found[0]}' there, which may not be a search's: there is no "
            f"{_DATABASE}; use another --out"
        )
    with _lock(search):
        for folder in (search.folder / _TRIALS).glob("*"):
            try:
                with FileLock(folder / ".lock", timeout=0):
                    pass
            except Timeout as error:
                raise ConfigError(f"{folder}: another process works at this trial; stop it before --fresh") from error
        for name in outputs:
            delete(search.folder / name)


def search_on(search: Search, place: Place) -> None:
    """Do one trial after the other, as long as some are left."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    while True:
        with contextlib.ExitStack() as stack:
            with _lock(search):
                study = open_study(search)
                _check_inputs(search, study)
                _enqueue_orphans(search, study)
                if _num_begun(study) >= search.num_trials:
                    return
                trial = study.ask()
                folder = _folder_of(search, study, trial)
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder / ".lock"))
            _do_trial(search, study, trial, folder, place)


def _check_before_trials(search: Search) -> None:
    """Complains once of a device that is not there, of which else every trial would fail, and count as one."""
    for run in search.ends():
        check_before_work(run, ["train"])


def _lock(search: Search) -> FileLock:
    return FileLock(search.folder / ".lock")


def open_study(search: Search) -> optuna.Study:
    """The study in the folder of `search`, new where there is none; its proposals depend on the trials so far alone.

    Raises:
        ConfigError: the folder holds another search.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=_STUDY,
        storage=f"sqlite:///{(search.folder / _DATABASE).resolve()}",
        load_if_exists=True,
        direction="minimize",
        pruner=_pruner(search),
    )
    # A new process must not propose again what the first one did.
    seed = np.random.SeedSequence([search.ends()[0].experiment.seed, len(study.trials)]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=True)
    if changes := changes_of(study.user_attrs.get("subject"), search):
        raise ConfigError(
            f"{search.folder}: another search was begun here ({changes}); give the same again to go on with it, or "
            "use another --out, or --fresh to throw its trials away"
        )
    return study


def _check_inputs(search: Search, study: optuna.Study) -> None:
    """Complains if the configuration file or the data are not those that the trials so far were made from."""
    run = in_study(search.folder, search.ends()[0])
    inputs = {name: stage_inputs(run, name) for name in _OF_TRIALS}
    known = study.user_attrs.get("inputs")
    if known is None:
        study.set_user_attr("subject", search.subject)
        study.set_user_attr("inputs", inputs)
        return
    for name, now in inputs.items():
        before = in_todays_words(known[name], now)
        if before != now:
            raise ConfigError(
                f"{search.folder}: the trials here were made with other settings ({first_difference(before, now)}); "
                "use another --out, or --fresh to throw them away"
            )


def _of_other_code(search: Search, study: optuna.Study) -> Iterator[str]:
    """What should be said of trials whose results other code than this has made."""
    found = {}
    for trial in study.get_trials(states=(TrialState.COMPLETE,)):
        name = str(trial.user_attrs["folder"])
        if why := other_code(
            search.run(search.folder / _TRIALS / name, tuple(trial.user_attrs["overrides"])), _OF_TRIALS
        ):
            found[name] = why
    if found:
        name, why = next(iter(found.items()))
        yield f"note: trials made by other code than this: {len(found)}, such as {name}: {why}; --fresh makes all anew"


def _pruner(search: Search) -> BasePruner:
    if search.pruner == "none":
        return NopPruner()
    # While the rate is still being raised, or all is blank, errors say little of what follows.
    warm_up = 1 + max(run.experiment.training.epochs for run in search.ends()) // 5
    if search.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=warm_up)
    return MedianPruner(n_startup_trials=_TRIALS_TO_LEARN_FROM, n_warmup_steps=warm_up)


def _has_ended(trial: FrozenTrial) -> bool:
    failed = trial.state == TrialState.FAIL and "error" in trial.user_attrs
    return failed or trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have ended, in the order of their numbers: with a result, stopped early or failed."""
    return sorted(filter(_has_ended, study.trials), key=trial_number)


def _num_begun(study: optuna.Study) -> int:
    """Trials that count: those that have ended, and those that live."""
    return sum(_has_ended(trial) or trial.state == TrialState.RUNNING for trial in study.trials)


def _enqueue_orphans(search: Search, study: optuna.Study) -> None:
    """Put the trials whose process is gone into the queue again, with their folders and what they chose."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        name = trial.user_attrs.get("folder")
        if name is None:  # cut off before it was begun
            study.tell(trial.number, state=TrialState.FAIL)
            continue
        folder = search.folder / _TRIALS / name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / ".lock", timeout=0):
                study.tell(trial.number, state=TrialState.FAIL)
                study.enqueue_trial(trial.params, user_attrs={"folder": name})
        except Timeout:
            continue


def _folder_of(search: Search, study: optuna.Study, trial: Trial) -> Path:
    """The folder of `trial`, called by its number: the next one, for Optuna counts a trial that went on as two."""
    if "folder" not in trial.user_attrs:
        numbers = [trial_number(each) for each in study.trials if "folder" in each.user_attrs]
        trial.set_user_attr("folder", f"{max(numbers, default=-1) + 1:04d}")
    return search.folder / _TRIALS / str(trial.user_attrs["folder"])


def _do_trial(search: Search, study: optuna.Study, trial: Trial, folder: Path, place: Place) -> None:
    """One trial: chosen, trained, and told to the others."""
    overrides = tuple(f"{space.key}={_chosen(trial, space)}" for space in search.spaces)
    name = f"trial {folder.name} ({' '.join(overrides)})"
    try:
        with (
            (folder / OUTPUT_FILE).open("a", encoding="utf-8") as file,
            contextlib.redirect_stdout(file),
            contextlib.redirect_stderr(file),
        ):
            value = _train(search, trial, place.of(search.run(folder, overrides)))
        state, said = TrialState.COMPLETE, f"dev {shown(value, search.metric)}"
    except optuna.TrialPruned:
        value, state = math.nan, TrialState.PRUNED
        said = f"stopped after epoch {max(epoch.epoch for epoch in read_curve(folder))}, others were better by then"
    except StoppedByUserError:
        raise
    except Exception as error:
        # Also one of torch or of this program: a trial that is never told to have failed would be taken up again and again.
        message = str(error) if isinstance(error, AsrError) else _with_traceback(error, folder / OUTPUT_FILE)
        value, state, said = math.nan, TrialState.FAIL, f"failed: {message}"
        trial.set_user_attr("error", message)
    trial.set_user_attr("overrides", list(overrides))
    with _lock(search):
        study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
        _tidy(folder, keep_best=state == TrialState.COMPLETE)
        write_findings(search)
    print(f"{name}: {said}", flush=True)


def _with_traceback(error: Exception, output: Path) -> str:
    """`error` in one line, after its traceback is written to the end of `output`."""
    with output.open("a", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return one_line(error, output)


def _train(search: Search, trial: Trial, run: Run) -> float:
    """The metric of the best epoch of `run`, which is trained or goes on.

    Raises:
        TrialPruned: others were better by then.
        AsrError: whatever a training finds wrong.
    """

    def report(epoch: int, value: float) -> None:
        if math.isfinite(value):
            trial.report(value, epoch)

    def watch(epoch: int, validation: Validation) -> None:
        report(epoch, _value(search, validation.words.rate, validation.loss))
        if trial.should_prune():
            raise optuna.TrialPruned

    for epoch in read_curve(run.folder):
        # Of the process that was cut off. What it did since its last checkpoint comes again, with the same values.
        report(epoch.epoch, _value(search, epoch.wer, epoch.loss))
    prepare_run(run)
    run_stages(replace(run, watch=watch), ["train"])
    epochs = [(_value(search, epoch.wer, epoch.loss), epoch.loss) for epoch in read_curve(run.folder)]
    if not epochs:
        raise TrainingError(f"{run.folder}: no epoch has a finite loss on the development set")
    value, loss = min(epochs)
    trial.set_user_attr("loss", loss)
    return float(value)


def _value(search: Search, wer: float, loss: float) -> float:
    """What `search` goes by; error rates as epochs are chosen by them."""
    return choosing_rate(wer) if search.metric == "wer" else loss


def _chosen(trial: Trial, space: Space) -> str:
    """What `trial` proposes for `space`, as text in YAML."""
    if space.kind == "choice":
        return str(trial.suggest_categorical(space.key, space.values))
    low, high = (parse_yaml(value, where=space.key) for value in space.values)
    if space.kind == "int":
        return str(trial.suggest_int(space.key, low, high))
    value = trial.suggest_float(space.key, low, high, log=space.kind == "log")
    # Digits that people can read, and that make no difference.
    return str(min(max(float(f"{value:.4g}"), low), high))


def _tidy(folder: Path, *, keep_best: bool) -> None:
    """Leave no checkpoint of an ended trial but its best: many trials would fill a disk."""
    checkpoints = folder / CHECKPOINT_FOLDER
    if not keep_best:
        shutil.rmtree(checkpoints, ignore_errors=True)
        return
    for path in checkpoints.glob("*.pt"):
        if path.name != "best.pt":
            path.unlink()


def write_findings(search: Search) -> None:
    """Write what the trials so far have found: the best configuration, a list and a page."""
    study = open_study(search)
    trials = ended_trials(study)
    best = best_trial(trials)
    records = [
        {
            "trial": trial.user_attrs["folder"],
            "state": trial.state.name.lower(),
            "value": trial.value if trial.state == TrialState.COMPLETE else None,
            "params": trial.params,
            "by_epoch": trial.intermediate_values,
            "error": trial.user_attrs.get("error"),
        }
        for trial in trials
    ]
    write_text(search.folder / _LIST, json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    if best is not None:
        overrides = tuple(best.user_attrs["overrides"])
        head = (
            f"# Trial {best.user_attrs['folder']} of {len(trials)}: dev {shown(best.value or 0.0, search.metric)} with "
            f"{' '.join(overrides)}\n"
        )
        write_text(search.folder / BEST_FILE, head + search.run(search.folder, overrides).experiment.yaml())
    write_search_page(search.folder / _PAGE, search.spaces, trials, _importances(study), search.metric)


def _importances(study: optuna.Study) -> dict[str, float]:
    """How much each setting bears on being among the best trials, in all 1; empty with too few trials to tell."""
    values = {trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}
    if len(values) < _TRIALS_TO_LEARN_FROM:
        return {}
    return optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())


def shown(value: float, metric: str) -> str:
    """`value` of `metric` for people."""
    return f"WER {100 * value:.2f} %" if metric == "wer" else f"loss {value:.4f}"
