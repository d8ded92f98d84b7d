"""Decoding: equal to what trying every path gives, and to searches so plain that they can be read."""

from __future__ import annotations

import itertools
import math
import runpy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spellers import grid, letters
from torch import Tensor

from asr.decoding import BeamDecoderConfig, GreedyDecoderConfig, Hypothesis, build_decoder
from asr.decoding.prefix_search import search, spell

search_in_python = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "plain_search.py"))["search"]

SEEDS = st.integers(0, 10**6)
SHARPNESS = st.sampled_from([0.3, 1.0, 3.0])
Tokens = tuple[int, ...]


def runs_of(path: Tokens) -> list[tuple[int, range]]:
    """Token and frames of each run in `path`, blanks apart."""
    runs, start = [], 0
    for token, group in itertools.groupby(path):
        end = start + len(list(group))
        if token:
            runs.append((token, range(start, end)))
        start = end
    return runs


def read_path(log_probs: Tensor, path: Tokens) -> tuple[Tokens, float, Tokens]:
    """Tokens, log-probability and surest frames of one path."""
    rows = log_probs.double().tolist()
    score = sum(row[token] for row, token in zip(rows, path, strict=True))
    frames = tuple(max(run, key=lambda frame: rows[frame][token]) for token, run in runs_of(path))
    return tuple(token for token, _ in runs_of(path)), score, frames


def by_brute_force(log_probs: Tensor) -> dict[Tokens, tuple[float, Tokens]]:
    """For all token sequences: log-probability over every path, and the surest frames of the best path."""
    paths: dict[Tokens, list[tuple[float, Tokens]]] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        tokens, score, frames = read_path(log_probs, path)
        paths.setdefault(tokens, []).append((score, frames))
    return {
        tokens: (math.log(math.fsum(math.exp(score) for score, _ in ways)), max(ways)[1])
        for tokens, ways in paths.items()
    }


def decode(log_probs: Tensor, config: BeamDecoderConfig | GreedyDecoderConfig) -> list[Hypothesis]:
    decoder = build_decoder(config, letters(log_probs.shape[1]))
    return decoder.decode(log_probs[None], torch.tensor([len(log_probs)]))[0]


@given(st.integers(1, 5), st.integers(2, 4), SEEDS, SHARPNESS)
def test_full_width_equals_brute_force(num_frames: int, vocabulary: int, seed: int, sharpness: float) -> None:
    log_probs = grid(num_frames, vocabulary, seed=seed, sharpness=sharpness)
    expected = by_brute_force(log_probs)
    tree, nodes, scores = search(log_probs.numpy(), len(expected) + 1, -math.inf)
    found = {tuple(spell(tree, node)[1:, 0].tolist()): score for node, score in zip(nodes, scores[:, 2], strict=True)}
    assert found == pytest.approx({tokens: score for tokens, (score, _) in expected.items()}, abs=1e-9)
    assert list(scores[:, 2]) == sorted(scores[:, 2], reverse=True)


@given(st.integers(1, 5), st.integers(2, 4), SEEDS, SHARPNESS)
def test_frames_are_those_of_the_best_alignment(num_frames: int, vocabulary: int, seed: int, sharpness: float) -> None:
    log_probs = grid(num_frames, vocabulary, seed=seed, sharpness=sharpness)
    expected = by_brute_force(log_probs)
    for reading in decode(log_probs, BeamDecoderConfig(width=len(expected) + 1, num_best=len(expected))):
        assert reading.frames == expected[reading.tokens][1]


@given(st.integers(0, 40), st.integers(2, 12), st.integers(1, 20), SEEDS, SHARPNESS)
def test_any_width_equals_the_plain_search(
    num_frames: int, vocabulary: int, width: int, seed: int, sharpness: float
) -> None:
    log_probs = grid(num_frames, vocabulary, seed=seed, sharpness=sharpness)
    tree, nodes, scores = search(log_probs.numpy(), width, -math.inf)
    expected = search_in_python(log_probs.tolist(), width)
    assert [tuple(spell(tree, node)[1:, 0].tolist()) for node in nodes] == [tokens for tokens, _ in expected]
    assert list(scores[:, 2]) == pytest.approx([score for _, score in expected], rel=1e-9, abs=1e-9)


@given(st.integers(1, 40), st.integers(2, 12), SEEDS)
def test_score_is_never_above_the_loss_of_the_text(num_frames: int, vocabulary: int, seed: int) -> None:
    """The beam adds up some alignments of a text; CTC's loss adds up all of them."""
    log_probs = grid(num_frames, vocabulary, seed=seed)
    for width in (2, 512):
        best = decode(log_probs, BeamDecoderConfig(width=width))[0]
        loss = torch.nn.functional.ctc_loss(
            log_probs.double()[:, None],
            torch.tensor([best.tokens], dtype=torch.long),
            torch.tensor([num_frames]),
            torch.tensor([len(best.tokens)]),
            reduction="sum",
        )
        assert best.score <= -loss.item() + 1e-6


@given(st.integers(1, 60), st.integers(2, 6), SEEDS, SHARPNESS)
def test_greedy_equals_reading_the_best_path(num_frames: int, vocabulary: int, seed: int, sharpness: float) -> None:
    log_probs = grid(num_frames, vocabulary, seed=seed, sharpness=sharpness)
    tokens, score, frames = read_path(log_probs, tuple(log_probs.argmax(dim=-1).tolist()))
    best = decode(log_probs, GreedyDecoderConfig())[0]
    assert (best.tokens, best.frames) == (tokens, frames)
    assert best.score == pytest.approx(score, abs=1e-5)
