"""The gated recurrent unit and its relatives, written from their equations; letters as in `simple.py`.

Two conventions are in use for the update gate. Here, as in Cho et al. 2014, torch and cuDNN, z_t near 1 keeps the state:
h_t = z_t * h_{t-1} + (1 - z_t) * n_t. In Chung et al. 2014 and much of the later literature it is the other way round,
h_t = (1 - z_t) * h_{t-1} + z_t * n_t. As 1 - sigma(a) = sigma(-a), the weights of one become those of the other by negating
the gate's rows of W, U, b and c.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.model.cells.recurrent import Product, RecurrentCell, States


class GRUReference(RecurrentCell):
    """Gated recurrent unit, reset after the recurrent product.

        r_t = sigma(W_r x_t + b_r + U_r h_{t-1} + c_r)            reset gate
        z_t = sigma(W_z x_t + b_z + U_z h_{t-1} + c_z)            update gate
        n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))     candidate
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    Source: Cho et al. 2014, arXiv:1406.1078v1, in the form of cuDNN and `torch.nn.GRU`: one product per frame suffices.

    Example:
        With all weights 0 the gates stand at 1/2 and the candidate at 0: the state is halved at each frame.

        >>> from asr.model.cells.recurrent import with_weights
        >>> outputs, state = with_weights(GRUReference(1, 1))(torch.zeros(3, 1, 1), torch.full((1, 1, 1), 8.0))
        >>> outputs.flatten().tolist(), state.item()
        ([4.0, 2.0, 1.0], 1.0)
    """

    gates = 3
    normed = (2, 1)
    products = (3,)
    keep_gate = (1, 1)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        ((h,), (u,)) = states, products
        x_r, x_z, x_n = x.chunk(3, -1)
        u_r, u_z, u_n = u(h).chunk(3, -1)
        r, z = torch.sigmoid(x_r + u_r), torch.sigmoid(x_z + u_z)
        n = torch.tanh(x_n + r * u_n)
        h = torch.lerp(n, h, z)
        return h, (h,)


class GRUResetBefore(RecurrentCell):
    """Gated recurrent unit, reset before the recurrent product.

        r_t, z_t, h_t as in `GRUReference`
        n_t = tanh(W_n x_t + b_n + U_n (r_t * h_{t-1}) + c_n)

    Source: Cho et al. 2014, arXiv:1406.1078v3, equations 5 to 8, with biases. The second product has to wait for the reset.

    Example:
        A closed reset gate hides the state, 8, and its weight, 1, from the candidate, which stays 0.

        >>> from asr.model.cells.recurrent import with_weights
        >>> cell = with_weights(GRUResetBefore(1, 1), weight_hh_l0=[[0], [0], [1]], bias_ih_l0=[-100, 0, 0])
        >>> cell(torch.zeros(3, 1, 1), torch.full((1, 1, 1), 8.0))[0].flatten().tolist()
        [4.0, 2.0, 1.0]
    """

    gates = 3
    normed = (2, 1)
    products = (2, 1)
    keep_gate = (1, 1)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        ((h,), (u, u_n)) = states, products
        size = self.hidden_size
        r, z = torch.sigmoid(x[:, : 2 * size] + u(h)).chunk(2, -1)
        n = torch.tanh(x[:, 2 * size :] + u_n(r * h))
        h = torch.lerp(n, h, z)
        return h, (h,)


class GRUPeephole(RecurrentCell):
    """GRU whose gates see the state also unit by unit.

        r_t = sigma(W_r x_t + b_r + U_r h_{t-1} + c_r + p_r * h_{t-1})
        z_t = sigma(W_z x_t + b_z + U_z h_{t-1} + c_z + p_z * h_{t-1})
        n_t, h_t as in `GRUReference`

    A GRU has no memory besides its state, so p adds to the diagonal of U: what it gives is a start and a gradient of its
    own. Source: the peepholes of Gers & Schmidhuber 2000, in the place that the state has in a GRU.

    Example:
        A state of 2 and a weight of 50 open the update gate: nothing is lost. Without peepholes it would be halved.

        >>> from asr.model.cells.recurrent import with_weights
        >>> cell = with_weights(GRUPeephole(1, 1), weight_peephole=[0, 50])
        >>> cell(torch.zeros(3, 1, 1), torch.full((1, 1, 1), 2.0))[0].flatten().tolist()
        [2.0, 2.0, 2.0]
    """

    gates = 3
    normed = (2, 1)
    products = (3,)
    keep_gate = (1, 1)
    candidate_sees_state = False

    def __init__(self, input_size: int, hidden_size: int, *, layer_norm: bool = False) -> None:
        super().__init__(input_size, hidden_size, layer_norm=layer_norm)
        self.weight_peephole = self.uniform(3 if self.candidate_sees_state else 2)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        ((h,), (u,)) = states, products
        x_r, x_z, x_n = x.chunk(3, -1)
        u_r, u_z, u_n = u(h).chunk(3, -1)
        p_r, p_z, *p_n = torch.split(self.weight_peephole, self.hidden_size)
        r, z = torch.sigmoid(x_r + u_r + p_r * h), torch.sigmoid(x_z + u_z + p_z * h)
        seen = p_n[0] * h if p_n else 0
        n = torch.tanh(x_n + r * u_n + seen)
        h = torch.lerp(n, h, z)
        return h, (h,)


class GRUPeepholeCandidate(GRUPeephole):
    """GRU with peepholes whose candidate sees the state too, past the reset gate.

        n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n) + p_n * h_{t-1})
        r_t, z_t, h_t as in `GRUPeephole`

    Source: as of `GRUPeephole`; that the candidate has one too is this project's, with no paper behind it.

    Example:
        The state and a weight of 50 set the candidate to 1, the update gate stands at 1/2: half the way to 1 at each frame.

        >>> from asr.model.cells.recurrent import with_weights
        >>> cell = with_weights(GRUPeepholeCandidate(1, 1), weight_peephole=[0, 0, 50])
        >>> cell(torch.zeros(3, 1, 1), torch.full((1, 1, 1), 9.0))[0].flatten().tolist()
        [5.0, 3.0, 2.0]
    """

    candidate_sees_state = True


class GRUAdaptive(RecurrentCell):
    """GRU whose gates are as steep, and as open, as the input says: one slope and one bias per gate and frame.

        s_t = softplus(V x_t + d)                                    slopes s_r, s_z: temperatures are their inverses
        q_t = V' x_t + d'                                            biases q_r, q_z
        r_t = sigma(s_r * (W_r x_t + b_r + U_r h_{t-1} + c_r) + q_r)
        z_t = sigma(s_z * (W_z x_t + b_z + U_z h_{t-1} + c_z) + q_z)
        n_t, h_t as in `GRUReference`

    V, V' are the rows of `weight_adapt` (4, I), d, d' of `bias_adapt`; they start where this is a GRU. An experiment of
    this project, with no paper behind it: in silence, a gate may close for all units at once and at little cost.

    Example:
        An input of 50 sets q_z to 50: the update gate opens and the state stays 8. At 0 the gate stands at 1/2.

        >>> from asr.model.cells.recurrent import with_weights
        >>> cell = with_weights(GRUAdaptive(1, 1), weight_adapt=[[0], [0], [0], [1]])
        >>> cell(torch.tensor([50.0, 0.0]).reshape(2, 1, 1), torch.full((1, 1, 1), 8.0))[0].flatten().tolist()
        [8.0, 4.0]
    """

    gates = 3
    normed = (2, 1)
    products = (3,)
    keep_gate = (1, 1)

    def __init__(self, input_size: int, hidden_size: int, *, layer_norm: bool = False) -> None:
        super().__init__(input_size, hidden_size, layer_norm=layer_norm)
        self.weight_adapt = nn.Parameter(torch.zeros(4, input_size))
        one = torch.tensor(1.0).expm1().log()  # softplus(one) = 1
        self.bias_adapt = nn.Parameter(torch.stack([one, one, 0 * one, 0 * one]))

    def project(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        """The input product, and behind it s_r, s_z, q_r, q_z: (S, B, 3H + 4)."""
        slopes, offsets = nn.functional.linear(frames, self.weight_adapt, self.bias_adapt).chunk(2, -1)
        return torch.cat([super().project(frames, mask), nn.functional.softplus(slopes), offsets], dim=-1)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        ((h,), (u,)) = states, products
        x_r, x_z, x_n, s_r, s_z, q_r, q_z = torch.split(x, [self.hidden_size] * 3 + [1] * 4, -1)
        u_r, u_z, u_n = u(h).chunk(3, -1)
        r = torch.sigmoid(s_r * (x_r + u_r) + q_r)
        z = torch.sigmoid(s_z * (x_z + u_z) + q_z)
        n = torch.tanh(x_n + r * u_n)
        h = torch.lerp(n, h, z)
        return h, (h,)


class MinimalGatedUnit(RecurrentCell):
    """A GRU with one gate in the place of two.

        f_t = sigma(W_f x_t + b_f + U_f h_{t-1} + c_f)               near 1 forgets
        n_t = tanh(W_n x_t + b_n + U_n (f_t * h_{t-1}) + c_n)
        h_t = (1 - f_t) * h_{t-1} + f_t * n_t

    Source: Zhou et al. 2016, "Minimal Gated Unit for Recurrent Neural Networks", equations 8 to 10.

    Example:
        With all weights 0 the gate stands at 1/2 and the candidate at 0: the state is halved at each frame.

        >>> from asr.model.cells.recurrent import with_weights
        >>> with_weights(MinimalGatedUnit(1, 1))(torch.zeros(3, 1, 1), torch.full((1, 1, 1), 8.0))[0].flatten().tolist()
        [4.0, 2.0, 1.0]
    """

    gates = 2
    normed = (1, 1)
    products = (1, 1)
    keep_gate = (0, -1)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        ((h,), (u_f, u_n)) = states, products
        x_f, x_n = x.chunk(2, -1)
        f = torch.sigmoid(x_f + u_f(h))
        n = torch.tanh(x_n + u_n(f * h))
        h = torch.lerp(h, n, f)
        return h, (h,)
