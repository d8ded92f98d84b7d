"""Features that were computed elsewhere and lie in files: Sphinx cepstra, Kaldi archives, numpy arrays."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from asr.features.frames import FrameConfig


class StoredConfig(FrameConfig):
    """Frames as they lie in files; deltas and normalisation are added here."""

    kind: Literal["stored"] = "stored"
    num_features: int = Field(default=13, ge=1, le=4096, description="values per frame in the files")
    sample_rate: int = Field(default=100, ge=1, le=1000, description="frames per second in the files")

    @property
    def num_static(self) -> int:
        """Features per frame before deltas."""
        return self.num_features

    @property
    def hop_length(self) -> int:
        """Stored frames between frames."""
        return 1


class StoredFrontEnd(nn.Module):
    """Stored frames (B, T, F) as they are."""

    def __init__(self, config: StoredConfig) -> None:
        super().__init__()
        self.config = config

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Frames (B,) of utterances of as many stored frames (B,)."""
        return num_samples

    def forward(self, frames: Tensor, num_frames: Tensor) -> Tensor:
        """`frames` themselves."""
        return frames
