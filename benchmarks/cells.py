"""Every recurrent cell against torch's GRU: three layers, forward and backward, as an encoder runs them.

    OMP_NUM_THREADS=1 python benchmarks/cells.py
    python benchmarks/cells.py --device cuda

The layers stand on each other with nothing between them, in one direction unless --bidirectional is given; inputs, states
and weights are in float32. Each cell's turn follows one of `torch.nn.GRU`, so that both see the same machine; what counts is
the median of the ratios (aim: 2 at most, minGRU below 1). "gru" is the encoder's own way to run it: on a CPU the compiled
recurrence. "+norm" is layer normalisation inside the cell (`encoder.cell_norm`).
"""

from __future__ import annotations

import argparse
import time

import torch
from record import record, spread
from torch import Tensor, nn

from asr.model.cells import CELLS, equations, make_cell, run_cells

NUM_LAYERS, BATCH, FRAMES, HIDDEN = 3, 16, 250, 320
SEED = 1


class Stack(nn.Module):
    """Layers of one cell; with two directions the second reads the frames from the end."""

    def __init__(self, name: str, directions: int) -> None:
        super().__init__()
        name, _, norm = name.partition("+")
        self.layers = nn.ModuleList(
            nn.ModuleList(
                make_cell(name, HIDDEN * directions, HIDDEN, layer_norm=bool(norm)) for _ in range(directions)
            )
            for _ in range(NUM_LAYERS)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Outputs (S, B, H * directions) of `frames` of the same shape."""
        for layer in self.layers:
            cells = list(layer.children())
            outputs = run_cells(cells, [frames, frames.flip(0)][: len(cells)])
            frames = torch.cat([outputs[0], *(output.flip(0) for output in outputs[1:])], dim=-1)
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
    kernel = Kernel(directions).to(options.device)
    names = [*CELLS, *(f"{name}+norm" for name in CELLS if "_" not in name and equations(name).takes_layer_norm)]
    cells = {name: Stack(name, directions).to(options.device) for name in options.cells or names}
    seconds: dict[str, list[float]] = {name: [] for name in cells}
    ratios: dict[str, list[float]] = {name: [] for name in cells}
    of_kernel = []
    for run in range(options.runs + 1):
        for name, cell in cells.items():
            base, own = timed(kernel, frames), timed(cell, frames)
            if run:  # the first is for warming up
                of_kernel.append(base)
                seconds[name].append(own)
                ratios[name].append(own / base)
    record(
        "cells" if options.device == "cpu" else f"cells_{options.device}",
        {
            "device": options.device,
            "threads": torch.get_num_threads(),
            "layers": NUM_LAYERS,
            "directions": directions,
            "batch": BATCH,
            "frames": FRAMES,
            "hidden_size": HIDDEN,
            "seconds_of_torch_gru": spread(of_kernel),
            "cells": {
                name: {
                    "over_torch_gru": spread([round(ratio, 3) for ratio in ratios[name]]),
                    "seconds": spread([round(value, 4) for value in seconds[name]]),
                }
                for name in cells
            },
        },
    )


def timed(module: nn.Module, frames: Tensor) -> float:
    """Seconds of one forward and backward pass, the device's work included."""
    module.zero_grad()
    frames.grad = None
    wait(frames.device)
    start = time.perf_counter()
    module(frames).sum().backward()
    wait(frames.device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Wait until `device` has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="cells to time; default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--bidirectional", action="store_true", help="both directions")
    parser.add_argument("--runs", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
