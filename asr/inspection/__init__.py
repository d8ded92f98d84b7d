"""A trained model at work on one recording: its gates, the gradients of its states, what in the sound each token rests on.

In: a recogniser and a sound file. Out: numbers, pictures and a page. Decided here: nothing is computed by a copy of the
equations: the model runs through the cells that hold them (`asr.model.cells`), and is overheard.
"""

from asr.inspection.gates import Gates, gates_of, half_life_frames
from asr.inspection.gradients import Gradients, gradients_of
from asr.inspection.saliency import Saliency, saliency_of
from asr.inspection.subject import Subject, subject_of

__all__ = [
    "Gates",
    "Gradients",
    "Saliency",
    "Subject",
    "gates_of",
    "gradients_of",
    "half_life_frames",
    "saliency_of",
    "subject_of",
]
