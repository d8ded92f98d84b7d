"""Features (B, T, F) in, log-probabilities (B, S, V) and their lengths out.

Decided here: subsampling, recurrent cells, what stands around and between them, the CTC head. No result depends on
the batch that an utterance is in: padding is masked before every convolution, and lies behind the last frame that a cell
reads.
"""

from asr.model.acoustic import AcousticConfig, AcousticModel
from asr.model.cells import CELLS
from asr.model.encoder import Encoder, EncoderConfig
from asr.model.subsampling import Subsampling, SubsamplingConfig

__all__ = [
    "CELLS",
    "AcousticConfig",
    "AcousticModel",
    "Encoder",
    "EncoderConfig",
    "Subsampling",
    "SubsamplingConfig",
]
