"""Makes `tests/` and `benchmarks/` importable: the corpus of tones and the browser are shared. No test is timed."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1] / "benchmarks"))

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
