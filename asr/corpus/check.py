"""Everything that can be wrong with a corpus before training: audio, durations, characters, repetitions, lengths."""

from __future__ import annotations

import hashlib
import logging
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from asr.audio import UnusableAudioError, audio_info, holds_features, read_signal
from asr.corpus.ahead import map_ahead
from asr.corpus.folder import files_by_id, read_folder
from asr.corpus.list_form import check_is_list
from asr.corpus.rates import FEW
from asr.corpus.utterance import WITHOUT_USE, Utterance, cuts_sound, records_of_manifest, utterance_of_record
from asr.errors import AsrError, AudioError, CorpusError
from asr.lengths import frames_after_subsampling, frames_needed_by_ctc, frames_of_samples
from asr.lines import Where
from asr.terminal import counted
from asr.text import NormalizerConfig, normalize

_LOG = logging.getLogger(__name__)

Severity = Literal["error", "warning"]

# What training cannot use, or would learn wrongly from, is an error; what a person should look at is a warning.
_SEVERITIES: dict[str, Severity] = {
    "unreadable manifest": "error",
    "unusable line": "error",
    "unusable text": "error",
    "repeated id": "error",
    "missing audio": "error",
    "unusable audio": "error",
    "sound without text": "warning",
    "text without sound": "warning",
    "wrong duration": "error",
    "no text left": "error",
    "too short for CTC": "error",
    "same audio, other text": "error",
    "said twice": "warning",
    "silent": "warning",
    "clipped": "warning",
    "low sample rate": "warning",
    "in brackets": "warning",
    "key without use": "warning",
    "capital I": "warning",
    "mixed alphabets": "warning",
    "control character": "warning",
    "digit": "warning",
    "symbol": "warning",
    "rare character": "warning",
}
_NUM_NAMED = 3
_DURATION_TOLERANCE_SECONDS = 0.05
_DURATION_TOLERANCE_SHARE = 0.01
_SILENT_PEAK = 1e-3  # -60 dB: below the noise of any microphone
_FULL_SCALE = 0.999
_CLIPPED_SHARE = 1e-3
_RARE_SHARE = 1e-4
_USUAL_RATE = 16000
# Notes of transcribers, such as [noise]: normalising takes away the brackets, and what stands in them is learnt as said.
_NOTE = re.compile(r"\[[^\[\]]*\w[^\[\]]*\]|\([^()]*\w[^()]*\)|\{[^{}]*\w[^{}]*\}|<[^<>]*\w[^<>]*>")
_WITHOUT_USE = WITHOUT_USE | {"duration": "it is compared under the name of seconds only"}
_ALPHABETS = frozenset({"LATIN", "GREEK", "CYRILLIC"})


@dataclass(frozen=True)
class Finding:
    """One kind of trouble: how often, and where.

    Attributes:
        kind: a key of the table of severities, for characters followed by the character.
        count: utterances concerned, or keys.
        examples: utterance ids or keys, each with what was found there; for characters only the first few.
    """

    severity: Severity
    kind: str
    count: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sound:
    """What one file of sound or stored frames holds; `problem` and `detail` say why nothing can be said, or are empty."""

    problem: str = ""
    detail: str = ""
    sample_rate: int = 0
    num_samples: int = 0
    digest: bytes = b""
    peak: float = 0.0
    clipped_share: float = 0.0

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sample_rate


@dataclass
class CorpusCheck:
    """Gathers what is wrong with a corpus, one utterance at a time.

    Attributes:
        sample_rate: the rate at which the model hears; None for each file's own.
        subsampling: feature frames per encoder frame.
        hop_seconds: distance between feature frames.
        num_features: values in a stored frame; 0: the corpus is sound.
        longest: the largest of the durations, in seconds, and whose it is.
    """

    sample_rate: int | None = None
    subsampling: int = 4
    hop_seconds: float = 0.01
    num_features: int = 0
    utterances: int = 0
    durations: list[float] = field(default_factory=list)
    longest: tuple[float, str] = (0.0, "")
    speakers: Counter[str] = field(default_factory=Counter)
    sample_rates: Counter[int] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    found: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _keys: Counter[str] = field(default_factory=Counter)
    _in_utterances: Counter[str] = field(default_factory=Counter)
    _first_ids: dict[str, list[str]] = field(default_factory=dict)
    _first_with_audio: dict[bytes, tuple[str, str]] = field(default_factory=dict)

    def note(self, kind: str, utterance_id: str, detail: str = "") -> None:
        """Remember one finding."""
        self.found.setdefault(kind, []).append((utterance_id, detail))

    def add(self, utterance: Utterance, sound: Sound) -> None:
        """Check one utterance with what its sound file holds."""
        self.utterances += 1
        self.speakers[utterance.speaker] += 1
        text = self._check_text(utterance)
        columns = utterance.metadata.items()
        self._keys.update(key for key, value in columns if key not in WITHOUT_USE or cuts_sound(key, value))
        if sound.problem:
            self.note(sound.problem, utterance.id, sound.detail)
            return
        self.durations.append(sound.seconds)
        self.longest = max(self.longest, (sound.seconds, utterance.id))
        if not self.num_features:
            self.sample_rates[sound.sample_rate] += 1
            self._check_level_and_rate(utterance.id, sound)
        self._check_duration(utterance, sound)
        self._check_length(utterance.id, text, sound)
        self._check_repetition(utterance.id, text, sound)

    def _check_text(self, utterance: Utterance) -> str:
        """The normalised text, after a look at its characters."""
        text = normalize(utterance.text, NormalizerConfig())
        if not text:
            self.note("no text left", utterance.id, f"{utterance.text!r} is empty once normalised")
        if notes := _NOTE.findall(utterance.text):
            self.note("in brackets", utterance.id, f"{', '.join(notes)} would be learnt as words that are said")
        if "İ" in utterance.text or {"I", "ı"} <= set(utterance.text):
            self.note(
                "capital I",
                utterance.id,
                "the lower case of I is taken for i and that of İ for i̇, as in most languages; in Turkish and Azeri set "
                "tokenizer.normalizer.dotless_i=true",
            )
        mixed = [word for word in text.split() if len(_alphabets(word)) > 1]
        if mixed:
            self.note(
                "mixed alphabets", utterance.id, f"'{mixed[0]}' mixes {' and '.join(sorted(_alphabets(mixed[0])))}"
            )
        self.characters.update(text)
        taken_away = {character for character in utterance.text if unicodedata.category(character) == "Cc"}
        for character in set(text) | taken_away:
            self._in_utterances[character] += 1
            ids = self._first_ids.setdefault(character, [])
            if len(ids) < _NUM_NAMED:
                ids.append(utterance.id)
        return text

    def _check_level_and_rate(self, utterance_id: str, sound: Sound) -> None:
        if sound.peak < _SILENT_PEAK:
            self.note("silent", utterance_id, f"peak {sound.peak:.5f} of full scale")
        if sound.clipped_share > _CLIPPED_SHARE:
            self.note("clipped", utterance_id, f"{sound.clipped_share:.1%} of samples at full scale")
        if self.sample_rate is not None and sound.sample_rate < self.sample_rate:
            self.note("low sample rate", utterance_id, f"{sound.sample_rate} Hz")

    def _check_duration(self, utterance: Utterance, sound: Sound) -> None:
        stated = utterance.seconds
        tolerance = max(_DURATION_TOLERANCE_SECONDS, _DURATION_TOLERANCE_SHARE * sound.seconds)
        if stated is not None and abs(stated - sound.seconds) > tolerance:
            self.note("wrong duration", utterance.id, f"stated {stated:.2f} s, found {sound.seconds:.2f} s")

    def _check_length(self, utterance_id: str, text: str, sound: Sound) -> None:
        """Compares encoder frames with what CTC needs for characters; byte pairs need one more at most, for a mark."""
        rate = self.sample_rate or sound.sample_rate
        frames = round(sound.num_samples * rate / sound.sample_rate)
        if not self.num_features:
            frames = frames_of_samples(frames, max(1, round(self.hop_seconds * rate)))
        frames = frames_after_subsampling(frames, self.subsampling)
        needed = frames_needed_by_ctc([ord(character) for character in text])
        if frames < needed:
            self.note("too short for CTC", utterance_id, f"{needed} frames needed, {frames} in {sound.seconds:.2f} s")

    def _check_repetition(self, utterance_id: str, text: str, sound: Sound) -> None:
        first_id, first_text = self._first_with_audio.setdefault(sound.digest, (utterance_id, text))
        if first_id != utterance_id:
            kind = "said twice" if text == first_text else "same audio, other text"
            self.note(kind, utterance_id, f"the same samples as {first_id}")

    def findings(self) -> list[Finding]:
        """What was found, errors first."""
        whole = {kind: Finding(_SEVERITIES[kind], kind, len(ids), tuple(ids)) for kind, ids in self.found.items()}
        odd = [*whole.values(), *self._keys_without_use(), *self._odd_characters()]
        order = list(_SEVERITIES)
        return sorted(odd, key=lambda finding: order.index(finding.kind.split(" U+")[0]))

    def _keys_without_use(self) -> Iterator[Finding]:
        """Keys that mean something to other tools and nothing here, where they become columns: one finding for all lines."""
        kind, names = "key without use", [name for name in _WITHOUT_USE if name in self._keys]
        if names:
            told = ((name, f"in {counted(self._keys[name], 'line')}: {_WITHOUT_USE[name]}") for name in names)
            yield Finding(_SEVERITIES[kind], kind, len(names), tuple(told))

    def _odd_characters(self) -> Iterator[Finding]:
        total = self.characters.total()
        for character in sorted(self._in_utterances):
            count = self.characters[character]
            kind = _oddity(character, rare=count < _RARE_SHARE * total)
            if kind:
                shown = f"{kind} U+{ord(character):04X}{f' {character}' if character.isprintable() else ''}"
                ids = tuple((utterance_id, "") for utterance_id in self._first_ids[character])
                yield Finding(_SEVERITIES[kind], shown, self._in_utterances[character], ids)

    def advised_rate(self) -> int | None:
        """The sample rate that all files but few can fill, where a model that hears another would be a mistake; else None.

        Above the rates of the files lies silence, of which a model learns which corpus it hears, not what is said.
        """
        if not self.sample_rates:
            return None
        few = FEW * self.sample_rates.total()
        lowest = next(rate for rate in sorted(self.sample_rates) if self.num_below(rate + 1) > few)
        if (self.sample_rate or lowest + 1) <= lowest or (len(self.sample_rates) == 1 and lowest >= _USUAL_RATE):
            return None
        return min(lowest, _USUAL_RATE)

    def num_below(self, sample_rate: int) -> int:
        """How many files have a lower rate than `sample_rate`."""
        return sum(count for rate, count in self.sample_rates.items() if rate < sample_rate)

    def summary(self) -> dict[str, object]:
        """Sizes of the corpus, for JSON."""
        return {
            "utterances": self.utterances,
            "seconds": sum(self.durations),
            "shortest_seconds": min(self.durations, default=None),
            "median_seconds": statistics.median(self.durations) if self.durations else None,
            "longest_seconds": max(self.durations, default=None),
            "speakers": len(self.speakers.keys() - {""}),
            "utterances_without_speaker": self.speakers[""],
            "sample_rates": {str(rate): count for rate, count in self.sample_rates.most_common()},
            "characters": dict(self.characters.most_common()),
        }


def _alphabets(word: str) -> set[str]:
    names = {unicodedata.name(character, "").split(" ")[0] for character in word if character.isalpha()}
    return names & _ALPHABETS


def _oddity(character: str, *, rare: bool) -> str:
    """What is odd about `character` of a text, "" when nothing."""
    category = unicodedata.category(character)
    if category in {"Cc", "Co", "Cn"} and character not in "\t\n\r":
        return "control character"
    if category[0] == "N":
        return "digit"
    if category[0] in "SP" and character != "'":
        return "symbol"
    return "rare character" if rare and category[0] in "LM" else ""


def examine(utterance: Utterance, num_features: int = 0, frames_per_second: int = 100) -> Sound:
    """What the file of `utterance` holds, read to its end: sound, or with `num_features` stored frames."""
    audio = utterance.audio
    if not num_features and isinstance(audio, Path) and holds_features(audio):
        detail = "these are stored features: say with --num-features how many values a frame has"
        return Sound("unusable audio", detail)
    try:
        sample_rate = frames_per_second if num_features else audio_info(audio).sample_rate
        waveform = read_signal(audio, sample_rate, num_features)
    except UnusableAudioError as error:
        return Sound("missing audio" if error.reason == "missing" else "unusable audio", str(error))
    except AudioError as error:
        return Sound("unusable audio", str(error))
    return Sound(
        sample_rate=sample_rate,
        num_samples=len(waveform),
        digest=hashlib.blake2b(waveform.tobytes(), digest_size=16).digest(),
        peak=float(np.abs(waveform - waveform.mean()).max()),
        clipped_share=float((np.abs(waveform) >= _FULL_SCALE).mean()),
    )


def check_corpus(path: Path, result: CorpusCheck, *, num_threads: int, advance: Callable[[float], None]) -> None:
    """Fill `result` with everything below the manifest or folder at `path`.

    Raises:
        CorpusError: nothing is there, or by its suffix something else.
    """
    check_is_list(path)

    def left_out(utterance_id: str, error: CorpusError) -> None:
        result.note("unusable text", utterance_id, error.message)

    if path.is_dir():
        _note_left_out(path, result)
    usable = read_folder(path, left_out) if path.is_dir() else _usable_lines(path, result)
    utterances = _until_broken(usable, path, result)

    def heard(utterance: Utterance) -> tuple[Utterance, Sound]:
        return utterance, examine(utterance, result.num_features, round(1 / result.hop_seconds))

    for utterance, sound in map_ahead(heard, utterances, num_threads=num_threads, num_ahead=4 * num_threads):
        result.add(utterance, sound)
        advance(1)


def _note_left_out(folder: Path, result: CorpusCheck) -> None:
    """What `read_folder` leaves out: halves of utterances, and all files of an id but the first."""
    audio_of, text_of = files_by_id(folder)
    for kind, files, others in (("sound without text", audio_of, text_of), ("text without sound", text_of, audio_of)):
        for key, paths in sorted(files.items()):
            names = [path.relative_to(folder).as_posix() for path in paths]
            if len(names) > 1:
                result.note("repeated id", key, ", ".join(names))
            if key not in others:
                result.note(kind, names[0])


def _usable_lines(path: Path, result: CorpusCheck) -> Iterator[Utterance]:
    """The utterances of the manifest at `path`, those whose id is repeated too; what is wrong goes into `result`."""
    lines_of_id: dict[str, list[int]] = {}

    def unusable(where: Where, error: AsrError) -> None:
        result.note("unusable line", f"{path.name}:{where.number}", error.message.removeprefix(where).lstrip(": "))

    for where, record in records_of_manifest(path, unusable):
        if isinstance(record.get("id"), str):
            lines_of_id.setdefault(record["id"], []).append(where.number)
        try:
            yield utterance_of_record(record, path.parent, where)
        except CorpusError as error:
            unusable(where, error)
    for utterance_id, numbers in lines_of_id.items():
        if len(numbers) > 1:
            result.note("repeated id", utterance_id, f"lines {', '.join(map(str, numbers))}")


def _until_broken(utterances: Iterator[Utterance], path: Path, result: CorpusCheck) -> Iterator[Utterance]:
    """`utterances` up to the first that cannot be read, which goes into `result`."""
    try:
        yield from utterances
    except CorpusError as error:
        result.note("unreadable manifest", path.name, str(error))
