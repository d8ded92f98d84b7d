"""Scoring takes as good as no more memory for more utterances."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

from asr.scoring import count_unpaired, read_transcripts, score_systems, write_scorecard

# Twice what counts of two systems and their resampling take, since there is garbage that waits to be collected.
MOST_BYTES_PER_UTTERANCE = 500
# Few and long: quickly scored, and each text takes more than the bound.
WORDS = [chr(ord("a") + number) * 150 for number in range(4)]


def _peak(folder: Path, num_utterances: int) -> int:
    """Bytes at the peak of all that `asr score` does for two systems."""
    generator = random.Random(0)
    lines: dict[str, list[str]] = {"said": [], "one": [], "two": []}
    for number in range(num_utterances):
        for of_file in lines.values():
            of_file.append(f"{number % 20}-{number} {' '.join(WORDS)} {generator.choice(WORDS)}\n")
    for of_file in lines.values():
        generator.shuffle(of_file)
    for name, of_file in lines.items():
        (folder / f"{name}.txt").write_text("".join(of_file), encoding="utf-8")
    lines.clear()
    tracemalloc.start()
    try:
        said = read_transcripts(folder / "said.txt")
        heard = {name: read_transcripts(folder / f"{name}.txt", references=said) for name in ("one", "two")}
        for of_system in heard.values():
            assert count_unpaired(said, of_system) == (0, 0)
        # To look for errors of spelling takes time, not memory.
        card = score_systems(said, heard, subset="test", normalizers=("case", "punctuation"), keep_scores=False)
        write_scorecard(folder / "score.json", card)
        assert card.systems[0].result.utterances == num_utterances
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_hardly_grows_with_the_number_of_utterances(tmp_path: Path) -> None:
    few, many = 100, 1000
    _peak(tmp_path, few)  # what is made once: imports and tables
    growth = _peak(tmp_path, many) - _peak(tmp_path, few)
    assert growth < MOST_BYTES_PER_UTTERANCE * (many - few)
