"""Log-probabilities (B, S, V) in, and the encoder's frames; out come text, score, tokens and their frames, the best first.

Decided here: how a path of frames becomes a text. Adding a decoder: its file, and a line in `decoder.py`.
"""

from asr.decoding.attention import AttentionDecoderConfig, JointDecoderConfig
from asr.decoding.beam import BeamDecoderConfig, LexiconDecoderConfig
from asr.decoding.decoder import Decoder, DecoderConfig, build_decoder
from asr.decoding.greedy import GreedyDecoderConfig
from asr.decoding.hypothesis import Hypothesis

__all__ = [
    "AttentionDecoderConfig",
    "BeamDecoderConfig",
    "Decoder",
    "DecoderConfig",
    "GreedyDecoderConfig",
    "Hypothesis",
    "JointDecoderConfig",
    "LexiconDecoderConfig",
    "build_decoder",
]
