"""Manifests and folders: each mistake has its line or file in the message."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio import Codec, encode_audio, read_signal
from asr.corpus.folder import read_folder, sound_files
from asr.corpus.utterance import Utterance, check_id, read_manifest, write_manifest
from asr.errors import CorpusError

CORPORA = Path(__file__).parents[2].parent / "shared" / "corpora"
GOOD = '{"id": "a", "audio": "a.wav", "text": "hello"}'


def manifest(tmp_path: Path, *lines: str | bytes) -> Path:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return path


def test_all_columns_are_read(tmp_path: Path) -> None:
    record = {"id": "a", "audio": "x/a.wav", "text": "hi", "seconds": 2, "speaker": "s", "room": "ü"}
    record |= {"take": 3, "loud": True, "level": 0.5, "tags": ["x"], "none": None}
    (utterance,) = read_manifest(manifest(tmp_path, json.dumps(record)))
    metadata = {"room": "ü", "take": "3", "loud": "true", "level": "0.5", "tags": '["x"]', "none": "null"}
    assert utterance == Utterance(
        id="a", audio=tmp_path / "x/a.wav", text="hi", seconds=2.0, speaker="s", metadata=metadata
    )


def test_optional_columns_may_be_null_and_paths_absolute(tmp_path: Path) -> None:
    line = '{"id": "a", "audio": "/far/a.wav", "text": "hi", "seconds": null, "speaker": null}'
    (utterance,) = read_manifest(manifest(tmp_path, line))
    assert utterance == Utterance(id="a", audio=Path("/far/a.wav"), text="hi")


def test_blank_lines_byte_order_mark_and_carriage_returns_are_passed_over(tmp_path: Path) -> None:
    path = manifest(tmp_path, b"\xef\xbb\xbf" + GOOD.encode() + b"\r", "", "  ", GOOD.replace('"a"', '"b"'))
    assert [utterance.id for utterance in read_manifest(path)] == ["a", "b"]


def test_line_separators_inside_a_text_do_not_end_the_line(tmp_path: Path) -> None:
    path = manifest(tmp_path, '{"id": "a", "audio": "a.wav", "text": "one\u2028two\u0085three"}')
    assert next(read_manifest(path)).text == "one\u2028two\u0085three"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "not JSON"),
        ('{"id": "b", "audio": "b.wav"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"id": ' + "9" * 5000 + "}", "not JSON"),
        (b"\xff\xfe{", "not UTF-8"),
        ("[1, 2]", r"expected a JSON object, found \[1, 2\]"),
        ('"text"', "expected a JSON object"),
        ('{"id": "b", "text": "x"}', "key 'audio' is missing; found 'id', 'text'"),
        ('{"audio_filepath": "b.wav", "text": "x"}', "key 'id' is missing; found 'audio_filepath', 'text'"),
        ('{"id": "b", "audio": "b.wav"}', "key 'text' is missing; found 'id', 'audio'"),
        ("{}", "key 'id' is missing; found no key"),
        ('{"id": 7, "audio": "b.wav", "text": "x"}', "expected text in 'id', found 7"),
        ('{"id": "b", "audio": null, "text": "x"}', "expected text in 'audio', found null"),
        ('{"id": "b", "audio": "b.wav", "text": ["x"]}', r"expected text in 'text', found \[\"x\"\]"),
        ('{"id": "b", "audio": "b.wav", "text": "x", "speaker": 3}', "expected text in 'speaker', found 3"),
        *(
            (
                f'{{"id": "b", "audio": "b.wav", "text": "x", "speaker": "an{mark}na"}}',
                "the speaker .* holds a line break",
            )
            for mark in ("\\r", "\\n", "\\t", "\\u0085", "\\u2028", "\\u0000")
        ),
        ('{"id": "b", "audio": "b.wav", "text": "x", "seconds": "3"}', "expected a number in 'seconds', found \"3\""),
        ('{"id": "b", "audio": "b.wav", "text": "x", "seconds": true}', "expected a number in 'seconds', found true"),
        ('{"id": "b", "audio": "b.wav", "text": "x", "seconds": 0}', "duration above 0 in 'seconds', found 0"),
        ('{"id": "b", "audio": "b.wav", "text": "x", "seconds": NaN}', "duration above 0 in 'seconds', found NaN"),
        ('{"id": "b", "audio": "b.wav", "text": "x", "seconds": 1e400}', "duration above 0 in 'seconds', found Inf"),
        ('{"id": "b", "audio": "b.wav", "text": "x", "seconds": 1' + "0" * 400 + "}", "duration above 0"),
        ('{"id": "", "audio": "b.wav", "text": "x"}', "the id is empty"),
        ('{"id": "b\\nc", "audio": "b.wav", "text": "x"}', "line break"),
        ('{"id": "b\\u0000", "audio": "b.wav", "text": "x"}', "NUL"),
        ('{"id": "b\\ud800", "audio": "b.wav", "text": "x"}', "not valid Unicode"),
        ('{"id": "b", "audio": "", "text": "x"}', "'audio' of 'b' is not a path"),
        ('{"id": "b", "audio": "b\\u0000.wav", "text": "x"}', "'audio' of 'b' is not a path"),
        ('{"id": "b", "audio": "b\\ud800.wav", "text": "x"}', "'audio' of 'b' is not a path"),
        ('{"id": "b", "audio": "b.wav", "text": " "}', "'b' has no text"),
        ('{"id": "b", "audio": "b.wav", "text": "\\udfff"}', "not valid Unicode"),
        ('{"id": "b", "audio": "b.wav", "text": "x", "speaker": "\\udfff"}', "not valid Unicode"),
        ('{"id": "b", "audio": "b.wav", "text": "x", "place": ["\\udfff"]}', "not valid Unicode"),
        (GOOD, "id 'a' stands already in line 1"),
    ],
)
def test_a_bad_line_is_named(line: str | bytes, message: str, tmp_path: Path) -> None:
    utterances = read_manifest(manifest(tmp_path, GOOD, line))
    assert next(utterances).id == "a"
    with pytest.raises(CorpusError, match=message) as caught:
        next(utterances)
    assert str(caught.value).startswith(f"{tmp_path}/m.jsonl:2: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf\n"])
def test_an_empty_manifest_is_an_error(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"m\.jsonl: the manifest holds no utterance"):
        list(read_manifest(manifest(tmp_path, content)))


def test_a_missing_manifest_or_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot read the file: No such file"):
        list(read_manifest(tmp_path / "gone.jsonl"))
    with pytest.raises(CorpusError, match="cannot read the file: Is a directory"):
        list(read_manifest(tmp_path))


def test_reading_streams(tmp_path: Path) -> None:
    """The first utterance is there before a later line is looked at."""
    assert next(read_manifest(manifest(tmp_path, GOOD, "broken"))).id == "a"


def test_keys_that_other_tools_cut_sound_by_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [{"id": str(number), "audio": "a.wav", "text": "x", "offset": number, "duration": 1} for number in range(3)]
    path = manifest(tmp_path, *map(json.dumps, [lines[0], lines[1] | {"end": 2.5, "channel": 1}, lines[2]]))
    for _ in range(2):  # as a run does
        assert len(list(read_manifest(path))) == 3
    whole = "sounds are heard whole; cut them beforehand"
    mixed = "all channels are heard, mixed; write each to a file of its own beforehand"
    assert caplog.messages == [  # of the first line nothing is cut
        f"{path}:2: key without use: end, offset ({whole}); channel ({mixed})",
    ]


def test_a_column_of_names_cuts_no_sound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file for each channel, which keeps the channel's name to tell error rates by."""
    line = {"id": "a", "audio": "a.wav", "text": "x", "channel": "agent", "start": None, "offset": "0.0"}
    (read,) = read_manifest(manifest(tmp_path, json.dumps(line)))
    assert read.metadata["channel"] == "agent"
    assert caplog.messages == []


def test_written_paths_are_relative_below_the_manifest_only(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    inside, outside = tmp_path / "wav" / "a.wav", tmp_path.parent / "b.wav"
    utterances = [Utterance(id="a", audio=inside, text="x"), Utterance(id="b", audio=outside, text="y")]
    assert write_manifest(path, utterances) == 2
    assert [json.loads(line)["audio"] for line in path.read_text().splitlines()] == ["wav/a.wav", str(outside)]
    assert list(read_manifest(path)) == utterances


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Utterance(id="b", audio=b"RIFF", text="x"), "'b' holds its audio as bytes"),
        (Utterance(id="a", audio=Path("a"), text="x"), "id 'a' occurs twice"),
        (Utterance(id="b\n", audio=Path("a"), text="x"), "line break"),
        (Utterance(id="b", audio=Path("a"), text=""), "no text"),
        (Utterance(id="b", audio=Path("a"), text="x", speaker="a\rb"), "'b': the speaker"),
        (Utterance(id="b", audio=Path("a"), text="x", metadata={"text": "y"}), "metadata named"),
    ],
)
def test_a_failed_write_leaves_the_old_manifest(bad: Utterance, message: str, tmp_path: Path) -> None:
    path = manifest(tmp_path, GOOD)
    before = path.read_bytes()
    with pytest.raises(CorpusError, match=message):
        write_manifest(path, [Utterance(id="a", audio=Path("a"), text="x"), bad])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot write the manifest"):
        write_manifest(tmp_path / "gone" / "m.jsonl", [])


@pytest.mark.parametrize("good", ["a", "a b", "ä/ö.1", "a:b", "%41", "x" * 300, "日本", "👍🏽", ".", "__a__"])
def test_odd_ids_are_accepted(good: str) -> None:
    check_id(good, where="here")


@pytest.mark.parametrize("bad", ["", "\n", "a\r", "a\u2028b", "a\x85b", "a\x0cb", "\0", "\ud800"])
def test_impossible_ids_are_refused(bad: str) -> None:
    with pytest.raises(CorpusError, match=r"^here: the id"):
        check_id(bad, where="here")


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_gives_ids_texts_and_speakers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {"b.WAV": b"", "b.txt": b"two\n words\r\n", "ann/x/1.flac": b"", "ann/x/1.txt": "\ufeffgrüße".encode()}
    files |= {".hidden/c.wav": b"", "ann/._1.flac": b"", "notes.md": b"", "a.b.opus": b"", "a.b.txt": b"dots"}
    with caplog.at_level(logging.WARNING):
        utterances = list(read_folder(fill(tmp_path, files)))
    assert utterances == [
        Utterance(id="a.b", audio=tmp_path / "a.b.opus", text="dots"),
        Utterance(id="ann/x/1", audio=tmp_path / "ann/x/1.flac", text="grüße", speaker="ann"),
        Utterance(id="b", audio=tmp_path / "b.WAV", text="two words"),
    ]
    assert not caplog.records


def test_links_to_folders_are_followed_and_not_in_circles(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", {"1.wav": b"", "1.txt": b"x"})
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "ann").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "elsewhere")
    assert [utterance.id for utterance in read_folder(tmp_path / "corpus")] == ["ann/1"]


def test_a_folder_is_read_once_however_many_links_lead_to_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Under two names, the same sound would be learnt from twice, or learnt from and measured on."""
    fill(tmp_path / "elsewhere", {"1.wav": b"", "1.txt": b"x"})
    corpus = fill(tmp_path / "corpus", {"ben/2.wav": b"", "ben/2.txt": b"y"})
    for name, target in (("ann", "ben"), ("zoe", "../elsewhere"), ("zwei", "../elsewhere"), ("up", "../corpus")):
        (corpus / name).symlink_to(target)
    assert [utterance.id for utterance in read_folder(corpus)] == ["ben/2", "zoe/1"]
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == f"{corpus}: left out 3 links to folders that are read anyway: ann, up, zwei"


def test_sound_in_formats_that_cannot_be_read_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, {"1.wav": b"", "1.txt": b"x", "2.M4A": b"", "a/film.mp4": b"", "call.gsm": b"", "notes.pdf": b""})
    assert [utterance.id for utterance in read_folder(tmp_path)] == ["1"]
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.endswith("other formats than wav, flac, ogg, opus and mp3 (convert them): 2.M4A, a/film.mp4, call.gsm")


@pytest.mark.parametrize("codec", ["wav", "flac", "opus"])
def test_sound_whose_name_has_no_suffix_is_named(
    codec: Codec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = encode_audio(np.zeros(800, np.float32), 8000, codec)
    fill(tmp_path, {"1.wav": sound, "1.txt": b"x", "2": sound, "2.txt": b"y", "README": b"About\n", "empty": b""})
    for _ in range(2):
        assert sound_files(tmp_path) == [tmp_path / "1.wav"]
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == f"{tmp_path}: left out 1 sound files whose names have no suffix (add one, such as .wav): 2"


def test_links_that_lead_nowhere_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, {"1.wav": b"", "1.txt": b"x"})
    for name in ("2.wav", "2.txt", "ann"):
        (tmp_path / name).symlink_to("gone")
    assert [utterance.id for utterance in read_folder(tmp_path)] == ["1"]
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.endswith(": left out 3 files that are not there or cannot be reached: 2.txt, 2.wav, ann")


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="no such permissions")
@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (0o000, "left out 1 folders that cannot be read: ann"),
        (0o444, "left out 2 files that are not there or cannot be reached: ann/2.txt, ann/2.wav"),
    ],
)
def test_folders_without_permission_are_named(mode: int, message: str, tmp_path: Path) -> None:
    fill(tmp_path, {"1.wav": b"", "1.txt": b"x", "ann/2.wav": b"", "ann/2.txt": b"y"})
    code = (
        "import os; from asr.corpus.folder import visible_files; from pathlib import Path;"
        "os.geteuid() or os.setuid(65534); print(*visible_files(Path('.')))"
    )
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)  # pytest's own folders let nobody else in
    (tmp_path / "ann").chmod(mode)
    try:
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    finally:
        (tmp_path / "ann").chmod(0o755)
    assert done.stdout == "1.txt 1.wav\n", done.stderr
    assert done.stderr == f".: {message}\n"


def test_what_is_left_out_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run reads a folder for each part that it makes of it."""
    fill(tmp_path, {"a.wav": b"", "a.txt": b"a", "lonely.wav": b""})
    for _ in range(3):
        assert len(list(read_folder(tmp_path))) == 1
    assert len(caplog.records) == 1


def test_what_a_folder_leaves_out_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, {"a.wav": b"", "a.txt": b"a", "s/only.txt": b"x"} | {f"lonely{n}.wav": b"" for n in range(7)})
    with caplog.at_level(logging.WARNING):
        assert len(list(read_folder(tmp_path))) == 1
    first, second = (record.getMessage() for record in caplog.records)
    assert "left out 7 sound files without text: lonely0.wav, lonely1.wav" in first
    assert first.endswith("and 4 more")
    assert second.endswith("left out 1 texts without sound file: s/only.txt")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no sound file with a .txt .* found 0 sound files and 0 texts"),
        (
            {"feats.scp": b"a f.ark:2", "text": b"a x"},
            "0 texts; from_kaldi in docs/guide.md makes a manifest of Kaldi's",
        ),
        ({"a.wav": b"", "b.txt": b"x"}, "found 1 sound files and 1 texts"),
        ({"a.wav": b"", "a.txt": b"\xff\xfeh\0"}, r"a\.txt: not UTF-8"),
        ({"a.wav": b"", "a.txt": b" \n"}, r"a\.txt has no text"),
        ({"an\tna/a.wav": b"", "an\tna/a.txt": b"x"}, "the speaker .* holds a line break, a tab"),
        ({"a.wav": b"", "a.flac": b"", "a.txt": b"x"}, r"a\.wav: a\.flac lies beside it .* same id 'a'"),
    ],
)
def test_an_unusable_folder_is_named(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=message):
        list(read_folder(fill(tmp_path, files)))


@pytest.mark.parametrize(("suffix", "container"), [(".sph", "NIST"), (".aiff", "AIFF"), (".W64", "W64")])
def test_sound_of_other_containers_is_found_and_read(tmp_path: Path, suffix: str, container: str) -> None:
    tone = 0.5 * np.sin(np.arange(800) / 5)
    soundfile.write(tmp_path / f"a{suffix}", tone, 8000, format=container)
    assert sound_files(tmp_path) == [tmp_path / f"a{suffix}"]
    np.testing.assert_allclose(read_signal(tmp_path / f"a{suffix}", 8000, 0), tone, atol=1e-4)


def test_a_folder_without_sound_is_gone_through_for_stored_features(tmp_path: Path) -> None:
    fill(tmp_path, {"a.ark": b"x", "a.txt": b"x"})
    with pytest.raises(CorpusError, match=r"no sound file in this folder, and no \.npy or \.mfc of stored features$"):
        sound_files(tmp_path)
    fill(tmp_path, {"b.npy": b"x", "below/c.mfc": b"x"})
    assert sound_files(tmp_path) == [tmp_path / "b.npy", tmp_path / "below" / "c.mfc"]
    fill(tmp_path, {"d.wav": b"x"})
    assert sound_files(tmp_path) == [tmp_path / "d.wav"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        list(read_folder(tmp_path / "gone"))


def test_a_real_manifest_reads_as_it_is() -> None:
    path = CORPORA / "speechocean762" / "manifest.jsonl"
    if not path.is_file():
        pytest.skip(f"the corpora are not here: {path}")
    utterances = list(read_manifest(path))
    assert len(utterances) == 3000
    assert {utterance.metadata["split"] for utterance in utterances} == {"train", "test"}
    assert isinstance(utterances[0].audio, Path)
    assert utterances[0].audio.is_file()
