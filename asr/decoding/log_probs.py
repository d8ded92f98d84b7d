"""What decoders ask of the log-probabilities that they are given."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.errors import AsrError
from asr.lengths import valid_mask


def refuse_nan(log_probs: Tensor, num_frames: Tensor) -> None:
    """Nothing, when the first `num_frames` (B,) frames of each utterance in `log_probs` (B, S, V) are free of NaN.

    A comparison with NaN is false, so that a decoder would answer with some text or other instead of failing.

    Raises:
        AsrError: NaN, with the utterance's place in the batch and the frame.
    """
    spoilt = log_probs.isnan().any(dim=-1) & valid_mask(num_frames, log_probs.shape[1])
    if bool(spoilt.any()):
        utterance, frame = torch.nonzero(spoilt)[0].tolist()
        raise AsrError(
            f"expected log-probabilities to decode, found NaN in frame {frame} of utterance {utterance} of the batch: "
            "the model's weights or features are not finite, use an earlier checkpoint"
        )
