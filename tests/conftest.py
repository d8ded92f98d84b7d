"""Makes `tests/` importable, so that all folders share the corpus of tones."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
