"""The recogniser: a trained model or an ensemble of them, its tokenizer and a decoder in one object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.audio import as_waveform, read_signal
from asr.corpus.batches import Batch
from asr.decoding import Decoder, DecoderConfig, Hypothesis
from asr.errors import AudioError
from asr.model.acoustic import AcousticModel
from asr.model.device import is_out_of_memory, select_device
from asr.recognizer.default_decoder import default_decoder, words_beside
from asr.recognizer.ensemble import Ensemble, average_probabilities
from asr.recognizer.pieces import LONGEST_SECONDS, cut_at_pauses, put_together
from asr.recognizer.recognized import Recognized
from asr.text.tokenizer import Tokenizer

Audio = Path | str | npt.NDArray[Any] | Tensor
"""A sound file, or samples (N,) of one channel: floats with full scale at ±1, or signed integers."""


class Encoded(NamedTuple):
    """What the model made of a batch, for any decoder to read.

    Attributes:
        log_probs: (B, S, V) on the model's device, averaged where there are several models.
        num_frames: (B,) where the batch's lengths are: on the CPU.
        hidden: (B, S, H) of the first model, for an attention decoder.
    """

    log_probs: Tensor
    num_frames: Tensor
    hidden: Tensor


class Recognizer:
    """Turns batches of audio into text.

    `others` are models whose probabilities are averaged with those of `model`, as `Ensemble` found that they can be.
    Recordings of more than `longest_piece` seconds are cut where nobody says otherwise.
    """

    def __init__(
        self,
        model: AcousticModel,
        tokenizer: Tokenizer,
        decoder: Decoder,
        device: torch.device,
        others: Sequence[AcousticModel] = (),
        longest_piece: float = LONGEST_SECONDS,
    ) -> None:
        self.model = model.to(device)
        self.others = tuple(other.to(device) for other in others)
        self.tokenizer = tokenizer
        self.decoder = decoder
        self.device = device
        self.longest_piece = longest_piece

    @classmethod
    def load(
        cls,
        path: Path | str,
        decoder: DecoderConfig | None = None,
        device: str = "auto",
        others: Sequence[Path | str] = (),
    ) -> Recognizer:
        """The recogniser in a run folder or checkpoint file, or with `others` the ensemble of all of them.

        Without `decoder` it reads as `asr transcribe` does: with the words that lie beside the model, if there are any,
        else by beam search.

        Raises:
            CheckpointError: nothing there, or not a checkpoint.
            ConfigError: no such device, the models do not fit together, or they have no attention decoder that could be
                asked and `decoder` needs one.
        """
        at_device = select_device(device)
        ensemble = Ensemble.load([Path(each) for each in (path, *others)])
        decoder_of_all = ensemble.decoder(decoder or default_decoder(words_beside(Path(path))))
        first, *others_loaded = ensemble.models
        return cls(first, ensemble.tokenizer, decoder_of_all, at_device, others_loaded, ensemble.longest_piece)

    @property
    def sample_rate(self) -> int:
        """Samples, or stored frames, per second that the model expects."""
        return self.model.config.features.sample_rate

    @property
    def num_stored_features(self) -> int:
        """Values per frame where the model takes stored frames, 0 where it takes audio."""
        return self.model.config.num_stored_features

    @property
    def seconds_per_frame(self) -> float:
        """Seconds between the frames that hypotheses count."""
        return self.model.seconds_per_frame

    def normalize(self, text: str) -> str:
        """`text` in the form in which this recogniser writes: what references are compared in."""
        return self.tokenizer.normalize(text)

    @torch.inference_mode()
    def encode(self, batch: Batch) -> Encoded:
        """What the model, or all of them, make of `batch`: the part of the work that all decoders share.

        Raises:
            AudioError: it does not fit into the device's memory.
        """
        try:
            return self._encode(batch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            seconds = float(batch.num_samples.max()) / self.sample_rate
            found = f"'{batch.ids[0]}'" + (f" and {len(batch) - 1} others" if len(batch) > 1 else "")
            raise AudioError(
                f"{found}, up to {seconds:.0f} s long, do not fit into the memory of {self.device}: cut long recordings "
                f"into pieces{'' if self.device.type == 'cpu' else ', or take the CPU (--device cpu)'}"
            ) from error

    def _encode(self, batch: Batch) -> Encoded:
        hidden, num_frames = self.model.eval().encode(batch.waveforms.to(self.device), batch.num_samples)
        log_probs = self.model.log_probs(hidden)
        if self.others:
            of_others = [model.eval()(batch.waveforms.to(self.device), batch.num_samples) for model in self.others]
            log_probs, num_frames = average_probabilities([(log_probs, num_frames), *of_others])
        return Encoded(log_probs, num_frames, hidden)

    @torch.inference_mode()
    def read(self, batch: Batch, encoded: Encoded) -> list[Recognized]:
        """What the decoder reads in each utterance of `batch`, in order, of which `encoded` was made."""
        readings = self.decoder.decode(*encoded)
        on_cpu, pieces = encoded.log_probs.cpu(), self.tokenizer.pieces
        recognized = []
        for row, (utterance_id, hypotheses, num_samples) in enumerate(
            zip(batch.ids, readings, batch.num_samples.tolist(), strict=True)
        ):
            best = hypotheses[0]
            recognized.append(
                Recognized(
                    id=utterance_id,
                    hypotheses=hypotheses,
                    seconds=num_samples / self.sample_rate,
                    models=1 + len(self.others),
                    pieces=tuple(pieces[token] for token in best.tokens),
                    probabilities=tuple(on_cpu[row, list(best.frames), list(best.tokens)].exp().tolist()),
                )
            )
        return recognized

    def recognize(self, batches: Iterable[Batch]) -> Iterator[Recognized]:
        """What is heard in each utterance of `batches`, in their order."""
        for batch in batches:
            yield from self.read(batch, self.encode(batch))

    def transcribe(
        self,
        audio: Audio,
        utterance_id: str = "",
        *,
        sample_rate: int | None = None,
        longest_piece: float | None = None,
        channel: int | None = None,
        advance: Callable[[float], None] = lambda seconds: None,
    ) -> Recognized:
        """What is heard in `audio`: a file of sound, or of stored frames where the model takes these, or samples (N,).

        Where all samples of it, or of a piece of it, are equal, there is no speech: nothing is heard, which is sure.

        Args:
            audio: the file, or samples that were taken at `sample_rate` hertz, converted to what the model expects.
            utterance_id: of what is heard; "" for the file's name without suffix.
            sample_rate: of samples; a file knows its own.
            longest_piece: seconds, 1 at least; what is longer is cut at pauses, and its pieces are heard one after another:
                only its samples grow with it in memory, 8 MB a minute at 16 kHz. Stored frames are never cut. None: as long
                as the longest utterance that the model has learnt from, 40 at most.
            channel: of a file, counted from 1; None: the mean of all.
            advance: told how many seconds more have been heard.

        Raises:
            AudioError: the file is missing, damaged, not audio or without that channel; or samples without their rate, of
                several channels, or that are no sound; or `longest_piece` is below 1.
        """
        (recognized,) = self.transcribe_batch(
            [audio],
            [utterance_id],
            sample_rate=sample_rate,
            longest_piece=longest_piece,
            channel=channel,
            advance=advance,
        )
        return recognized

    def transcribe_batch(
        self,
        audios: Sequence[Audio],
        utterance_ids: Sequence[str] = (),
        *,
        sample_rate: int | None = None,
        longest_piece: float | None = None,
        channel: int | None = None,
        advance: Callable[[float], None] = lambda seconds: None,
    ) -> list[Recognized]:
        """What is heard in each of `audios`, encoded in one padded batch, which changes no result; else as `transcribe`.

        Raises:
            AudioError: ids are given, but not one for each; or as `transcribe`.
        """
        if not audios:
            return []
        if utterance_ids and len(utterance_ids) != len(audios):
            raise AudioError(
                f"transcribe_batch: expected an id for each of {len(audios)} sounds, found {len(utterance_ids)}"
            )
        longest_piece = self.longest_piece if longest_piece is None else longest_piece
        if not longest_piece >= 1:
            raise AudioError(f"longest_piece: expected seconds, 1 at least, found {longest_piece}")
        signals = [self._signal(audio, sample_rate, channel) for audio in audios]
        files = [str(audio) if isinstance(audio, Path | str) else "" for audio in audios]
        names = [
            given or Path(file).stem for given, file in zip(utterance_ids or [""] * len(files), files, strict=True)
        ]
        starts = [self._starts(signal, longest_piece) for signal in signals]
        pieces = [signal.tensor_split(places[1:]) for signal, places in zip(signals, starts, strict=True)]
        heard: list[list[Recognized]] = [[] for _ in signals]
        for number in range(max(map(len, pieces))):
            rows = [row for row, cut in enumerate(pieces) if number < len(cut)]
            heard_now = self._heard([pieces[row][number] for row in rows], [names[row] for row in rows])
            for row, recognized in zip(rows, heard_now, strict=True):
                heard[row].append(recognized)
                advance(recognized.seconds)
        return [
            replace(
                put_together(of_pieces, [place // self._step for place in places], self.tokenizer),
                audio=file,
                channel=channel,
            )
            for of_pieces, places, file in zip(heard, starts, files, strict=True)
        ]

    def _heard(self, signals: Sequence[Tensor], names: Sequence[str]) -> Iterator[Recognized]:
        """What is heard in each of `signals`, whose ids are `names`; nothing where all samples are equal.

        A model that has learnt from short clips without pauses hears words in silence.
        """
        is_silent = [not self.num_stored_features and bool((signal == signal[0]).all()) for signal in signals]
        rows = [row for row, silent in enumerate(is_silent) if not silent]
        batches = [_batch([signals[row] for row in rows], [names[row] for row in rows])] if rows else []
        heard = self.recognize(batches)
        nothing = Hypothesis(text="", score=0.0)
        for signal, name, silent in zip(signals, names, is_silent, strict=True):
            seconds, models = len(signal) / self.sample_rate, 1 + len(self.others)
            yield Recognized(id=name, hypotheses=[nothing], seconds=seconds, models=models) if silent else next(heard)

    @property
    def _step(self) -> int:
        """Samples between the frames that hypotheses count."""
        return self.model.config.encoder.factor * self.model.config.features.hop_length

    def _starts(self, signal: Tensor, longest_piece: float) -> list[int]:
        """Where the pieces of `signal` begin."""
        if self.num_stored_features or len(signal) <= longest_piece * self.sample_rate:
            return [0]
        return cut_at_pauses(signal.numpy(), int(longest_piece * self.sample_rate), self._step, self.sample_rate)

    def _signal(self, audio: Audio, sample_rate: int | None, channel: int | None) -> Tensor:
        """What the model hears of `audio`, as `Batch` holds it."""
        if isinstance(audio, Path | str):
            try:
                rate, num_features = self.sample_rate, self.num_stored_features
                return torch.from_numpy(read_signal(Path(audio), rate, num_features, channel=channel))
            except MemoryError as error:
                raise AudioError(f"{audio}: does not fit into memory; cut it into several files") from error
        if isinstance(audio, Tensor):
            # numpy has no bfloat16.
            audio = (audio.float() if audio.is_floating_point() else audio).detach().cpu().numpy()
        if not isinstance(audio, np.ndarray):
            kind = type(audio).__name__
            raise AudioError(f"audio: expected a path, a numpy array or a torch tensor, found {kind}")
        if self.num_stored_features:
            raise AudioError("array: this model takes stored frames, which come from files")
        if sample_rate is None:
            raise AudioError("array: samples do not say their rate; name it, as in sample_rate=16000")
        return torch.from_numpy(as_waveform(audio, sample_rate, self.sample_rate))


def _batch(signals: Sequence[Tensor], names: Sequence[str]) -> Batch:
    """`signals`, (N,) or (T, F) each, padded to the longest."""
    return Batch(
        ids=tuple(names),
        texts=("",) * len(signals),
        speakers=("",) * len(signals),
        waveforms=torch.nn.utils.rnn.pad_sequence(list(signals), batch_first=True),
        num_samples=torch.tensor([len(signal) for signal in signals]),
    )
