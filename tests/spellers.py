"""Small tokenizers and grids of log-probabilities for the tests of decoders."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.text import CharacterTokenizerConfig, Tokenizer
from asr.text.tokenizer import CharacterTokenizer


def letters(vocabulary: int) -> Tokenizer:
    """A tokenizer with `vocabulary` tokens: blank, space, a, b, c, ..."""
    return CharacterTokenizer(" abcdefghijklmnopqrstuvwxyz"[: vocabulary - 1], CharacterTokenizerConfig())


def grid(num_frames: int, vocabulary: int, *, seed: int, sharpness: float = 2.0) -> Tensor:
    """Log-probabilities (S, V) without ties: random, and the sharper the surer."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_frames, vocabulary, generator=generator).mul(sharpness).log_softmax(dim=-1)


def grid_of(frames: str, vocabulary: int, *, sure: float = 0.9) -> Tensor:
    """Log-probabilities (S, V) that give `sure` to the token written in each frame: `-` blank, `_` space, or a letter."""
    ids = torch.tensor(["-_abcdefghijklmnopqrstuvwxyz".index(frame) for frame in frames])
    probabilities = torch.full((len(ids), vocabulary), (1 - sure) / (vocabulary - 1))
    return probabilities.scatter(1, ids[:, None], sure).log()
