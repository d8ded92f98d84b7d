"""What is learnt from and what is measured on, kept apart."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from asr.corpus.utterance import Utterance
from asr.errors import CorpusError


class Apart:
    """Passes utterances on, part by part, those to learn from first, and lets none by that is in both kinds of part.

    With `by_text` it knows them by id and text, else by corpus and id; and by the file of their audio, if they have one.
    """

    def __init__(self, *, by_text: bool) -> None:
        self._by_text = by_text
        # The part to learn from that has each, and its id there.
        self._learnt: dict[tuple[str, str], tuple[str, str]] = {}

    def passed(
        self,
        utterances: Iterable[Utterance],
        part: str,
        corpus: str,
        *,
        is_train: bool,
        of_user: bool = False,
        by_contents: bool = False,
    ) -> Iterator[Utterance]:
        """`utterances` of `part` of `corpus`.

        Ids say nothing of those `of_user`, the user's own files: lists may give one sound two names, and two sounds the
        same. Copying is how many split a folder, so that files may be compared `by_contents` too.

        Raises:
            CorpusError: one is in a training part and in this one, which is none.
        """
        for utterance in utterances:
            for key in self._keys(utterance, corpus, of_user, by_contents):
                if not is_train and key in self._learnt:
                    file = f" ({utterance.audio})" if isinstance(utterance.audio, Path) else ""
                    learnt_in, learnt_id = self._learnt[key]
                    name = "" if learnt_id == utterance.id else f", as '{learnt_id}'"
                    raise CorpusError(
                        f"utterance '{utterance.id}'{file} is in '{part}' and in '{learnt_in}'{name}: a model must not be "
                        "measured on what it learnt from; take it out of one of the two"
                    )
                if is_train:
                    self._learnt[key] = part, utterance.id
            yield utterance

    def _keys(self, utterance: Utterance, corpus: str, of_user: bool, by_contents: bool) -> Iterator[tuple[str, str]]:
        file = utterance.audio if isinstance(utterance.audio, Path) else None
        if self._by_text:
            yield utterance.id, utterance.text
        elif file is None or not of_user:
            yield corpus, utterance.id
        if file is not None:
            yield "", os.path.realpath(file)
            # What cannot be read, whoever writes the shards counts and names.
            with contextlib.suppress(OSError):
                if by_contents and file.is_file():
                    yield "contents", contents_of(file)


def contents_of(file: Path) -> str:
    """What tells the contents of `file` from those of others, by whatever names they lie.

    Raises:
        OSError: it cannot be read.
    """
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
