"""Features that were computed elsewhere and lie in files: Sphinx cepstra, Kaldi archives, numpy arrays."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn
from torchaudio.functional import create_dct

from asr.features.frames import FrameConfig


class StoredConfig(FrameConfig):
    """Frames as they lie in files; deltas and normalisation are added here."""

    kind: Literal["stored"] = "stored"
    num_features: int = Field(default=13, ge=1, le=4096, description="values per frame in the files")
    sample_rate: int = Field(default=100, ge=1, le=1000, description="frames per second in the files")
    mel_bands: int | None = Field(
        default=None,
        ge=4,
        le=256,
        description="the files hold cepstra: spread them over so many mel bands again; null: take them as they are",
    )

    @model_validator(mode="after")
    def _check_bands(self) -> Self:
        if self.mel_bands is not None and self.mel_bands < self.num_features:
            raise ValueError(f"mel_bands: expected as many as num_features, {self.num_features}, or more")
        if self.normalization == "speech":
            raise ValueError("normalization=speech needs sound, of stored frames nobody knows how loud they are")
        return self

    @property
    def num_static(self) -> int:
        """Features per frame before deltas."""
        return self.mel_bands or self.num_features

    @property
    def hop_length(self) -> int:
        """Stored frames between frames."""
        return 1


class StoredFrontEnd(nn.Module):
    """Stored frames (B, T, F) as they are, or cepstra as a smooth log-mel spectrum.

    Cepstra are the cosine transform of log-mel bands, so its inverse gives these back, without what the missing higher
    cepstra held. Neighbours on a mel axis sound alike, which is what convolutions and masks over features rely on, and
    neighbours among cepstra do not.
    """

    bands: Tensor | None

    def __init__(self, config: StoredConfig) -> None:
        super().__init__()
        self.config = config
        bands = None if config.mel_bands is None else create_dct(config.num_features, config.mel_bands, "ortho").T
        self.register_buffer("bands", bands, persistent=False)

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Frames (B,) of utterances of as many stored frames (B,)."""
        return num_samples

    def forward(self, frames: Tensor, num_frames: Tensor) -> Tensor:
        """`frames` themselves, or their mel bands (B, T, mel_bands)."""
        return frames if self.bands is None else frames @ self.bands
