"""Folders of sound files: each with a `.txt` of the same name beside it, or of sounds or stored features alone."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from asr.audio import audio_info
from asr.corpus.utterance import KALDI, Utterance, check_id, check_speaker, check_text, warn_once
from asr.errors import AudioError, CorpusError, first_of

_AUDIO_SUFFIXES = frozenset(
    {".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav"}
)
_FEATURE_SUFFIXES = frozenset({".mfc", ".npy"})
_UNREAD_SUFFIXES = frozenset(
    ".3gp .aac .al .amr .dss .g729 .gsm .m4a .mkv .mov .mp4 .raw .snd .ul .voc .vox .webm .wma".split()
)


def read_folder(
    folder: Path, unusable: Callable[[str, CorpusError], None] | None = None, *, may_be_silent: bool = False
) -> Iterator[Utterance]:
    """The utterances in `folder` and below: every sound file with a `.txt` of the same name, ordered by path.

    The id is that of `file_id`, the speaker the first folder of that path ("" for a file that lies in
    `folder` itself). Lines of a text are joined by spaces. Hidden files are passed over; sound without text and text
    without sound are counted and named in a warning of the log.

    Args:
        folder: where to look.
        unusable: called with the id and the error of an utterance whose id, speaker or text cannot be used, which is then
            left out, and of files of one id the first is taken; None: errors are raised.
        may_be_silent: whether a text may be empty, as in `read_manifest`.

    Raises:
        CorpusError: no such folder, no sound file with a text, two sound files of the same name, or a text that is
            empty or not UTF-8.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder")
    audio_of, text_of = files_by_id(folder)
    for key, (first, *others) in (*audio_of.items(), *text_of.items()):
        if others and unusable is None:
            raise CorpusError(f"{others[0]}: {first.name} lies beside it and would have the same id '{key}'")
    ids = sorted(audio_of.keys() & text_of.keys())
    if not ids:
        of_kaldi = any((folder / name).is_file() for name in ("wav.scp", "feats.scp"))
        raise CorpusError(
            f"{folder}: no sound file with a .txt of the same name beside it; "
            f"found {len(audio_of)} sound files and {len(text_of)} texts{f'; {KALDI}' if of_kaldi else ''}"
        )
    _warn(folder, "sound files without text", [audio_of[key][0] for key in audio_of.keys() - text_of.keys()])
    _warn(folder, "texts without sound file", [text_of[key][0] for key in text_of.keys() - audio_of.keys()])
    for utterance_id in ids:
        try:
            check_id(utterance_id, where=str(folder))
            speaker = utterance_id.split("/")[0] if "/" in utterance_id else ""
            check_speaker(speaker, where=str(folder))
            text = _text_of_file(text_of[utterance_id][0], may_be_silent)
        except CorpusError as error:
            if unusable is None:
                raise
            unusable(utterance_id, error)
            continue
        yield Utterance(id=utterance_id, audio=audio_of[utterance_id][0], text=text, speaker=speaker)


def file_id(path: Path, folder: Path) -> str:
    """The id of the file at `path` in `folder` or below it: the path from there, without suffix.

    In Unicode's form NFC: some systems write accents as characters of their own, and sound and text may come from two.

    Example:
        >>> file_id(Path("talks/ann/day.1.wav"), Path("talks"))
        'ann/day.1'
    """
    return unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())


def sound_files(folder: Path) -> list[Path]:
    """The sound files in `folder` and below by their suffixes, in order of name, or where it has none those of features.

    Hidden ones are left out, and Kaldi's archives, in which only places are features of one recording.

    Raises:
        CorpusError: there is none.
    """
    visible = list(visible_files(folder))
    for suffixes in (_AUDIO_SUFFIXES, _FEATURE_SUFFIXES):
        if found := [path for path in visible if path.suffix.lower() in suffixes]:
            return found
    raise CorpusError(f"{folder}: no sound file in this folder, and no .npy or .mfc of stored features")


def visible_files(folder: Path) -> Iterator[Path]:
    """The files in `folder` and below, in alphabetical order; hidden ones are left out.

    Links to folders are followed, each folder once, and the folders that lie there by themselves come first: two links to
    one would give each sound two names. What cannot be read or is not followed is counted and named in a warning of the log.
    """
    found, unread, again, lost = list[Path](), list[Path](), list[Path](), list[Path]()
    seen: set[Path] = set()
    starts = [folder]
    for start in starts:
        for name, below, files in os.walk(start, onerror=lambda error: unread.append(Path(error.filename))):
            here = Path(name)
            if here.resolve() in seen:
                again.append(here)
                below.clear()
                continue
            seen.add(here.resolve())
            below[:] = sorted(each for each in below if not each.startswith("."))
            starts += [here / each for each in below if (here / each).is_symlink()]
            visible = [here / each for each in files if not each.startswith(".")]
            # In a folder that may be listed but not entered, a Path's own questions raise errors.
            reached = [each for each in visible if os.access(each, os.F_OK)]
            found += [each for each in reached if each.is_file()]
            lost += sorted(set(visible).difference(reached))
    _warn(folder, "folders that cannot be read", unread)
    _warn(folder, "links to folders that are read anyway", again)
    _warn(folder, "files that are not there or cannot be reached", lost)
    unknown = [path for path in found if path.suffix.lower() in _UNREAD_SUFFIXES]
    _warn(folder, "files of other formats than wav, flac, ogg, opus and mp3 (convert them)", unknown)
    unnamed = [path for path in found if not path.suffix and _is_sound(path)]
    _warn(folder, "sound files whose names have no suffix (add one, such as .wav)", unnamed)
    yield from sorted(found)


def _is_sound(path: Path) -> bool:
    try:
        audio_info(path)
    except AudioError:
        return False
    return True


def is_read(path: Path) -> bool:
    """Whether a folder of sounds and texts is read for files with such a name."""
    return path.suffix.lower() in _AUDIO_SUFFIXES or path.suffix.lower() == ".txt"


def files_by_id(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Sound files and texts below `folder` by relative path without suffix; there should be one of each."""
    audio_of: dict[str, list[Path]] = {}
    text_of: dict[str, list[Path]] = {}
    for path in visible_files(folder):
        if is_read(path):
            files = text_of if path.suffix.lower() == ".txt" else audio_of
            files.setdefault(file_id(path, folder), []).append(path)
    return audio_of, text_of


def _warn(folder: Path, what: str, left_out: Collection[Path]) -> None:
    if left_out:
        names = [path.relative_to(folder).as_posix() for path in sorted(left_out)]
        warn_once(f"{folder}: left out {len(left_out)} {what}: {first_of(names)}")


def _text_of_file(path: Path, may_be_silent: bool) -> str:
    try:
        text = " ".join(path.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text; convert it to UTF-8") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot read the text: {error.strerror or error}") from error
    check_text(text, where=str(path), may_be_silent=may_be_silent)
    return text
