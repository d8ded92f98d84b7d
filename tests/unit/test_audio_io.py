"""Reading sound files: what libsndfile reads must come out right, what is damaged must be named."""

from __future__ import annotations

import io
import os
import signal
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from asr.audio import UnusableAudioError, as_waveform, audio_info, encode_audio, read_audio
from asr.audio import io as audio_io
from asr.audio.io import encode_for_browser
from asr.errors import AudioError

RATE = 16000
LOSSLESS = [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAVEX", "PCM_16"), ("FLAC", "PCM_16")]
LOSSLESS += [("FLAC", "PCM_24"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16")]
LOSSY = [("OGG", "OPUS"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]


def sine(seconds: float = 1.0, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(waveform: np.ndarray, rate: int = RATE, container: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, format=container, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(("container", "subtype"), LOSSLESS)
def test_lossless_samples_come_out_as_they_went_in(container: str, subtype: str) -> None:
    waveform = read_audio(encoded(sine(), container=container, subtype=subtype), RATE)
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, sine(), atol=1 / 32768)


@pytest.mark.parametrize(("container", "subtype"), LOSSY)
def test_lossy_files_keep_length_and_pitch(container: str, subtype: str) -> None:
    waveform = read_audio(encoded(sine(), container=container, subtype=subtype), RATE)
    assert waveform.shape == (RATE,)
    spectrum = np.abs(np.fft.rfft(waveform))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_channels_are_averaged() -> None:
    left = sine()
    stereo = np.stack([left, 0.2 * left, -0.3 * left], axis=1)
    np.testing.assert_allclose(read_audio(encoded(stereo), RATE), 0.3 * left, atol=1e-4)


def test_one_channel_is_read_alone() -> None:
    left = sine()
    stereo = encoded(np.stack([left, -0.3 * left], axis=1))
    np.testing.assert_allclose(read_audio(stereo, RATE, channel=1), left, atol=1e-4)
    np.testing.assert_allclose(read_audio(stereo, RATE, channel=2), -0.3 * left, atol=1e-4)
    np.testing.assert_array_equal(read_audio(encoded(left), RATE, channel=1), read_audio(encoded(left), RATE))
    for channel in (0, 3):
        with pytest.raises(UnusableAudioError, match=f"no such channel: it has 2, counted from 1, found {channel}"):
            read_audio(stereo, RATE, channel=channel)


def test_streams_one_behind_the_other_are_read_by_channel() -> None:
    left = sine()
    stream = encoded(np.stack([left, 0 * left], axis=1), container="OGG", subtype="VORBIS")
    both = read_audio(stream + stream, RATE, channel=1)
    np.testing.assert_array_equal(both, np.tile(read_audio(stream, RATE, channel=1), 2))
    assert np.abs(both).max() > 2 * np.abs(read_audio(stream + stream, RATE, channel=2)).max()


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_any_rate_is_resampled_in_place(rate: int) -> None:
    waveform = read_audio(encoded(sine(rate=rate), rate), RATE)
    assert len(waveform) == RATE
    np.testing.assert_allclose(waveform[2000:-2000], sine()[2000:-2000], atol=2e-3)


def test_resampling_down_leaves_no_alias() -> None:
    too_high = sine(rate=48000, hertz=7000)
    assert np.abs(read_audio(encoded(too_high, 48000), 8000)[500:-500]).max() < 1e-3


def test_paths_and_bytes_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "ä b.flac"
    path.write_bytes(encode_audio(sine(), RATE, "flac"))
    np.testing.assert_array_equal(read_audio(path, 8000), read_audio(path.read_bytes(), 8000))


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.wav")
    path.write_bytes(encoded(sine()))
    with pytest.raises(UnusableAudioError, match="name is not UTF-8: rename the file"):
        read_audio(path, RATE)


@pytest.mark.parametrize(("dtype", "subtype"), [(np.int16, "PCM_16"), (np.int32, "PCM_32")])
def test_integers_are_heard_as_in_files_of_them(dtype: type[np.signedinteger], subtype: str) -> None:
    samples = np.array([np.iinfo(dtype).min, -1, 0, 1, np.iinfo(dtype).max], dtype)
    np.testing.assert_array_equal(as_waveform(samples, RATE, RATE), read_audio(encoded(samples, subtype=subtype), RATE))


def test_floats_above_full_scale_are_legal() -> None:
    loud = np.array([0.0, 4.0, -4.0], np.float32)
    np.testing.assert_array_equal(read_audio(encoded(loud, subtype="FLOAT"), RATE), loud)


def test_silence_is_legal() -> None:
    assert not read_audio(encoded(np.zeros(100)), RATE).any()


def test_files_longer_than_a_block_are_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.audio.io._BLOCK_FRAMES", 1000)
    for length in (999, 1000, 1001, 5000):
        np.testing.assert_allclose(read_audio(encoded(sine()[:length]), RATE), sine()[:length], atol=1 / 32768)


@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_cut_sphere_file_is_refused(share: float, tmp_path: Path) -> None:
    """libsndfile takes the size of the file for what there is, whatever the header counts."""
    path = tmp_path / "clip.sph"
    path.write_bytes(whole := encoded(sine(), RATE, "NIST"))
    np.testing.assert_allclose(read_audio(path, RATE), sine(), atol=1 / 32768)
    path.write_bytes(whole[: int(share * len(whole))])
    for source in (path, path.read_bytes()):
        with pytest.raises(UnusableAudioError, match=rf"truncated or damaged: \d+ of {len(sine())} samples"):
            read_audio(source, RATE)


def test_info_states_the_header() -> None:
    info = audio_info(encoded(np.zeros((300, 2)), 8000, "FLAC"))
    assert (info.sample_rate, info.num_samples, info.num_channels) == (8000, 300, 2)
    assert (info.format, info.subtype, info.seconds) == ("FLAC", "PCM_16", 300 / 8000)


@pytest.mark.parametrize(("container", "subtype"), LOSSLESS + LOSSY)
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_a_cut_file_is_refused(container: str, subtype: str, share: float) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE)
    whole = encoded(noise, container=container, subtype=subtype)
    with pytest.raises(UnusableAudioError, match=r"^clip: ") as caught:
        read_audio(whole[: int(share * len(whole))], RATE, name="clip")
    assert caught.value.reason in {"truncated or damaged", "not audio, or damaged"}


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_an_ogg_file_cut_anywhere_is_refused(subtype: str) -> None:
    """Also where a page ends: what is left is a faultless stream but for the mark of its end."""
    whole = encoded(np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE), container="OGG", subtype=subtype)
    starts = [place for place in range(len(whole)) if whole.startswith(b"OggS", place)]
    assert len(starts) > 3
    for place in starts[1:]:
        for cut in (place - 1, place, place + 1, place + 26, place + 27):
            with pytest.raises(UnusableAudioError):
                read_audio(whole[:cut], RATE)
    assert len(read_audio(whole + b"trailing bytes are harmless", RATE)) == 3 * RATE


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000])
def test_wav_written_into_a_pipe_is_whole(size: int) -> None:
    """ffmpeg and sox cannot go back to state the size; such files are common and not cut."""
    data = bytearray(encoded(sine()))
    struct.pack_into("<I", data, 40, size)
    assert len(read_audio(bytes(data), RATE)) == RATE


@pytest.mark.parametrize("riff", [0, 36, None])
def test_wav_whose_writer_left_zero_for_its_size_is_whole(riff: int | None) -> None:
    data = bytearray(encoded(sine()))
    struct.pack_into("<I", data, 40, 0)
    if riff is not None:
        struct.pack_into("<I", data, 4, riff)
    np.testing.assert_allclose(read_audio(bytes(data), RATE), sine(), atol=1 / 32768)


@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
@pytest.mark.parametrize("states_riff", [True, False])
def test_wav_with_sound_behind_what_its_header_states_is_refused(container: str, states_riff: bool) -> None:
    """As of a recorder that was switched off: read by its header it is half a sentence.

    What lies behind begins with silence, which looks like chunks without a name or a size.
    """
    sound = sine()
    sound[5000:5100] = 0
    data = bytearray(encoded(sound, container=container))
    place = data.index(b"data")
    data[place:place] = b"note\x03\0\0\0odd\0"
    place = data.index(b"data") + 4
    struct.pack_into("<I", data, place, 10000)
    if states_riff:
        struct.pack_into("<I", data, 4, place + 9996)
    with pytest.raises(
        UnusableAudioError,
        match="clip: header of another size: the header states 10000 bytes of sound, and 22000 more lie behind them",
    ):
        read_audio(bytes(data), RATE, name="clip")


@pytest.mark.parametrize(("size", "fill"), [(2000, b""), (2001, b""), (2001, b"\0")])
@pytest.mark.parametrize(
    "behind",
    [b"LIST" + struct.pack("<I", 5000) + bytes(range(250)) * 20, bytes(5000), b"TAG".ljust(128, b"x")],
    ids=["chunk", "zeros", "tag"],
)
def test_wav_with_other_things_behind_its_sound_is_whole(size: int, fill: bytes, behind: bytes) -> None:
    """Also where the byte is missing that makes an odd size even."""
    data = bytearray(encoded(sine(), subtype="PCM_U8")[: 44 + size]) + fill + behind
    struct.pack_into("<I", data, 40, size)
    assert len(read_audio(bytes(data), RATE)) == size


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_ogg_streams_one_behind_the_other_are_read_whole(subtype: str, tmp_path: Path) -> None:
    """As of `cat a.ogg b.ogg` and of web radio; of other rates, and twice the same stream too."""
    parts = [encoded(sine(0.5), container="OGG", subtype=subtype)]
    parts += [encoded(sine(1, 24000, hertz), 24000, "OGG", subtype) for hertz in (1000, 2000)]
    parts.append(parts[0])
    path = tmp_path / "radio.ogg"
    path.write_bytes(b"".join(parts))
    expected = np.concatenate([read_audio(part, RATE) for part in parts])
    assert len(expected) == 3 * RATE
    np.testing.assert_array_equal(read_audio(path, RATE), expected)
    cut = parts[0] + parts[1][:-100] + parts[2]
    with pytest.raises(UnusableAudioError, match="clip, stream 2 of 3: truncated or damaged"):
        read_audio(cut, RATE, name="clip")


MP3_KINDS = [(16000, 1, "VARIABLE"), (44100, 2, "VARIABLE"), (44100, 2, "CONSTANT"), (44100, 1, "VARIABLE")]
MP3_KINDS += [(8000, 1, "VARIABLE")]


def mp3(rate: int, channels: int, mode: str, seconds: float, silent: float) -> tuple[bytes, bytes]:
    """A tone that sets in after `silent` seconds as MP3: the first frame, which states how many follow, and the rest."""
    tone = sine(seconds, rate, 1000)
    tone[: round(silent * rate)] = 0
    buffer = io.BytesIO()
    sound = np.stack([tone] * channels, axis=1)
    settings = {"bitrate_mode": mode, "compression_level": 0.5}
    soundfile.write(buffer, sound, rate, format="MP3", subtype="MPEG_LAYER_III", **settings)
    whole = buffer.getvalue()
    end = whole.index(whole[:2], 4)
    return whole[:end], whole[end:]


@pytest.mark.parametrize(("rate", "channels", "mode"), MP3_KINDS)
@pytest.mark.parametrize("silent", [0.2, 2.8])
def test_mp3_that_does_not_state_its_length_is_read_whole(rate: int, channels: int, mode: str, silent: float) -> None:
    """libsndfile guesses the length by the size of the first frame, and stops there or finds too little."""
    first, frames = mp3(rate, channels, mode, 3, silent)
    fraunhofers = (first[:4] + bytes(32) + b"VBRI").ljust(len(first), b"\0")
    np.testing.assert_array_equal(read_audio(fraunhofers + frames, rate), read_audio(frames, rate))
    noise = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    samples_per_frame = 1152 if rate > 24000 else 576
    tag, reserved = b"ID3\x03\0\0\0\0\x17\x38", b"\xff\xea\x90\0\xff\xfb\x9c\0"
    for before, behind in (
        (b"", b""),
        (tag + noise, b"TAG".ljust(128, b"\xff")),
        (tag + frames[:3000].ljust(3000, b"\0"), reserved),
    ):
        waveform = read_audio(before + frames + behind, rate)
        # The encoder's delay and what fills its last frame are no more known.
        assert 3 * rate <= len(waveform) < 3 * rate + 5 * samples_per_frame
        assert np.abs(waveform[: round((silent - 0.05) * rate)]).max() < 0.01
        assert np.abs(waveform[round((silent + 0.1) * rate) : 3 * rate]).max() > 0.4


def test_what_holds_no_frame_of_layer_iii_is_left_to_libsndfile() -> None:
    """It also opens layer II, of which the search for streams knows nothing."""
    silent = b"\xff\xfd\x44\xc0" + bytes(188)  # 64 kbit/s, 48 kHz, one channel: 1152 samples
    assert audio_info(50 * silent).subtype == "MPEG_LAYER_II"
    waveform = read_audio(50 * silent, 48000)
    assert len(waveform) >= 49 * 1152
    assert not waveform.any()


@pytest.mark.parametrize(("rate", "channels", "mode"), MP3_KINDS)
def test_a_cut_mp3_that_does_not_state_its_length_is_refused(rate: int, channels: int, mode: str) -> None:
    _, frames = mp3(rate, channels, mode, 3, 0.2)
    with pytest.raises(UnusableAudioError, match="truncated or damaged"):
        read_audio(frames[:-20], rate)


@pytest.mark.parametrize(("rate", "channels", "mode"), MP3_KINDS)
def test_mp3_streams_one_behind_the_other_are_read_whole(rate: int, channels: int, mode: str) -> None:
    """The first one's count is not that of the file; the second may state none."""
    first, second = mp3(rate, channels, mode, 1, 0.2), mp3(rate, channels, mode, 2, 0.2)
    whole = b"".join(first + second)
    assert len(read_audio(whole, rate)) == 3 * rate
    assert 3 * rate <= len(read_audio(b"".join(first) + second[1], rate)) < 3.4 * rate
    with pytest.raises(UnusableAudioError, match="clip, stream 1 of 2: truncated or damaged"):
        read_audio(first[0] + first[1][: len(first[1]) // 2] + b"".join(second), rate, name="clip")


def test_a_header_that_promises_terabytes_allocates_nothing() -> None:
    data = bytearray(encoded(sine(), container="FLAC"))
    counts = int.from_bytes(data[18:26], "big")
    data[18:26] = (counts | (2**36 - 1)).to_bytes(8, "big")
    with pytest.raises(UnusableAudioError, match="truncated or damaged"):
        read_audio(bytes(data), RATE)


def test_flac_of_unstated_length_says_so() -> None:
    data = bytearray(encoded(sine(), container="FLAC"))
    counts = int.from_bytes(data[18:26], "big")
    data[18:26] = (counts >> 36 << 36).to_bytes(8, "big")
    with pytest.raises(UnusableAudioError, match="length unknown"):
        read_audio(bytes(data), RATE)


def test_a_changed_byte_in_flac_is_noticed() -> None:
    data = bytearray(encoded(sine(), container="FLAC"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(UnusableAudioError, match="truncated or damaged"):
        read_audio(bytes(data), RATE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"RIFF", "not audio, or damaged"),
        (b"this is no sound" * 100, "not audio, or damaged"),
        (b'{"id": 1}', "not audio, or damaged"),
        (encoded(np.zeros(0)), "no samples"),
        (encoded(np.zeros(0), 8000), "no samples"),
        (encoded(np.array([0.0, np.nan, 0.0]), subtype="FLOAT"), "samples not finite"),
        (encoded(np.array([0.0, np.inf, 0.0]), subtype="FLOAT"), "samples not finite"),
        (encoded(np.array([0.0, -np.inf, 0.0]), subtype="FLOAT"), "samples not finite"),
        (encoded(np.array([0.0, 32767.0]), subtype="FLOAT"), "samples out of range"),
        (encoded(np.array([0.0, -32768.0]), subtype="DOUBLE"), "samples out of range"),
        (encoded(np.zeros(1), 48000), "no samples"),
    ],
)
def test_unusable_content_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    for source, name in ((path, str(path)), (content, "utterance 'x'")):
        with pytest.raises(UnusableAudioError) as caught:
            read_audio(source, 8000, name="" if source is path else name)
        assert caught.value.reason == reason
        assert str(caught.value).startswith(f"{name}: {reason}")
        assert "\n" not in str(caught.value)


def test_what_libsndfile_gets_wrong_about_a_file_is_not_repeated(tmp_path: Path) -> None:
    """It takes by its suffix what it does not know by its content, and calls it a file that is not there, or tagged."""
    for name, content in (("x.mp3", b"this is no sound" * 9), ("x.au", b"ID3\3\0\0\0\0\0\x0a" + bytes(300))):
        (tmp_path / name).write_bytes(content)
        expected = rf"{name}: not audio, or damaged: wav, flac, ogg, opus and mp3 can be read$"
        with pytest.raises(UnusableAudioError, match=expected):
            read_audio(tmp_path / name, RATE)


def test_missing_file_and_directory_are_named(tmp_path: Path) -> None:
    for read in (lambda path: read_audio(path, RATE), audio_info):
        with pytest.raises(UnusableAudioError, match=r"gone\.wav: missing$"):
            read(tmp_path / "gone.wav")
        with pytest.raises(UnusableAudioError, match="not audio: it is a directory; name the sound files in it"):
            read(tmp_path)


def test_headerless_raw_file_is_not_audio(tmp_path: Path) -> None:
    path = tmp_path / "x.raw"
    path.write_bytes(bytes(1000))
    with pytest.raises(UnusableAudioError, match="not audio"):
        read_audio(path, RATE)


def test_features_where_sound_is_expected_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((7, 13), np.float32))
    for name in ("x.npy", "feats.ark:4"):
        with pytest.raises(UnusableAudioError) as raised:
            read_audio(tmp_path / name, RATE)
        assert str(raised.value) == f"{tmp_path / name}: not audio: stored features need features.kind=stored"


@pytest.mark.parametrize("codec", ["flac", "wav"])
@pytest.mark.parametrize("rate", [RATE, 22050])
def test_lossless_encoding_repeats_itself_and_clips(codec: str, rate: int) -> None:
    waveform = 2 * sine(0.1, rate)
    data = encode_audio(waveform, rate, codec)
    assert data == encode_audio(waveform, rate, codec)
    np.testing.assert_allclose(read_audio(data, rate), waveform, atol=1 / 16000)
    np.testing.assert_allclose(
        read_audio(encode_audio(3 * sine(), RATE, codec), RATE), (3 * sine()).clip(-1, 1), atol=1e-4
    )


def test_opus_keeps_length_and_refuses_odd_rates() -> None:
    data = encode_audio(sine(1.2345), RATE, "opus")
    assert len(read_audio(data, RATE)) == len(sine(1.2345))
    assert audio_info(data).subtype == "OPUS"
    with pytest.raises(AudioError, match=r"Opus stores sample rates of 8000, .* not 22050"):
        encode_audio(sine(), 22050, "opus")


def test_blocks_of_a_long_recording_make_what_all_of_it_at_once_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, size=(5000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "talk.wav", samples, 11025, subtype="FLOAT")
    at_once = read_audio(tmp_path / "talk.wav", 16000)
    np.testing.assert_array_equal(at_once, soxr.resample(samples.mean(axis=1), 11025, 16000, quality="HQ"))
    monkeypatch.setattr(audio_io, "_BLOCK_FRAMES", 777)
    np.testing.assert_array_equal(read_audio(tmp_path / "talk.wav", 16000), at_once)
    np.testing.assert_array_equal(read_audio(tmp_path / "talk.wav", 11025), samples.mean(axis=1))
    samples[3000] = np.nan
    soundfile.write(tmp_path / "damaged.wav", samples, 11025, subtype="FLOAT")
    with pytest.raises(UnusableAudioError, match="sample 3000 is nan"):
        read_audio(tmp_path / "damaged.wav", 16000)


@pytest.mark.parametrize("name", ["notes.au", "notes.snd", "notes.vox", "notes.gsm"])
def test_a_text_is_no_sound_whatever_its_name(tmp_path: Path, name: str) -> None:
    """libsndfile takes what has no header for sound by its suffix."""
    (tmp_path / name).write_text("Grüße, a plain text of some words.\n" * 300, encoding="utf-8")
    for read in (audio_info, lambda path: read_audio(path, RATE)):
        with pytest.raises(
            UnusableAudioError, match=rf"{name}: not audio: it has no header, and what it holds is text"
        ):
            read(tmp_path / name)


def test_sound_without_header_is_read_by_its_suffix(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.gsm", sine(rate=8000), 8000, format="RAW", subtype="GSM610")
    assert len(read_audio(tmp_path / "call.gsm", 8000)) == 8000


@pytest.mark.parametrize("encode", [encode_for_browser, partial(encode_audio, codec="flac")], ids=["mp3", "flac"])
def test_ctrl_c_while_a_sound_is_encoded_is_not_lost(encode: Callable[[Any, int], bytes]) -> None:
    """Libsndfile would call back into Python for each block, and what is raised there goes no further."""
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, 16000 * 120).astype(np.float32)

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            encode(waveform, 16000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
