"""Half as many frames for the layers above: they cost half, and see further.

Source: Chan et al. 2016, "Listen, Attend and Spell", section 3.1; El Hihi & Bengio 1996, "Hierarchical recurrent neural
networks for long-term dependencies".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.lengths import frames_after_subsampling
from asr.model.blocks.block import BlockConfig, Stream, make_stream


class PyramidConfig(BlockConfig):
    """Two neighbouring frames become one after each of these layers; what CTC can say of short utterances shrinks too."""


class Pyramid(nn.Module):
    """Frames 2s and 2s + 1 side by side, then linear; behind an odd last frame stands zero."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.projection = nn.Linear(2 * size, size)

    def extra_repr(self) -> str:
        """What it does, for people."""
        return "two frames side by side, linear"

    def forward(self, stream: Stream) -> Stream:
        """The stream (ceil(S / 2), B, D) of a stream (S, B, D)."""
        hidden = stream.hidden.masked_fill(~stream.mask[..., None], 0)
        first, second = hidden[0::2], hidden[1::2]
        if len(second) < len(first):
            second = torch.cat([second, torch.zeros_like(first[:1])])
        joined: Tensor = self.projection(torch.cat([first, second], dim=-1))
        return make_stream(joined, frames_after_subsampling(stream.num_frames, 2), stream.divergence)
