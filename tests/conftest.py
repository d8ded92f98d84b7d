"""Makes `tests/` and `benchmarks/` importable: the corpus of tones and the browser are shared."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1] / "benchmarks"))
