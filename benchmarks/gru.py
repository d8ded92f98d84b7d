"""A bidirectional GRU layer on a CPU, forward and backward, in three ways.

    python benchmarks/gru.py

packed: torch's bidirectional GRU on packed frames. reversed: two of torch's GRUs, the second on utterances reversed by their
own length. shared: the same with the recurrence of `asr.model.gru_recurrence`, which is what the encoder trains with.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from record import record, spread, take_no_options
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.model.blocks import reversed_frames
from asr.model.gru_recurrence import gru_directions

SIZES = ((96, 16, 40), (160, 8, 80), (160, 16, 80), (320, 16, 250))
NUM_RUNS = 9


def main() -> None:
    """Time the three ways at several sizes, in turn, and record the ratios."""
    take_no_options(__doc__)
    torch.manual_seed(0)
    rows = []
    for hidden, batch, frames in SIZES:
        ways = three_ways(hidden, batch, frames)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for run in range(NUM_RUNS + 2):
            for name, way in ways.items():
                start = time.perf_counter()
                way().sum().backward()  # type: ignore[no-untyped-call]
                if run >= 2:
                    seconds[name].append(time.perf_counter() - start)
        medians = {name: spread(values)["median"] for name, values in seconds.items()}
        rows.append(
            {
                "hidden_size": hidden,
                "batch": batch,
                "frames": frames,
                "seconds": {name: spread(values) for name, values in seconds.items()},
                "packed_over_shared": medians["packed"] / medians["shared"],
                "reversed_over_shared": medians["reversed"] / medians["shared"],
            }
        )
    record("gru", {"threads": torch.get_num_threads(), "sizes": rows})


def three_ways(hidden: int, batch: int, frames: int) -> dict[str, Callable[[], Tensor]]:
    """The three ways by name, each a function of nothing that gives the outputs of one layer."""
    width = 2 * hidden
    lengths = torch.randint(int(0.85 * frames), frames + 1, (batch,))
    lengths[0] = frames
    inputs = torch.randn(frames, batch, width, requires_grad=True)
    both, forward, backward = nn.GRU(width, hidden, bidirectional=True), nn.GRU(width, hidden), nn.GRU(width, hidden)
    reversal = reversed_frames(lengths, frames)[..., None]

    def turned(values: Tensor) -> Tensor:
        return values.gather(0, reversal.expand_as(values))

    def packed() -> Tensor:
        output, _ = both(pack_padded_sequence(inputs, lengths, enforce_sorted=False))
        return pad_packed_sequence(output)[0]

    def reversed_by_length() -> Tensor:
        return torch.cat([forward(inputs)[0], turned(backward(turned(inputs))[0])], dim=-1)

    def shared() -> Tensor:
        ahead, behind = gru_directions([forward, backward], [inputs, turned(inputs)])
        return torch.cat([ahead, turned(behind)], dim=-1)

    return {"packed": packed, "reversed": reversed_by_length, "shared": shared}


if __name__ == "__main__":
    main()
