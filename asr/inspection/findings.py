"""The three inspections, from a subject to what is written about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from asr.inspection.drawing import Picture
from asr.inspection.gates import LONG_SECONDS, Gates, gates_of
from asr.inspection.gradients import gradients_of
from asr.inspection.observe import deviation_warning, deviations, observed
from asr.inspection.output import Finding
from asr.inspection.pictures import gate_pictures, gradient_pictures, saliency_pictures
from asr.inspection.saliency import Saliency, saliency_of
from asr.inspection.subject import Subject, require_tokens
from asr.terminal import counted, progress_bar


def inspect_gates(subject: Subject, layers: Sequence[int]) -> Finding:
    """The gates of `layers` (from 1).

    Raises:
        ConfigError: the model's cell has no gates.
    """
    gates = gates_of(subject, layers)
    names = list(gates[0].gates)
    return Finding(
        kind="gates",
        question="What does each unit keep, and for how long?",
        explanation=(
            "Each unit of a gated cell holds one number, its state. In every frame (of "
            f"{_frames(gates)} here) a gate between 0 and 1 decides which share of the old state is kept "
            "and which is replaced by something new. These are the gates that ran while the model heard the recording: they "
            "are taken from the cell's own equations, with the trained weights.",
            "Memory horizon: after n frames the product of the n shares is left, so the time until half is forgotten is "
            "ln(1/2) divided by the mean logarithm of the share, times a frame's duration. It is clipped at the duration "
            "of the recording: a unit there remembers at least that long. It counts what the gate alone keeps; a unit can "
            "remember longer by writing its old state back through the candidate, which asr inspect gradients shows.",
            "Longest hold: the longest stretch of the recording over which a unit kept half of what it held. It is long "
            "while the horizon is short where units hold for a while and then erase everything in a single frame.",
        ),
        columns=(
            "layer", *(f"mean {name}" for name in names), "median horizon", "units > 1 s", "units: whole recording",
            "median longest hold",
        ),
        rows=tuple(_gates_row(each, names) for each in gates),
        table_note=f"{gates[0].keep_name or 'No'} gate: decides what is kept. units > 1 s: share with a horizon of "
        f"{LONG_SECONDS:g} s or more; - where the recording is shorter.",
        pictures=_drawn(gate_pictures(subject, gates)),
        warning=deviation_warning(max(each.deviation for each in gates)),
        record={"layers": [each.record() for each in gates]},
    )  # fmt: skip


def _drawn(pictures: Iterable[Picture]) -> tuple[Picture, ...]:
    """All of `pictures`, each of which takes its time."""
    drawn = []
    with progress_bar("drawing", None) as advance:
        for picture in pictures:
            drawn.append(picture)
            advance(1)
    return tuple(drawn)


def _gates_row(gates: Gates, names: Sequence[str]) -> tuple[str, ...]:
    horizons, holds = gates.horizons, gates.longest_holds
    return (
        gates.name,
        *(f"{gates.gates[name].mean().item():.2f}" for name in names),
        "-" if horizons is None else _milliseconds(horizons.quantile(0.5).item()),
        _share(gates.share_above(LONG_SECONDS)),
        _share(gates.share_above(gates.seconds)),
        "-" if holds is None else _milliseconds(holds.quantile(0.5).item()),
    )


def _frames(gates: Sequence[Gates]) -> str:
    """The durations of the layers' frames, such as "40 ms", or "40 or 80 ms" where a pyramid's block joins frames."""
    durations = sorted({each.frame_seconds for each in gates})
    return f"{' or '.join(f'{1000 * seconds:g}' for seconds in durations)} ms"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def middle_token(subject: Subject) -> int:
    """The number (from 1) of the token next to the middle of the text that is no space.

    Raises:
        AudioError: no tokens were recognised.
    """
    require_tokens(subject)
    numbers = [number for number, piece in enumerate(subject.pieces, start=1) if piece != "▁"] or [1]
    return min(numbers, key=lambda number: abs(number - (len(subject.pieces) + 1) / 2))


def inspect_gradients(subject: Subject, layers: Sequence[int], token: int) -> Finding:
    """The gradients of `layers` (from 1), with the vanishing of that of `token` (from 1).

    Raises:
        AudioError: no tokens were recognised.
    """
    loss, gradients = gradients_of(subject, layers)
    name = f"“{subject.pieces[token - 1]}” at {subject.times[token - 1]:.2f} s"
    return Finding(
        kind="gradients",
        question="Which moments does the result hang on, and how far does a gradient reach?",
        explanation=(
            "The gradient of a number with respect to a state tells how much the number changes for a small change of that "
            "state, along all ways through later frames and higher layers. Training sends the same gradient the other way: "
            "where it is nearly 0, nothing can be learnt about what happened there.",
            f"Two numbers are looked at: the CTC loss of the text ({loss:.3f} nats), and the log-probability of one token "
            f"({name}) in its own frame.",
            "In a plain recurrent network the gradient shrinks by a factor with every frame. A gate that keeps the state "
            "lets it pass whole, so units that keep their state carry it far.",
        ),
        columns=("layer", "mean norm of the loss", f"reach of token {token}", "median reach of all tokens"),
        rows=tuple(
            (
                each.name,
                f"{each.loss.mean().item():.3g}",
                _milliseconds(each.reach_seconds(token - 1)),
                "-" if each.median_reach_ms is None else f"{each.median_reach_ms:.0f} ms",
            )
            for each in gradients
        ),
        table_note="Reach: half of the gradient of a token, summed over the frames that this direction had read by then, "
        "lies within that distance of the token. Compare it with horizons and holds in asr inspect gates.",
        pictures=_drawn(gradient_pictures(subject, gradients, token - 1)),
        warning=deviation_warning(max(deviations(subject.model, observed(subject.model), subject.features[None]))),
        record={"ctc_loss": round(loss, 6), "token": token, "layers": [each.record(token - 1) for each in gradients]},
    )


def inspect_saliency(subject: Subject, numbers: Sequence[int], steps: int | None = None) -> Finding:
    """What the tokens `numbers` (from 1) rest on, by integrated gradients in so many `steps`; 0 for the plain gradient.

    Without `steps`, in as many as each token needs.

    Raises:
        AudioError: no tokens were recognised.
    """
    saliency = saliency_of(subject, numbers, steps)
    how_many = f"{steps} steps that begin small" if steps else "steps that are small where its probability changes much"
    integrated = (
        "Integrated gradients: the sound is faded in from its own mean spectrum, in "
        f"{how_many}, and the gradients of a token's log-probability on the way are summed, each by the "
        "size of its step. The shares of all points of the picture add up to what the sound as a whole is worth to the "
        "token; the table compares the two sums, which agree the better the more steps are taken.",
    )
    plain = ("The gradient of a token's log-probability with respect to each point of the features, as it stands.",)
    return Finding(
        kind="saliency",
        question="What in the sound does each token rest on?",
        explanation=(
            *(plain if steps == 0 else integrated),
            "CTC is free to speak a token out at any moment after it is sure, and a network that reads in both directions "
            "also before: the distance from the sound to the token's frame is the model's own choice.",
        ),
        columns=(
            "token",
            "time",
            "probability",
            "worth",
            "sum of shares",
            "steps",
            "centre",
            "half within",
            "strongest",
        ),
        rows=tuple(_saliency_row(subject, each) for each in saliency),
        table_note="Worth: the log-probability less that of the mean spectrum, in nats. *: the shares add up to another sum "
        "than the worth, by more than a tenth, so they are not to be relied on. Centre: when half of the absolute "
        "shares have come, from the token's frame on. Half within: the shortest stretch that holds half of them. "
        "Strongest: the feature that holds most.",
        pictures=_drawn(saliency_pictures(subject, saliency)),
        warning=_sums_warning(saliency, steps),
        record={"steps": steps, "saliency": [each.record() for each in saliency]},
    )


def _sums_warning(saliency: Sequence[Saliency], steps: int | None) -> str:
    num_off = sum(not each.adds_up for each in saliency)
    if not num_off:
        return ""
    tokens = counted(len(saliency), "token")
    more = f"; take more than --steps {steps}"
    if steps is None:
        most = max(each.steps for each in saliency)
        more = f" in up to {most} steps, placed where they are needed; take many more, such as --steps {16 * most}"
    return f"the shares of {num_off} of {tokens} (*) add up to another sum than the worth{more}"


def _saliency_row(subject: Subject, saliency: Saliency) -> tuple[str, ...]:
    baseline = saliency.baseline_log_prob
    centres = subject.band_centres_hz
    return (
        f"{saliency.number} {saliency.piece}",
        f"{saliency.seconds:.2f} s",
        f"{math.exp(saliency.log_prob):.3f}",
        "-" if baseline is None else f"{saliency.log_prob - baseline:.1f}",
        "-" if baseline is None else f"{'' if saliency.adds_up else '* '}{saliency.shares.sum().item():.1f}",
        "-" if baseline is None else str(saliency.steps),
        f"{1000 * saliency.centre_seconds:+.0f} ms",
        _milliseconds(saliency.width_seconds),
        f"number {saliency.band + 1}" if centres is None else f"{centres[saliency.band]:.0f} Hz",
    )
