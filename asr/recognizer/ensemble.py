"""Ensembles: the token probabilities of several models, averaged frame by frame, so that one decoder reads them all.

Models err at different places, and who errs is seldom sure of it: the mean keeps what most are sure of. Features, encoders
and cells may differ; what goes in, the tokens and the frames must be the same.

CTC leaves open in which frame of a sound a token stands, and models choose differently: two peaks of 0.9 in neighbouring
frames become two of 0.45 below the blank, and the greedy decoder hears nothing. Beam search adds them up: prefer it here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from asr.decoding import Decoder, DecoderConfig, build_decoder
from asr.errors import ConfigError
from asr.model.acoustic import AcousticModel
from asr.model.checkpoint import find_checkpoint, load_checkpoint, restore_model
from asr.recognizer.pieces import longest_piece_for
from asr.text.tokenizer import Tokenizer

_LOG = logging.getLogger(__name__)


class Ensemble(NamedTuple):
    """One model or several that fit together, the tokenizer of all, and the seconds of the longest pieces for them."""

    models: tuple[AcousticModel, ...]
    tokenizer: Tokenizer
    longest_piece: float

    @classmethod
    def load(cls, paths: Sequence[Path]) -> Ensemble:
        """What lies in run folders or checkpoints, in the order of `paths`, of which there is one at least.

        Raises:
            CheckpointError: nothing there, or not a checkpoint.
            ConfigError: a model has other input, tokens or frames than the first.
        """
        files = [find_checkpoint(path) for path in paths]
        for path, file in zip(paths, files, strict=True):
            if path != file and file.name != "model.pt":
                _LOG.warning("%s: this run is not finished; %s is what it has so far", path, file)
        checkpoints = [load_checkpoint(file) for file in files]
        members = [restore_model(each, where=str(file)) for each, file in zip(checkpoints, files, strict=True)]
        (first, tokenizer), *others = members
        for file, (model, its_tokenizer) in zip(files[1:], others, strict=True):
            for difference in _differences((first, tokenizer), (model, its_tokenizer)):
                raise ConfigError(
                    f"{file}: its probabilities cannot be averaged with those of {files[0]}: {difference}"
                )
        longest_piece = longest_piece_for([each.longest_seconds for each in checkpoints])
        return cls(tuple(model for model, _ in members), tokenizer, longest_piece)

    def decoder(self, config: DecoderConfig) -> Decoder:
        """The decoder that `config` describes.

        Raises:
            ConfigError: it needs an attention decoder, and the model has none, or there are several models.
        """
        if len(self.models) > 1 and config.kind in {"attention", "joint"}:
            raise ConfigError(
                f"decoder '{config.kind}': {len(self.models)} models are averaged in CTC's probabilities, and attention "
                "has none of these; take greedy or beam, or one model"
            )
        return build_decoder(config, self.tokenizer, self.models[0].attention)


def _differences(first: tuple[AcousticModel, Tokenizer], other: tuple[AcousticModel, Tokenizer]) -> Iterator[str]:
    """What keeps `other` from being averaged with `first`, in words."""
    (model, tokenizer), (other_model, other_tokenizer) = first, other
    ours, theirs = _input(model), _input(other_model)
    if ours != theirs:
        yield f"it takes {theirs}, not {ours}"
    if tokenizer.size != other_tokenizer.size:
        yield f"it has {other_tokenizer.size} tokens, not {tokenizer.size}"
    pieces = zip_longest(tokenizer.pieces, other_tokenizer.pieces)
    for number, (piece, other_piece) in enumerate(pieces):
        if piece != other_piece:
            yield f"its token {number} is '{other_piece}', not '{piece}'"
    normalizer, other_normalizer = (each.state()["config"]["normalizer"] for each in (tokenizer, other_tokenizer))
    for key, value in normalizer.items():
        if other_normalizer[key] != value:
            yield f"its texts are normalised with {key}={other_normalizer[key]}, not {value}"
    if not math.isclose(model.seconds_per_frame, other_model.seconds_per_frame):
        milliseconds = 1000 * other_model.seconds_per_frame
        yield f"it has a frame every {milliseconds:g} ms, not every {1000 * model.seconds_per_frame:g} ms"


def _input(model: AcousticModel) -> str:
    if model.config.num_stored_features:
        return f"{model.config.num_stored_features} stored features"
    return f"sound of {model.config.features.sample_rate} Hz"


def average_probabilities(of_models: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Logarithm (B, S, V) of the mean probability over models, and the encoder frames of each utterance (B,).

    Args:
        of_models: log-probabilities (B, S, V) and frames (B,) that each model gives for one batch; at least one.

    Raises:
        ConfigError: the models cut the same utterance into different numbers of frames.

    Example:
        >>> sure, unsure = torch.tensor([[[0.9, 0.1]]]).log(), torch.tensor([[[0.4, 0.6]]]).log()
        >>> average_probabilities([(sure, torch.tensor([1])), (unsure, torch.tensor([1]))])[0].exp()
        tensor([[[0.6500, 0.3500]]])
    """
    num_frames = of_models[0][1]
    for _, others in of_models[1:]:
        differing = (others.cpu() != num_frames.cpu()).nonzero()
        if len(differing):
            row = int(differing[0])
            raise ConfigError(
                f"the models cut utterance {row} of a batch into {int(num_frames[row])} and {int(others[row])} frames, so "
                "their probabilities cannot be averaged: take models with the same subsampling"
            )
    # In logarithms all along: a probability of e^-200 is 0 in float32, and one near 1 loses its last digits.
    total = reduce(torch.logaddexp, [log_probs for log_probs, _ in of_models])
    return total - math.log(len(of_models)), num_frames
