"""The synthesisers, and which voice speaks in which part of the corpus.

A voice of one part occurs in no other. What sets an espeak-ng voice apart is its variant (formants, pitch, source), not its
accent, so parts share accents but no variant, nor variants that are copies of each other (f2 and f5, Diogo and miguel).
Flite's four voices all train: one of them held out would test how far three speakers carry, not this recogniser. Festival
speaks nowhere but in `test-unseen-synthesiser`, with ked alone: kal and slt lent their voices to flite too.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

ACCENTS = {"en-us": 5, "en-gb": 5, "en-us-nyc": 3, "en-gb-x-rp": 3}
# "none" is the accent's own voice. Whispers, robots and variants that a recogniser trained on people cannot follow are left
# out everywhere.
VARIANTS = {
    "train": (
        "none m1 m2 m3 m4 m7 f1 f3 f4 klatt klatt3 klatt6 adam benjamin caleb david announcer Diogo croak grandpa iven "
        "anika john antonio Denis"
    ).split(),
    "dev": "m8 f2 pablo Alex klatt2".split(),
    "test": "m5 m6 f5 edward2 ed Gene".split(),
}
FLITE_VOICES = {"train": ("kal16", "awb", "rms", "slt"), "dev": (), "test": ()}
FLITE_PITCH_HZ = {"kal16": 95, "awb": 130, "rms": 100, "slt": 170}
# At these rates all of them say about 13 characters a second, as people who talk to a machine do.
ESPEAK_WORDS_PER_MINUTE = 125
FLITE_STRETCH = {"kal16": 1.55, "awb": 1.34, "rms": 1.15, "slt": 1.34}
FESTIVAL_STRETCH = 1.45
# These read training texts of other corpora aloud (read_aloud.py) and speak nowhere in this one.
MORE_VOICES = {"pico2wave": ("en-US", "en-GB"), "RHVoice-test": ("bdl", "clb")}
PICO_SPEED = {"en-US": 78, "en-GB": 88}
RHVOICE_RATE = {"bdl": 78, "clb": 87}
FESTIVAL_VOICES = {"ked": "ked_diphone"}
SHARE_OF_FLITE = {"train": 0.2, "dev": 0.0, "test": 0.0}
UNSEEN = "test-unseen-synthesiser"

# As the engines speak them, "a m" is an article and a letter; capitals make all of them say two letters.
SPOKEN = {" a m ": " A M ", " p m ": " P M "}


@dataclass(frozen=True)
class Voice:
    """One voice, with how it is asked to speak.

    Attributes:
        synthesiser: espeak-ng, flite, festival, pico2wave or RHVoice-test.
        name: as the synthesiser calls it.
        speed: 1.0 is 13 characters a second.
        pitch: 1.0 is the voice's own.
        formants: 1.0 is the voice's own; above it is a smaller head. Moves the pitch too, not the speed.
    """

    synthesiser: str
    name: str
    speed: float
    pitch: float
    formants: float

    @property
    def speaker(self) -> str:
        """The voice as a speaker's name: what it is, not how it is asked to speak."""
        return f"{self.synthesiser}:{self.name}"

    def described(self) -> dict[str, str]:
        """How it speaks, in words, for the metadata of an utterance."""
        numbers = {"speed": self.speed, "pitch": self.pitch, "formants": self.formants}
        return {"synthesiser": self.synthesiser} | {name: f"{value:.2f}" for name, value in numbers.items()}


def draw_voice(split: str, generator: random.Random, shares: Mapping[str, float] | None = None) -> Voice:
    """A voice of `split`; training hears more extreme speeds, pitches and heads than the tests do.

    Flite has four voices: moving their formants and pitch makes many speakers of them. `shares` of the synthesisers are
    `SHARE_OF_FLITE`'s if none are given; what they leave is espeak-ng's.
    """
    train = split == "train"
    speed = generator.uniform(0.85, 1.15) if train else generator.uniform(0.9, 1.1)
    pitch = generator.uniform(0.8, 1.2) if train else generator.uniform(0.9, 1.1)
    if split == UNSEEN:
        return Voice("festival", generator.choice(sorted(FESTIVAL_VOICES)), speed, 1.0, 1.0)
    chance = generator.random()
    for synthesiser, share in ({"flite": SHARE_OF_FLITE[split]} if shares is None else shares).items():
        if chance < share:
            formants = generator.uniform(0.88, 1.14) if train else 1.0
            name = generator.choice(FLITE_VOICES[split] if synthesiser == "flite" else MORE_VOICES[synthesiser])
            return Voice(synthesiser, name, speed, pitch * formants**1.5, formants)
        chance -= share
    accent, variant = generator.choices(list(ACCENTS), list(ACCENTS.values()))[0], generator.choice(VARIANTS[split])
    name = accent if variant == "none" else f"{accent}+{variant}"
    return Voice("espeak-ng", name, speed, pitch, generator.uniform(0.95, 1.06) if train else 1.0)


def speak(text: str, voice: Voice) -> tuple[npt.NDArray[np.float64], float]:
    """Samples (N,) of `text` in `voice`, and their rate in hertz.

    Formants are moved by declaring another rate than the true one, which shortens the speech; it was stretched as much.

    Raises:
        subprocess.CalledProcessError: the synthesiser failed.
    """
    spoken = f"{text} "
    for written, said in SPOKEN.items():
        spoken = spoken.replace(written, said)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = _command(spoken.strip(), voice, path)
        subprocess.run(command, input=spoken.encode(), check=True, capture_output=True)
        samples, rate = soundfile.read(path)
    return np.asarray(samples, dtype=np.float64), rate * voice.formants


def _command(text: str, voice: Voice, path: Path) -> list[str]:
    speed = voice.speed / voice.formants
    if voice.synthesiser == "espeak-ng":
        words_per_minute, pitch = round(ESPEAK_WORDS_PER_MINUTE * speed), round(50 * voice.pitch)
        return ["espeak-ng", "-v", voice.name, "-s", f"{words_per_minute}", "-p", f"{pitch}", "-w", str(path), text]
    if voice.synthesiser == "flite":
        stretch, pitch_hz = FLITE_STRETCH[voice.name] / speed, FLITE_PITCH_HZ[voice.name] * voice.pitch
        settings = ["--setf", f"duration_stretch={stretch:.3f}", "--setf", f"int_f0_target_mean={pitch_hz:.1f}"]
        return ["flite", "-voice", voice.name, *settings, "-t", text, "-o", str(path)]
    if voice.synthesiser == "pico2wave":
        # Its pitch and speed are levels in percent, told by tags in the text.
        tags = f"<pitch level='{100 * voice.pitch:.0f}'><speed level='{PICO_SPEED[voice.name] * speed:.0f}'>"
        return ["pico2wave", "-l", voice.name, "-w", str(path), f"{tags}{text}</speed></pitch>"]
    if voice.synthesiser == "RHVoice-test":
        rate, pitch = round(RHVOICE_RATE[voice.name] * speed), round(100 * voice.pitch)
        return ["RHVoice-test", "-p", voice.name, "-r", f"{rate}", "-t", f"{pitch}", "-o", str(path)]
    settings = [
        f"(voice_{FESTIVAL_VOICES[voice.name]})",
        f"(Parameter.set 'Duration_Stretch {FESTIVAL_STRETCH / speed:.3f})",
    ]
    return ["text2wave", "-eval", f"(begin {' '.join(settings)})", "-o", str(path)]
