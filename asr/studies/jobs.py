"""Jobs that run in processes of their own, some at a time: each has its memory to itself and can be killed alone.

Processes are forked from a server that has imported what they need and computed nothing, so that they start at once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from asr.errors import AsrError, StoppedByUserError
from asr.experiment import Run

# What every run imports sooner or later, some of it first when it makes an optimiser, a log or a plot.
_IMPORTED = ["asr.stages", "asr.pipeline", "torch._dynamo", "torch.utils.tensorboard", "matplotlib.figure"]
# Longer than a training needs for its update and its checkpoint, once it has been asked to stop.
_SECONDS_TO_SAVE = 30.0
_LONGEST_MESSAGE = 2000
# Settings of `device` that leave open which GPU it is.
_ANY_GPU = ("auto", "cuda")


@dataclass(frozen=True)
class Place:
    """Where a job computes.

    Attributes:
        device: as the setting `device`, "" to leave that as it is.
        num_threads: of a CPU, 0 to leave that as it is.
    """

    device: str = ""
    num_threads: int = 0

    def of(self, run: Run) -> Run:
        """`run`, computed here, unless its setting `device` names a device of its own."""
        if not self.device or run.experiment.device not in _ANY_GPU:
            return run
        return replace(run, experiment=run.experiment.model_copy(update={"device": self.device}))


@dataclass(frozen=True, kw_only=True)
class Job:
    """A call of a function that another process can import.

    Attributes:
        name: for people.
        work: is called with `arguments`, which can be pickled, and the place.
        output: file that what it prints is appended to, None: it prints.
    """

    name: str
    work: Callable[..., None]
    arguments: tuple[Any, ...]
    output: Path | None = None


def default_jobs(device: str) -> int:
    """How many jobs with the setting `device` run at a time unless the user says it: one for each GPU, or one."""
    return max(1, torch.cuda.device_count()) if device in _ANY_GPU else 1


def places(num_at_once: int) -> list[Place]:
    """The places of so many jobs at a time: GPUs in turn where there are several, an equal share of the CPU's threads."""
    num_gpus = torch.cuda.device_count()
    num_threads = 0 if num_at_once == 1 else max(1, torch.get_num_threads() // num_at_once)
    return [Place(f"cuda:{number % num_gpus}" if num_gpus > 1 else "", num_threads) for number in range(num_at_once)]


def run_jobs(jobs: Sequence[Job], num_at_once: int, say: Callable[[str], None]) -> dict[str, str]:
    """Runs all `jobs`, `num_at_once` at a time; why each failed, by its name, for those that did.

    A job that fails does not keep the others from running. `say` is told what begins and ends.

    Raises:
        StoppedByUserError: Ctrl-C; the jobs have been asked to save what they have, and have ended.
    """
    failures: dict[str, str] = {}
    running: dict[Any, _Running] = {}
    free, waiting = list(reversed(places(num_at_once))), list(reversed(jobs))
    try:
        context = _context()
        while waiting or running:
            while waiting and free:
                job, place = waiting.pop(), free.pop()
                say(f"{job.name}: starting" + (f", see {job.output}" if job.output else ""))
                started = _Running.start(context, job, place)
                running[started.process.sentinel] = started
            for sentinel in wait(list(running)):
                ended = running.pop(sentinel)
                free.append(ended.place)
                failure = ended.failure()
                if failure:
                    failures[ended.job.name] = failure
                seconds = time.perf_counter() - ended.since
                say(f"{ended.job.name}: " + (f"failed: {failure}" if failure else f"done, {seconds:.0f} s"))
    except KeyboardInterrupt:
        for each in running.values():
            each.process.terminate()
        for each in running.values():
            each.process.join(_SECONDS_TO_SAVE)
        raise StoppedByUserError("stopped, everything is saved; the same command continues") from None
    return failures


@dataclass(frozen=True)
class _Running:
    job: Job
    place: Place
    process: BaseProcess
    answer: Connection
    since: float

    @classmethod
    def start(cls, context: Any, job: Job, place: Place) -> _Running:
        answer, of_child = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(job, place, of_child), daemon=True)
        process.start()
        of_child.close()
        return cls(job, place, process, answer, time.perf_counter())

    def failure(self) -> str:
        """Why the ended process failed, "" when it did not."""
        self.process.join()
        code = self.process.exitcode
        if code == 0:
            return ""
        if self.answer.poll():
            with contextlib.suppress(EOFError):
                return str(self.answer.recv())
        if code is not None and code < 0:
            killed = signal.Signals(-code).name
            return f"killed by {killed}{', as happens when memory is full' if killed == 'SIGKILL' else ''}"
        return f"ended with exit code {code}"


def _context() -> Any:
    """How processes are started: forked from a fresh server where the system can, else begun anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    # Which would unblock signals if it first started with the server.
    resource_tracker.ensure_running()
    # A terminal sends Ctrl-C to the server and its children, too: these inherit that it is blocked, and leave it to us, who
    # hear it as soon as it is not. They are asked by SIGTERM.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _work(job: Job, place: Place, answer: Connection) -> None:
    """What happens in the process of `job`."""
    _live_and_die_with_parent()
    if place.num_threads:
        torch.set_num_threads(place.num_threads)
    with contextlib.ExitStack() as stack:
        if job.output is not None:
            job.output.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(job.output.open("a", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(file))
            stack.enter_context(contextlib.redirect_stderr(file))
        try:
            job.work(*job.arguments, place)
        except AsrError as error:
            # That it was asked to stop, the parent says for all that print to where it does.
            if job.output is not None or not isinstance(error, StoppedByUserError):
                print(f"error: {error}", flush=True)
            answer.send(_shortened(str(error)))
        except Exception as error:  # a defect of this program: told to the parent in one line, and whole in the output
            traceback.print_exc()
            answer.send(_shortened(one_line(error, job.output)))
        else:
            return
    sys.exit(1)


def _shortened(message: str) -> str:
    """`message`, so short that it fits into a pipe which nobody reads before the process has ended."""
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]} ..."


def one_line(error: Exception, output: Path | None) -> str:
    """A defect of this program in one line; its traceback is in the file `output`, None: it was printed."""
    where = "was printed" if output is None else f"is in {output}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}; the traceback {where}"


def _live_and_die_with_parent() -> None:
    """Leave Ctrl-C to the parent, which asks once; when it is gone without asking, stop as if it had."""
    if sys.platform != "win32":
        os.setsid()
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_SAVE)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
