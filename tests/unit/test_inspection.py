"""What is shown of a model at work is what it did: gates, states, gradients and shares, by other ways of computing them."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from documents import ROOT
from ragged import SAMPLE_RATE, encoder_config, feature_config, ragged_features, ragged_signals, small_model
from spellers import letters
from torch import Tensor

from asr.audio import encode_frames
from asr.decoding import GreedyDecoderConfig, build_decoder
from asr.errors import AudioError, ConfigError, TextError
from asr.features import LogMelConfig, MfccConfig, StoredConfig
from asr.inspection import Gates, Subject, gates_of, gradients_of, half_life_frames, observe, saliency_of, subject_of
from asr.inspection.drawing import DAY
from asr.inspection.findings import inspect_gates, inspect_gradients, inspect_saliency
from asr.inspection.gradients import Gradients, ctc_loss, state_gradient_norms
from asr.inspection.observe import CellGates, ObservedCell, Track, cell_gates, log_probs_of, observed, tracks_of
from asr.inspection.pictures import _horizons, by_distance, median_by_distance
from asr.inspection.saliency import Saliency
from asr.model import CELLS, AcousticModel
from asr.model.cells import equations, run_cells
from asr.model.cells.recurrent import Product, RecurrentCell, States
from asr.recognizer import Recognizer

NUM_FRAMES = 9


def recognizer_of(model: AcousticModel) -> Recognizer:
    tokenizer = letters(5)
    return Recognizer(model, tokenizer, build_decoder(GreedyDecoderConfig(), tokenizer), torch.device("cpu"))


def subject_in(folder: Path, text: str | None = "ab a", **settings: Any) -> Subject:
    """Half a second of sound before a small model with `settings` of its encoder, or `features`."""
    features = settings.pop("features", feature_config(LogMelConfig))
    model = small_model(encoder_config(**settings), features)
    signal = ragged_signals(features, [50 if isinstance(features, StoredConfig) else 4000])[0][0].numpy()
    path = folder / ("sound.npy" if signal.ndim > 1 else "sound.wav")
    if signal.ndim > 1:
        path.write_bytes(encode_frames(signal))
    else:
        soundfile.write(path, signal, SAMPLE_RATE, subtype="FLOAT")
    return subject_of(recognizer_of(model), path, text)


def overheard(cell: str, **settings: Any) -> tuple[AcousticModel, AcousticModel, Tensor, list[Track]]:
    """A model, its observed copy, features (1, T, F) that both got, and what the copy did."""
    model = small_model(encoder_config(cell=cell, **settings))
    features = ragged_features([2 * NUM_FRAMES], 8)[0]
    copied = observed(model)
    with torch.no_grad():
        log_probs_of(copied, features)
    return model, copied, features, tracks_of(copied)


@pytest.mark.parametrize("frames_kept", [0.3, 0.9, 0.999])
def test_a_constant_gate_forgets_half_after_ln_half_over_ln_z(frames_kept: float) -> None:
    keep = torch.full((20, 3), frames_kept, dtype=torch.float64)
    expected = math.log(0.5) / math.log(frames_kept)
    torch.testing.assert_close(half_life_frames(keep), torch.full((3,), expected, dtype=torch.float64))


def test_a_gate_of_one_remembers_at_least_the_recording_and_one_of_zero_nothing() -> None:
    keep = torch.tensor([[1.0, 0.0, 0.5]]).expand(10, 3)
    gates = Gates(
        layer=1, direction="forward", gates={"update": keep}, keep=keep, keep_name="update", keeps=True,
        frame_seconds=0.2, deviation=0.0,
    )  # fmt: skip
    torch.testing.assert_close(gates.horizons, torch.tensor([2.0, 0.0, 0.2], dtype=torch.float64))
    assert gates.share_above(1.0) == pytest.approx(1 / 3)
    assert gates.share_above(3.0) is None
    assert gates.record()["share_of_whole_recording"] == pytest.approx(1 / 3)
    assert gates.longest_holds is not None
    assert gates.longest_holds.tolist() == pytest.approx([2.0, 0.0, 0.2])
    assert replace(gates, keep=keep[:, :1]).order.tolist() == [0], "a single unit"
    assert sorted(replace(gates, keep=keep[:1]).order.tolist()) == [0, 1, 2], "a single frame"


@pytest.mark.parametrize("bidirectional", [True, False], ids=["both", "forward"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_states_are_those_of_the_encoder(cell: str, bidirectional: bool) -> None:
    model, copied, features, tracks = overheard(cell, bidirectional=bidirectional, initial_state="learnt")
    torch.testing.assert_close(log_probs_of(copied, features), log_probs_of(model, features), atol=1e-5, rtol=0)
    entered: list[tuple[Tensor, ...]] = []
    for layer in model.encoder.layers:
        layer.register_forward_hook(lambda layer, inputs, output: entered.append(inputs))
    log_probs_of(model, features)
    for number, (layer, (hidden, mask, _)) in enumerate(zip(model.encoder.layers, entered, strict=True), start=1):
        normed = layer.norm(hidden)
        inputs = [normed, normed.flip(0)][: len(layer.directions)]
        outputs = run_cells(list(layer.directions), inputs, mask, layer._states(1))
        for track in (each for each in tracks if each.layer == number):
            backward = track.direction == "backward"
            states = torch.stack([states[0] for states in track.states])
            expected = outputs[backward].flip(0) if backward else outputs[0]
            if cell != "sru":  # whose output is not its state
                torch.testing.assert_close(states, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", ["gru", "gru_reference", "lstm"])
def test_states_follow_from_the_gates(cell: str) -> None:
    model, _, _, tracks = overheard(cell, num_layers=1, norm="none", initial_state="zero", bidirectional=False)
    (track,), direction = tracks, model.encoder.layers[0].directions[0]
    entered: list[Tensor] = []
    model.encoder.layers[0].register_forward_hook(lambda layer, inputs, output: entered.append(inputs[0]))
    log_probs_of(model, ragged_features([2 * NUM_FRAMES], 8)[0])
    products = torch.nn.functional.linear(entered[0], direction.weight_ih_l0, direction.bias_ih_l0)
    h, memory = torch.zeros(1, 6), torch.zeros(1, 6)
    for frame, x in enumerate(products):
        gate = {name: values[frame] for name, values in track.gates.items()}
        u = torch.nn.functional.linear(h, direction.weight_hh_l0, direction.bias_hh_l0)
        if cell == "lstm":
            memory = gate["forget"] * memory + gate["input"] * torch.tanh((x + u).chunk(4, -1)[2])
            h = gate["output"] * torch.tanh(memory)
            torch.testing.assert_close(track.states[frame][1], memory, atol=1e-5, rtol=0)
        else:
            new = torch.tanh(x.chunk(3, -1)[2] + gate["reset"] * u.chunk(3, -1)[2])
            h = (1 - gate["update"]) * new + gate["update"] * h
        torch.testing.assert_close(track.states[frame][0], h, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", sorted(name for name in CELLS if equations(name).keep_gate is not None))
def test_the_keeping_gate_is_what_the_state_is_multiplied_with(cell: str) -> None:
    """With all products held, and no unit seeing itself, the new state changes by `keep` times a change of the old."""
    _, copied, _, _ = overheard(cell, num_layers=1, bidirectional=False)
    (observer,) = copied.encoder.layers[0].directions
    assert isinstance(observer, ObservedCell)
    for name, weights in observer.named_parameters():
        if name in {"weight_peephole", "weight_state"}:
            weights.zero_()
    generator = torch.Generator().manual_seed(1)
    x = observer.project(torch.randn(1, 1, observer.input_size, generator=generator), None)[0]
    states = tuple(torch.randn(1, 6, generator=generator).requires_grad_() for _ in range(observer.num_states))
    held = [torch.randn(1, 6 * blocks, generator=generator) for blocks in observer.products]
    observer.seen = []
    _, after = observer.step(x, states, tuple(lambda h, each=each: each for each in held))
    (slope,) = torch.autograd.grad(after[-1].sum(), states[-1])
    rules = equations(cell)
    blocks = torch.split(observer.seen[0][1], 6, dim=-1)
    gates = {name: block for name, block in zip(cell_gates(rules).names, blocks, strict=True) if name}
    torch.testing.assert_close(Track(1, "forward", rules, (), gates).keep, slope)


def test_every_cell_names_its_gates() -> None:
    class Unknown(RecurrentCell):
        pass

    for cell in CELLS:
        assert bool(cell_gates(equations(cell)).keeping) == (equations(cell).keep_gate is not None)
    with pytest.raises(ConfigError, match="observe"):
        cell_gates(Unknown)


@pytest.mark.parametrize(
    ("num_sigmoids", "message"),
    [
        (0, r"Hard: gates are overheard where torch\.sigmoid makes them, and it has none"),
        (1, "Hard: expected 2 gates.*found 1"),
    ],
)
def test_a_cell_whose_gates_are_made_otherwise_is_told(
    num_sigmoids: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hard(equations("gru_reference")):  # type: ignore[misc]
        def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
            u = products[0](states[0])[:, : self.hidden_size]
            return states[0] + (torch.sigmoid(u) if num_sigmoids else u), states

    with pytest.raises(ConfigError, match="Hard: nothing here knows its gates"):
        cell_gates(Hard)  # its parent's may have another order
    monkeypatch.setitem(observe._GATES, Hard, CellGates(("reset", "update"), "update"))
    _, copied, _, _ = overheard("gru_reference", num_layers=1, bidirectional=False)
    (observer,) = copied.encoder.layers[0].directions
    observer.__class__ = type("ObservedHard", (ObservedCell, Hard), {})
    observer(torch.zeros(3, 1, observer.input_size))
    with pytest.raises(ConfigError, match=message):
        tracks_of(copied)


def test_equations_that_are_not_what_ran_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_in(tmp_path)
    assert inspect_gates(subject, [1]).warning == inspect_gradients(subject, [1], 1).warning == ""
    rules = equations("gru_reference")
    step = rules.step

    def edited(self: Any, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        return step(self, 2 * x, states, products)

    monkeypatch.setattr(rules, "step", edited)
    for finding in (inspect_gates(subject, [1]), inspect_gradients(subject, [1], 1)):
        assert "what is shown is not what ran" in finding.warning


def test_the_model_itself_is_left_alone() -> None:
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    observed(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert type(model.encoder.layers[0].directions[0]) is torch.nn.GRU


def test_other_utterances_of_a_batch_change_nothing() -> None:
    _, copied, _, _ = overheard("gru")
    features, _ = ragged_features([18, 18, 18], 8)
    together = state_gradient_norms(copied, features, lambda log_probs: log_probs[:, 3, 1].sum())
    for row in range(3):
        alone = state_gradient_norms(copied, features[row : row + 1], lambda log_probs: log_probs[:, 3, 1].sum())
        for (_, both), (_, one) in zip(together, alone, strict=True):
            torch.testing.assert_close(both[:, row], one[:, 0], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("cell", ["gru", "mingru", "rnn"])
@pytest.mark.parametrize(("layer", "direction"), [(1, "forward"), (1, "backward"), (2, "forward")])
def test_gradient_norms_are_those_of_finite_differences(
    cell: str, layer: int, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each unit of one frame's state is pushed a little to either side, for cells whose output is their state."""
    _, copied, features, _ = overheard(cell)
    features, eps, frame = features.double(), 1e-2, 4

    def loss(log_probs: Tensor) -> Tensor:
        return ctc_loss(log_probs.double(), (1, 2, 1))

    norms = {
        (track.layer, track.direction): norm for track, norm in state_gradient_norms(copied.double(), features, loss)
    }
    observer: Any = copied.encoder.layers[layer - 1].directions[direction == "backward"]
    place = frame if direction == "forward" else NUM_FRAMES - 1 - frame
    own_step, change = observer.step, torch.zeros(6, dtype=torch.float64)

    def pushed(x: Tensor, states: Any, products: Any) -> Any:
        output, states = own_step(x, states, products)
        if len(observer.seen) != place + 1:
            return output, states
        return output + change, (output + change,)

    monkeypatch.setattr(observer, "step", pushed)
    slopes = []
    for unit in range(6):
        sides = []
        for side in (eps, -eps):
            change.zero_()[unit] = side
            with torch.no_grad():
                sides.append(loss(log_probs_of(copied, features)).item())
        slopes.append((sides[0] - sides[1]) / (2 * eps))
    # Log-probabilities are rounded to float32, so that differences are too, by the more the less lies between.
    assert norms[layer, direction][frame, 0].item() == pytest.approx(math.hypot(*slopes), rel=2e-2)


def test_reach_and_distances() -> None:
    norms = torch.tensor([[0.0, 8.0, 4.0, 2.0], [0.0, 1.0, 1.0, 1.0]])
    backward = Gradients(layer=1, direction="backward", loss=norms[0], tokens=norms, frames=(1, 1), frame_seconds=0.1)
    assert backward.reach_seconds(0) == pytest.approx(0.1 * 7 / 8)
    assert backward.reach_seconds(1) == pytest.approx(0.15)
    distances, shares = by_distance(backward, 0)
    assert distances == pytest.approx([-0.1, 0.0, 0.1, 0.2])
    assert shares[1:] == [1.0, 0.5, 0.25]
    assert math.isnan(shares[0])
    assert median_by_distance(backward)[0][3] == 0
    nothing = torch.zeros(1, 4)
    partly = replace(backward, tokens=torch.cat([norms, norms[:1] / 2, nothing]), frames=(1, 1, 1, 1))
    assert partly.reach_seconds(3) is None
    assert partly.median_reach_ms == 87.5
    assert replace(backward, tokens=nothing, frames=(1,)).median_reach_ms is None


def test_loss_is_that_of_the_whole_text() -> None:
    log_probs = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    assert ctc_loss(log_probs, (1, 2)).item() == pytest.approx(-(log_probs[0, 0, 1] + log_probs[0, 1, 2]).item())


def test_top_layer_sees_only_its_own_past(tmp_path: Path) -> None:
    subject = subject_in(tmp_path)
    loss, (forward, backward) = gradients_of(subject, [2])
    assert loss == pytest.approx(ctc_loss(subject.log_probs[None], subject.tokens).item())
    for token, frame in enumerate(subject.frames):
        assert forward.tokens[token, : frame + 1].min() > 0
        assert forward.tokens[token, frame + 1 :].abs().sum() == 0
        assert backward.tokens[token, :frame].abs().sum() == 0


def test_below_a_pyramid_a_token_hangs_on_all_frames_that_it_was_joined_from(tmp_path: Path) -> None:
    subject = subject_in(tmp_path, bidirectional=False, factor=1, pyramid={"after": 1})
    below, above = gradients_of(subject, [1, 2])[1]
    assert (below.frames_of_token, above.frames_of_token) == (2, 1)
    assert 2 * below.frame_seconds == above.frame_seconds == subject.frame_seconds
    for token, frame in enumerate(subject.frames):
        assert below.frames[token] == 2 * frame
        assert below.tokens[token, : 2 * frame + 2].min() > 0
        assert below.tokens[token, 2 * frame + 2 :].abs().sum() == 0
        # Half of the sum lies within this many frames, counted from the last that was joined.
        sums = [0.0, *below.tokens[token, : 2 * frame + 2].flip(0).double().cumsum(0).tolist()]
        half = float(np.interp(sums[-1] / 2, sums, np.arange(len(sums))))
        assert below.reach_seconds(token) == pytest.approx(half * below.frame_seconds, rel=1e-3)
    gates = gates_of(subject, [1, 2])
    assert [each.frame_seconds for each in gates] == [below.frame_seconds, above.frame_seconds]
    assert [len(each.gates["update"]) for each in gates] == [below.tokens.shape[1], above.tokens.shape[1]]


def test_shares_add_up_to_what_the_sound_is_worth(tmp_path: Path) -> None:
    subject = subject_in(tmp_path)
    for each in saliency_of(subject, [1, 3], 200):
        assert each.baseline_log_prob is not None
        assert each.shares.sum().item() == pytest.approx(each.log_prob - each.baseline_log_prob, abs=0.02)
        assert each.shares.shape == subject.features.shape


def off_zero(subject: Subject) -> Subject:
    """The same with features whose mean over time is not 0, as it is where each utterance is normalised."""
    return replace(subject, features=subject.features + 2)


def test_shares_add_up_where_all_happens_near_the_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = off_zero(subject_in(tmp_path))
    way = subject.features - subject.features.mean(0)

    def steep(model: AcousticModel, points: Tensor) -> Tensor:
        """Of 1 - exp(-60 t), where t of the way is gone."""
        t = ((points - subject.features.mean(0)) * way).sum((1, 2)) / way.square().sum()
        return (1 - torch.exp(-60 * t))[:, None, None].expand(-1, *subject.log_probs.shape)

    monkeypatch.setattr("asr.inspection.saliency.log_probs_of", steep)
    (found,) = saliency_of(subject, [1], 24)
    assert found.shares.sum().item() == pytest.approx(1, abs=0.03)


def steep_subject(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Subject, Tensor]:
    """A subject whose log-probability jumps by 20 nats and back by 10 at two points of the way, and the exact shares."""
    subject = off_zero(subject_in(folder))
    way = subject.features - subject.features.mean(0)
    weights = torch.randn(way.shape, generator=torch.Generator().manual_seed(0))
    scale = (weights * way).sum()

    def value(points: Tensor) -> Tensor:
        gone = ((points - subject.features.mean(0)) * weights).sum((1, 2)) / scale
        return 20 * torch.sigmoid(600 * (gone - 0.31)) - 10 * torch.sigmoid(600 * (gone - 0.57)) - 30

    def log_probs(model: AcousticModel, points: Tensor) -> Tensor:
        return value(points)[:, None, None].expand(-1, *subject.log_probs.shape)

    monkeypatch.setattr("asr.inspection.saliency.log_probs_of", log_probs)
    # It depends on one sum of the features alone, so each has its part of it.
    exact = weights * way / scale * 10
    return replace(subject, log_probs=log_probs(subject.model, subject.features[None])[0]), exact


def test_steps_are_small_where_the_log_probability_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, exact = steep_subject(tmp_path, monkeypatch)
    (found,) = saliency_of(subject, [1])
    assert found.adds_up
    assert found.steps < 64
    torch.testing.assert_close(found.shares, exact, rtol=0.1, atol=1e-4)
    (even,) = saliency_of(subject, [1], 64)
    assert (even.steps, even.adds_up) == (64, False)


def test_steps_end_somewhere_and_the_row_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, _ = steep_subject(tmp_path, monkeypatch)
    monkeypatch.setattr("asr.inspection.saliency._MOST_STEPS", 32)
    finding = inspect_saliency(subject, [1])
    assert finding.rows[0][finding.columns.index("steps")] == "32"
    assert finding.rows[0][finding.columns.index("sum of shares")].startswith("* ")
    assert finding.record["saliency"][0]["adds_up"] is False
    assert finding.warning == (
        "the shares of 1 of 1 token (*) add up to another sum than the worth in up to 32 steps, placed where they are "
        "needed; take many more, such as --steps 512"
    )


def test_shares_of_the_english_model_add_up_unasked() -> None:
    recognizer = Recognizer.load("english_small", GreedyDecoderConfig(), device="cpu")
    subject = subject_of(recognizer, ROOT / "data" / "spoken_commands" / "clip.opus")
    for each in saliency_of(subject, [2, 4]):
        assert each.baseline_log_prob is not None
        worth = each.log_prob - each.baseline_log_prob
        assert each.shares.sum().item() == pytest.approx(worth, abs=0.1 * max(1, abs(worth)))


def test_a_sum_that_is_off_by_more_than_a_tenth_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_in(tmp_path)
    found = saliency_of(subject, [1, 2, 3], 50)
    assert inspect_saliency(subject, [1, 2, 3], 50).warning == ""
    off = [replace(found[0], shares=found[0].shares + 1), *found[1:]]
    monkeypatch.setattr("asr.inspection.findings.saliency_of", lambda *arguments: off)
    assert inspect_saliency(subject, [1, 2, 3], 50).warning == (
        "the shares of 1 of 3 tokens (*) add up to another sum than the worth; take more than --steps 50"
    )
    plain = [replace(each, baseline_log_prob=None) for each in off]
    monkeypatch.setattr("asr.inspection.findings.saliency_of", lambda *arguments: plain)
    assert inspect_saliency(subject, [1, 2, 3], 0).warning == ""


@pytest.mark.parametrize(
    ("worth", "off", "adds_up"), [(0.1, 0.09, True), (0.1, 0.11, False), (9, -0.8, True), (-9, 1, False)]
)
def test_a_tenth_is_one_of_a_nat_where_the_worth_is_less(worth: float, off: float, adds_up: bool) -> None:
    found = Saliency(
        number=1, piece="a", seconds=0.0, log_prob=worth - 20, baseline_log_prob=-20.0,
        shares=torch.full((2, 5), (worth + off) / 10), steps=32, hop_seconds=0.01,
    )  # fmt: skip
    assert found.adds_up is adds_up


def test_numbers_of_shares_are_those_of_their_sizes_whatever_their_signs() -> None:
    shares = torch.zeros(8, 3)
    shares[2, 1], shares[3, 2], shares[6, 2] = -3, 2, 0.5
    record = Saliency(
        number=1,
        piece="a",
        seconds=0.05,
        log_prob=-1.0,
        baseline_log_prob=-2.0,
        shares=shares,
        steps=32,
        hop_seconds=0.01,
    ).record()
    assert (record["centre_ms"], record["width_ms"], record["strongest_feature"]) == (-30.0, 10.0, 2)


@pytest.mark.parametrize("steps", [None, 0, 3])
def test_the_bar_ends_with_the_last_token(steps: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[float] = []
    monkeypatch.setattr("asr.inspection.saliency.progress_bar", lambda *_: nullcontext(moved.append))
    saliency_of(subject_in(tmp_path), [1, 3], steps)
    assert sum(moved) == pytest.approx(2)


def test_what_is_computed_at_once_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[Tensor]:
        return [saliency_of(subject, [2], 8)[0].shares, *(each.tokens for each in gradients_of(subject, [1])[1])]

    subject = subject_in(tmp_path)
    together = found()
    for module in ("saliency", "gradients"):
        monkeypatch.setattr(f"asr.inspection.{module}._FRAMES_AT_A_TIME", 1)
    torch.testing.assert_close(found(), together)


def test_plain_gradient_is_the_slope(tmp_path: Path) -> None:
    """In double precision, where a step may be so short that it meets no kink of a rectifier."""
    heard = subject_in(tmp_path)
    subject = replace(heard, model=heard.model.double(), features=heard.features.double())
    (one,) = saliency_of(subject, [2], 0)
    direction = torch.randn(subject.features.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        up, down = (
            log_probs_of(subject.model, (subject.features + side * direction)[None])[0, subject.frames[1]]
            for side in (3e-4, -3e-4)
        )
    slope = ((up - down) / 6e-4)[subject.tokens[1]].item()
    assert (one.shares * direction).sum().item() == pytest.approx(slope, rel=2e-2, abs=1e-3)
    assert one.baseline_log_prob is None


@pytest.mark.parametrize(
    ("kind", "normalization"),
    [*product([LogMelConfig, MfccConfig, StoredConfig], ["utterance", "global", "none"]), (LogMelConfig, "speech")],
)
def test_any_features_can_be_looked_at(tmp_path: Path, kind: Any, normalization: str) -> None:
    deltas = {"deltas": 1 if normalization == "global" else 0}
    subject = subject_in(
        tmp_path, features=feature_config(kind, normalization=normalization, **deltas), bidirectional=False, factor=4
    )
    gates = gates_of(subject, [2])
    assert [each.name for each in gates] == ["2 forward"]
    assert max(each.deviation for each in gates) < 1e-5
    assert gradients_of(subject, [1])[1][0].tokens.shape == (4, len(subject.log_probs))
    assert saliency_of(subject, [1], 2)[0].shares.shape == subject.features.shape


def test_a_given_text_is_aligned_and_what_is_recognised_stays(tmp_path: Path) -> None:
    heard = subject_in(tmp_path, None)
    again = subject_in(tmp_path, heard.text)
    assert (again.tokens, again.frames) == (heard.tokens, heard.frames)
    other = subject_in(tmp_path, "b a")
    assert other.heard == heard.text
    assert sorted(other.frames) == list(other.frames)


def test_band_centres_are_those_of_the_filters(tmp_path: Path) -> None:
    subject = subject_in(tmp_path)
    filters = subject.model.features.front_end.bands
    hertz = torch.linspace(0, SAMPLE_RATE / 2, len(filters))
    peaks = hertz[filters.argmax(0)].numpy()
    assert subject.band_centres_hz is not None
    assert abs(subject.band_centres_hz - peaks).max() <= (hertz[1] - hertz[0]).item()


def test_what_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", torch.zeros(4000).numpy(), SAMPLE_RATE)
    soundfile.write(tmp_path / "long.wav", torch.ones(61 * SAMPLE_RATE).numpy() / 2, SAMPLE_RATE)
    recognizer = recognizer_of(small_model(features=feature_config(LogMelConfig)))
    with pytest.raises(AudioError, match="silent"):
        subject_of(recognizer, tmp_path / "silence.wav")
    with pytest.raises(AudioError, match="61 s long"):
        subject_of(recognizer, tmp_path / "long.wav")
    with pytest.raises(ConfigError, match="has no gates"):
        gates_of(subject_in(tmp_path, cell="rnn"), [1])
    with pytest.raises(TextError, match="needs 79 frames"):
        subject_in(tmp_path, "a" * 40)
    with pytest.raises(ConfigError, match="empty"):
        subject_in(tmp_path, " ")
    subject = subject_in(tmp_path)
    same = replace(subject, features=subject.features[:1].expand_as(subject.features))
    assert saliency_of(same, [1], 0)[0].shares.any()
    with pytest.raises(ConfigError, match="every frame is the same"):
        saliency_of(same, [1], 2)
    nothing = subject_in(tmp_path, None)
    object.__setattr__(nothing, "tokens", ())
    for look in (lambda: saliency_of(nothing, [1], 2), lambda: gradients_of(nothing, [1])):
        with pytest.raises(AudioError, match="--text"):
            look()


def test_the_first_panel_of_horizons_says_which_bars_are_which(tmp_path: Path) -> None:
    first, *others = _horizons(gates_of(subject_in(tmp_path), [1, 2]), DAY).axes
    legend = first.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["memory horizon", "longest hold"]
    assert [axis.get_legend() for axis in others] == [None] * 3
