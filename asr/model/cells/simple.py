"""The plain recurrent network and the LSTM, written from their equations.

Here and in the other files: x_t input, h_t state, sigma the logistic function, * element-wise; W and b are rows of
`weight_ih_l0` and `bias_ih_l0`, U and c of `weight_hh_l0` and `bias_hh_l0`, in the order in which the gates are listed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr.model.cells.recurrent import Product, RecurrentCell, States


class RNNReference(RecurrentCell):
    """The plain recurrent network.

        h_t = tanh(W x_t + b + U h_{t-1} + c)

    Source: Elman 1990, "Finding Structure in Time"; as `torch.nn.RNN`.

    Example:
        >>> from asr.model.cells.recurrent import with_weights
        >>> cell = with_weights(RNNReference(1, 1), weight_ih_l0=[[1]], weight_hh_l0=[[1]])
        >>> outputs, state = cell(torch.tensor([[[0.5]], [[0.0]]]))  # tanh(0.5), then tanh of that
        >>> [round(value, 3) for value in outputs.flatten().tolist()]
        [0.462, 0.432]
    """

    gates = 1
    products = (1,)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        ((h,), (u,)) = states, products
        h = torch.tanh(x + u(h))
        return h, (h,)


class LSTMReference(RecurrentCell):
    """Long short-term memory with a forget gate; the state is (h, c), the memory c.

        i_t = sigma(W_i x_t + b_i + U_i h_{t-1} + c_i)    input gate
        f_t = sigma(W_f x_t + b_f + U_f h_{t-1} + c_f)    forget gate: near 1 keeps the memory
        g_t = tanh (W_g x_t + b_g + U_g h_{t-1} + c_g)    candidate
        o_t = sigma(W_o x_t + b_o + U_o h_{t-1} + c_o)    output gate
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = o_t * tanh(c_t)

    Source: Hochreiter & Schmidhuber 1997; the forget gate: Gers et al. 2000, "Learning to Forget"; as `torch.nn.LSTM`.

    Example:
        With all weights 0 the gates stand at 1/2 and the candidate at 0: the memory is halved at each frame.

        >>> from asr.model.cells.recurrent import with_weights
        >>> start = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 8.0)
        >>> _, (h, memory) = with_weights(LSTMReference(1, 1))(torch.zeros(3, 1, 1), start)
        >>> memory.item()
        1.0
    """

    gates = 4
    products = (4,)
    num_states = 2
    keep_gate = (1, 1)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        ((h, memory), (u,)) = states, products
        i, f, g, o = (x + u(h)).chunk(4, -1)
        memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(memory)
        return h, (h, memory)


class LSTMPeephole(RecurrentCell):
    """LSTM whose gates see the memory too, each unit its own.

        i_t, f_t = sigma(W x_t + b + U h_{t-1} + c + p * c_{t-1})    with p_i, p_f
        c_t, g_t as in the LSTM
        o_t      = sigma(W_o x_t + b_o + U_o h_{t-1} + c_o + p_o * c_t)
        h_t      = o_t * tanh(c_t)

    Source: Gers & Schmidhuber 2000, "Recurrent Nets that Time and Count".

    Example:
        A memory of 2 and a weight of 50 open the forget gate: nothing is lost. Without peepholes it would be halved.

        >>> from asr.model.cells.recurrent import with_weights
        >>> cell = with_weights(LSTMPeephole(1, 1), weight_peephole=[0, 50, 0])
        >>> _, (h, memory) = cell(torch.zeros(3, 1, 1), (torch.zeros(1, 1, 1), torch.full((1, 1, 1), 2.0)))
        >>> memory.item()
        2.0
    """

    gates = 4
    products = (4,)
    num_states = 2
    keep_gate = (1, 1)

    def __init__(self, input_size: int, hidden_size: int, *, layer_norm: bool = False) -> None:
        super().__init__(input_size, hidden_size, layer_norm=layer_norm)
        self.weight_peephole = self.uniform(3)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        ((h, memory), (u,)) = states, products
        p_i, p_f, p_o = self.weight_peephole.chunk(3)
        i, f, g, o = (x + u(h)).chunk(4, -1)
        i, f = torch.sigmoid(i + p_i * memory), torch.sigmoid(f + p_f * memory)
        memory = f * memory + i * torch.tanh(g)
        h = torch.sigmoid(o + p_o * memory) * torch.tanh(memory)
        return h, (h, memory)
