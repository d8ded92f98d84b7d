"""Recurrent cells: each against its equations written a second time, options of cells and layers, minGRU's scan."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from ragged import encoder_config, ragged_features, shaken
from torch import Tensor, nn

from asr.config import validated
from asr.errors import ConfigError
from asr.lengths import valid_mask
from asr.model import CELLS, Encoder, EncoderConfig
from asr.model.blocks import reversed_frames
from asr.model.cells import RecurrentCell, equations, make_cell
from asr.model.cells.elementwise import scan

Vectors = list[Tensor]
SIZE = 4


def sigma(value: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-value))


def product(cell: nn.Module, gate: int, h: Tensor) -> Tensor:
    rows = slice(gate * SIZE, (gate + 1) * SIZE)
    return cell.weight_hh_l0[rows] @ h + (0 if cell.bias_hh_l0 is None else cell.bias_hh_l0[rows])


def rnn(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    h = torch.tanh(x[0] + product(cell, 0, h))
    return [h, h]


def gru(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    r, z = (sigma(x[gate] + product(cell, gate, h)) for gate in (0, 1))
    n = torch.tanh(x[2] + r * product(cell, 2, h))
    return [(1 - z) * n + z * h] * 2


def gru_reset_before(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    r, z = (sigma(x[gate] + product(cell, gate, h)) for gate in (0, 1))
    n = torch.tanh(x[2] + product(cell, 2, r * h))
    return [(1 - z) * n + z * h] * 2


def gru_peephole(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    r, z = (
        sigma(x[gate] + product(cell, gate, h) + torch.diag(cell.weight_peephole.chunk(2)[gate]) @ h) for gate in (0, 1)
    )
    n = torch.tanh(x[2] + r * product(cell, 2, h))
    return [(1 - z) * n + z * h] * 2


def gru_peephole_candidate(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    p_r, p_z, p_n = (torch.diag(part) @ h for part in cell.weight_peephole.chunk(3))
    r, z = sigma(x[0] + product(cell, 0, h) + p_r), sigma(x[1] + product(cell, 1, h) + p_z)
    n = torch.tanh(x[2] + r * product(cell, 2, h) + p_n)
    return [(1 - z) * n + z * h] * 2


def gru_adaptive(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    slope_r, slope_z, bias_r, bias_z = x[-1]
    r = sigma(torch.log(1 + torch.exp(slope_r)) * (x[0] + product(cell, 0, h)) + bias_r)
    z = sigma(torch.log(1 + torch.exp(slope_z)) * (x[1] + product(cell, 1, h)) + bias_z)
    n = torch.tanh(x[2] + r * product(cell, 2, h))
    return [(1 - z) * n + z * h] * 2


def mgu(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    f = sigma(x[0] + product(cell, 0, h))
    return [(1 - f) * h + f * torch.tanh(x[1] + product(cell, 1, f * h))] * 2


def lstm(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    take, forget, new, give = (x[gate] + product(cell, gate, h) for gate in range(4))
    c = sigma(forget) * c + sigma(take) * torch.tanh(new)
    return [sigma(give) * torch.tanh(c), c]


def lstm_peephole(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    take, forget, new, give = (x[gate] + product(cell, gate, h) for gate in range(4))
    p_take, p_forget, p_give = (torch.diag(part) for part in cell.weight_peephole.chunk(3))
    after = sigma(forget + p_forget @ c) * c + sigma(take + p_take @ c) * torch.tanh(new)
    return [sigma(give + p_give @ after) * torch.tanh(after), after]


def batch_normed(cell: nn.Module, x: Vectors) -> Vectors:
    norm = cell.norm_ih
    scaled = (torch.cat(x[:2]) - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps)
    return list((scaled * norm.weight + norm.bias).chunk(2))


def ligru(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    a, z = (part + product(cell, gate, h) for gate, part in enumerate(batch_normed(cell, x)))
    return [sigma(z) * h + (1 - sigma(z)) * a.clamp(min=0)] * 2


def sligru(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    u = cell.weight_hh_l0 @ h
    u = (u - u.mean()) / torch.sqrt(u.var(correction=0) + 1e-5)
    a, z = (part + of_state for part, of_state in zip(batch_normed(cell, x), u.chunk(2), strict=True))
    return [sigma(z) * h + (1 - sigma(z)) * a.clamp(min=0)] * 2


def mingru(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    n = torch.where(x[1] >= 0, x[1] + 0.5, sigma(x[1]))
    return [(1 - sigma(x[0])) * h + sigma(x[0]) * n] * 2


def sru(cell: nn.Module, x: Vectors, h: Tensor, c: Tensor) -> Vectors:
    v_f, v_r = cell.weight_state.chunk(2)
    f, r = sigma(x[1] + v_f * c), sigma(x[2] + v_r * c)
    after = f * c + (1 - f) * x[0]
    return [r * after + (1 - r) * x[3], after]


EQUATIONS: dict[str, Callable[[nn.Module, Vectors, Tensor, Tensor], Vectors]] = {
    "rnn": rnn,
    "rnn_reference": rnn,
    "gru": gru,
    "gru_reference": gru,
    "gru_reset_before": gru_reset_before,
    "gru_peephole": gru_peephole,
    "gru_peephole_candidate": gru_peephole_candidate,
    "gru_adaptive": gru_adaptive,
    "mgu": mgu,
    "lstm": lstm,
    "lstm_reference": lstm,
    "lstm_peephole": lstm_peephole,
    "ligru": ligru,
    "sligru": sligru,
    "mingru": mingru,
    "sru": sru,
}


@pytest.mark.parametrize("name", sorted(CELLS))
def test_a_cell_runs_the_written_equations(name: str) -> None:
    cell = shaken(CELLS[name](3, SIZE)).double().eval()
    frames = torch.randn(6, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    state, expected = [torch.zeros(SIZE, dtype=torch.float64)] * 2, []
    for frame in frames[:, 0]:
        projected = cell.weight_ih_l0 @ frame + (0 if cell.bias_ih_l0 is None else cell.bias_ih_l0)
        x = list(projected.split(SIZE))
        if name == "gru_adaptive":
            x.append(cell.weight_adapt @ frame + cell.bias_adapt)
        state = EQUATIONS[name](cell, x, *state)
        expected.append(state[0])
    torch.testing.assert_close(cell(frames)[0][:, 0], torch.stack(expected))


def test_the_other_convention_of_the_update_gate_is_the_negated_gate() -> None:
    """Chung et al. 2014: h = (1 - z) h + z n."""
    cell = shaken(CELLS["gru_reset_before"](3, SIZE)).double()
    frames = torch.randn(5, 1, 3, dtype=torch.float64)
    expected, _ = cell(frames)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter[SIZE : 2 * SIZE].neg_()
    h, found = torch.zeros(SIZE, dtype=torch.float64), []
    for frame in frames[:, 0]:
        x_r, x_z, x_n = (cell.weight_ih_l0 @ frame + cell.bias_ih_l0).split(SIZE)
        r, z = sigma(x_r + product(cell, 0, h)), sigma(x_z + product(cell, 1, h))
        h = (1 - z) * h + z * torch.tanh(x_n + product(cell, 2, r * h))
        found.append(h)
    torch.testing.assert_close(torch.stack(found), expected[:, 0])


def test_weights_without_gradient_stay_without_and_let_it_pass() -> None:
    cell = CELLS["gru_reference"](3, SIZE).requires_grad_(False)
    frames = torch.randn(5, 2, 3, requires_grad=True)
    cell(frames)[0].sum().backward()
    assert frames.grad is not None
    assert all(parameter.grad is None for parameter in cell.parameters())


# minGRU


@pytest.mark.parametrize("length", [1, 2, 3, 8, 33, 700])
def test_the_parallel_scan_of_mingru_is_its_steps_one_by_one(length: int) -> None:
    cell = shaken(CELLS["mingru"](3, SIZE))
    generator = torch.Generator().manual_seed(3)
    frames, start = torch.randn(length, 2, 3, generator=generator), torch.rand(1, 2, SIZE, generator=generator)
    parallel = cell(frames, start)
    stepwise = RecurrentCell.recur(cell, cell.project(frames, None), (start[0],))
    torch.testing.assert_close(parallel[0], stepwise[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parallel[1][0], stepwise[1][0], rtol=1e-5, atol=1e-6)
    found, expected = (
        torch.autograd.grad(outputs.square().mean(), list(cell.parameters())) for outputs in (parallel[0], stepwise[0])
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_scan_is_that_of_the_paper_in_log_space() -> None:
    """Feng et al. 2024, appendix B: cumulative sums of logarithms, which need 64 bits at such a length."""
    generator = torch.Generator().manual_seed(4)
    logits, values = torch.randn(2, 500, 3, dtype=torch.float64, generator=generator)
    values = values.exp()
    kept = (-nn.functional.softplus(logits)).cumsum(0)
    log_values = -nn.functional.softplus(-logits) + values.log()
    expected = (kept + torch.logcumsumexp(log_values - kept, 0)).exp()
    torch.testing.assert_close(scan(sigma(-logits), sigma(logits) * values), expected)


def test_mingru_takes_gates_that_are_wide_open_or_shut() -> None:
    cell = CELLS["mingru"](1, 1)
    frames = torch.tensor([1e4, -1e4, 0.0, 1e4]).repeat(100).reshape(-1, 1, 1).requires_grad_()
    outputs, _ = cell(frames)
    outputs.sum().backward()
    assert torch.isfinite(outputs).all()
    assert torch.isfinite(frames.grad).all()


# Batch statistics inside light GRUs


@pytest.mark.parametrize("cell", ["ligru", "sligru"])
def test_statistics_of_light_grus_are_those_of_valid_frames(cell: str) -> None:
    layer = Encoder(encoder_config(cell=cell, norm="none", num_layers=1), num_features=8).layers[0].train()
    hidden, lengths = ragged_features([9, 4, 1, 7], 12)
    layer(hidden.transpose(0, 1), valid_mask(lengths, 9).T, reversed_frames(lengths, 9))
    for direction in layer.directions:
        valid = (hidden @ direction.weight_ih_l0.T)[valid_mask(lengths, 9)]
        torch.testing.assert_close(direction.norm_ih.running_mean, 0.1 * valid.mean(0))


# Options


def test_layer_norm_inside_normalises_both_products() -> None:
    cell = make_cell("rnn", 3, SIZE, layer_norm=True)
    shaken(cell)
    x, h = torch.randn(3), torch.randn(SIZE)
    of_input = nn.functional.layer_norm(
        cell.weight_ih_l0 @ x + cell.bias_ih_l0, (SIZE,), cell.norm_ih.weight, cell.norm_ih.bias
    )
    norm = cell.norms_hh[0]
    of_state = nn.functional.layer_norm(cell.weight_hh_l0 @ h + cell.bias_hh_l0, (SIZE,), norm.weight, norm.bias)
    found, _ = cell(x[None, None], h[None, None])
    torch.testing.assert_close(found[0, 0], torch.tanh(of_input + of_state))


def normalised(values: Tensor, norm: nn.LayerNorm) -> Tensor:
    deviations = values - values.mean()
    return deviations / torch.sqrt(deviations.square().mean() + 1e-5) * norm.weight + norm.bias


def test_the_layer_normalised_gru_is_the_published_one() -> None:
    """Ba et al. 2016, equations 26 to 28: two norms of both gates together, two of the candidate; no biases in the products.

    There z near 1 forgets, so that it is negated here, as in the authors' program (`lngru_layer`).
    """
    cell = shaken(make_cell("gru", 3, SIZE, layer_norm=True)).double()
    nn.init.zeros_(cell.bias_ih_l0)
    nn.init.zeros_(cell.bias_hh_l0)
    (w_gates, w), (u_gates, u) = (
        (each[: 2 * SIZE], each[2 * SIZE :]) for each in (cell.weight_ih_l0, cell.weight_hh_l0)
    )
    of_x_gates, of_x = cell.norm_ih
    of_h_gates, of_h = cell.norms_hh[0]
    frames, h = torch.randn(5, 3, dtype=torch.float64), torch.randn(SIZE, dtype=torch.float64)
    found, _ = cell(frames[:, None], h[None, None])
    expected = []
    for x in frames:
        r, keep = (normalised(u_gates @ h, of_h_gates) + normalised(w_gates @ x, of_x_gates)).chunk(2)
        candidate = torch.tanh(normalised(w @ x, of_x) + sigma(r) * normalised(u @ h, of_h))
        z = sigma(-keep)
        h = (1 - z) * h + z * candidate
        expected.append(h)
    torch.testing.assert_close(found[:, 0], torch.stack(expected))


# Blocks that have a norm together, in the order of the weights: in an LSTM all of them (Ba et al. 2016, equation 20).
NORMED_TOGETHER = {
    **dict.fromkeys(("gru", "gru_reset_before", "gru_peephole", "gru_peephole_candidate", "gru_adaptive"), (2, 1)),
    **dict.fromkeys(("ligru", "mgu", "mingru"), (1, 1)),
    "sru": (1, 2, 1),
    **dict.fromkeys(("lstm", "lstm_peephole"), (4,)),
    "rnn": (1,),
}


@pytest.mark.parametrize(("name", "blocks"), NORMED_TOGETHER.items())
def test_under_layer_norm_inside_the_scale_of_a_candidate_is_no_matter_of_the_gates(
    name: str, blocks: tuple[int, ...]
) -> None:
    """A norm takes the scale out of what it is given, so that nothing depends on it; one of more would pass it on."""
    cell = shaken(make_cell(name, 3, SIZE, layer_norm=True)).double()
    frames = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected, _ = cell(frames)
    products = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    for part in range(len(blocks)):
        louder = copy.deepcopy(cell)
        for product_name, rows in louder.named_parameters():
            if product_name in products:
                torch.split(rows.detach(), [SIZE * count for count in blocks])[part].mul_(20)
        torch.testing.assert_close(louder(frames)[0], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["ligru", "sligru"])
def test_layer_norm_inside_takes_the_place_of_batch_normalisation(name: str) -> None:
    cell = shaken(make_cell(name, 3, SIZE, layer_norm=True))
    x, h = torch.randn(3), torch.rand(SIZE)
    of_input, of_state = cell.weight_ih_l0 @ x, cell.weight_hh_l0 @ h
    normed = [normalised(*each) for each in zip(of_input.chunk(2), cell.norm_ih, strict=True)]
    if name == "sligru":  # what keeps its state bounded has no scale to learn
        assert not [*cell.norms_hh.parameters()]
        normed_state = nn.functional.layer_norm(of_state, (2 * SIZE,)).chunk(2)
    else:
        normed_state = [normalised(*each) for each in zip(of_state.chunk(2), cell.norms_hh[0], strict=True)]
    a, z = (one + other for one, other in zip(normed, normed_state, strict=True))
    found, _ = cell(x[None, None], h[None, None])
    torch.testing.assert_close(found[0, 0], sigma(z) * h + (1 - sigma(z)) * a.clamp(min=0))


@pytest.mark.parametrize("name", ["mingru", "sru"])
def test_layer_norm_inside_normalises_the_only_product(name: str) -> None:
    cell = shaken(make_cell(name, 3, SIZE, layer_norm=True))
    x, state = torch.randn(3), torch.rand(SIZE)
    parts = torch.split(cell.weight_ih_l0 @ x + cell.bias_ih_l0, [SIZE * count for count in NORMED_TOGETHER[name]])
    normed = torch.cat([normalised(*each) for each in zip(parts, cell.norm_ih, strict=True)])
    found, _ = cell(x[None, None], state[None, None])
    torch.testing.assert_close(found[0, 0], EQUATIONS[name](cell, list(normed.split(SIZE)), state, state)[0])


@pytest.mark.parametrize("name", sorted(CELLS))
def test_layer_norm_inside_trains_every_weight(name: str) -> None:
    encoder = shaken(Encoder(encoder_config(cell=name, cell_norm=True), num_features=8))
    hidden, _ = encoder(*ragged_features([9, 5], 8))
    hidden.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.layers.parameters())


@pytest.mark.parametrize("name", sorted(name for name in CELLS if equations(name).products))
def test_orthogonal_weights_are_so_gate_by_gate(name: str) -> None:
    cell = make_cell(name, 3, SIZE, orthogonal=True)
    for block in cell.weight_hh_l0.detach().split(SIZE):
        torch.testing.assert_close(block @ block.T, torch.eye(SIZE), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("name", sorted(name for name in CELLS if equations(name).keep_gate))
def test_a_gate_bias_keeps_the_state_for_longer(name: str, layer_norm: bool) -> None:
    """By what the last state owes to the first: the state itself may stay near 1 because new ones are near 1 too."""
    slopes = []
    for gate_bias in (0.0, 4.0):
        cell = make_cell(name, 3, 64, layer_norm=layer_norm, gate_bias=gate_bias).eval()
        ones = torch.ones(1, 1, 64, requires_grad=True)
        _, state = cell(torch.zeros(3, 1, 3), (ones, ones) if equations(name).num_states == 2 else ones)
        last = state[-1] if isinstance(state, tuple) else state
        slopes.append(torch.autograd.grad(last.sum(), ones)[0].mean().item())
    assert slopes[1] > slopes[0] + 0.3


@pytest.mark.parametrize("name", sorted(CELLS))
def test_learnt_initial_states_start_at_zero_and_learn(name: str) -> None:
    config = encoder_config(cell=name, initial_state="learnt", num_layers=1)
    encoder = Encoder(config, num_features=8)
    plain = Encoder(encoder_config(cell=name, num_layers=1), num_features=8)
    plain.load_state_dict(
        {key: value for key, value in encoder.state_dict().items() if key.split(".")[-2] != "initial"}
    )
    batch = ragged_features([9, 5], 8)
    hidden, _ = encoder.eval()(*batch)
    torch.testing.assert_close(hidden, plain.eval()(*batch)[0], atol=1e-5, rtol=0)
    hidden.square().sum().backward()
    assert [value.numel() for value in encoder.layers[0].initial] == [6 * equations(name).num_states] * 2
    assert all(value.grad.abs().sum() > 0 for value in encoder.layers[0].initial)


def test_a_learnt_initial_state_does_not_depend_on_padding() -> None:
    encoder = shaken(Encoder(encoder_config(initial_state="learnt"), num_features=8)).eval()
    features, num_frames = ragged_features([9, 5], 8)
    together = encoder(features, num_frames)[0]
    alone = encoder(features[1:, :5], num_frames[1:])[0]
    valid = alone.shape[1]
    torch.testing.assert_close(together[1, :valid], alone[0], atol=1e-5, rtol=0)


def test_a_highway_weighs_input_against_output() -> None:
    highway = shaken(Encoder(encoder_config(norm="none", num_layers=1, highway=True), num_features=8)).layers[0].eval()
    plain = Encoder(encoder_config(norm="none", num_layers=1, residual=False), num_features=8).layers[0].eval()
    weights = highway.state_dict()
    plain.load_state_dict({name: value for name, value in weights.items() if not name.startswith("highway")})
    hidden = torch.randn(7, 2, 12, generator=torch.Generator().manual_seed(1))
    arguments = (hidden, torch.ones(7, 2, dtype=torch.bool), torch.arange(7).flip(0)[:, None].expand(7, 2))
    gate = sigma(hidden @ weights["highway.weight"].T + weights["highway.bias"])
    torch.testing.assert_close(highway(*arguments), gate * plain(*arguments) + (1 - gate) * hidden)


def test_in_half_precision_what_passes_the_layers_is_whole() -> None:
    """Rounded at every layer, the frames of a deep encoder would be further off with each."""
    for changes in ({"highway": True}, {"residual": True}):
        layer = Encoder(encoder_config(num_layers=1, **changes), num_features=8).layers[0].eval()
        hidden = torch.randn(7, 2, 12, generator=torch.Generator().manual_seed(1)).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(hidden, torch.ones(7, 2, dtype=torch.bool), torch.arange(7).flip(0)[:, None].expand(7, 2))
        assert found.dtype == torch.float32


def test_a_highway_lets_the_input_pass_at_first() -> None:
    layer = Encoder(encoder_config(highway=True), num_features=8).layers[0]
    assert torch.sigmoid(layer.highway.bias).mean().item() == pytest.approx(1 / (1 + math.e))


def test_options_at_their_defaults_add_no_weights() -> None:
    """Checkpoints from before the options load as they are."""
    names = {name.removeprefix("layers.0.") for name in Encoder(encoder_config(num_layers=1), 8).layers.state_dict()}
    assert {name.removeprefix("0.").split(".")[0] for name in names} == {"norm", "directions"}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"cell": "mingru", "recurrent_init": "orthogonal"}, "cell 'mingru' has no weights between its units$"),
        ({"cell": "rnn", "gate_bias": 1.0}, "gate_bias: cell 'rnn' has no gate that keeps the state$"),
        ({"residual": False, "highway": True}, "highway: a highway takes the place of the residual connection"),
        ({"initial_state": "random"}, "initial_state: input should be 'zero' or 'learnt', found 'random'"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as refusal:
        validated(EncoderConfig, settings, where="test")
    assert "\n" not in str(refusal.value)
