"""Stored features: Sphinx, Kaldi and numpy files give the same frames, and what is not one is named."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Literal

import kaldiio
import numpy as np
import pytest
import torch
from torchaudio.compliance import kaldi
from torchaudio.functional import create_dct

from asr.audio import UnusableAudioError, encode_frames, read_frames
from asr.corpus.shard_reader import shard_utterances
from asr.corpus.shards import ShardIndex, ShardsConfig, write_shards
from asr.corpus.utterance import Utterance
from asr.features import FeatureExtractor, StoredConfig

FRAMES = np.random.default_rng(0).standard_normal((7, 13)).astype(np.float32)


def sphinx(frames: np.ndarray, order: str) -> bytes:
    return struct.pack(f"{order}i", frames.size) + frames.astype(f"{order}f4").tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_sphinx_files_of_both_byte_orders(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.mfc"
    path.write_bytes(sphinx(FRAMES, order))
    np.testing.assert_array_equal(read_frames(path, 13), FRAMES)


def test_numpy_files_and_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAMES.astype(np.float64))
    np.testing.assert_array_equal(read_frames(tmp_path / "a.npy", 13), FRAMES, strict=True)
    np.testing.assert_array_equal(read_frames(encode_frames(FRAMES), 13), FRAMES)


@pytest.mark.parametrize("compression", [None, 2])
def test_a_place_in_a_kaldi_archive(tmp_path: Path, compression: int | None) -> None:
    matrices = {"a": FRAMES, "b": FRAMES[::-1].copy(), "c": FRAMES[:3]}
    kaldiio.save_ark(str(tmp_path / "f.ark"), matrices, scp=str(tmp_path / "f.scp"), compression_method=compression)
    places = dict(line.split() for line in (tmp_path / "f.scp").read_text().splitlines())
    for name, expected in matrices.items():
        frames = read_frames(Path(places[name]), 13)
        np.testing.assert_allclose(frames, expected, atol=0.05 if compression else 0)
        assert frames.flags.writeable  # of others torch warns


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\x01\x02", "not features or truncated"),
        (b"RIFF....WAVEfmt and so on", "not features or truncated"),
        (sphinx(FRAMES, ">")[:-4], "not features or truncated"),
        (sphinx(FRAMES[:, :12], ">"), "other shape"),
        (sphinx(FRAMES[:0], ">"), "no frames"),
        (sphinx(FRAMES * np.nan, ">"), "values not finite"),
        (encode_frames(FRAMES.astype(np.float64) * 1e300), "values not finite"),
        (encode_frames(FRAMES)[:-10], "truncated or damaged"),
        (encode_frames(np.array([[None] * 13])), "truncated or damaged"),  # unpickling would run what a stranger wrote
        (encode_frames(FRAMES.astype(np.int32)), "not features"),
        (encode_frames(FRAMES[0]), "other shape"),
        (encode_frames(FRAMES[:, :12]), "other shape"),
        (b"\0BFM \4\7\0\0\0\4\15\0\0\0 and then nothing", "truncated or damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_no_matrix_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "odd.mfc"
    path.write_bytes(data)
    for source, name in ((path, str(path)), (data, "utterance 'x'")):
        with pytest.raises(UnusableAudioError) as raised:
            read_frames(source, 13, name="" if source is path else name)
        assert raised.value.reason == reason
        assert str(raised.value).startswith(f"{name}: {reason}")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableAudioError, match="missing"):
        read_frames(tmp_path / "none.mfc", 13)


def test_frames_come_through_shards_as_they_are(tmp_path: Path) -> None:
    utterances = [Utterance(id=f"u{n}", audio=sphinx(FRAMES[n:], ">"), text="a") for n in range(3)]
    index = write_shards(utterances, tmp_path, sample_rate=100, num_features=13, config=ShardsConfig())
    assert ShardIndex.load(tmp_path).num_features == 13
    assert index.seconds == pytest.approx(0.18)
    for n, utterance in enumerate(shard_utterances(index)):
        np.testing.assert_array_equal(read_frames(utterance.audio, 13), FRAMES[n:])


def test_bands_that_are_fewer_than_the_cepstra_are_refused() -> None:
    with pytest.raises(ValueError, match="mel_bands: expected as many as num_features, 40, or more"):
        StoredConfig(num_features=40, mel_bands=13)


def test_cepstra_become_the_mel_spectrum_that_they_were_made_of() -> None:
    # As many cepstra as bands lose nothing.
    mel = torch.randn(1, 9, 20, generator=torch.Generator().manual_seed(0))
    cepstra = mel @ create_dct(20, 20, "ortho")
    config = StoredConfig(num_features=20, mel_bands=20, normalization="none")
    features, _ = FeatureExtractor(config)(cepstra, torch.tensor([9]))
    torch.testing.assert_close(features, mel, rtol=1e-4, atol=1e-5)
    smooth, _ = FeatureExtractor(StoredConfig(num_features=13, mel_bands=40, normalization="none"))(
        cepstra[..., :13], torch.tensor([9])
    )
    assert smooth.shape == (1, 9, 40)


def of_cepstra(cepstra: torch.Tensor, kind: Literal["sphinx", "kaldi"]) -> torch.Tensor:
    """Mel bands of as many cepstra (T, C), of that `kind`."""
    size = cepstra.shape[1]
    config = StoredConfig(num_features=size, mel_bands=size, normalization="none", cepstra=kind)
    bands, _ = FeatureExtractor(config)(cepstra[None], torch.tensor([len(cepstra)]))
    return bands[0]  # type: ignore[no-any-return]


def test_cepstra_of_kaldi_become_its_mel_spectrum() -> None:
    sound = 1000 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    cepstra = kaldi.mfcc(sound, num_ceps=23, num_mel_bins=23, cepstral_lifter=22, use_energy=False, dither=0)
    expected = kaldi.fbank(sound, num_mel_bins=23, dither=0)
    torch.testing.assert_close(of_cepstra(cepstra, "kaldi"), expected, rtol=1e-4, atol=1e-3)


def test_cepstra_of_sphinx_become_the_mel_spectrum_with_half_the_first_band() -> None:
    """By Sphinx's own loop, `fe_spec2cep`: the mean over bands of band times cosine, of which the first counts half."""
    mel = np.random.default_rng(0).standard_normal((5, 12))
    cepstra = np.zeros_like(mel)
    for c in range(12):
        for band in range(12):
            cosine = math.cos(math.pi * c * (band + 0.5) / 12)
            cepstra[:, c] += mel[:, band] * cosine * (0.5 if band == 0 else 1) / 12
    mel[:, 0] /= 2
    found = of_cepstra(torch.tensor(cepstra, dtype=torch.float32), "sphinx")
    np.testing.assert_allclose(found.numpy(), mel, atol=1e-5)


def test_a_scale_of_cepstra_that_are_taken_as_they_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cepstra=sphinx says how mel_bands .* set both or neither"):
        StoredConfig(cepstra="sphinx")
