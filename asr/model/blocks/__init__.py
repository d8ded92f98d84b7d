"""What may stand between recurrent layers: each block takes a `Stream` of frames and gives one of the same width.

A pyramid halves the frames, self-attention lets them see each other, a bottleneck lets little of them through.
"""

from asr.model.blocks.block import BlockConfig, Encoded, Frames, Stream, make_stream, reversed_frames
from asr.model.blocks.bottleneck import Bottleneck, BottleneckConfig
from asr.model.blocks.pyramid import Pyramid, PyramidConfig
from asr.model.blocks.self_attention import SelfAttention, SelfAttentionConfig

__all__ = [
    "BlockConfig",
    "Bottleneck",
    "BottleneckConfig",
    "Encoded",
    "Frames",
    "Pyramid",
    "PyramidConfig",
    "SelfAttention",
    "SelfAttentionConfig",
    "Stream",
    "make_stream",
    "reversed_frames",
]
