"""The encoder: subsampling, then recurrent layers with normalisation, dropout and residual connections around each.

Cells run forward only. For the backward direction each utterance is reversed by its own length, so it starts at its own
last frame and the padding stays behind it, where a causal cell cannot feel it. Packed sequences would do the same, but cost
cuDNN its persistent kernels, and time on a CPU (`benchmarks/gru.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from asr.config import Section
from asr.errors import did_you_mean
from asr.lengths import valid_mask
from asr.model.cells import CELLS, State, equations, make_cell, run_cells
from asr.model.norm import Norm, make_norm, normalize
from asr.model.subsampling import ConvSubsampling, SubsamplingConfig

# Where the gate of a highway starts: closed by three quarters.
_HIGHWAY_BIAS = -1.0


class EncoderConfig(Section):
    """Subsampling and the recurrent stack."""

    subsampling: SubsamplingConfig = SubsamplingConfig()
    cell: str = Field(default="gru", description=f"recurrent cell: {', '.join(CELLS)}")
    cell_norm: bool = Field(
        default=False, description="layer normalisation of the products inside the cell; kernels give way to equations"
    )
    recurrent_init: Literal["uniform", "orthogonal"] = Field(
        default="uniform", description="how the weights between a cell's units are drawn, gate by gate"
    )
    gate_bias: float = Field(
        default=0.0,
        description="added at the start to the bias of the gate that keeps the state: lstm forget, gru update",
    )
    initial_state: Literal["zero", "learnt"] = Field(
        default="zero", description="what each direction of each layer starts from; learnt starts at zero"
    )
    hidden_size: int = Field(default=256, ge=1, description="units per direction and layer")
    num_layers: int = Field(default=3, ge=1, le=32, description="recurrent layers")
    bidirectional: bool = Field(default=True, description="read each utterance in both directions")
    norm: Norm = Field(default="layer", description="normalisation before each recurrent layer and before the head")
    residual: bool = Field(default=True, description="add each recurrent layer's input to its output")
    highway: bool = Field(
        default=False, description="weigh input against output by a learnt gate, where `residual` would add them"
    )
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

    @field_validator("cell_norm", "recurrent_init", "gate_bias")
    @classmethod
    def _check_option_of_cell(cls, value: object, info: ValidationInfo) -> object:
        is_off = value in (False, "uniform", 0.0)
        # A cell that is not known has been complained about.
        if is_off or "cell" not in info.data:
            return value
        rules = equations(info.data["cell"])
        fits, complaint = {
            "cell_norm": (rules.takes_layer_norm, "takes no layer normalisation inside"),
            "recurrent_init": (bool(rules.products), "has no weights between its units"),
            "gate_bias": (rules.keep_gate is not None, "has no gate that keeps the state"),
        }[info.field_name or ""]
        if not fits:
            raise ValueError(f"cell '{info.data['cell']}' {complaint}")
        return value

    @field_validator("highway")
    @classmethod
    def _check_highway(cls, highway: bool, info: ValidationInfo) -> bool:
        if highway and info.data.get("residual") is False:
            raise ValueError("a highway takes the place of the residual connection, which residual=false switches off")
        return highway

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
    """One recurrent layer: x + dropout(cell(norm(x))), the cell in one direction or both.

    With a highway: (1 - t) * x + t * dropout(cell(norm(x))), t = sigma(W norm(x) + b), where b starts at -1, so that the
    input passes at first. Source: Srivastava et al. 2015, "Highway Networks".
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm = make_norm(config.norm, config.output_size)
        num_directions = 2 if config.bidirectional else 1
        self.directions = nn.ModuleList(_cell_of(config) for _ in range(num_directions))
        dropout = UtteranceDropout if config.dropout_over == "utterance" else nn.Dropout
        self.dropout = dropout(config.dropout)
        self.residual = config.residual
        # One vector each, h and for an LSTM c behind it: what has one dimension is free of weight decay.
        self.num_states = equations(config.cell).num_states
        learnt = num_directions if config.initial_state == "learnt" else 0
        size = self.num_states * config.hidden_size
        self.initial = nn.ParameterList(nn.Parameter(torch.zeros(size)) for _ in range(learnt))
        self.highway: nn.Linear | None = None
        if config.highway:
            self.highway = nn.Linear(config.output_size, config.output_size)
            nn.init.constant_(self.highway.bias, _HIGHWAY_BIAS)

    def forward(self, hidden: Tensor, mask: Tensor, reversal: Tensor) -> Tensor:
        """Frames (S, B, output_size) from `hidden` of the same shape.

        `mask` (S, B) is True on valid frames; `reversal` (S, B) tells for each frame which one takes its place when
        utterances are read from their end.
        """
        normed = normalize(self.norm, hidden, mask)
        inputs = [normed, _frames_at(normed, reversal)][: len(self.directions)]
        outputs = run_cells(list(self.directions), inputs, mask, self._states(hidden.shape[1]))
        if len(outputs) == 2:
            outputs[1] = _frames_at(outputs[1], reversal)
        output: Tensor = self.dropout(torch.cat(outputs, dim=-1))
        if self.highway is not None:
            return torch.lerp(hidden, output.to(hidden.dtype), torch.sigmoid(self.highway(normed)).to(hidden.dtype))
        return hidden + output if self.residual else output

    def _states(self, batch: int) -> list[State | None]:
        """What each direction starts from, (1, B, H) or a pair of these; None where that is zero."""
        if not self.initial:
            return [None] * len(self.directions)
        learnt = [
            tuple(part.expand(1, batch, -1).contiguous() for part in vector.chunk(self.num_states))
            for vector in self.initial
        ]
        return [parts if self.num_states > 1 else parts[0] for parts in learnt]


def _cell_of(config: EncoderConfig) -> nn.Module:
    return make_cell(
        config.cell,
        config.output_size,
        config.hidden_size,
        layer_norm=config.cell_norm,
        orthogonal=config.recurrent_init == "orthogonal",
        gate_bias=config.gate_bias,
    )


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
