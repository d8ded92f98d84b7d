"""The report: one HTML file in which every utterance can be seen, heard and searched.

In: results, scores and what a recogniser knows of each recording. Out: a file that loads nothing and runs in any browser.
Decided here: what is shown, and that no text of a corpus is ever taken for code. `asr.report.collect` gathers (torch).
"""

from asr.report.details import Recording, System, UtteranceDetails
from asr.report.write import write_report, write_scorecard_report

__all__ = ["Recording", "System", "UtteranceDetails", "write_report", "write_scorecard_report"]
