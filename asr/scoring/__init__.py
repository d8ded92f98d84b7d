"""How wrong the text is, and how sure we are of that number.

In: references and hypotheses, normalised alike. Out: error counts that add, `Result`s with 95 % intervals, a table and
files for people. Decided here: counts are summed before the one division, and what is resampled.
"""

from __future__ import annotations

from asr.scoring.error_counts import ErrorCounts, count_characters, count_words
from asr.scoring.report import (
    Result,
    SpeakerResult,
    UtteranceScore,
    results_table,
    score_utterance,
    speakers_table,
    summarize,
    summarize_speakers,
    write_hypotheses,
    write_results,
)
from asr.scoring.significance import Interval, rate_interval
from asr.scoring.transcripts import paired, read_transcripts

__all__ = [
    "ErrorCounts",
    "Interval",
    "Result",
    "SpeakerResult",
    "UtteranceScore",
    "count_characters",
    "count_words",
    "paired",
    "rate_interval",
    "read_transcripts",
    "results_table",
    "score_utterance",
    "speakers_table",
    "summarize",
    "summarize_speakers",
    "write_hypotheses",
    "write_results",
]
