"""Greedy decoding, by small grids."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from spellers import grid_of, letters
from torch.overrides import TorchFunctionMode

from asr.decoding import GreedyDecoderConfig, Hypothesis, build_decoder

VOCABULARY = 5


def decode(log_probs: torch.Tensor, num_frames: list[int] | None = None) -> list[Hypothesis]:
    batch = log_probs if log_probs.ndim == 3 else log_probs[None]
    lengths = torch.tensor([batch.shape[1]] * len(batch) if num_frames is None else num_frames)
    return [
        readings[0] for readings in build_decoder(GreedyDecoderConfig(), letters(VOCABULARY)).decode(batch, lengths)
    ]


@pytest.mark.parametrize(
    ("frames", "text", "tokens", "at"),
    [
        ("----", "", (), ()),
        ("a", "a", (2,), (0,)),
        ("aaaa", "a", (2,), (0,)),
        ("a-a", "aa", (2, 2), (0, 2)),
        ("aab-bb-", "abb", (2, 3, 3), (0, 2, 4)),
        ("_a__b_", "a b", (1, 2, 1, 3, 1), (0, 1, 2, 4, 5)),
    ],
)
def test_repeats_merge_and_blanks_vanish(frames: str, text: str, tokens: tuple[int, ...], at: tuple[int, ...]) -> None:
    found = decode(grid_of(frames, VOCABULARY))[0]
    assert (found.text, found.tokens, found.frames) == (text, tokens, at)
    assert found.score == pytest.approx(len(frames) * math.log(0.9), rel=1e-5)


def test_frame_of_a_token_is_its_surest() -> None:
    sure = [0.5, 0.8, 0.6, 0.7, 0.9, 0.9]
    log_probs = torch.cat([grid_of(token, VOCABULARY, sure=value) for token, value in zip("aaabbb", sure, strict=True)])
    found = decode(log_probs)[0]
    assert found.frames == (1, 4)
    assert found.score == pytest.approx(sum(map(math.log, sure)), rel=1e-5)


def test_runs_end_with_the_utterance() -> None:
    """The end of one utterance and the start of the next are neighbours in memory, and padding follows the shorter."""
    batch = torch.stack([grid_of("ba", VOCABULARY), grid_of("aa", VOCABULARY), grid_of("a-", VOCABULARY)])
    assert [found.tokens for found in decode(batch, [2, 1, 2])] == [(3, 2), (2,), (2,)]
    assert [found.frames for found in decode(batch, [2, 1, 2])] == [(0, 1), (0,), (0,)]


class OnlyTheCpuHasDoubles(TorchFunctionMode):
    """As with a GPU that has no float64, such as Apple's: what was not fetched from it cannot be made double."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: set[int] = set()

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        if function is torch.Tensor.cpu:
            self.fetched.add(id(result))
        if function is torch.Tensor.double and id(arguments[0]) not in self.fetched:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


def test_reads_also_on_a_device_without_doubles() -> None:
    with OnlyTheCpuHasDoubles():
        assert decode(grid_of("a-b", VOCABULARY))[0].text == "ab"
