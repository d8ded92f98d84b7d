"""Every recurrent cell against torch's GRU: three layers, forward and backward, as an encoder runs them.

    OMP_NUM_THREADS=1 python benchmarks/cells.py
    python benchmarks/cells.py --device cuda
    OMP_NUM_THREADS=1 python benchmarks/cells.py --bf16

The layers stand on each other with nothing between them, in one direction unless --bidirectional is given; inputs, states
and weights are in float32; with --bf16 the cells' factors of products are rounded as training.precision=bf16 has it, and
torch's GRU stays as it is. All take turns, `torch.nn.GRU` among them; what counts is the median of a cell's ratios to it,
one of each round (aim: 2 at most, minGRU below 1). One thread is timed in seconds of the processor, which do not grow where
others use it too; all else in those of the clock. "gru" is the encoder's own way to run it: compiled on a CPU.
"gru+norm" is layer normalisation inside the cell (`encoder.cell_norm`). What stands around a cell is run by the encoder's
own layers: "gru+learnt" starts from a learnt state (`encoder.initial_state`); "gru+highway" has the gate of
`encoder.highway`; "gru+dropout" leaves out a tenth of the units, the same over an utterance (`encoder.dropout_over`). What
each costs is its row against "gru". Other cells take them too: "ligru+highway". "mgu+loop" is the loop over the cell's step,
"mgu+graphs" the way that a GPU takes, also on a CPU (`asr/model/cells/linear_gradient.py`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from record import record, spread
from torch import Tensor, nn

from asr.model import matrix_unit
from asr.model.cells import CELLS, RecurrentCell, equations, linear_gradient, make_cell, run_cells
from asr.model.cells.recurrent import States
from asr.model.encoder import EncoderConfig, RecurrentLayer

NUM_LAYERS, BATCH, FRAMES, HIDDEN = 3, 16, 250, 320
SEED = 1
_KERNEL = "torch.nn.GRU"
_AROUND: dict[str, dict[str, object]] = {
    "learnt": {"initial_state": "learnt"},
    "highway": {"residual": True, "highway": True},
    "dropout": {"dropout": 0.1, "dropout_over": "utterance"},
}


_WAYS: dict[str, Callable[[RecurrentCell, Tensor, States, torch.dtype], tuple[Tensor, States]]] = {
    "loop": lambda cell, projected, states, _: cell.loop(projected, states),
    "graphs": lambda cell, projected, states, _: linear_gradient.recur(cell, projected, states),
}


class Stack(nn.Module):
    """Layers of one cell; with two directions the second reads the frames from the end."""

    def __init__(self, name: str, directions: int) -> None:
        super().__init__()
        name, _, option = name.partition("+")
        self.layers = nn.ModuleList(
            nn.ModuleList(
                make_cell(name, HIDDEN * directions, HIDDEN, layer_norm=option == "norm") for _ in range(directions)
            )
            for _ in range(NUM_LAYERS)
        )
        for cell in self.modules():
            if option in _WAYS and isinstance(cell, RecurrentCell):
                cell.recur = partial(_WAYS[option], cell)  # type: ignore[method-assign]

    def forward(self, frames: Tensor) -> Tensor:
        """Outputs (S, B, H * directions) of `frames` of the same shape."""
        for layer in self.layers:
            cells = list(layer.children())
            outputs = run_cells(cells, [frames, frames.flip(0)][: len(cells)])
            frames = torch.cat([outputs[0], *(output.flip(0) for output in outputs[1:])], dim=-1)
        return frames


class Layers(nn.Module):
    """The encoder's layers of one cell with an option of `_AROUND`, and nothing else; no frame is padding."""

    def __init__(self, name: str, directions: int, option: str) -> None:
        super().__init__()
        bare = {"norm": "none", "residual": False, "dropout": 0.0}
        both = directions == 2
        config = EncoderConfig(cell=name, hidden_size=HIDDEN, bidirectional=both, **(bare | _AROUND[option]))
        self.layers = nn.ModuleList(RecurrentLayer(config) for _ in range(NUM_LAYERS))

    def forward(self, frames: Tensor) -> Tensor:
        """Outputs (S, B, H * directions) of `frames` of the same shape."""
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        reversal = torch.arange(len(frames), device=frames.device).flip(0)[:, None].expand_as(mask)
        for layer in self.layers:
            frames = layer(frames, mask, reversal)
        return frames


class Kernel(nn.Module):
    """torch's own layers of GRU."""

    def __init__(self, directions: int) -> None:
        super().__init__()
        self.gru = nn.GRU(HIDDEN * directions, HIDDEN, num_layers=NUM_LAYERS, bidirectional=directions == 2)

    def forward(self, frames: Tensor) -> Tensor:
        """Outputs (S, B, H * directions) of `frames` of the same shape."""
        outputs: Tensor = self.gru(frames)[0]
        return outputs


def main() -> None:
    """Times all cells and records their ratios."""
    options = parsed()
    torch.manual_seed(SEED)
    directions = 2 if options.bidirectional else 1
    frames = torch.randn(FRAMES, BATCH, HIDDEN * directions, device=options.device, requires_grad=True)
    names = options.cells or [*CELLS, "gru+norm", *(f"gru+{option}" for option in _AROUND)]
    modules = {_KERNEL: Kernel(directions)} | {name: made(name, directions) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in modules}
    on_one_thread = options.device == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if on_one_thread else time.perf_counter
    for run in range(options.runs + 1):
        for name, module in modules.items():
            half = options.bf16 and name != _KERNEL
            with torch.autocast(options.device, torch.bfloat16, enabled=half):
                taken = timed(module.to(options.device), frames, clock)
            if run:  # the first is for warming up
                seconds[name].append(taken)
    kind = [options.device] * (options.device != "cpu") + ["bf16"] * options.bf16
    kind += ["graphs"] * any(name.endswith("+graphs") for name in names)
    record(
        "_".join(["cells", *kind]),
        {
            "device": options.device,
            "precision": "bf16" if options.bf16 else "fp32",
            "matrix_unit": options.device == "cpu" and matrix_unit.is_there(),
            "threads": torch.get_num_threads(),
            "clock": "processor" if on_one_thread else "wall",
            "layers": NUM_LAYERS,
            "directions": directions,
            "batch": BATCH,
            "frames": FRAMES,
            "hidden_size": HIDDEN,
            "seconds_of_torch_gru": spread(seconds[_KERNEL]),
            "over_torch_gru": {
                name: spread([round(own / base, 3) for own, base in zip(values, seconds[_KERNEL], strict=True)])
                for name, values in seconds.items()
                if name != _KERNEL
            },
        },
    )


def made(name: str, directions: int) -> nn.Module:
    """What is timed as `name`: a cell, or one with an option behind a +."""
    cell, _, option = name.partition("+")
    options = ("norm", *_WAYS, *_AROUND)
    if cell not in CELLS or option not in ("", *options):
        raise SystemExit(f"{name}: expected one of {', '.join(CELLS)}, or one with +{', +'.join(options)}")
    if option in _WAYS and CELLS[cell] is not equations(cell):
        raise SystemExit(f"{name}: a kernel has no step; take {cell}_reference")
    return Layers(cell, directions, option) if option in _AROUND else Stack(name, directions)


def timed(module: nn.Module, frames: Tensor, clock: Callable[[], float]) -> float:
    """Seconds of one forward and backward pass, the device's work included."""
    module.zero_grad()
    frames.grad = None
    wait(frames.device)
    start = clock()
    module(frames).sum().backward()
    wait(frames.device)
    return clock() - start


def wait(device: torch.device) -> None:
    """Wait until `device` has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="cells to time; default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--bf16", action="store_true", help="cells under autocast to bfloat16")
    parser.add_argument("--bidirectional", action="store_true", help="both directions")
    parser.add_argument("--runs", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
