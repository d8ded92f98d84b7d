"""The encoder: subsampling, then recurrent layers with normalisation, dropout and residual connections around each.

Between the layers may stand the blocks of `blocks/`, each of which takes and gives the stream of frames.

Cells run forward only. For the backward direction each utterance is reversed by its own length, so it starts at its own
last frame and the padding stays behind it, where a causal cell cannot feel it. Packed sequences would do the same, but cost
cuDNN its persistent kernels, and time on a CPU (`benchmarks/gru.py`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from asr.config import Section
from asr.errors import did_you_mean
from asr.lengths import frames_after_subsampling
from asr.model.blocks import (
    Bottleneck,
    BottleneckConfig,
    Encoded,
    Frames,
    Pyramid,
    PyramidConfig,
    SelfAttention,
    SelfAttentionConfig,
    Stream,
    make_stream,
)
from asr.model.cells import CELLS, State, descriptions, equations, make_cell, run_cells
from asr.model.device import product_type
from asr.model.norm import Norm, make_norm, normalize
from asr.model.subsampling import AnySubsamplingConfig, Subsampling, SubsamplingConfig

# Where the gate of a highway starts: closed by three quarters.
_HIGHWAY_BIAS = -1.0


AnyBlockConfig = PyramidConfig | SelfAttentionConfig | BottleneckConfig


class EncoderConfig(Section):
    """Subsampling and the recurrent stack."""

    subsampling: AnySubsamplingConfig = SubsamplingConfig()
    cell: str = Field(
        default="gru",
        description=f"recurrent cell: {', '.join(CELLS)}",
        json_schema_extra={"choices": dict(descriptions())},
    )
    cell_norm: bool = Field(
        default=False,
        description="layer normalisation of the products inside the cell, gates and candidate apart (an LSTM's four blocks "
        'together); kernels and compiled ligru give way to equations. Source: Ba et al. 2016, "Layer Normalization"',
    )
    recurrent_init: Literal["uniform", "orthogonal"] = Field(
        default="uniform",
        description="how the weights between a cell's units are drawn, gate by gate. Source: Saxe et al. 2014, "
        '"Exact solutions to the nonlinear dynamics of learning in deep linear neural networks"',
    )
    gate_bias: float = Field(
        default=0.0,
        description="added at the start to the bias of the gate that keeps the state: lstm forget, gru update. Source: "
        'Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent Network Architectures"',
    )
    initial_state: Literal["zero", "learnt"] = Field(
        default="zero", description="what each direction of each layer starts from; learnt starts at zero"
    )
    hidden_size: int = Field(default=256, ge=1, le=16384, description="units per direction and layer")
    num_layers: int = Field(default=3, ge=1, le=32, description="recurrent layers")
    bidirectional: bool = Field(default=True, description="read each utterance in both directions")
    norm: Norm = Field(
        default="layer",
        description='normalisation before each recurrent layer and before the head. Source: Ba et al. 2016, "Layer '
        'Normalization"; batch, over all valid frames: Ioffe & Szegedy 2015, "Batch Normalization"',
    )
    residual: bool = Field(
        default=True,
        description="add each recurrent layer's input to its output. Source: He et al. 2016, \"Deep Residual Learning for "
        'Image Recognition"',
    )
    highway: bool = Field(
        default=False,
        description="weigh input against output by a learnt gate, where `residual` would add them. Source: Srivastava et "
        'al. 2015, "Highway Networks"',
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="after each recurrent layer, in training")
    dropout_over: Literal["frame", "utterance"] = Field(
        default="frame",
        description="draw for each frame anew, or once for all frames of an utterance. Source: Gal & Ghahramani "
        '2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks"',
    )
    pyramid: PyramidConfig | None = Field(default=None, description="half the frames for the layers above; null: none")
    self_attention: SelfAttentionConfig | None = Field(
        default=None, description="frames that look at each other, between layers; null: none"
    )
    bottleneck: BottleneckConfig | None = Field(
        default=None, description="a narrow, noisy passage between layers; null: none"
    )

    @field_validator("cell")
    @classmethod
    def _check_cell(cls, cell: str) -> str:
        if cell not in CELLS:
            raise ValueError(f"unknown cell '{cell}'{did_you_mean(cell, CELLS)}")
        return cell

    @field_validator("recurrent_init", "gate_bias")
    @classmethod
    def _check_option_of_cell(cls, value: object, info: ValidationInfo) -> object:
        is_off = value in ("uniform", 0.0)
        # A cell that is not known has been complained about.
        if is_off or "cell" not in info.data:
            return value
        rules = equations(info.data["cell"])
        fits, complaint = {
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

    @field_validator("pyramid", "self_attention", "bottleneck")
    @classmethod
    def _check_place(cls, value: AnyBlockConfig | None, info: ValidationInfo) -> AnyBlockConfig | None:
        num_layers = info.data.get("num_layers")
        if value is not None and num_layers is not None and max(value.after) >= num_layers:
            raise ValueError(f"after={list(value.after)} must lie below the last of {num_layers} layers")
        return value

    @field_validator("self_attention")
    @classmethod
    def _check_heads(cls, value: SelfAttentionConfig | None, info: ValidationInfo) -> SelfAttentionConfig | None:
        if value is None or not {"hidden_size", "bidirectional"} <= info.data.keys():
            return value
        size = info.data["hidden_size"] * (1 + info.data["bidirectional"])
        if size % value.heads:
            raise ValueError(f"heads={value.heads} must divide the width of {size} (hidden_size in each direction)")
        return value

    @property
    def output_size(self) -> int:
        """Width of the encoder's output, and of the stream between its layers."""
        return self.hidden_size * (2 if self.bidirectional else 1)

    @property
    def factor(self) -> int:
        """Feature frames per encoder frame."""
        return self.factor_of(self.num_layers)

    def factor_of(self, layer: int) -> int:
        """Feature frames per frame of recurrent layer number `layer`, from 1 on."""
        halvings = 0 if self.pyramid is None else sum(number < layer for number in self.pyramid.after)
        return int(self.subsampling.factor) << halvings

    def blocks_after(self, layer: int) -> dict[str, AnyBlockConfig]:
        """The blocks that follow recurrent layer number `layer`, from 1 on, in their order, by their keys here.

        The pyramid comes first, since what follows is then cheaper; the bottleneck last, so that nothing else adds to it.
        """
        blocks = {"pyramid": self.pyramid, "self_attention": self.self_attention, "bottleneck": self.bottleneck}
        return {name: block for name, block in blocks.items() if block is not None and layer in block.after}


class UtteranceDropout(nn.Dropout):
    """Dropout of frames (S, B, D) that leaves out the same units in all frames of an utterance, in training.

    Source: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks".
    """

    def forward(self, frames: Tensor) -> Tensor:
        """`frames` with some units zero, the others scaled so that the mean stays."""
        return frames * super().forward(torch.ones_like(frames[:1])) if self.training and self.p else frames


class RecurrentLayer(nn.Module):
    """One recurrent layer: x + dropout(cell(norm(x))), the cell in one direction or both.

    With a highway: (1 - t) * x + t * dropout(cell(norm(x))), t = sigma(W norm(x) + b), where b starts at -1, so that the
    input passes at first. Source: Srivastava et al. 2015, "Highway Networks".
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm = make_norm(config.norm, config.output_size)
        num_directions = 2 if config.bidirectional else 1
        self.directions = nn.ModuleList(
            make_cell(
                config.cell,
                config.output_size,
                config.hidden_size,
                layer_norm=config.cell_norm,
                orthogonal=config.recurrent_init == "orthogonal",
                gate_bias=config.gate_bias,
            )
            for _ in range(num_directions)
        )
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
        half = product_type(hidden.device)
        # As the products would have it, but once for both directions and before frames are moved.
        normed = normalize(self.norm, hidden, mask, dtype=None if half == torch.float32 else half)
        inputs = [normed, _in_reverse(normed, reversal)][: len(self.directions)]
        outputs = run_cells(list(self.directions), inputs, mask, self._states(hidden.shape[1]))
        if len(outputs) == 2:
            outputs[1] = _in_reverse(outputs[1], reversal)
        output: Tensor = self.dropout(torch.cat(outputs, dim=-1))
        if self.highway is not None:
            # In the output's precision, as a residual connection has it: half of it would be rounded at each layer.
            return torch.lerp(hidden.to(output.dtype), output, torch.sigmoid(self.highway(normed)).to(output.dtype))
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


def _make_block(block: AnyBlockConfig, config: EncoderConfig) -> nn.Module:
    """What `block` stands for between layers of `config`."""
    size = config.output_size
    match block:
        case PyramidConfig():
            return Pyramid(size)
        case SelfAttentionConfig():
            return SelfAttention(block, size, norm=config.norm, is_causal=not config.bidirectional)
        case BottleneckConfig():
            return Bottleneck(block, size, norm=config.norm)


class Encoder(nn.Module):
    """Features (B, T, F) to hidden frames (B, S, output_size)."""

    def __init__(self, config: EncoderConfig, num_features: int) -> None:
        super().__init__()
        self.config = config
        self.subsampling = Subsampling(config.subsampling, num_features, config.output_size)
        self.layers = nn.ModuleList(RecurrentLayer(config) for _ in range(config.num_layers))
        self.norm = make_norm(config.norm, config.output_size)
        # Last, so that the other weights are drawn as without them.
        self.blocks = nn.ModuleList()
        for number in range(1, config.num_layers + 1):
            blocks = {name: _make_block(block, config) for name, block in config.blocks_after(number).items()}
            # By name, so that a checkpoint says what it holds; without any, all passes as it is.
            self.blocks.append(nn.Sequential(OrderedDict(blocks)))

    def num_output_frames(self, num_frames: Tensor, layer: int | None = None) -> Tensor:
        """Frames (B,) that recurrent layer number `layer`, None: the last, gives for `num_frames` feature frames (B,)."""
        return frames_after_subsampling(num_frames, self.config.factor_of(layer or self.config.num_layers))

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden frames (B, S, output_size) of `features` (B, T, F), and the frames of each utterance (B,).

        `features` must be zero behind `num_frames` (B,); the result is zero there too.
        """
        (last,), _ = self.after_layers(features, num_frames, (len(self.layers),))
        return last.hidden, last.num_frames

    def after_layers(self, features: Tensor, num_frames: Tensor, numbers: Sequence[int]) -> Encoded:
        """What `forward` gives if the encoder ended after layer 1, 2, ...: for each of `numbers`, in rising order.

        The blocks that follow a layer act on the layers above it alone.
        """
        hidden, num_frames = self.subsampling(features, num_frames)
        hidden = hidden.transpose(0, 1).contiguous()
        stream = make_stream(hidden, num_frames, torch.zeros(hidden.shape[1], device=hidden.device))
        outputs: list[Frames] = []
        for number, (layer, blocks) in enumerate(zip(self.layers, self.blocks, strict=True), start=1):
            stream = stream._replace(hidden=layer(stream.hidden, stream.mask, stream.reversal))
            if number in numbers:
                outputs.append(self._output(stream, is_last=number == len(self.layers)))
            stream = blocks(stream)
        return Encoded(outputs, stream.divergence)

    def _output(self, stream: Stream, *, is_last: bool) -> Frames:
        # What the norm has seen of lower layers, which only training asks for, is no help with the last one's frames.
        normed = normalize(self.norm, stream.hidden, stream.mask, remember=is_last)
        # Not times 0: what stands behind an utterance's end may be infinite.
        normed = normed.masked_fill(~stream.mask[..., None], 0)
        return Frames(normed.transpose(0, 1), stream.num_frames)


def _in_reverse(hidden: Tensor, reversal: Tensor) -> Tensor:
    """Frames (S, B, D) of `hidden` in the order of `reversal` (S, B), which undoes itself."""
    reverse: Tensor = _Reversal.apply(hidden, reversal)
    return reverse


class _Reversal(torch.autograd.Function):
    """Whose gradient is reversed likewise; autograd, which does not know that no frame is taken twice, would add it up."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, reversal: Tensor) -> Tensor:
        ctx.save_for_backward(reversal)
        # Whole rows: a gather would look up each number by itself.
        batch = hidden.shape[1]
        rows = reversal * batch + torch.arange(batch, device=reversal.device)
        return hidden.flatten(0, 1).index_select(0, rows.flatten()).view_as(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (reversal,) = ctx.saved_tensors
        return _in_reverse(gradient.contiguous(), reversal), None
