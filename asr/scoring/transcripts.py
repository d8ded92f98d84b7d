"""Transcripts as lines of `id text`, the form of LibriSpeech's `.trans.txt`, and the pairs that two such files make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from asr.errors import ScoringError

_NUM_NAMED = 3


def read_transcripts(path: Path) -> dict[str, str]:
    """The texts in the file at `path` by utterance id, in the file's order; a line that is only an id has the text "".

    The id ends at the first white space. Blank lines are passed over.

    Raises:
        ScoringError: the file cannot be read, is not UTF-8, holds no line, or an id stands twice.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ScoringError(f"{path}: cannot read the transcripts: {error.strerror or error}") from error
    texts: dict[str, str] = {}
    line_of_id: dict[str, int] = {}
    # Only \n ends a line: str.splitlines would also cut a text at U+2028 and the like.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            words = line.decode("utf-8").split(maxsplit=1)
        except UnicodeDecodeError as error:
            raise ScoringError(f"{path}:{number}: not UTF-8 text; convert the file to UTF-8") from error
        if not words:
            continue
        utterance_id = words[0]
        if utterance_id in texts:
            raise ScoringError(
                f"{path}:{number}: id '{utterance_id}' stands already in line {line_of_id[utterance_id]}; "
                "expected one line `id text` for each utterance"
            )
        texts[utterance_id] = words[1].strip() if len(words) > 1 else ""
        line_of_id[utterance_id] = number
    if not texts:
        raise ScoringError(f"{path}: expected lines `id text`, found none")
    return texts


def paired(
    references: Mapping[str, str], hypotheses: Mapping[str, str], *, missing_as_empty: bool = False
) -> dict[str, tuple[str, str]]:
    """Reference and hypothesis of each utterance by id, in the order of `references`.

    Args:
        references: what was said, by utterance id.
        hypotheses: what was recognised, by utterance id.
        missing_as_empty: whether a missing hypothesis counts as one that says nothing; else it is an error.

    Raises:
        ScoringError: an utterance has no hypothesis, or a hypothesis no reference.

    Example:
        >>> paired({"a": "yes", "b": "no"}, {"b": "now"}, missing_as_empty=True)
        {'a': ('yes', ''), 'b': ('no', 'now')}
    """
    extra = [utterance_id for utterance_id in hypotheses if utterance_id not in references]
    if extra:
        raise ScoringError(
            f"{len(extra)} of {len(hypotheses)} hypotheses have no reference: {_named(extra)}; "
            "are these two files of the same data?"
        )
    missing = [utterance_id for utterance_id in references if utterance_id not in hypotheses]
    if missing and not missing_as_empty:
        raise ScoringError(
            f"{len(missing)} of {len(references)} references have no hypothesis: {_named(missing)}; "
            "add them, or count them as empty with --missing-as-empty"
        )
    empty = dict.fromkeys(missing, "")
    return {key: (text, (empty if key in empty else hypotheses)[key]) for key, text in references.items()}


def _named(ids: Iterable[str]) -> str:
    quoted = [f"'{utterance_id}'" for utterance_id in ids]
    return ", ".join(quoted[:_NUM_NAMED]) + (", ..." if len(quoted) > _NUM_NAMED else "")
