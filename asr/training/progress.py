"""Where a training stands."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrainingProgress:
    """Where a training stands; all that resuming needs besides the weights and the optimiser.

    Attributes:
        epoch: epochs that are finished.
        batches, utterances: taken from the epoch that is under way, by all processes.
        update: updates so far.
        loss_sum, loss_updates: for the mean training loss of the epoch under way.
        audio_seconds: speech heard so far, repetitions counted.
        wall_seconds: time spent in training so far.
        best: rank (`Validation.rank`) and epoch of the best epochs, best first.
        validations_since_best: for early stopping.
        reductions, validations_since_reduction: of the plateau schedule.
        skipped, skipped_in_a_row: updates left out because the gradient was not finite.
        split, split_of_epoch: updates in which memory ran out and a batch was halved; those of the epoch under way.
        impossible: ids of utterances that had fewer frames than CTC needs.
        impossible_of_epoch: how many of the utterances of the epoch under way had.
    """

    epoch: int = 0
    batches: int = 0
    utterances: int = 0
    update: int = 0
    loss_sum: float = 0.0
    loss_updates: int = 0
    audio_seconds: float = 0.0
    wall_seconds: float = 0.0
    best: list[tuple[float, float, int]] = field(default_factory=list)
    validations_since_best: int = 0
    reductions: int = 0
    validations_since_reduction: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    split: int = 0
    split_of_epoch: int = 0
    impossible: list[str] = field(default_factory=list)
    impossible_of_epoch: int = 0
