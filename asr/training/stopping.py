"""Ctrl-C and SIGTERM, heard where nothing is lost by stopping."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch.distributed as dist

_SAME_WISH_SECONDS = 2.0
# What has not stopped half a minute after torchrun has handed on a signal, it kills.
_SAME_WISH_SECONDS_OF_LAUNCHER = 30.0


class StopFlag(threading.Event):
    """That a run is to stop.

    Attributes:
        number: of the signal that asked first; Ctrl-C's where another process was asked.
    """

    number: int = signal.SIGINT


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """An event that the first Ctrl-C or SIGTERM sets, so that a run stops between updates; a second one stops at once.

    What comes within two seconds of the first is the same wish; below torchrun, which hands on what has reached processes
    already, and on a busy machine late, within half a minute.
    """
    stop = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    asked: list[float] = []
    same_wish_seconds = _SAME_WISH_SECONDS_OF_LAUNCHER if dist.is_torchelastic_launched() else _SAME_WISH_SECONDS

    def request(number: int, frame: FrameType | None) -> None:
        if not stop.is_set():
            stop.number = number
        stop.set()
        asked.append(time.monotonic())
        if asked[-1] - asked[0] < same_wish_seconds:
            return
        for each, handler in before.items():
            signal.signal(each, handler)
        signal.raise_signal(number)

    for number in numbers:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
