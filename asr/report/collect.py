"""What a recogniser sees while it listens, gathered for the report: sound, log-mel picture, probabilities of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from asr.audio import encode_for_browser
from asr.corpus.batches import Batch
from asr.features.spectral import SpectralFrontEnd
from asr.recognizer import Encoded, Recognized, Recognizer
from asr.report.details import PICTURE_LEVELS, Bytes, Recording, System, UtteranceDetails
from asr.scoring import Result, UtteranceScore

_MOST_BANDS = 40
_COLUMN_SECONDS = 0.04
_ENVELOPE_SECONDS = 0.02
_TOKENS_PER_FRAME = 3
_LEAST_PROBABILITY = 0.01
# Below the loudest point of the picture, in nepers of power (60 dB): what lies deeper is noise and shown as black.
_DEPTH = 13.8


class Collector:
    """Gathers `details` of all batches that `recognizer` encodes and reads between `with` and its end.

    The log-mel frames are those that the model computes for itself, overheard at its front end: they cost nothing.

    Args:
        recognizer: the one that hears the batches; its model may encode them for others too.
        recordings: whether to keep what is the same for every decoder; once per subset is enough.
        embed_audio: whether to keep the sound itself, not only the place where it lies.
    """

    def __init__(self, recognizer: Recognizer, *, recordings: bool = True, embed_audio: bool = False) -> None:
        self.details: dict[str, UtteranceDetails] = {}
        self._recognizer = recognizer
        self._recordings = recordings
        self._embed_audio = embed_audio
        self._frames: Tensor | None = None

    def __enter__(self) -> Self:
        def overhear(module: nn.Module, inputs: Any, frames: Tensor) -> None:
            self._frames = frames

        self._handle = self._recognizer.model.features.front_end.register_forward_hook(overhear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._handle.remove()

    @torch.inference_mode()
    def add(self, batch: Batch, encoded: Encoded, recognized: Sequence[Recognized]) -> None:
        """Gather the details of `batch`, the last one that the recogniser encoded."""
        recordings = self._recordings_of(batch, encoded) if self._recordings else [None] * len(batch)
        for each, recording in zip(recognized, recordings, strict=True):
            self.details[each.id] = UtteranceDetails(
                tokens=each.best.tokens, frames=each.best.frames, probabilities=each.probabilities, recording=recording
            )

    def system(self, name: str, result: Result, scores: Sequence[UtteranceScore]) -> System:
        """The recogniser as a report shows it, with the details gathered so far."""
        pieces = self._recognizer.tokenizer.pieces
        return System(name=name, result=result, scores=scores, details=self.details, pieces=pieces)

    def _recordings_of(self, batch: Batch, encoded: Encoded) -> list[Recording | None]:
        features = self._recognizer.model.config.features
        hop_seconds = features.hop_length / features.sample_rate
        pooled = max(1, round(_COLUMN_SECONDS / hop_seconds))
        pictures = _pooled(self._log_mel(), pooled)
        num_columns = -(-self._recognizer.model.features.num_frames(batch.num_samples) // pooled)
        blank, tokens, probabilities = _likely_tokens(encoded.log_probs)
        envelopes, num_stretches = self._envelopes(batch)
        return [
            Recording(
                audio=self._audio(batch, row),
                envelope=_loudest_at_255(envelopes[row, : num_stretches[row]]),
                picture=_shades(pictures[row, : num_columns[row]]),
                column_seconds=pooled * hop_seconds,
                blank=blank[row, :length],
                tokens=tokens[row, :length],
                probabilities=probabilities[row, :length],
                frame_seconds=self._recognizer.seconds_per_frame,
            )
            for row, length in enumerate(encoded.num_frames.tolist())
        ]

    def _log_mel(self) -> Tensor:
        """The frames (B, T, F) that the front end gave last, for the eye."""
        if self._frames is None:
            raise RuntimeError("the recogniser has not heard a batch yet")
        return as_log_mel(self._frames, self._recognizer.model.features.front_end)

    def _envelopes(self, batch: Batch) -> tuple[npt.NDArray[np.float32], list[int]]:
        """Highest samples (B, E) and how many of them belong to each utterance; none of stored frames."""
        if self._recognizer.num_stored_features:
            return np.zeros((len(batch), 0), np.float32), [0] * len(batch)
        stretch = round(_ENVELOPE_SECONDS * self._recognizer.sample_rate)
        peaks = nn.functional.max_pool1d(batch.waveforms.abs()[:, None], stretch, ceil_mode=True)[:, 0]
        return peaks.cpu().numpy(), (-(-batch.num_samples // stretch)).tolist()

    def _audio(self, batch: Batch, row: int) -> Path | bytes | None:
        if self._recognizer.num_stored_features:
            return None
        if not self._embed_audio:
            return batch.audio[row] if batch.audio else None
        waveform = batch.waveforms[row, : batch.num_samples[row]].cpu().numpy()
        return encode_for_browser(waveform, self._recognizer.sample_rate)


def as_log_mel(frames: Tensor, front_end: nn.Module) -> Tensor:
    """`frames` (B, T, F) that `front_end` gave, for the eye: cepstra as the smooth spectrum that they describe."""
    if isinstance(front_end, SpectralFrontEnd) and front_end.dct is not None:
        return frames @ front_end.dct.T
    return frames


def _pooled(frames: Tensor, num_frames: int) -> npt.NDArray[np.float32]:
    """`frames` (B, T, F) averaged over `num_frames` of them and, where they are many, over neighbouring bands."""
    num_bands = -(-frames.shape[-1] // _MOST_BANDS)
    size = (num_frames, num_bands)
    pooled: npt.NDArray[np.float32] = (
        nn.functional.avg_pool2d(frames.float()[:, None], size, ceil_mode=True)[:, 0].cpu().numpy()
    )
    return pooled


def _shades(columns: npt.NDArray[np.float32]) -> Bytes:
    """The picture (bands, columns) of `columns` (columns, bands)."""
    high = float(columns.max())
    low = max(float(columns.min()), high - _DEPTH)
    shades = (columns - low) * ((PICTURE_LEVELS - 1) / max(high - low, 1e-6))
    return shades.clip(0, PICTURE_LEVELS - 1).round().astype(np.uint8).T


def _loudest_at_255(peaks: npt.NDArray[np.float32]) -> Bytes:
    scale = 255 / max(float(peaks.max(initial=0.0)), 1e-6)
    return (peaks * scale).clip(0, 255).round().astype(np.uint8)


def _likely_tokens(log_probs: Tensor) -> tuple[Bytes, npt.NDArray[np.uint16], Bytes]:
    """Probability of the blank (B, S), and the likeliest other tokens (B, S, K) with their probabilities."""
    probabilities = log_probs.exp()
    likely, tokens = probabilities[..., 1:].topk(min(_TOKENS_PER_FRAME, probabilities.shape[-1] - 1))
    likely = torch.where(likely >= _LEAST_PROBABILITY, likely, 0)
    return (
        (255 * probabilities[..., 0]).round().to(torch.uint8).cpu().numpy(),
        (tokens + 1).cpu().numpy().astype(np.uint16),
        (255 * likely).round().to(torch.uint8).cpu().numpy(),
    )
