"""What stops a training between updates, and what stops it at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
import torch.distributed as dist

from asr.training.stopping import stop_flag


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """Ctrl-C as a terminal has it: a shell that puts the tests into its background has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_interrupts")
@pytest.mark.parametrize("launched", [False, True])
def test_signals_that_come_together_are_one_wish_and_a_later_one_stops_at_once(
    monkeypatch: pytest.MonkeyPatch, launched: bool
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: launched)
    before = signal.getsignal(signal.SIGINT)
    with stop_flag() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        now += 25 if launched else 1  # torchrun hands on what has reached its processes, when the machine lets it
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        now += 6 if launched else 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
