"""Audio in, text out, for people who only want text.

Decided here: how trained models, their tokenizer and a decoder are put together, and in which forms transcripts are written.
"""

from asr.recognizer.default_decoder import default_decoder, words_beside
from asr.recognizer.ensemble import Ensemble
from asr.recognizer.pieces import LONGEST_SECONDS
from asr.recognizer.recognized import Recognized
from asr.recognizer.recognizer import Audio, Encoded, Recognizer
from asr.recognizer.words import Word
from asr.recognizer.writers import FORMATS, TranscriptWriter, timed_words

__all__ = [
    "FORMATS",
    "LONGEST_SECONDS",
    "Audio",
    "Encoded",
    "Ensemble",
    "Recognized",
    "Recognizer",
    "TranscriptWriter",
    "Word",
    "default_decoder",
    "timed_words",
    "words_beside",
]
