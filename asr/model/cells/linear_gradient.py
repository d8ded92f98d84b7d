"""Any cell's recurrence with a gradient that is all but parallel: what is left to do frame by frame is linear.

A step is element-wise but for its products with the state: what comes out for a unit depends on the same unit of the states,
of the input product and of each block of the other products, so that each dependence is one number per unit and frame. For a
cell with one state and one product u = U h:

    g_{t-1} = d_{t-1} + J_t * g_t + U^T (K_t * g_t)        J_t = dh_t / dh_{t-1},  K_t = dh_t / du_t,  element-wise

with g_t the whole gradient of h_t, and d_t what comes from the output. J and K of all frames are taken by autograd at once,
from the cell's own `step`; then this recurrence runs; then, again at once, all else has its gradient from g.

On a GPU both loops, over `step` and over this recurrence, are CUDA graphs: a cell that somebody has just written needs no
line of its own there. On a CPU, autograd's own way through the frames takes less time.

Source: Werbos 1990, "Backpropagation through time: what it does and how to do it", for ordered derivatives.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.model.device import is_out_of_memory
from asr.model.frame_graph import NUM_FRAMES, FrameGraph, padded_batch
from asr.model.norm import SeparateNorms

if TYPE_CHECKING:
    from asr.model.cells.recurrent import RecurrentCell, States

_LOG = logging.getLogger(__name__)
_TRIED_FRAMES, _TRIED_UTTERANCES = NUM_FRAMES + 4, 2
# In double precision a right gradient is right to many digits; a GPU multiplies in TF32, of ten bits.
_EXACT, _ON_GPU = 1e-6, 0.01

Slopes = list[list[Tensor | None]]
"""For each of the results, and for what each product multiplies from the last to the first: by the states before and by the
products (S, B, blocks, H); None where it does not depend on them.
"""


@dataclass(eq=False)
class Known:
    """What was found out about a cell; a copy of the cell has to do so by itself.

    Attributes:
        output: which of a frame's results is the output; they are the states and, if it is none of them, the output.
        usable: whether its recurrence can be computed so; None: not tried.
        graphs: by what they were made for.
        weights: where these lay when the graphs were made.
    """

    output: int = 0
    usable: bool | None = None
    graphs: dict[Any, FrameGraph] = field(default_factory=dict)
    weights: tuple[int, ...] = ()

    def __reduce__(self) -> tuple[type[Known], tuple[()]]:
        """A graph can be neither copied nor sent."""
        return Known, ()


def takes(cell: RecurrentCell, projected: Tensor) -> bool:
    """Whether `recur` does it for these input products (S, B, ...): on a GPU, where it has proved right for `cell`."""
    if projected.device.type != "cuda" or torch.compiler.is_exporting() or len(projected) < NUM_FRAMES:
        return False
    if cell.known.usable is None:
        cell.known.usable = _is_usable(cell, projected)
    return cell.known.usable


def recur(cell: RecurrentCell, projected: Tensor, states: States) -> tuple[Tensor, States]:
    """Outputs (S, B, H) and last states, from input products (S, B, ...) and first states (B, H), as `step` gives them."""
    results: tuple[Tensor, ...] = _Recurrence.apply(cell, projected, len(states), *states, *cell.parameters())
    return results[cell.known.output], tuple(each[-1] for each in results[: len(states)])


def _is_usable(cell: RecurrentCell, projected: Tensor) -> bool:
    """Whether states and gradients are those of the loop over `step`, tried on a few random frames; told if not.

    In double precision on a CPU, which shows a step that is not element-wise; then on the device itself.
    """
    with torch.inference_mode(False), torch.enable_grad():
        exact = copy.deepcopy(cell).cpu().double()
        try:
            expected = _tried(exact, projected.shape[2], by_step=True)
            error, allowed = _error(_tried(exact, projected.shape[2]), expected), _EXACT
            if error <= allowed and projected.device.type != "cpu":
                error, allowed = _error(_tried(cell, projected.shape[2]), expected), _ON_GPU
            reason = f"is off by {error:.2g}"
        except Exception as failure:
            if is_out_of_memory(failure):
                raise  # with a smaller batch there may be room for it
            error, allowed, reason = math.inf, 0.0, f"cannot be computed ({failure})"
    if error <= allowed:
        return True
    _LOG.warning(
        "%s on %s: frame by frame and slow, since its gradient by a linear recurrence %s; a step should be element-wise "
        "but for its products",
        type(cell).__name__,
        projected.device,
        reason,
    )
    return False


def _tried(cell: RecurrentCell, width: int, *, by_step: bool = False) -> list[Tensor]:
    """Outputs, last states and all gradients for a few random frames, on a CPU."""
    weight = cell.weight_ih_l0
    drawn = torch.Generator().manual_seed(0)
    shapes = [(_TRIED_FRAMES, width), *((cell.hidden_size,) for _ in range(cell.num_states))]
    given = [
        torch.randn(*shape[:-1], _TRIED_UTTERANCES, shape[-1], generator=drawn, dtype=torch.float64)
        .to(weight)
        .requires_grad_()
        for shape in shapes
    ]
    outputs, states = (cell.loop if by_step else partial(recur, cell))(given[0], tuple(given[1:]))
    results = [outputs, *states]
    weights = [torch.randn(each.shape, generator=drawn, dtype=torch.float64).to(weight) for each in results]
    wanted = [*given, *(each for each in cell.parameters() if each.requires_grad)]
    gradients = torch.autograd.grad(results, wanted, weights, allow_unused=True, materialize_grads=True)
    return [each.detach().cpu().double() for each in (*results, *gradients)]


def _error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """By how much tensors differ at most, as part of the largest value of each; what is no number is infinitely wrong."""
    errors = [
        float((one - other).abs().max() / other.abs().max().clamp(min=1e-3))
        for one, other in zip(found, expected, strict=True)
    ]
    return max(math.inf if math.isnan(error) else error for error in errors)


class _Recurrence(torch.autograd.Function):
    """The results (S, B, H) of all frames, from input products, first states and all weights of a cell."""

    @staticmethod
    def forward(
        ctx: Any, cell: RecurrentCell, projected: Tensor, num_states: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        states = tensors[:num_states]
        results = _graph(cell, partial(_step_frames, cell), [projected], states, ())([projected], states)
        ctx.cell, ctx.num_states = cell, num_states
        ctx.save_for_backward(projected, *tensors, *results)
        ctx.num_results = len(results)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_results: Tensor) -> tuple[Tensor | None, ...]:
        projected, *tensors = ctx.saved_tensors
        tensors, results = tensors[: -ctx.num_results], tensors[-ctx.num_results :]
        before = [
            torch.cat([start[None], after[:-1]])
            for start, after in zip(tensors[: ctx.num_states], results, strict=False)
        ]
        d_states, d_projected, d_weights = _gradients(ctx.cell, projected, before, d_results)
        gradients = iter(d_weights)
        weights = [next(gradients) if each.requires_grad else None for each in ctx.cell.parameters()]
        return None, d_projected, None, *d_states, *weights


def _step_frames(cell: RecurrentCell, frames: Sequence[Tensor], states: Sequence[Tensor]) -> list[Tensor]:
    """The results of each frame, from input products (F, B, ...) and states (B, H)."""
    products = tuple(_StepProduct(*each) for each in cell.state_products())
    rows, states = [], tuple(states)
    for x in frames[0].unbind():
        output, states = cell.step(x, states, products)
        which, results = _results(output, states)
        rows.append(results)
    cell.known.output = which
    return [torch.stack(each) for each in zip(*rows, strict=True)]


def _results(output: Tensor, states: States) -> tuple[int, States]:
    """All that a frame results in, and which of it is the output."""
    for which, state in enumerate(states):
        if output is state:
            return which, states
    return len(states), (*states, output)


class _StepProduct:
    """norm(U v + c), and what of it a gradient needs later: `factor` v, `raw` before the norm and `result`."""

    factor: Tensor
    raw: Tensor
    result: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, norm: nn.Module) -> None:
        self.weight, self.bias, self.norm = weight, bias, norm

    def __call__(self, factor: Tensor) -> Tensor:
        self.factor = factor
        self.raw = nn.functional.linear(factor, self.weight, self.bias)
        self.result = self.norm(self.raw)
        return self.result

    def back(self, gradient: Tensor, raw: Tensor | None) -> Tensor:
        """The gradient (B, H) of what was multiplied, from that of the result (B, blocks * H) and `raw` under a norm."""
        return (gradient if raw is None else _through_norm(self.norm, gradient, raw)) @ self.weight


def _through_norm(norm: nn.Module, gradient: Tensor, raw: Tensor) -> Tensor:
    """The gradient of what `norm` was given, `raw`, from that of what it gave."""
    if isinstance(norm, SeparateNorms):
        parts = (torch.split(each, norm.widths, -1) for each in (gradient, raw))
        return torch.cat([_through_norm(*each) for each in zip(norm, *parts, strict=True)], -1)
    norm = cast(nn.LayerNorm, norm)
    _, mean, scale = torch.native_layer_norm(raw, norm.normalized_shape, None, None, norm.eps)
    rest = (norm.normalized_shape, mean, scale, norm.weight, norm.bias, [True, False, False])
    passed: Tensor = torch.ops.aten.native_layer_norm_backward(gradient, raw, *rest)[0]
    return passed


class _CutProduct(_StepProduct):
    """A product behind which autograd goes no further: what is made of it has its gradient with respect to `cut`."""

    cut: Tensor

    def __call__(self, factor: Tensor) -> Tensor:
        if "cut" in vars(self):
            raise TypeError("step calls a product more than once")
        self.cut = super().__call__(factor).detach().requires_grad_()
        return self.cut


def _gradients(
    cell: RecurrentCell, projected: Tensor, before: Sequence[Tensor], d_results: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Those of the first states, of the input products and of all weights that learn, from those of the results.

    The step of all frames is taken at once, as of one batch of S * B utterances, from the states (S, B, H) `before` each.
    """

    def unflat(rows: Tensor, *size: int) -> Tensor:
        return rows.detach().reshape(*projected.shape[:2], -1, *size)

    with torch.enable_grad():
        inputs, *states = (each.detach().flatten(0, 1).requires_grad_() for each in (projected, *before))
        products = [_CutProduct(*each) for each in cell.state_products()]
        _, results = _results(*cell.step(inputs, tuple(states), tuple(products)))
    columns = [*states, *(each.cut for each in products)]
    slopes: Slopes = []
    for row in (*results, *(each.factor for each in reversed(products))):
        found = torch.autograd.grad(row, columns, torch.ones_like(row), retain_graph=True, allow_unused=True)
        slopes.append([None if slope is None else unflat(slope, cell.hidden_size) for slope in found])
    d_rows = [each.unsqueeze(2) for each in d_results]
    raw = [unflat(each.raw) for each in products if _is_normed(each)]
    frames = [*(each for row in slopes for each in row if each is not None), *d_rows, *raw]
    present = tuple(tuple(each is not None for each in row) for row in slopes)
    nothing = [torch.zeros_like(d_rows[0][0]) for _ in before]
    run = partial(_linear_frames, cell, present)
    both = _graph(cell, run, frames, nothing, present)(frames, nothing)
    d_before, d_products = both[: len(nothing)], both[len(nothing) :]
    whole = [
        each if later is None else each + torch.cat([later[1:], torch.zeros_like(later[:1])])
        for each, later in zip(d_rows, [*d_before, *[None] * (len(d_rows) - len(d_before))], strict=True)
    ]
    targets = [*results, *(each.result for each in products)]
    d_targets = [each.reshape(target.shape) for each, target in zip([*whole, *d_products], targets, strict=True)]
    wanted = [inputs, *(each for each in cell.parameters() if each.requires_grad)]
    d_inputs, *d_weights = torch.autograd.grad(targets, wanted, d_targets, allow_unused=True, materialize_grads=True)
    return [each[0, :, 0] for each in d_before], unflat(d_inputs), d_weights


def _is_normed(product: _StepProduct) -> bool:
    if not isinstance(product.norm, nn.Identity | nn.LayerNorm | SeparateNorms):
        raise TypeError(f"a product under a {type(product.norm).__name__}")
    return not isinstance(product.norm, nn.Identity)


def _linear_frames(
    cell: RecurrentCell, present: Sequence[Sequence[bool]], frames: Sequence[Tensor], carried: Sequence[Tensor]
) -> list[Tensor]:
    """For each frame, from the last: the gradients of the states before it (B, 1, H), and of its products (B, blocks * H).

    `frames` are the slopes that are `present`, what comes from outside for each result (F, B, 1, H), and products before
    their norm; `carried` (B, 1, H) is what comes from the frame after.
    """
    products = [_StepProduct(*each) for each in cell.state_products()]
    num_states, num_results = len(carried), len(present) - len(products)
    rows: list[list[Tensor]] = []
    for row in reversed(list(zip(*(each.unbind() for each in frames), strict=True))):
        values = iter(row)
        slopes = [[next(values) if is_present else None for is_present in each] for each in present]
        gradients = [next(values) for _ in range(num_results)]
        raw = [next(values) if _is_normed(product) else None for product in products]
        gradients[:num_states] = [one + other for one, other in zip(gradients, carried, strict=False)]
        d_products: list[Tensor] = []
        for number in reversed(range(len(products))):
            width = len(products[number].weight) // cell.hidden_size
            gradient = _through(slopes, gradients, num_states + number).expand(-1, width, -1).flatten(1)
            d_products.insert(0, gradient)
            gradients.append(products[number].back(gradient, raw[number]).unsqueeze(1))
        carried = [_through(slopes, gradients, state) for state in range(num_states)]
        rows.append([*carried, *d_products])
    return [torch.stack(each[::-1]) for each in zip(*rows, strict=True)]


def _through(slopes: Slopes, gradients: Sequence[Tensor], column: int) -> Tensor:
    """The gradient of what `column` stands for: that of each row that depends on it, times how much."""
    total = None
    for row, gradient in zip(slopes, gradients, strict=False):
        slope = row[column]
        if slope is not None:
            total = slope * gradient if total is None else torch.addcmul(total, slope, gradient)
    return torch.zeros_like(gradients[0]) if total is None else total


def _graph(
    cell: RecurrentCell, run: Any, frames: Sequence[Tensor], carried: Sequence[Tensor], present: tuple[Any, ...]
) -> FrameGraph:
    """The graph of `run`, made once for tensors of these widths at these weights; backwards if slopes are `present`."""
    weights = tuple(each.data_ptr() for each in cell.parameters())
    if weights != cell.known.weights:
        cell.known.weights = weights
        cell.known.graphs.clear()
    widths = tuple(each.shape[2:] for each in frames)
    key = (present, padded_batch(frames[0].shape[1]), widths, torch.get_float32_matmul_precision())
    if key not in cell.known.graphs:
        cell.known.graphs[key] = FrameGraph(run, frames, carried, backwards=bool(present))
    return cell.known.graphs[key]
