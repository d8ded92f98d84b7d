"""Beam decoding: sums over alignments, ties, limits and compilation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numba.core import caching
from spellers import grid, grid_of, letters

from asr.cli.decoder_option import parse_decoders
from asr.compiled import compiled
from asr.config import validated
from asr.decoding import BeamDecoderConfig, Hypothesis, build_decoder
from asr.decoding.prefix_search import search, spell
from asr.errors import ConfigError


def decode(log_probs: torch.Tensor, config: BeamDecoderConfig) -> list[Hypothesis]:
    decoder = build_decoder(config, letters(log_probs.shape[1]))
    return decoder.decode(log_probs[None], torch.tensor([len(log_probs)]))[0]


def test_alignments_of_a_text_are_added() -> None:
    """The best path is two blanks (0.36), the best text is `a` (0.16 + 0.24 + 0.24)."""
    log_probs = torch.tensor([[0.6, 0.0, 0.4], [0.6, 0.0, 0.4]]).log()
    best, second = decode(log_probs, BeamDecoderConfig(num_best=2))
    assert (best.text, second.text) == ("a", "")
    assert math.exp(best.score) == pytest.approx(0.64)
    assert math.exp(second.score) == pytest.approx(0.36)


def test_doubled_letter_needs_a_blank_between() -> None:
    assert decode(grid_of("aa-a", 4), BeamDecoderConfig())[0].tokens == (2, 2)
    assert decode(grid_of("aaaa", 4), BeamDecoderConfig())[0].tokens == (2,)


def test_frames_are_the_surest_of_each_token() -> None:
    sure = [0.9, 0.7, 0.8, 0.9, 0.6, 0.9, 0.9]
    log_probs = torch.cat([grid_of(token, 5, sure=value) for token, value in zip("-aa-abb", sure, strict=True)])
    found = decode(log_probs, BeamDecoderConfig())[0]
    assert (found.text, found.frames) == ("aab", (2, 4, 5))


def test_prefix_that_left_the_beam_and_came_back_is_one_prefix() -> None:
    """Width 2 drops `a` in favour of `b` and the empty text, takes it back, and must not list any prefix twice."""
    for seed in range(200):
        tree, nodes, _ = search(grid(12, 4, seed=seed, sharpness=1.0).numpy(), 2, -math.inf)
        prefixes = [tuple(spell(tree, node)[1:, 0].tolist()) for node in nodes]
        assert len(set(prefixes)) == len(prefixes)


def test_ties_go_to_the_older_then_the_lower_id() -> None:
    log_probs = torch.full((1, 5), math.log(0.2))
    tree, nodes, scores = search(log_probs.numpy(), 4, -math.inf)
    assert [spell(tree, node)[1:, 0].tolist() for node in nodes] == [[], [1], [2], [3]]
    assert set(scores[:, 2]) == {float(np.float32(math.log(0.2)))}


def test_texts_that_read_the_same_count_once() -> None:
    found = decode(grid_of("a_-", 4, sure=0.5), BeamDecoderConfig(num_best=8))
    texts = [reading.text for reading in found]
    assert len(texts) == len(set(texts)) > 1
    assert "a" in texts
    assert [reading.score for reading in found] == sorted((reading.score for reading in found), reverse=True)


def test_improbable_tokens_can_be_left_out() -> None:
    log_probs = torch.tensor([[0.5, 0.0, 0.3, 0.2]]).log()
    texts = {
        floor: {reading.text for reading in decode(log_probs, BeamDecoderConfig(num_best=4, min_token_log_prob=floor))}
        for floor in (None, math.log(0.25), math.log(0.4))
    }
    assert texts == {None: {"", "a", "b"}, math.log(0.25): {"", "a"}, math.log(0.4): {""}}


def test_impossible_frame_leaves_the_empty_text() -> None:
    log_probs = grid_of("ab", 4)
    log_probs[1] = -math.inf
    assert decode(log_probs, BeamDecoderConfig()) == [Hypothesis(text="", score=-math.inf)]


def test_several_threads_change_nothing() -> None:
    batch = torch.stack([grid(40, 8, seed=seed) for seed in range(6)])
    lengths = torch.tensor([40, 0, 7, 33, 1, 40])
    decoder = build_decoder(BeamDecoderConfig(num_best=3), letters(8))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = decoder.decode(batch, lengths)
        torch.set_num_threads(3)
        assert decoder.decode(batch, lengths) == alone
    finally:
        torch.set_num_threads(threads)


def test_more_texts_than_the_beam_holds_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_best=5 texts cannot come out of a beam of width=4"):
        validated(BeamDecoderConfig, {"width": 4, "num_best": 5}, where="test")


def test_compiles_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert compiled("int64(int64)")(_twice)(21) == 42


def _twice(number: int) -> int:
    return 2 * number


def test_a_width_is_that_of_every_search() -> None:
    names = "beam,attention,joint"
    assert [each.width for each in parse_decoders(names)] == [16, 16, 16]
    assert [each.width for each in parse_decoders(names, width=3)] == [3, 3, 3]
