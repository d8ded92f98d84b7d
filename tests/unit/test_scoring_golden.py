"""Scores against what NIST's sclite and sc_stats say of the same transcripts; `tests/golden/make_sclite.py` ran them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.scoring import UtteranceScore, compare, read_transcripts, score_utterance

GOLDEN = Path(__file__).parents[1] / "golden" / "sclite"
SCLITE = json.loads((GOLDEN / "sclite.json").read_text(encoding="utf-8"))


def scores(system: str) -> list[UtteranceScore]:
    """The scores of all utterances of a system."""
    said, heard = read_transcripts(GOLDEN / "ref.trn"), read_transcripts(GOLDEN / f"{system}.trn")
    return [
        score_utterance(id=name, reference=reference.text, hypothesis=heard[name].text)
        for name, reference in said.items()
    ]


@pytest.mark.parametrize("system", ["a", "b"])
def test_errors_are_those_of_sclite(system: str) -> None:
    found = scores(system)
    assert {score.id: score.words.errors for score in found} == {
        name: sum(counts[1:]) for name, counts in SCLITE[system].items()
    }
    # sclite charges 4 for a substitution and 3 for the others, so among the shortest alignments it may take another.
    alike = sum(
        [score.words.hits, score.words.substitutions, score.words.deletions, score.words.insertions]
        == SCLITE[system][score.id]
        for score in found
    )
    assert alike >= 0.9 * len(found)


def test_matched_pairs_are_those_of_sc_stats() -> None:
    found = compare(scores("a"), scores("b"), names=("a", "b"))
    assert found.segments == pytest.approx(SCLITE["segments"], rel=0.02)
    assert found.p_matched_pairs == pytest.approx(SCLITE["p"], abs=0.005)
