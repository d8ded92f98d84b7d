"""The encoder: subsampling, then recurrent layers with normalisation, dropout and residual connections around each.

Cells run forward only. For the backward direction each utterance is reversed by its own length, so it starts at its own
last frame and the padding stays behind it, where a causal cell cannot feel it. Packed sequences would do the same, but cost
cuDNN its persistent kernels, and time on a CPU (`benchmarks/gru.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from asr.config import Section
from asr.errors import did_you_mean
from asr.lengths import valid_mask
from asr.model.cells import CELLS, run_cells
from asr.model.subsampling import ConvSubsampling, SubsamplingConfig

Norm = Literal["layer", "batch", "none"]


class EncoderConfig(Section):
    """Subsampling and the recurrent stack."""

    subsampling: SubsamplingConfig = SubsamplingConfig()
    cell: str = Field(default="gru", description=f"recurrent cell: {', '.join(CELLS)}")
    hidden_size: int = Field(default=256, ge=1, description="units per direction and layer")
    num_layers: int = Field(default=3, ge=1, le=32, description="recurrent layers")
    bidirectional: bool = Field(default=True, description="read each utterance in both directions")
    norm: Norm = Field(default="layer", description="normalisation before each recurrent layer and before the head")
    residual: bool = Field(default=True, description="add each recurrent layer's input to its output")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="after each recurrent layer, in training")
    dropout_over: Literal["frame", "utterance"] = Field(
        default="frame", description="draw for each frame anew, or once for all frames of an utterance"
    )

    @field_validator("cell")
    @classmethod
    def _check_cell(cls, cell: str) -> str:
        if cell not in CELLS:
            raise ValueError(f"unknown cell '{cell}'{did_you_mean(cell, CELLS)}")
        return cell

    @property
    def output_size(self) -> int:
        """Width of the encoder's output, and of the stream between its layers."""
        return self.hidden_size * (2 if self.bidirectional else 1)


class UtteranceDropout(nn.Module):
    """Dropout of frames (S, B, D) that leaves out the same units in all frames of an utterance, in training.

    Source: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks".
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, frames: Tensor) -> Tensor:
        """`frames` with some units zero, the others scaled so that the mean stays."""
        if not self.training or self.share == 0:
            return frames
        return frames * nn.functional.dropout(torch.ones_like(frames[:1]), self.share)


class RecurrentLayer(nn.Module):
    """One recurrent layer: x + dropout(cell(norm(x))), the cell in one direction or both."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm = make_norm(config.norm, config.output_size)
        num_directions = 2 if config.bidirectional else 1
        cell = CELLS[config.cell]
        self.directions = nn.ModuleList(cell(config.output_size, config.hidden_size) for _ in range(num_directions))
        dropout = UtteranceDropout if config.dropout_over == "utterance" else nn.Dropout
        self.dropout = dropout(config.dropout)
        self.residual = config.residual

    def forward(self, hidden: Tensor, mask: Tensor, reversal: Tensor) -> Tensor:
        """Frames (S, B, output_size) from `hidden` of the same shape.

        `mask` (S, B) is True on valid frames; `reversal` (S, B) tells for each frame which one takes its place when
        utterances are read from their end.
        """
        normed = normalize(self.norm, hidden, mask)
        inputs = [normed, _frames_at(normed, reversal)][: len(self.directions)]
        outputs = run_cells(list(self.directions), inputs)
        if len(outputs) == 2:
            outputs[1] = _frames_at(outputs[1], reversal)
        output: Tensor = self.dropout(torch.cat(outputs, dim=-1))
        return hidden + output if self.residual else output


class Encoder(nn.Module):
    """Features (B, T, F) to hidden frames (B, S, output_size)."""

    def __init__(self, config: EncoderConfig, num_features: int) -> None:
        super().__init__()
        self.config = config
        self.subsampling = ConvSubsampling(config.subsampling, num_features, config.output_size)
        self.layers = nn.ModuleList(RecurrentLayer(config) for _ in range(config.num_layers))
        self.norm = make_norm(config.norm, config.output_size)

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden frames (B, S, output_size) of `features` (B, T, F), and the frames of each utterance (B,).

        `features` must be zero behind `num_frames` (B,); the result is zero there too.
        """
        (hidden,), num_frames = self.after_layers(features, num_frames, (len(self.layers),))
        return hidden, num_frames

    def after_layers(self, features: Tensor, num_frames: Tensor, numbers: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """What `forward` gives if the encoder ended after layer 1, 2, ...: for each of `numbers`, in rising order."""
        hidden, num_frames = self.subsampling(features, num_frames)
        lengths = num_frames.to(hidden.device)
        mask = valid_mask(lengths, hidden.shape[1]).T
        reversal = reversed_frames(lengths, hidden.shape[1])
        # Time first from here on: the layout in which recurrent kernels read.
        hidden = hidden.transpose(0, 1).contiguous()
        outputs: list[Tensor] = []
        for number, layer in enumerate(self.layers, start=1):
            hidden = layer(hidden, mask, reversal)
            if number in numbers:
                normed = normalize(self.norm, hidden, mask) * mask[..., None]
                outputs.append(normed.transpose(0, 1))
        return outputs, num_frames


def reversed_frames(lengths: Tensor, max_length: int) -> Tensor:
    """Frame numbers (S, B): those of each utterance of `lengths` (B,) from last to first, then the padding's own.

    Example:
        >>> reversed_frames(torch.tensor([3, 2]), 3).T.tolist()
        [[2, 1, 0], [1, 0, 2]]
    """
    frames = torch.arange(max_length, device=lengths.device)[:, None]
    return torch.where(frames < lengths, lengths - 1 - frames, frames)


def _frames_at(hidden: Tensor, index: Tensor) -> Tensor:
    """Frames of `hidden` (S, B, D) at `index` (S, B)."""
    return hidden.gather(0, index[..., None].expand_as(hidden))


def make_norm(kind: Norm, size: int) -> nn.Module:
    """A normalisation of width `size`: of each frame, of each feature over all valid frames of a batch, or none."""
    if kind == "layer":
        return nn.LayerNorm(size)
    return nn.BatchNorm1d(size) if kind == "batch" else nn.Identity()


def normalize(norm: nn.Module, hidden: Tensor, mask: Tensor) -> Tensor:
    """`norm` applied to frames `hidden` (S, B, D); batch statistics come from the valid frames of `mask` (S, B) alone."""
    if not isinstance(norm, nn.BatchNorm1d):
        normed: Tensor = norm(hidden)
        return normed
    frames = hidden[mask]
    # A lone frame has no variance and would stop training: it gets the running statistics, as in evaluation.
    training = norm.training and len(frames) > 1
    valid: Tensor = norm(frames) if training else _with_running_statistics(norm, frames)
    return torch.zeros_like(hidden, dtype=valid.dtype).masked_scatter(mask[..., None], valid)


def _with_running_statistics(norm: nn.BatchNorm1d, frames: Tensor) -> Tensor:
    return nn.functional.batch_norm(frames, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
