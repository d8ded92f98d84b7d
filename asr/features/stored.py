"""Features that were computed elsewhere and lie in files: Sphinx cepstra, Kaldi archives, numpy arrays."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torchaudio.functional import create_dct

from asr.features.frames import FrameConfig

# Of Kaldi's and HTK's cepstra, --cepstral-lifter.
_LIFTER = 22


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
    cepstra: Literal["orthonormal", "sphinx", "kaldi"] = Field(
        default="orthonormal",
        description="how cepstra were scaled, which mel_bands undoes: orthonormal as torchaudio's; sphinx: means of bands "
        "times cosines, Sphinx's -transform legacy; kaldi: orthonormal and liftered by 22, without the energy",
    )

    @model_validator(mode="after")
    def _check_bands(self) -> Self:
        if self.mel_bands is not None and self.mel_bands < self.num_features:
            raise ValueError(f"mel_bands: expected as many as num_features, {self.num_features}, or more")
        if self.mel_bands is None and self.cepstra != "orthonormal":
            raise ValueError(
                f"cepstra={self.cepstra} says how mel_bands are made of them, which are null: set both or neither"
            )
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
    neighbours among cepstra do not. Sphinx halves the first band before the transform, which is left so.
    """

    bands: Tensor | None

    def __init__(self, config: StoredConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("bands", None if config.mel_bands is None else _bands(config), persistent=False)

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Frames (B,) of utterances of as many stored frames (B,)."""
        return num_samples

    def forward(self, frames: Tensor, num_frames: Tensor) -> Tensor:
        """`frames` themselves, or their mel bands (B, T, mel_bands)."""
        return frames if self.bands is None else frames @ self.bands


def _bands(config: StoredConfig) -> Tensor:
    """What each cepstrum adds to the mel bands (C, M)."""
    num_bands = config.mel_bands or config.num_features
    scales = torch.ones(config.num_features)
    if config.cepstra == "sphinx":
        scales[:] = math.sqrt(2 * num_bands)
        scales[0] = math.sqrt(num_bands)
    if config.cepstra == "kaldi":
        scales /= 1 + _LIFTER / 2 * torch.sin(math.pi / _LIFTER * torch.arange(config.num_features))
    bands: Tensor = create_dct(config.num_features, num_bands, "ortho").T
    return scales[:, None] * bands
