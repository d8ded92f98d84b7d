"""Greedy decoding: the best token of each frame, repeats merged, blanks dropped.

Source: Graves et al. 2006, "Connectionist Temporal Classification", section 3.2, best path decoding.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from asr.config import Section
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.log_probs import refuse_nan
from asr.lengths import valid_mask
from asr.text.tokenizer import Tokenizer


class GreedyDecoderConfig(Section):
    """The most probable path; fast, and close to the best text where the model is sure."""

    kind: Literal["greedy"] = "greedy"


class GreedyDecoder:
    """One reading: the text of the most probable path, scored with the log-probability of that path."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.vocabulary: frozenset[str] | None = None

    def decode(self, log_probs: Tensor, num_frames: Tensor, hidden: Tensor | None = None) -> list[list[Hypothesis]]:
        """The one reading of each utterance, as `Decoder.decode` says."""
        num_frames = num_frames.to(log_probs.device)
        refuse_nan(log_probs, num_frames)
        batch_size, max_frames, _ = log_probs.shape
        if batch_size == 0 or max_frames == 0:
            return [[Hypothesis(text="", score=0.0)] for _ in range(batch_size)]
        best, tokens = log_probs.float().max(dim=-1)
        valid = valid_mask(num_frames, max_frames)
        # Fetched first, for not every device has float64.
        scores = torch.where(valid, best, 0).cpu().double().sum(dim=1).tolist()
        rows, spoken, frames = (column.tolist() for column in _runs(best, torch.where(valid, tokens, 0)))
        bounds = torch.bincount(torch.tensor(rows, dtype=torch.long), minlength=batch_size).cumsum(0).tolist()
        return [
            [self._hypothesis(score, spoken[start:end], frames[start:end])]
            for score, start, end in zip(scores, [0, *bounds[:-1]], bounds, strict=True)
        ]

    def _hypothesis(self, score: float, tokens: list[int], frames: list[int]) -> Hypothesis:
        return Hypothesis(text=self.tokenizer.decode(tokens), score=score, tokens=tuple(tokens), frames=tuple(frames))


def _runs(best: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row, token and surest frame of each run of equal non-blank `tokens` (B, S), in order of rows and time.

    Where several frames of a run have the same `best` (B, S), the first counts.
    """
    starts = torch.ones_like(tokens, dtype=torch.bool)
    starts[:, 1:] = tokens[:, 1:] != tokens[:, :-1]
    run = starts.flatten().cumsum(0) - 1
    num_runs = int(run[-1]) + 1
    peak = best.new_full((num_runs,), -torch.inf).scatter_reduce_(0, run, best.flatten(), "amax")
    frame = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens).flatten()
    at_peak = torch.where(best.flatten() == peak[run], frame, tokens.shape[1])
    surest = torch.full_like(run[:num_runs], tokens.shape[1]).scatter_reduce_(0, run, at_peak, "amin")
    rows, columns = torch.nonzero(starts & (tokens != 0), as_tuple=True)
    return rows, tokens[rows, columns], surest[run.view_as(tokens)[rows, columns]]
