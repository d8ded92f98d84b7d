"""What a search looks for: which settings, between which ends, by which error; and what all its trials have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from asr.errors import ConfigError
from asr.experiment import Run, RunRequest
from asr.studies.compare import in_study
from asr.studies.grammar import Space, split_spaces

METRICS = ("wer", "loss")
PRUNERS = ("median", "halving", "none")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for.

    Attributes:
        folder: where everything is written.
        request: what all trials have in common.
        spaces: the settings that are searched for.
        num_trials: when this many have ended, the search has.
        metric: what is to be low on the development set: "wer" or "loss", of the best epoch.
        pruner: what stops trials that are worse than others were.
    """

    folder: Path
    request: RunRequest
    spaces: tuple[Space, ...]
    num_trials: int
    metric: str = "wer"
    pruner: str = "median"

    @property
    def subject(self) -> dict[str, str]:
        """What is searched for, and by which error, as a user writes it."""
        return {space.key: space.written for space in self.spaces} | {"--metric": self.metric}

    def run(self, folder: Path, overrides: tuple[str, ...]) -> Run:
        """The run in `folder` with what a trial chose."""
        return in_study(self.folder, self.request.run(folder, overrides))

    def ends(self) -> list[Run]:
        """A run at every end of every space, each with the first value of every other space; nothing is said of preparing.

        Never without these: settings that suit each other, such as a loss of layer 3 and `num_layers=int(4,6)`, may not suit
        the configuration that both are to change.
        """
        first = {space.key: space.values[0] for space in self.spaces}
        chosen = [{**first, space.key: value} for space in self.spaces for value in space.values]
        runs = [
            self.request.run(self.folder, tuple(f"{key}={value}" for key, value in each.items())) for each in chosen
        ]
        for space in self.spaces:
            self._check_between(space, first)
        return runs

    def _check_between(self, space: Space, first: dict[str, str]) -> None:
        """Complains of a space whose ends a setting takes, but not what lies between them, since it is a whole number."""
        if space.kind not in ("uniform", "log"):
            return
        low, high = map(float, space.values)
        if not (low.is_integer() and high.is_integer()):
            return
        # Of no whole number of steps between them.
        values = {**first, space.key: f"{low + (high - low) / math.pi:.12g}"}
        try:
            self.request.run(self.folder, [f"{key}={value}" for key, value in values.items()])
        except ConfigError as error:
            whole = replace(space, kind="int")
            raise ConfigError(
                f"{space.key}={space.written}: {error}; for whole numbers say {space.key}={whole.written}"
            ) from error


def make_search(
    request: RunRequest, folder: Path | None, *, num_trials: int, metric: str = "wer", pruner: str = "median"
) -> Search:
    """The search for what stands as a space in the overrides of `request`.

    Raises:
        ConfigError: there is no space, or its ends do not make a configuration.
        CorpusError: no such recipe.
    """
    for option, value, known in (("--metric", metric, METRICS), ("--pruner", pruner, PRUNERS)):
        if value not in known:
            raise ConfigError(f"{option} {value}: expected {', '.join(known[:-1])} or {known[-1]}")
    spaces, fixed = split_spaces(request.overrides)
    if not spaces:
        raise ConfigError("nothing to search for: give a setting a space, such as 'optimizer.lr=log(1e-4,1e-2)'")
    request = replace(request, overrides=tuple(fixed))
    first = request.run(changes=[f"{space.key}={space.values[0]}" for space in spaces])
    search = Search(
        folder=folder or Path("runs") / f"tune-{first.recipe.name}",
        request=request,
        spaces=tuple(spaces),
        num_trials=num_trials,
        metric=metric,
        pruner=pruner,
    )
    search.ends()  # complains of what is wrong before anything is computed
    return search


def changes_of(subject: dict[str, str] | None, search: Search) -> str:
    """In what `search` looks for another thing than the recorded `subject`, for people; "" for nothing, or without one."""
    if subject is None:
        return ""
    now, none = search.subject, "not searched for"
    keys = [key for key in dict.fromkeys((*subject, *now)) if subject.get(key) != now.get(key)]
    return "; ".join(f"{key} was {subject.get(key, none)}, is {now.get(key, none)}" for key in keys)
