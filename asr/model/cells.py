r"""The recurrent cells by name.

A cell is a class that takes `(input_size, hidden_size)`, maps frames (S, B, input_size) to a pair whose first member is the
outputs (S, B, hidden_size), never looks ahead, and is named in `CELLS`; configuration, command line and contract tests then
know it. The encoder runs it in both directions.

torch's kernels run these equations (x_t input, h_t state, sigma the logistic function, * element-wise):

    rnn     h_t = tanh(W x_t + b + U h_{t-1} + c)

    gru     r_t = sigma(W_r x_t + b_r + U_r h_{t-1} + c_r)            reset gate
            z_t = sigma(W_z x_t + b_z + U_z h_{t-1} + c_z)            update gate
            n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))     candidate, reset after the product, as in cuDNN
            h_t = (1 - z_t) * n_t + z_t * h_{t-1}                     z_t near 1 keeps the old state

    lstm    i_t, f_t, o_t = sigma(...), g_t = tanh(...)               input, forget, output gates and candidate
            c_t = f_t * c_{t-1} + i_t * g_t,   h_t = o_t * tanh(c_t)

Source: Elman 1990; Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder"; Hochreiter & Schmidhuber
1997 with the forget gate of Gers et al. 2000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from asr.model.gru_recurrence import gru_directions

CELLS: dict[str, Callable[[int, int], nn.Module]] = {
    "gru": nn.GRU,
    "lstm": nn.LSTM,
    "rnn": nn.RNN,
}


def run_cells(cells: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs (S, B, H) of each of `cells`, one per direction, for its own `inputs` (S, B, I).

    On a CPU, GRUs in full precision take the compiled recurrence, which is faster; elsewhere torch's own.
    """
    if inputs[0].device.type == "cpu":
        grus = [cell for cell in cells if isinstance(cell, nn.GRU) and cell.weight_hh_l0.dtype == torch.float32]
        if len(grus) == len(cells):
            return gru_directions(grus, inputs)
    return [cell(frames)[0] for cell, frames in zip(cells, inputs, strict=True)]
