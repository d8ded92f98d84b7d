"""The report as a file: what is in it, that nothing of it is loaded from elsewhere, and what is collected for it."""

from __future__ import annotations

import base64
import html.parser
import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reports import FRAME_SECONDS, RATE, TRAP, details_of, report_in, systems_in, tone
from tones import TINY, write_tone_corpus

from asr import preparation, stages
from asr.audio import encode_audio, encode_for_browser, read_audio
from asr.corpus.batches import Batch
from asr.decoding import BeamDecoderConfig, GreedyDecoderConfig, build_decoder
from asr.experiment import Run, load_experiment
from asr.features import LogMelConfig, MfccConfig, StoredConfig
from asr.learner import load_tokenizer
from asr.model.acoustic import AcousticConfig, AcousticModel
from asr.model.checkpoint import Checkpoint, save_checkpoint
from asr.model.encoder import EncoderConfig
from asr.recipe import recipe_of_files
from asr.recognizer import Recognizer
from asr.report import UtteranceDetails, write_report
from asr.report.collect import Collector
from asr.report.content import grouped
from asr.report.details import PICTURE_LEVELS
from asr.report.packing import pack_details
from asr.report.write import SCRIPTS, as_script_data
from asr.scoring import score_utterance
from asr.text import CharacterTokenizerConfig
from asr.text.tokenizer import CharacterTokenizer


class Elements(html.parser.HTMLParser):
    """All start tags with their attributes, and the text of script elements by id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            name = self.tags[-1][1].get("id") or ""
            self.scripts[name] = self.scripts.get(name, "") + data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Elements:
    return Elements(report_in(tmp_path_factory.mktemp("report")).read_text(encoding="utf-8"))


def content(page: Elements) -> dict[str, Any]:
    return json.loads(page.scripts["content"])


def test_nothing_is_loaded_from_elsewhere(page: Elements) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "img", "base", "object", "embed"}, tag
        assert not {"src", "srcset", "action"} & attributes.keys(), tag
        assert (attributes.get("href") or "#").startswith("#")
    own = {name: text for name, text in page.scripts.items() if name != "content"}
    code = own[""]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", code), "only the name of SVG looks like an address"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|import\(", code)


def test_the_policy_names_script_and_style_and_no_network(page: Elements) -> None:
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a) or ""
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_texts_cannot_leave_their_element(page: Elements) -> None:
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert [each.get("id") for each in scripts][:2] == ["content", None]
    assert all((each.get("id") or "").startswith(("details-", "audio-")) for each in scripts[2:])
    assert content(page)["title"].endswith(TRAP)
    assert content(page)["groups"][0]["references"][4] == f"{TRAP} {{{{script}}}}"


@pytest.mark.parametrize("text", ["</script><!--", "a\u2028b\u2029c", "\ud800", "&lt;", '"\\', "ä 中 😀"])
def test_script_data_comes_back(text: str) -> None:
    data = as_script_data({"text": text})
    assert json.loads(data) == {"text": text}
    assert not set("<>&\u2028\u2029") & set(data)
    data.encode()


def test_contents_match_the_scores(page: Elements, tmp_path: Path) -> None:
    first, second, _ = systems_in(tmp_path)
    groups = content(page)["groups"]
    assert [(group["subset"], [each["name"] for each in group["systems"]]) for group in groups] == [
        ("test", ["first", "second"]),
        ("other", ["first"]),
    ]
    assert groups[0]["systems"][1]["result"]["wer"] == second.result.wer
    for system, written in zip((first, second), groups[0]["systems"], strict=True):
        for score, alignment, heard in zip(system.scores, written["alignments"], written["hypotheses"], strict=True):
            runs = re.findall(r"(\d+)([=sdi])", alignment or "")
            counts = {kind: sum(int(run) for run, each in runs if each == kind) for kind in "sdi"}
            assert counts == {"s": score.words.substitutions, "d": score.words.deletions, "i": score.words.insertions}
            assert heard == (" ".join(score.hypothesis.split()) if score.words.errors else 0)
    assert groups[1]["detailed"] == 0
    assert groups[0]["systems"][0]["confidences"][:2] == [0.9, 0.9]
    assert [each["epoch"] for each in content(page)["curve"]] == list(range(1, 9))


def test_sound_is_embedded_or_addressed_relative_to_the_report(page: Elements) -> None:
    assert content(page)["groups"][0]["audio"] == [1, "sound%20%231%20%C3%A4%3F.wav", 0, 0, 0, 0]
    sound = [attributes for tag, attributes in page.tags if attributes.get("id") == "audio-0-0"]
    assert sound[0]["type"] == "audio/mpeg"
    assert len(read_audio(base64.b64decode(page.scripts["audio-0-0"]), RATE)) == pytest.approx(RATE, abs=0.1 * RATE)


@pytest.mark.parametrize(("rate", "start"), [(8000, b"\xff"), (16000, b"\xff"), (44100, b"\xff"), (10000, b"fLaC")])
def test_every_rate_has_a_form_that_browsers_play(rate: int, start: bytes) -> None:
    sound = encode_for_browser(np.zeros(rate, np.float32), rate)
    assert sound.startswith((start, b"ID3"))
    assert len(sound) < len(encode_audio(np.zeros(rate, np.float32), rate, "wav"))


def test_details_are_packed_as_the_page_unpacks_them() -> None:
    score = score_utterance(id="a", reference="ab c", hypothesis="ab c", seconds=1.0)
    details = details_of(score, None)
    packed = zlib.decompress(pack_details([None, details]))
    stretches, bands, columns, frames, likely, column_seconds, frame_seconds = struct.unpack_from("<5I2f", packed)
    assert (stretches, bands, columns, frames, likely) == (50, 40, 25, 25, 25)
    assert column_seconds == frame_seconds == pytest.approx(FRAME_SECONDS)
    picture = np.frombuffer(packed, np.uint8, bands * columns, 28 + stretches).reshape(bands, columns)
    recording = details.recording
    assert recording is not None
    np.testing.assert_array_equal(picture.cumsum(axis=1, dtype=np.uint8), recording.picture)
    rest = packed[28 + stretches + bands * columns + 2 * frames + 3 * likely :]
    assert struct.unpack_from("<2I", rest) == (0, 4)
    assert struct.unpack_from("<4I", rest, 8) == details.tokens
    assert list(rest[-4:]) == [round(255 * 0.9)] * 4


def test_systems_with_other_references_stand_alone(tmp_path: Path) -> None:
    first, second, _ = systems_in(tmp_path)
    changed = [*second.scores[:-1], score_utterance(id="c-2", reference="hm", hypothesis="hm")]
    others = type(second)(name="third", result=second.result, scores=changed)
    assert [len(group.systems) for group in grouped([first, others, second])] == [2, 1]


def test_a_system_without_details_needs_no_torch() -> None:
    code = "import sys, asr.report; print([name for name in ('torch', 'librosa') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_file_of_the_page_is_used() -> None:
    folder = Path(sys.modules["asr.report.write"].__file__ or "").parent / "page"
    assert {path.name for path in folder.iterdir()} == {*SCRIPTS, "report.html", "report.css"}
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 400 for path in folder.iterdir())


def test_an_utterance_takes_ten_kilobytes_at_most() -> None:
    generator = np.random.default_rng(0)
    score = score_utterance(id="a-1", reference="ten words " * 9, hypothesis="ten words " * 9, seconds=7.4)
    details = details_of(score, None)
    assert details.recording is not None
    noisy = generator.normal(30, 6, details.recording.picture.shape).clip(0, 63).astype(np.uint8)
    recording = type(details.recording)(**{**vars(details.recording), "picture": noisy})
    details = UtteranceDetails(**{**vars(details), "recording": recording})
    assert len(base64.b64encode(pack_details([details, details]))) < 10_000


# What a recogniser knows


def recognizer(features: Any, *, beam: bool = False, letters: str = " abc") -> Recognizer:
    torch.manual_seed(0)
    tokenizer = CharacterTokenizer(letters, CharacterTokenizerConfig())
    config = AcousticConfig(features=features, encoder=EncoderConfig(hidden_size=6, num_layers=1))
    decoder = build_decoder(BeamDecoderConfig() if beam else GreedyDecoderConfig(), tokenizer)
    return Recognizer(AcousticModel(config, tokenizer.size), tokenizer, decoder, torch.device("cpu"))


def batch_of(lengths: list[int], signals: torch.Tensor, **more: Any) -> Batch:
    names = tuple(f"u{number}" for number in range(len(lengths)))
    return Batch(names, ("",) * len(names), ("",) * len(names), signals, torch.tensor(lengths), **more)


@pytest.mark.parametrize("beam", [False, True])
@pytest.mark.parametrize("kind", [LogMelConfig, MfccConfig])
def test_collected_details_fit_the_recording(kind: type, beam: bool) -> None:
    listener = recognizer(kind(sample_rate=RATE, n_mels=60), beam=beam)
    signals = torch.zeros(2, RATE)
    signals[0] = torch.from_numpy(tone(1.0))
    signals[1, : RATE // 2] = 0.5
    batch = batch_of([RATE, RATE // 2], signals)
    with Collector(listener, embed_audio=True) as collector:
        encoded = listener.encode(batch)
        recognized = listener.read(batch, encoded)
        collector.add(batch, encoded, recognized)
    for row, seconds in enumerate((1.0, 0.5)):
        details = collector.details[f"u{row}"]
        recording, best = details.recording, recognized[row].best
        assert recording is not None
        assert (details.tokens, details.frames) == (best.tokens, best.frames)
        expected = [
            encoded.log_probs[row, frame, token].exp() for token, frame in zip(best.tokens, best.frames, strict=True)
        ]
        assert details.probabilities == pytest.approx([float(value) for value in expected])
        assert len(recording.envelope) == seconds / 0.02
        assert recording.picture.shape[0] <= 40
        assert recording.picture.max() == PICTURE_LEVELS - 1
        assert recording.picture.shape[1] * recording.column_seconds == pytest.approx(seconds, abs=0.05)
        assert len(recording.blank) == encoded.num_frames[row]
        np.testing.assert_allclose(
            recording.blank / 255, encoded.log_probs[row, : len(recording.blank), 0].exp(), atol=2e-3
        )
        assert (recording.tokens > 0).all()
        assert isinstance(recording.audio, bytes)
        assert len(read_audio(recording.audio, RATE)) == pytest.approx(seconds * RATE, abs=10), "without padding"
    assert int(collector.details["u0"].recording.envelope.max()) == 255  # type: ignore[union-attr]
    assert not listener.model.features.front_end._forward_hooks, "nobody listens after the end"


def test_the_picture_shows_the_tone_in_its_band() -> None:
    listener = recognizer(LogMelConfig(sample_rate=RATE, n_mels=40, low_hz=0.0, preemphasis=0.0))
    batch = batch_of([RATE], torch.from_numpy(tone(1.0))[None])
    with Collector(listener) as collector:
        encoded = listener.encode(batch)
        collector.add(batch, encoded, listener.read(batch, encoded))
    recording = collector.details["u0"].recording
    assert recording is not None
    mel = 2595 * np.log10(1 + 440 / 700) / (2595 * np.log10(1 + 4000 / 700))
    assert abs(int(recording.picture[:, 10].argmax()) - (mel * 41 - 1)) <= 1
    assert recording.audio is None


def test_stored_frames_have_a_picture_and_no_sound() -> None:
    listener = recognizer(StoredConfig(num_features=13, sample_rate=100))
    batch = batch_of([50], torch.randn(1, 50, 13), audio=(Path("frames.npy"),))
    with Collector(listener, embed_audio=True) as collector:
        encoded = listener.encode(batch)
        collector.add(batch, encoded, listener.read(batch, encoded))
    recording = collector.details["u0"].recording
    assert recording is not None
    assert (len(recording.envelope), recording.picture.shape) == (0, (13, 13))
    assert recording.audio is None


def test_one_frame_and_one_letter_are_enough() -> None:
    listener = recognizer(LogMelConfig(sample_rate=RATE), letters=" a")
    batch = batch_of([1], torch.ones(1, 1))
    with Collector(listener) as collector:
        encoded = listener.encode(batch)
        collector.add(batch, encoded, listener.read(batch, encoded))
    assert pack_details([collector.details["u0"]])


def test_recordings_are_kept_once(tmp_path: Path) -> None:
    listener = recognizer(LogMelConfig(sample_rate=RATE))
    batch = batch_of([RATE], torch.zeros(1, RATE), audio=(tmp_path / "a.wav",))
    with Collector(listener, recordings=False) as collector:
        encoded = listener.encode(batch)
        collector.add(batch, encoded, listener.read(batch, encoded))
    assert collector.details["u0"].recording is None


def test_no_metrics_no_curve(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, title="t", systems=systems_in(tmp_path)[:1], metrics=tmp_path / "nowhere" / "metrics.jsonl")
    assert content(Elements(path.read_text(encoding="utf-8")))["curve"] == []


def test_a_run_leaves_its_report(tmp_path: Path) -> None:
    train = write_tone_corpus(tmp_path / "train", 8, seed=1)
    test = write_tone_corpus(tmp_path / "test", 4, seed=2, prefix="t")
    recipe = recipe_of_files(train, (test,))
    experiment = load_experiment(recipe.config, TINY)
    run = Run(folder=tmp_path / "run", recipe=recipe, root=None, experiment=experiment)
    preparation.prepare(run)
    tokenizer = load_tokenizer(run)
    weights = AcousticModel(experiment.acoustic, tokenizer.size).state_dict()
    save_checkpoint(
        run.model_file, Checkpoint(experiment=experiment.tree(), tokenizer=tokenizer.state(), model=weights)
    )
    stages.evaluate(run)
    page = Elements((run.folder / "report.html").read_text(encoding="utf-8"))
    (group,) = content(page)["groups"]
    (steps,) = [note.partition(": ")[2] for note in content(page)["notes"] if note.startswith("What is done to")]
    assert len(set(steps.split(", "))) == len(steps.split(", ")) > 3
    assert [system["name"] for system in group["systems"]] == [each.kind for each in experiment.decoders]
    assert 0 not in group["audio"], "a short test set can be heard"
    assert sum((attributes.get("id") or "").startswith("details-0-") for _, attributes in page.tags) == 4
