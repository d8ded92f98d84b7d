"""The recogniser: a trained model or an ensemble of them, its tokenizer and a decoder in one object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from asr.audio import read_signal
from asr.corpus.batches import Batch
from asr.decoding import Decoder, DecoderConfig, GreedyDecoderConfig, Hypothesis
from asr.model.acoustic import AcousticModel
from asr.model.device import select_device
from asr.recognizer.ensemble import Ensemble, average_probabilities
from asr.recognizer.words import Word, words_of
from asr.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Recognized:
    """What was heard in one utterance.

    Attributes:
        id: of the utterance.
        hypotheses: readings, the best first; never empty.
        seconds: duration of the audio.
        models: how many models' probabilities were averaged.
        pieces: what each token of the best reading stands for, the space shown as `▁`.
        probabilities: of each of these tokens, in its frame.
    """

    id: str
    hypotheses: list[Hypothesis]
    seconds: float
    models: int = 1
    pieces: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()

    @property
    def best(self) -> Hypothesis:
        """The best reading."""
        return self.hypotheses[0]

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the best reading, with their frames and how sure they are."""
        return words_of(zip(self.pieces, self.best.frames, self.probabilities, strict=True))


class Heard(NamedTuple):
    """What the model made of a batch, and the readings that the decoder made of that.

    `log_probs` (B, S, V) is on the model's device, `num_frames` (B,) where the batch's lengths are: on the CPU.
    """

    recognized: list[Recognized]
    log_probs: Tensor
    num_frames: Tensor


class Recognizer:
    """Turns batches of audio into text.

    `others` are models whose probabilities are averaged with those of `model`, as `Ensemble` found that they can be.
    """

    def __init__(
        self,
        model: AcousticModel,
        tokenizer: Tokenizer,
        decoder: Decoder,
        device: torch.device,
        others: Sequence[AcousticModel] = (),
    ) -> None:
        self.model = model.to(device)
        self.others = tuple(other.to(device) for other in others)
        self.tokenizer = tokenizer
        self.decoder = decoder
        self.device = device

    @classmethod
    def load(
        cls,
        path: Path,
        decoder: DecoderConfig | None = None,
        device: str = "auto",
        others: Sequence[Path] = (),
    ) -> Recognizer:
        """The recogniser in a run folder or checkpoint file, or with `others` the ensemble of all of them.

        Raises:
            CheckpointError: nothing there, or not a checkpoint.
            ConfigError: no such device, the models do not fit together, or they have no attention decoder that could be
                asked and `decoder` needs one.
        """
        at_device = select_device(device)
        ensemble = Ensemble.load([path, *others])
        decoder_of_all = ensemble.decoder(decoder or GreedyDecoderConfig())
        return cls(ensemble.models[0], ensemble.tokenizer, decoder_of_all, at_device, ensemble.models[1:])

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
    def log_probs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, S, V) of `batch` and the encoder frames of each utterance (B,), on the model's device."""
        return self._averaged(batch, *self.model(batch.waveforms.to(self.device), batch.num_samples))

    @torch.inference_mode()
    def _read(self, batch: Batch) -> tuple[list[list[Hypothesis]], Tensor, Tensor]:
        """The readings of `batch`, and the log-probabilities and frames that they are made of."""
        hidden, num_frames = self.model.encode(batch.waveforms.to(self.device), batch.num_samples)
        log_probs, num_frames = self._averaged(batch, self.model.log_probs(hidden), num_frames)
        return self.decoder.decode(log_probs, num_frames, hidden), log_probs, num_frames

    def _averaged(self, batch: Batch, log_probs: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """What the first model made of `batch`, averaged with what the others make of it."""
        if not self.others:
            return log_probs, num_frames
        of_others = [model.eval()(batch.waveforms.to(self.device), batch.num_samples) for model in self.others]
        return average_probabilities([(log_probs, num_frames), *of_others])

    def recognize(self, batches: Iterable[Batch]) -> Iterator[Recognized]:
        """What is heard in each utterance of `batches`, in their order."""
        for batch in batches:
            yield from self.hear(batch).recognized

    def hear(self, batch: Batch) -> Heard:
        """What is heard in each utterance of `batch`, in order, with the probabilities behind it."""
        self.model.eval()
        readings, log_probs, num_frames = self._read(batch)
        on_cpu, pieces = log_probs.cpu(), self.tokenizer.pieces
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
        return Heard(recognized, log_probs, num_frames)

    def transcribe(self, audio: Path) -> Recognized:
        """What is heard in the file `audio`: sound, or stored frames where the model takes these.

        Raises:
            AudioError: the file is missing, damaged or not audio.
        """
        signal = torch.from_numpy(read_signal(audio, self.sample_rate, self.num_stored_features))
        batch = Batch(
            ids=(str(audio),),
            texts=("",),
            speakers=("",),
            waveforms=signal[None],
            num_samples=torch.tensor([len(signal)]),
        )
        return next(self.recognize([batch]))
