"""How wrong the text is, and how sure we are of that number.

In: references and hypotheses, normalised alike. Out: error counts that add, `Result`s with 95 % intervals, groups,
confusions, comparisons of systems, tables and files for people. Decided here: counts are summed before the one division,
what is resampled, and that no text is changed unless asked for.
"""

from __future__ import annotations

from asr.scoring.breakdown import GroupResult, groups_tables, summarize_groups
from asr.scoring.comparison import SIGNIFICANT, Comparison, beside_each_other, compare
from asr.scoring.confusion import Confusions, confusions_table
from asr.scoring.error_counts import ErrorCounts, count_characters, count_words
from asr.scoring.filed import FiledTranscripts
from asr.scoring.formats import Columns, form_of, has_columns, hint_about_ids, read_transcripts
from asr.scoring.normalizers import NORMALIZERS, normalizer
from asr.scoring.report import (
    Result,
    UtteranceScore,
    interval_note,
    part_note,
    read_results,
    results_table,
    score_utterance,
    summarize,
    write_hypotheses,
    write_results,
)
from asr.scoring.rover import confident_readings, normalised, readings, spellings, vote, word_transition_network
from asr.scoring.scorecard import Scorecard, SystemScores, score_systems, write_scorecard
from asr.scoring.significance import Interval, rate_interval
from asr.scoring.transcripts import Transcript, count_unpaired, ignored
from asr.scoring.writers import check_writable, write_transcripts

__all__ = [
    "NORMALIZERS",
    "SIGNIFICANT",
    "Columns",
    "Comparison",
    "Confusions",
    "ErrorCounts",
    "FiledTranscripts",
    "GroupResult",
    "Interval",
    "Result",
    "Scorecard",
    "SystemScores",
    "Transcript",
    "UtteranceScore",
    "beside_each_other",
    "check_writable",
    "compare",
    "confident_readings",
    "confusions_table",
    "count_characters",
    "count_unpaired",
    "count_words",
    "form_of",
    "groups_tables",
    "has_columns",
    "hint_about_ids",
    "ignored",
    "interval_note",
    "normalised",
    "normalizer",
    "part_note",
    "rate_interval",
    "read_results",
    "read_transcripts",
    "readings",
    "results_table",
    "score_systems",
    "score_utterance",
    "spellings",
    "summarize",
    "summarize_groups",
    "vote",
    "word_transition_network",
    "write_hypotheses",
    "write_results",
    "write_scorecard",
    "write_transcripts",
]
