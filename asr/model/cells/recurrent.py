"""What all cells written from their equations share: one input product per layer, a loop over frames, cheap gradients."""

from __future__ import annotations

import copy
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.model.cells import linear_gradient
from asr.model.device import full_precision, product_type
from asr.model.norm import SeparateNorms, normalize

State = Tensor | tuple[Tensor, ...]
States = tuple[Tensor, ...]
Product = Callable[[Tensor], Tensor]

_LOG = logging.getLogger(__name__)
# What rounding may do to the states of a compiled form, and how much is tried; a leaky rectifier is above it.
_TOLERANCE, _TRIED_FRAMES, _TRIED_UTTERANCES = 1e-4, 4, 8
# Trained weights make more of rounding in loud utterances, where gates are steep: so many times what it does to equations
# whose frames are nudged by some units in the last place.
_NUDGE, _NUM_NUDGES, _TIMES_NUDGED = 5e-7, 4, 30


class RecurrentCell(nn.Module):
    """Frames (S, B, I) to outputs (S, B, H) and the state after the last frame; a subclass gives the equations of one frame.

    The names and shapes of the weights are those of torch's one-layer modules, so that weights can be exchanged where the
    equations are the same: the rows of `weight_ih_l0` (gates * H, I) are the gates' blocks one after the other. So is the
    state: (1, B, H), or a pair of these.

    Attributes:
        gates: blocks of H rows in the input weights.
        products: for each product with the state that a frame needs, the blocks of `weight_hh_l0` that take part.
        normed: the blocks of each layer normalisation inside, if there are several; a product of other blocks has one.
        num_states: tensors that make up the state.
        has_bias: whether the products have biases of their own.
        keep_gate: the block of the gate that decides how much of the state is kept, and whether a bias above 0 keeps more
            of it (1) or less (-1); None without such a gate.
        padding: what a batch norm puts in the place of the input product behind an utterance's end.
        known: what was found out about this cell on a GPU.
    """

    gates: ClassVar[int]
    products: ClassVar[tuple[int, ...]]
    normed: ClassVar[tuple[int, ...]] = ()
    num_states: ClassVar[int] = 1
    has_bias: ClassVar[bool] = True
    keep_gate: ClassVar[tuple[int, int] | None] = None
    padding: ClassVar[float] = 0.0

    def __init_subclass__(cls) -> None:
        """A class with a `step` of its own runs it: what it is derived from may be compiled, of other equations."""
        super().__init_subclass__()
        if "step" in vars(cls) and "recur" not in vars(cls):
            cls.recur = RecurrentCell.recur  # type: ignore[method-assign]

    def __init__(self, input_size: int, hidden_size: int, *, layer_norm: bool = False) -> None:
        """Weights drawn as torch draws them, uniformly within 1 / sqrt(H).

        With `layer_norm` each product, of the input and of the state, biases included, is normalised with learnt scales and
        offsets: where there is a candidate, it by itself and the gates together, so that its size is none of theirs; in an
        LSTM all four together, and not the memory. Source: Ba et al. 2016, "Layer Normalization", arXiv:1607.06450,
        equations 26 and 27, a GRU's, and 20, an LSTM's (whose biases are none or stand behind the norm); others by analogy.
        """
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        recurrent = sum(self.products)
        self.weight_ih_l0 = self.uniform(self.gates, input_size)
        if recurrent:
            self.weight_hh_l0 = self.uniform(recurrent, hidden_size)
        self.bias_ih_l0 = self.uniform(self.gates) if self.has_bias else None
        self.bias_hh_l0 = self.uniform(recurrent) if self.has_bias and recurrent else None
        self.norm_ih = self.make_input_norm(layer_norm)
        self.norms_hh = nn.ModuleList(self.make_norm(blocks, layer_norm) for blocks in self.products)
        self.known = linear_gradient.Known()
        self._is_compiled_right: bool | None = None

    def uniform(self, blocks: int, *columns: int) -> nn.Parameter:
        """A learnt tensor of `blocks` times H rows, drawn as torch draws the weights of its cells."""
        bound = 1 / math.sqrt(self.hidden_size)
        return nn.Parameter(torch.empty(blocks * self.hidden_size, *columns).uniform_(-bound, bound))

    def make_input_norm(self, layer_norm: bool) -> nn.Module:
        """What normalises the input product."""
        return self.make_norm(self.gates, layer_norm)

    def make_norm(self, blocks: int, layer_norm: bool) -> nn.Module:
        """What normalises a product of so many blocks."""
        if not layer_norm:
            return nn.Identity()
        if sum(self.normed) == blocks:
            return SeparateNorms([part * self.hidden_size for part in self.normed])
        return nn.LayerNorm(blocks * self.hidden_size)

    @property
    def offsets(self) -> list[Tensor]:
        """What is added to each block of the input product of every frame (H); under norms, their offsets."""
        of_norms = [value for name, value in self.norm_ih.named_parameters() if name.endswith("bias")]
        values = of_norms or ([] if self.bias_ih_l0 is None else [self.bias_ih_l0])
        return [block for value in values for block in torch.split(value, self.hidden_size)]

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """The output (B, H) and the states (B, H) after one frame: the cell's equations.

        `x` (B, gates * H) is the frame's input product, `states` (B, H) those after the frame before; each of `products`
        maps (B, H) to U h + c, the blocks of `self.products` side by side, and must be called once.
        """
        raise NotImplementedError

    def forward(self, frames: Tensor, state: State | None = None, mask: Tensor | None = None) -> tuple[Tensor, State]:
        """Outputs (S, B, H) of `frames` (S, B, I) from `state` on, and the state after the last frame; no state is zeros.

        `mask` (S, B) is True on valid frames; only statistics over a batch need it. Under autocast the input product is in
        half precision, the states never: rounding errors would add up over time.
        """
        projected = self.project(frames, mask)
        half = product_type(frames.device)
        with full_precision(frames.device.type):
            outputs, states = self.recur(projected, self._states_of(state, projected), half)
        final = tuple(value[None] for value in states)
        return outputs, final if self.num_states > 1 else final[0]

    def project(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        """The input product (S, B, gates * H) of all `frames` (S, B, I) at once."""
        projected = nn.functional.linear(frames, self.weight_ih_l0, self.bias_ih_l0)
        return normalize(self.norm_ih, projected, mask, padding=self.padding)

    def recur(
        self, projected: Tensor, states: States, product_type: torch.dtype = torch.float32
    ) -> tuple[Tensor, States]:
        """Outputs (S, B, H) and the last states, from input products (S, B, gates * H) and first states.

        Products with the state may round their factors to `product_type`, where that is faster. On a GPU without waiting for
        Python, where the step allows for it.
        """
        projected = projected.to(self.weight_ih_l0.dtype)
        if linear_gradient.takes(self, projected):
            return linear_gradient.recur(self, projected, states)
        return self.loop(projected, states)

    def loop(self, projected: Tensor, states: States) -> tuple[Tensor, States]:
        """What `recur` gives, by one call of `step` after the other."""
        products = tuple(_StateProduct(*each, *projected.shape[:2]) for each in self.state_products())
        outputs = []
        for x in projected.unbind():
            output, states = self.step(x, states, products)
            outputs.append(output)
        for product in products:
            product.finish()
        return torch.stack(outputs), states

    def agrees(self, compiled: Callable[[Any, Tensor, States], Tensor]) -> bool:
        """Whether `compiled`, a method as `recur` that gives outputs alone, gives those of `step`, which anybody may edit.

        Asked once, with a few random frames from faint to loud; told where it does not. On a CPU, as there all is in full
        precision. A norm that learns within the recurrent product, which `compiled` knows nothing of, has been asked for and
        needs no telling.
        """
        if [*self.norms_hh.parameters()]:
            return False
        if torch.compiler.is_exporting():
            return True
        if self._is_compiled_right is None:
            cell = self if self.weight_ih_l0.device.type == "cpu" else copy.deepcopy(self).cpu()
            error = cell._error_of(compiled)
            self._is_compiled_right = error == 0
            if not self._is_compiled_right:
                _LOG.warning(
                    "%s: its equations are not those of its compiled form (states differ by up to %.2g of their size), so "
                    "they run frame by frame, which is slower",
                    type(self).__name__,
                    error,
                )
        return self._is_compiled_right

    @torch.no_grad()
    def _error_of(self, compiled: Callable[[Any, Tensor, States], Tensor]) -> float:
        """By how much `compiled` differs from `step`, as part of the largest output of the same utterance; 0 by rounding."""
        drawn, weight = torch.Generator().manual_seed(0), self.weight_ih_l0
        loudness = 10 ** torch.linspace(-1, 1.5, _TRIED_UTTERANCES).to(weight)[:, None]
        shape = (_TRIED_FRAMES, _TRIED_UTTERANCES, len(weight))
        frames = loudness * torch.randn(shape, generator=drawn).to(weight)
        states = tuple(
            loudness * torch.randn(_TRIED_UTTERANCES, self.hidden_size, generator=drawn).to(weight)
            for _ in range(self.num_states)
        )
        expected, _ = self.loop(frames, states)
        largest = expected.abs().amax((0, 2)).clamp(min=1e-3)

        def difference(outputs: Tensor) -> Tensor:
            return (outputs - expected).abs().amax((0, 2)) / largest

        nudges = (1 + _NUDGE * torch.randn(shape, generator=drawn).to(weight) for _ in range(_NUM_NUDGES))
        nudged = [difference(self.loop(frames * nudge, states)[0]) for nudge in nudges]
        allowed = _TOLERANCE + _TIMES_NUDGED * torch.stack(nudged).amax(0)
        found = difference(compiled(self, frames, states))
        return float(torch.where(found <= allowed, 0.0, found).max())

    def _states_of(self, state: State | None, projected: Tensor) -> States:
        dtype = self.weight_ih_l0.dtype
        if state is None:
            return (projected.new_zeros(projected.shape[1], self.hidden_size, dtype=dtype),) * self.num_states
        return tuple(value[0].to(dtype) for value in (state if isinstance(state, tuple) else (state,)))

    def state_products(self) -> list[tuple[Tensor, Tensor | None, nn.Module]]:
        """U, c and the normalisation of each product with the state that a frame needs."""
        if not self.products:
            return []
        rows = [blocks * self.hidden_size for blocks in self.products]
        weights = torch.split(self.weight_hh_l0, rows)
        biases = [None] * len(rows) if self.bias_hh_l0 is None else torch.split(self.bias_hh_l0, rows)
        return list(zip(weights, biases, self.norms_hh, strict=True))


class _StateProduct:
    """norm(U h + c) at each frame of a sequence in turn; the gradient of U, the same for all frames, is one product.

    Autograd would make it frame by frame, which is most of the time of a backward pass: many small products, each added to
    a matrix as large as U. Instead each frame multiplies with a U without gradient and adds its row of `offsets`: c, which
    does have a gradient. Those of all frames arrive at `_Offsets` together.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, norm: nn.Module, num_steps: int, batch: int) -> None:
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        self._weight, self._norm = weight.detach().t(), norm
        self._num_steps, self._num_calls = num_steps, 0
        self._seen: list[Tensor] | None = None
        self._versions: list[int] = []
        self._offsets: Iterator[Tensor] = itertools.repeat(bias)
        if torch.is_grad_enabled() and (weight.requires_grad or bias.requires_grad):
            self._seen = []
            self._offsets = iter(_Offsets.apply(weight, bias, self._seen, num_steps, batch).unbind())

    def __call__(self, h: Tensor) -> Tensor:
        self._num_calls += 1
        if self._num_calls > self._num_steps:
            self.finish()
        if self._seen is not None:
            self._seen.append(h.detach())
            self._versions.append(h._version)
        product: Tensor = self._norm(torch.addmm(next(self._offsets), h, self._weight))
        return product

    def finish(self) -> None:
        """Complains of a `step` that is not written as it has to be, which would give wrong gradients."""
        if self._num_calls != self._num_steps:
            raise TypeError(
                f"step must call each product once, found {self._num_calls} calls or more in {self._num_steps} frames: a "
                "further product with the state needs a number of its own in `products`"
            )
        # What is kept for the gradient is the factor itself, and not through autograd, which would look at this.
        if self._versions != [h._version for h in self._seen or ()]:
            raise TypeError("step must not write into what it multiplies: its gradient needs that; make a new tensor")


class _Offsets(torch.autograd.Function):
    """The bias (J) of a product with weight (J, K) for each frame and utterance: (S, B, J), without taking memory.

    Its gradient is that of the products, and with their other factors, `seen`, gives the gradient of the weight.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, seen: list[Tensor], num_steps: int, batch: int) -> Tensor:
        ctx.seen = seen
        return bias.expand(num_steps, batch, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_products: Tensor) -> tuple[Tensor | None, ...]:
        d_rows = d_products.flatten(0, 1)
        d_weight = d_rows.t() @ torch.cat(ctx.seen) if ctx.needs_input_grad[0] else None
        return d_weight, d_rows.sum(0), None, None, None


@torch.no_grad()
def with_weights(cell: RecurrentCell, **values: object) -> RecurrentCell:
    """`cell` with the named parameters at `values` and all other weights and biases at 0: for examples worked by hand."""
    for name, parameter in cell.named_parameters():
        if name in values or not name.startswith("norm"):
            parameter.copy_(torch.as_tensor(values.get(name, 0.0)))
    return cell
