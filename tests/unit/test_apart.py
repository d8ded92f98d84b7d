"""What is learnt from is known again under other names, and what only looks the same is let by."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from asr.corpus.apart import Apart
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError

LEARNT = Utterance(id="u1", audio=b"sound", text="one two")


@pytest.mark.parametrize(
    ("by_text", "heard", "corpus", "of_user", "is_leak"),
    [
        (True, Utterance(id="u1", audio=b"", text="one two"), "other", False, True),
        (True, Utterance(id="u1", audio=b"", text="three"), "other", False, False),
        (True, Utterance(id="u2", audio=b"", text="one two"), "corpus", False, False),
        (False, Utterance(id="u1", audio=b"", text="three"), "corpus", False, True),
        (False, Utterance(id="u1", audio=b"", text="one two"), "other", False, False),
        (False, Utterance(id="u1", audio=b"", text="three"), "corpus", True, True),
        (False, Utterance(id="u1", audio=Path("other.wav"), text="three"), "corpus", False, True),
        (False, Utterance(id="u1", audio=Path("other.wav"), text="three"), "corpus", True, False),
    ],
)
def test_an_utterance_is_known_by_its_text_or_its_corpus(
    by_text: bool, heard: Utterance, corpus: str, of_user: bool, is_leak: bool
) -> None:
    apart = Apart(by_text=by_text)
    list(apart.passed([LEARNT], "train", "corpus", is_train=True, of_user=of_user))
    told = (
        pytest.raises(CorpusError, match=r"'u1'.* is in 'test' and in 'train': a model") if is_leak else nullcontext()
    )
    with told:
        assert list(apart.passed([heard], "test", corpus, is_train=False, of_user=of_user)) == [heard]


def test_a_link_to_a_sound_that_is_learnt_from_is_that_sound(tmp_path: Path) -> None:
    (tmp_path / "sound.wav").write_bytes(b"sound")
    (tmp_path / "link.wav").symlink_to("sound.wav")
    learnt, heard = (Utterance(id=name, audio=tmp_path / f"{name}.wav", text="a") for name in ("sound", "link"))
    apart = Apart(by_text=False)
    list(apart.passed([learnt], "train", "corpus", is_train=True))
    with pytest.raises(CorpusError, match=r"'link' \(.*link.wav\) is in 'test' and in 'train', as 'sound'"):
        list(apart.passed([heard], "test", "corpus", is_train=False))


@pytest.mark.parametrize("is_train", [True, False])
def test_parts_of_one_kind_may_share_utterances(is_train: bool) -> None:
    apart = Apart(by_text=True)
    for part in ("one", "two"):
        assert list(apart.passed([LEARNT], part, "corpus", is_train=is_train)) == [LEARNT]


@pytest.mark.parametrize("by_contents", [True, False])
def test_a_copy_is_known_by_its_contents_where_that_is_asked_for(
    by_contents: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt, heard = (Utterance(id=name, audio=tmp_path / f"{name}.wav", text="a") for name in ("sound", "copy"))
    for utterance in (learnt, heard):
        utterance.audio.write_bytes(b"sound")
    apart = Apart(by_text=False)
    list(apart.passed([learnt], "train", "corpus", is_train=True, by_contents=by_contents))
    told = pytest.raises(CorpusError, match="as 'sound'") if by_contents else nullcontext()
    with told:
        list(apart.passed([heard], "test", "corpus", is_train=False, by_contents=by_contents))

    def unreadable(path: Path) -> bytes:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    # Whoever writes the shards says that it cannot be read.
    assert list(apart.passed([heard], "test", "corpus", is_train=False, by_contents=by_contents)) == [heard]
