"""Cells whose units see of the state only their own: no product with the state, so little to wait for.

Letters as in `simple.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.model.cells.recurrent import Product, RecurrentCell, States


class MinGRU(RecurrentCell):
    """GRU whose gate and candidate do not see the state, so that all frames are computed at once.

        z_t = sigma(W_z x_t + b_z)
        n_t = g(W_n x_t + b_n),    g(a) = a + 1/2 for a >= 0, sigma(a) below: positive, as the paper's logarithms ask for
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t                          z_t near 1 forgets

    Source: Feng et al. 2024, "Were RNNs All We Needed?", arXiv:2410.01201, with the g of its form for parallel training.

    Example:
        The weights are 0 and 1: the gate stands at 1/2, the candidate is x_t + 1/2.

        >>> from asr.model.cells.recurrent import with_weights
        >>> cell = with_weights(MinGRU(1, 1), weight_ih_l0=[[0], [1]])
        >>> outputs, _ = cell(torch.tensor([3.5, 3.5, 1.5]).reshape(3, 1, 1), torch.full((1, 1, 1), 8.0))
        >>> [round(value, 4) for value in outputs.flatten().tolist()]
        [6.0, 5.0, 3.5]
    """

    gates = 2
    normed = (1, 1)
    products = ()
    keep_gate = (0, -1)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        (h,) = states
        x_z, x_n = x.chunk(2, -1)
        h = torch.lerp(h, _positive(x_n), torch.sigmoid(x_z))
        return h, (h,)

    def recur(
        self, projected: Tensor, states: States, product_type: torch.dtype = torch.float32
    ) -> tuple[Tensor, States]:
        """What `step` gives frame by frame, by a parallel scan as long as `step` is as it was."""
        if not self.agrees(MinGRU._scanned):
            return super().recur(projected, states, product_type)
        outputs = self._scanned(projected.to(self.weight_ih_l0.dtype), states)
        return outputs, (outputs[-1],)

    def _scanned(self, projected: Tensor, states: States) -> Tensor:
        x_z, x_n = projected.chunk(2, -1)
        outputs: Tensor = _LinearRecurrence.apply(torch.sigmoid(-x_z), torch.sigmoid(x_z) * _positive(x_n), states[0])
        return outputs


def _positive(a: Tensor) -> Tensor:
    """The activation g of minGRU's candidate."""
    return a.relu() + torch.sigmoid(a.clamp(max=0))


def scan(keep: Tensor, new: Tensor) -> Tensor:
    """All h_t (S, ...) of h_t = keep_t * h_{t-1} + new_t from h_0 = 0 on, in log2(S) rounds of parallel work.

    Before a round, `new` at t is what the last d frames up to t add, and `keep` what is kept over them; it then knows 2 d.

    The paper's scan works with logarithms, because it takes what is kept from frame s to t as a quotient of cumulative
    products, which leave the range of floating point. Nothing is divided here, so it needs none: on a CPU this takes a fifth
    of the time of one `torch.logcumsumexp`, and rounding does not grow with the length.

    Source: Hillis & Steele 1986, "Data Parallel Algorithms", on the pairs of Martin & Cundy 2018, "Parallelizing Linear
    Recurrent Neural Nets Over Sequence Length".

    Example:
        >>> scan(torch.full((4,), 0.5), torch.tensor([8.0, 4.0, 1.0, 0.0])).tolist()
        [8.0, 8.0, 5.0, 2.5]
    """
    d = 1
    while d < len(new):
        new = torch.cat([new[:d], torch.addcmul(new[d:], keep[d:], new[:-d])])
        keep = torch.cat([keep[:d], keep[d:] * keep[:-d]])
        d *= 2
    return new


class _LinearRecurrence(torch.autograd.Function):
    """All h_t (S, B, H) of h_t = keep_t * h_{t-1} + new_t from h_0 = `start` (B, H) on.

    The gradient g_t of h_t is the output's own, plus keep_{t+1} * g_{t+1}: the same recurrence from the other end.
    """

    @staticmethod
    def forward(ctx: Any, keep: Tensor, new: Tensor, start: Tensor) -> Tensor:
        states = scan(keep, torch.cat([torch.addcmul(new[:1], keep[:1], start), new[1:]]))
        ctx.save_for_backward(keep, states, start)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keep, states, start = ctx.saved_tensors
        gradient = scan(keep.roll(-1, 0).flip(0), d_states.flip(0)).flip(0)
        before = torch.cat([start[None], states[:-1]])
        return gradient * before, gradient, keep[0] * gradient[0]


class SimpleRecurrentUnit(RecurrentCell):
    """Simple recurrent unit; the state is the memory c, the output h passes by it on a highway.

        f_t = sigma(W_f x_t + b_f + v_f * c_{t-1})         forget gate: near 1 keeps the memory
        r_t = sigma(W_r x_t + b_r + v_r * c_{t-1})         highway gate
        c_t = f_t * c_{t-1} + (1 - f_t) * (W x_t + b)
        h_t = r_t * c_t + (1 - r_t) * (W' x_t + b')        the highway, W' x_t in the place of x_t, which may be wider

    v are the rows of `weight_state` (2H); the order of the blocks is W, W_f, W_r, W'.

    Source: Lei et al. 2018, "Simple Recurrent Units for Highly Parallelizable Recurrence", equations 1 to 4, with biases b
    and b' besides those of the gates, and without the constant alpha by which the paper then scales the highway's input.

    Example:
        Both gates stand at 1/2; W is 2, W' is 4.

        >>> from asr.model.cells.recurrent import with_weights
        >>> cell = with_weights(SimpleRecurrentUnit(1, 1), weight_ih_l0=[[2], [0], [0], [4]])
        >>> outputs, memory = cell(torch.tensor([4.0, 2.0]).reshape(2, 1, 1))
        >>> outputs.flatten().tolist(), memory.item()
        ([10.0, 6.0], 4.0)
    """

    gates = 4
    normed = (1, 2, 1)
    products = ()
    keep_gate = (1, 1)

    def __init__(self, input_size: int, hidden_size: int, *, layer_norm: bool = False) -> None:
        super().__init__(input_size, hidden_size, layer_norm=layer_norm)
        self.weight_state = self.uniform(2)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        (memory,) = states
        x_c, x_f, x_r, x_h = x.chunk(4, -1)
        v_f, v_r = self.weight_state.chunk(2)
        f, r = torch.sigmoid(x_f + v_f * memory), torch.sigmoid(x_r + v_r * memory)
        memory = torch.lerp(x_c, memory, f)
        return torch.lerp(x_h, memory, r), (memory,)
