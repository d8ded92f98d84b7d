"""Recurrent cells: frames (S, B, I) in, outputs (S, B, H) and the state after the last frame out; never a look ahead.

`CELLS` names them. `simple.py`, `gru.py`, `light.py` and `elementwise.py` hold one class per set of equations, which is
also what runs: frame by frame in `step` or, where a class has a `recur` of its own, as a scan or a compiled loop that tests
hold to `step`. `recurrent.py` is what these share. gru, lstm and rnn are torch's kernels, gru on a CPU a compiled loop, with
references among the classes.
"""

from asr.model.cells.recurrent import RecurrentCell, State
from asr.model.cells.table import CELLS, descriptions, equations, make_cell, run_cells

__all__ = ["CELLS", "RecurrentCell", "State", "descriptions", "equations", "make_cell", "run_cells"]
