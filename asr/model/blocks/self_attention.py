"""Every frame looks at all others of its utterance: what the recurrent state has forgotten is one step away.

There is no encoding of positions: the recurrent layers below write into each frame where it stands and what is beside it,
and what they compare by content works in utterances of any length.

Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2; before the sum, not behind it, is where Xiong et al.
2020, "On Layer Normalization in the Transformer Architecture", put the normalisation.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from asr.model.blocks.block import BlockConfig, Stream
from asr.model.norm import Norm, make_norm, normalize


class SelfAttentionConfig(BlockConfig):
    """Multi-head self-attention; where the encoder reads forward only, frames see those before them alone."""

    heads: int = Field(default=4, ge=1, description="heads, each of its share of the width")
    dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="of the weights that frames give each other, and of the result, in training",
    )


class SelfAttention(nn.Module):
    """x + dropout(linear(heads(norm(x)))), each head softmax(q k^T / sqrt(D / heads)) v over the valid frames."""

    def __init__(self, config: SelfAttentionConfig, size: int, *, norm: Norm, is_causal: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.is_causal = is_causal
        self.norm = make_norm(norm, size)
        self.input = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)
        self.dropout = nn.Dropout(config.dropout)

    def extra_repr(self) -> str:
        """What it does, for people."""
        return f"{self.heads} heads, {'to earlier frames' if self.is_causal else 'to all frames'}"

    def forward(self, stream: Stream) -> Stream:
        """The stream with what its frames (S, B, D) saw in each other added."""
        # Weights of 0 do not keep out what is infinite behind an utterance's end.
        hidden = stream.hidden.masked_fill(~stream.mask[..., None], 0)
        normed = normalize(self.norm, hidden, stream.mask)
        # (S, B, 3D) -> query, key and value, each (B, heads, S, D / heads)
        query, key, value = self.input(normed).unflatten(-1, (3, self.heads, -1)).permute(2, 1, 3, 0, 4)
        # Of frames, not of pairs of them: those of a long recording do not fit into memory (in training on a CPU, torch's
        # dropout makes pairs of them nevertheless). What looks back needs none, since padding comes last. Where an
        # utterance has no frame, one is seen nevertheless: the mean of nothing is nan.
        seen = None if self.is_causal else stream.mask.T[:, None, None, :].clone()
        if seen is not None:
            seen[..., 0] = True
        dropout = self.dropout.p if self.training else 0.0
        found: Tensor = scaled_dot_product_attention(
            query, key, value, attn_mask=seen, dropout_p=dropout, is_causal=self.is_causal
        )
        output = self.output(found.permute(2, 0, 1, 3).flatten(2))
        return stream._replace(hidden=stream.hidden + self.dropout(output))
