"""A trained model that runs through the equations of its cells and remembers every state and gate.

The cells compute their gates with `sigmoid` inside `step`. What is remembered is the very tensor that `step` went on with:
no equation is written a second time, so a gate that is shown is one that was used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from asr.errors import ConfigError
from asr.model.acoustic import AcousticModel
from asr.model.cells import RecurrentCell, equations
from asr.model.cells.elementwise import MinGRU, SimpleRecurrentUnit
from asr.model.cells.gru import GRUAdaptive, GRUPeephole, GRUReference, GRUResetBefore, MinimalGatedUnit
from asr.model.cells.light import LightGRU
from asr.model.cells.recurrent import Product, States
from asr.model.cells.simple import LSTMPeephole, LSTMReference, RNNReference
from asr.terminal import counted


class CellGates(NamedTuple):
    """The gates of a cell.

    Attributes:
        names: of all that `step` takes the sigmoid of, in its order; "" for what is no gate.
        keeping: the one that decides how much of the state is kept, "" if there is none.
    """

    names: tuple[str, ...] = ()
    keeping: str = ""


# A subclass with the same `step` has the gates of its nearest ancestor here.
_GATES: dict[type[RecurrentCell], CellGates] = {
    RNNReference: CellGates(),
    GRUReference: CellGates(("reset", "update"), "update"),
    GRUResetBefore: CellGates(("reset", "update"), "update"),
    GRUPeephole: CellGates(("reset", "update"), "update"),
    GRUAdaptive: CellGates(("reset", "update"), "update"),
    MinimalGatedUnit: CellGates(("forget",), "forget"),
    LightGRU: CellGates(("update",), "update"),
    MinGRU: CellGates(("", "update"), "update"),
    LSTMReference: CellGates(("forget", "input", "output"), "forget"),
    LSTMPeephole: CellGates(("input", "forget", "output"), "forget"),
    SimpleRecurrentUnit: CellGates(("forget", "highway"), "forget"),
}

_TOLERATED_DEVIATION = 1e-3
_SIGMOIDS = (torch.sigmoid, Tensor.sigmoid, nn.functional.sigmoid)


def cell_gates(rules: type[RecurrentCell]) -> CellGates:
    """The gates of cells with the equations `rules`.

    Raises:
        ConfigError: the cell has no line in the table above.

    Example:
        >>> cell_gates(equations("lstm")).names
        ('forget', 'input', 'output')
    """
    gates = _known_gates(rules)
    if gates is None:
        raise ConfigError(f"{rules.__name__}: nothing here knows its gates; name them in asr/inspection/observe.py")
    return gates


def _known_gates(rules: type[RecurrentCell]) -> CellGates | None:
    for ancestor in rules.__mro__:
        if ancestor in _GATES:
            return _GATES[ancestor]
        if "step" in vars(ancestor):
            break
    return None


@dataclass(frozen=True, eq=False)
class Track:
    """One direction of one layer at work, all in the order of the recording.

    Attributes:
        layer: its number, from 1.
        direction: "forward" or "backward".
        rules: the class that holds its equations.
        states: for each frame the state (B, H) that is handed on, or several, as for an LSTM h and its memory.
        gates: by name, (S, B, H).
    """

    layer: int
    direction: str
    rules: type[RecurrentCell]
    states: tuple[States, ...]
    gates: dict[str, Tensor]

    @property
    def keep(self) -> Tensor | None:
        """The share of each unit's state that each frame keeps (S, B, H); None for a cell without such a gate."""
        name = cell_gates(self.rules).keeping
        if not name or self.rules.keep_gate is None:
            return None
        return self.gates[name] if self.rules.keep_gate[1] > 0 else 1 - self.gates[name]


class _Ear(TorchFunctionMode):
    """Hears the result of each sigmoid that is computed under it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _SIGMOIDS:
            self.heard.append(result)
        return result


class ObservedCell(RecurrentCell):
    """What stands before a cell's class to remember, of the last sequence, each frame's states and sigmoids (B, n * H)."""

    seen: list[tuple[States, Tensor | None]]

    def recur(
        self, projected: Tensor, states: States, product_type: torch.dtype = torch.float32
    ) -> tuple[Tensor, States]:
        """Frame by frame, also where the cell could do otherwise."""
        self.seen = []
        return self.loop(projected.to(self.weight_ih_l0.dtype), states)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """The cell's own step."""
        with _Ear() as ear:
            output, states = super().step(x, states, products)
        self.seen.append((states, torch.cat(ear.heard, dim=-1) if ear.heard else None))
        return output, states


def observed(model: AcousticModel) -> AcousticModel:
    """A copy of `model`, in evaluation, whose cells are their equations with the same weights, and are overheard.

    Under it the weights need no gradient; only what is asked for by the caller does.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for layer in model.encoder.layers:
        cells = [_observed_cell(cell, equations(model.config.encoder.cell)) for cell in _directions(layer)]
        layer.directions = nn.ModuleList(cells)
    return model


def _observed_cell(cell: nn.Module, rules: type[RecurrentCell]) -> nn.Module:
    if not isinstance(cell, RecurrentCell):  # one of torch's kernels; names and shapes of its weights are the same
        kernel, cell = cell, rules(int(cell.input_size), int(cell.hidden_size))  # type: ignore[arg-type]
        cell.load_state_dict(kernel.state_dict())
    cell.__class__ = type(f"Observed{rules.__name__}", (ObservedCell, rules), {})
    return cell.eval().requires_grad_(False)


@torch.no_grad()
def deviations(model: AcousticModel, copied: AcousticModel, features: Tensor) -> list[float]:
    """By how much each layer's output for `features` (B, T, F) differs at most in `model` and through its equations.

    `copied` is the model as `observed` makes it.
    """
    ran, overheard = layer_outputs(model, features), layer_outputs(copied, features)
    return [(one - other).abs().max().item() for one, other in zip(ran, overheard, strict=True)]


def deviation_warning(deviation: float) -> str:
    """What speaks against relying on the equations where their outputs differ so much from the model's; "" if nothing."""
    if deviation < _TOLERATED_DEVIATION:
        return ""
    return (
        "the model runs a compiled form of its cell, and the equations shown here give outputs that differ by "
        f"{deviation:.2g}: one of the two was edited, and what is shown is not what ran"
    )


def tracks_of(model: AcousticModel) -> list[Track]:
    """What each layer and direction of `model`, made by `observed`, did in its last run; without padding."""
    return [
        _track(number, direction, cell)
        for number, layer in enumerate(model.encoder.layers, start=1)
        for direction, cell in zip(("forward", "backward"), _directions(layer), strict=False)
        if isinstance(cell, ObservedCell)
    ]


def _directions(layer: nn.Module) -> list[nn.Module]:
    return list(layer.get_submodule("directions").children())


def _track(layer: int, direction: str, cell: ObservedCell) -> Track:
    rules = type(cell).__mro__[2]
    order = 1 if direction == "forward" else -1
    seen = cell.seen[::order]
    names = (_known_gates(rules) or CellGates()).names
    gates: dict[str, Tensor] = {}
    if names:
        heard = [each for _, each in seen if each is not None]
        if not heard:
            raise ConfigError(
                f"{rules.__name__}: gates are overheard where torch.sigmoid makes them, and it has none; name its own in "
                "asr/inspection/observe.py"
            )
        sigmoids = torch.stack(heard)
        blocks = torch.split(sigmoids, cell.hidden_size, dim=-1)
        if len(blocks) != len(names):
            raise ConfigError(
                f"{rules.__name__}: expected {counted(len(names), 'gate')} from torch.sigmoid, found {len(blocks)}; name "
                "its own in asr/inspection/observe.py"
            )
        gates = {name: block for name, block in zip(names, blocks, strict=True) if name}
    return Track(layer, direction, rules, tuple(states for states, _ in seen), gates)


def log_probs_of(model: AcousticModel, features: Tensor) -> Tensor:
    """Log-probabilities (B, S, V) that `model` gives to `features` (B, T, F), all of full length."""
    hidden, _ = model.encoder(features, torch.full((len(features),), features.shape[1]))
    return torch.log_softmax(model.head(hidden).float(), dim=-1)


def layer_outputs(model: AcousticModel, features: Tensor) -> list[Tensor]:
    """What each recurrent layer of `model` gives out (S, B, output_size) for `features` (B, T, F), all of full length."""
    outputs: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
        for layer in model.encoder.layers
    ]
    try:
        log_probs_of(model, features)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs
