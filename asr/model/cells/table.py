"""The recurrent cells by name, how one is made for a configuration, and how a layer's cells are run.

A cell is a class that takes `(input_size, hidden_size)`, maps frames (S, B, input_size) and an optional state to the outputs
(S, B, hidden_size) and the state after the last frame, never looks ahead, and is named in `CELLS`; configuration, command
line and contract tests then know it. The encoder runs it in both directions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from asr.model.cells.elementwise import MinGRU, SimpleRecurrentUnit
from asr.model.cells.gru import (
    GRUAdaptive,
    GRUPeephole,
    GRUPeepholeCandidate,
    GRUReference,
    GRUResetBefore,
    MinimalGatedUnit,
)
from asr.model.cells.light import LightGRU, StabilisedLightGRU
from asr.model.cells.recurrent import RecurrentCell, State
from asr.model.cells.simple import LSTMPeephole, LSTMReference, RNNReference
from asr.model.device import full_precision, product_type
from asr.model.gru_recurrence import gru_directions

_OF_KERNELS: dict[str, type[RecurrentCell]] = {"gru": GRUReference, "lstm": LSTMReference, "rnn": RNNReference}
_FROM_EQUATIONS: dict[str, type[RecurrentCell]] = {
    "gru_reference": GRUReference,
    "gru_reset_before": GRUResetBefore,
    "gru_peephole": GRUPeephole,
    "gru_peephole_candidate": GRUPeepholeCandidate,
    "gru_adaptive": GRUAdaptive,
    "ligru": LightGRU,
    "sligru": StabilisedLightGRU,
    "mgu": MinimalGatedUnit,
    "mingru": MinGRU,
    "lstm_reference": LSTMReference,
    "lstm_peephole": LSTMPeephole,
    "rnn_reference": RNNReference,
    "sru": SimpleRecurrentUnit,
}
CELLS: dict[str, Callable[[int, int], nn.Module]] = {
    "gru": nn.GRU,
    "lstm": nn.LSTM,
    "rnn": nn.RNN,
    **_FROM_EQUATIONS,
}


def equations(name: str) -> type[RecurrentCell]:
    """The class that holds the equations of the cell `name`; for torch's kernels, the reference with the same weights.

    Example:
        >>> equations("gru").__name__, equations("sru").__name__
        ('GRUReference', 'SimpleRecurrentUnit')
    """
    return _OF_KERNELS[name] if name in _OF_KERNELS else _FROM_EQUATIONS[name]


def descriptions() -> dict[str, str]:
    """What each cell is, by its name: the first line of what the class of its equations says.

    Example:
        >>> descriptions()["lstm"]
        "Long short-term memory with a forget gate; the state is (h, c), the memory c; torch's kernel"
        >>> descriptions()["mgu"]
        'A GRU with one gate in the place of two'
    """
    return {
        name: (inspect.getdoc(equations(name)) or "").partition("\n")[0].removesuffix(".")
        + ("; torch's kernel" if name in _OF_KERNELS else "")
        + ("; on a CPU in single precision a compiled loop of the same equations" if name == "gru" else "")
        for name in CELLS
    }


def make_cell(
    name: str,
    input_size: int,
    hidden_size: int,
    *,
    layer_norm: bool = False,
    orthogonal: bool = False,
    gate_bias: float = 0.0,
) -> nn.Module:
    """The cell `name` with weights drawn at random.

    Args:
        name: a key of `CELLS`.
        input_size: width of the frames.
        hidden_size: units.
        layer_norm: normalise the products inside the cell; a kernel, which cannot, gives way to its equations.
        orthogonal: draw each gate's matrix U of the state as an orthogonal one, which keeps lengths over many frames.
            Source: Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning".
        gate_bias: added to the bias of the gate that keeps the state, so that training starts with a longer memory.
            Source: Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent Network Architectures".

    Example:
        >>> cell = make_cell("gru", 3, 4, orthogonal=True)
        >>> bool(torch.allclose(cell.weight_hh_l0[:4] @ cell.weight_hh_l0[:4].T, torch.eye(4), atol=1e-5))
        True
    """
    rules = equations(name)
    cell = rules(input_size, hidden_size, layer_norm=True) if layer_norm else CELLS[name](input_size, hidden_size)
    if orthogonal:
        for block in torch.split(cell.get_parameter("weight_hh_l0").detach(), hidden_size):
            nn.init.orthogonal_(block)
    if gate_bias and rules.keep_gate is not None:
        position, sign = rules.keep_gate
        biases = (
            cell.offsets if isinstance(cell, RecurrentCell) else cell.get_parameter("bias_ih_l0").chunk(rules.gates)
        )
        if biases:
            biases[position].detach().add_(sign * gate_bias)
    return cell


def run_cells(
    cells: Sequence[nn.Module],
    inputs: Sequence[Tensor],
    mask: Tensor | None = None,
    states: Sequence[State | None] = (None, None),
) -> list[Tensor]:
    """The outputs (S, B, H) of each of `cells`, one per direction, for its own `inputs` (S, B, I), from `states` on.

    `mask` (S, B) is True on valid frames, for cells that gather statistics; None if all are. On a CPU, GRUs in full
    precision take the compiled recurrence, which is faster; elsewhere torch's own.
    """
    states = states[: len(cells)]
    if inputs[0].device.type == "cpu" and not torch.compiler.is_exporting():
        grus = [cell for cell in cells if isinstance(cell, nn.GRU) and cell.weight_hh_l0.dtype == torch.float32]
        if len(grus) == len(cells):
            return gru_directions(grus, inputs, states)  # type: ignore[arg-type]  # a GRU's is no pair
    return [
        cell(frames, state, mask)[0] if isinstance(cell, RecurrentCell) else _run_kernel(cell, frames, state)
        for cell, frames, state in zip(cells, inputs, states, strict=True)
    ]


def _run_kernel(cell: nn.Module, frames: Tensor, state: State | None) -> Tensor:
    """The outputs of one of torch's modules; where autocast asks for bfloat16, in float32.

    For cuDNN's recurrent kernels autocast takes float16 whatever was asked for, where gradients vanish that nothing scales,
    and a CPU's would round the states. In float32 cuDNN multiplies in TF32, of no fewer bits than bfloat16.
    """
    if product_type(frames.device) != torch.bfloat16:
        outputs: Tensor = cell(frames, state)[0]
        return outputs
    with full_precision(frames.device.type):
        return _run_kernel(cell, frames.float(), state)
