"""The embedded corpus: what its shards hold, what its recipe refuses, and that its generator keeps its promises."""

from __future__ import annotations

import doctest
import gzip
import hashlib
import importlib
import io
import json
import random
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from asr.audio import read_audio
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError
from asr.recipe import find_recipe
from asr.resources import resource
from asr.text.lexicon import Lexicon

ROOT = resource("data", "spoken_commands")
RECIPE = find_recipe("spoken_commands")
SPLITS = ("train", "dev", "test", "test-unseen-synthesiser")


def generator(name: str) -> ModuleType:
    """A module of the generator, which is a folder of scripts."""
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[Utterance]]:
    return {split: list(RECIPE.read(ROOT, split)) for split in SPLITS}


@pytest.fixture(scope="module")
def index() -> dict[str, dict[str, object]]:
    splits: dict[str, dict[str, object]] = json.loads((ROOT / "index.json").read_text(encoding="utf-8"))["splits"]
    return splits


@pytest.fixture
def imitation(tmp_path: Path) -> Path:
    RECIPE.imitate(tmp_path / "corpus")
    return tmp_path / "corpus"


def voice(utterance: Utterance) -> str:
    """What sets a speaker apart from others: of espeak-ng's names accent+variant, the variant."""
    return utterance.speaker.rpartition("+")[2]


def words(utterances: list[Utterance]) -> Counter[str]:
    return Counter(word for utterance in utterances for word in utterance.text.split())


def test_the_index_and_the_recipe_say_what_the_shards_hold(
    corpus: dict[str, list[Utterance]], index: dict[str, dict[str, object]]
) -> None:
    for split, utterances in corpus.items():
        seconds = sum(utterance.seconds or 0 for utterance in utterances)
        assert index[split]["utterances"] == len(utterances)
        assert index[split]["seconds"] == pytest.approx(seconds, abs=0.1)
        assert index[split]["words"] == words(utterances).total()
        assert index[split]["speakers"] == len({utterance.speaker for utterance in utterances})
    assert pytest.approx(float(str(index["train"]["seconds"])) / 3600, abs=0.006) == RECIPE.hours
    assert index["train"]["speakers"] == RECIPE.speakers


def test_it_keeps_to_its_size() -> None:
    assert sum(path.stat().st_size for path in ROOT.glob("*.*")) <= 12_000_000


def test_what_is_tested_was_not_heard_in_training(corpus: dict[str, list[Utterance]]) -> None:
    parts = [{voice(utterance) for utterance in utterances} for utterances in corpus.values()]
    assert sum(map(len, parts)) == len(set().union(*parts))
    synthesisers = {split: {row.metadata["synthesiser"] for row in rows} for split, rows in corpus.items()}
    assert not synthesisers["test-unseen-synthesiser"] & synthesisers["train"]
    assert synthesisers["test"] <= synthesisers["train"]
    texts = {split: {utterance.text for utterance in utterances} for split, utterances in corpus.items()}
    assert sum(map(len, texts.values())) == len(set().union(*texts.values()))


def test_every_word_is_learnt_from_several_examples(corpus: dict[str, list[Utterance]]) -> None:
    trained = words(corpus["train"])
    assert min(trained.values()) >= 8
    for split in SPLITS[1:]:
        assert words(corpus[split]).keys() <= trained.keys()


def test_texts_are_words_in_lower_case(corpus: dict[str, list[Utterance]]) -> None:
    for utterances in corpus.values():
        for utterance in utterances:
            assert re.fullmatch(r"[a-z]+( [a-z]+)+", utterance.text), utterance.id


def test_every_recording_sounds_and_none_is_clipped(corpus: dict[str, list[Utterance]]) -> None:
    """Of each split a part, since decoding an hour takes its time; another part each day would find no more."""
    for split, utterances in corpus.items():
        for utterance in utterances[:: 20 if split == "train" else 5]:
            samples = read_audio(utterance.audio, 16000, name=utterance.id)
            assert len(samples) / 16000 == pytest.approx(utterance.seconds, abs=0.001)
            assert 0.5 < len(samples) / 16000 < 8.0
            assert np.abs(samples).max() < 0.999
            assert np.sqrt(np.mean(samples**2)) > 10 ** (-45 / 20)


def test_the_clip_is_an_utterance_of_the_test_set(corpus: dict[str, list[Utterance]]) -> None:
    clip = json.loads((ROOT / "index.json").read_text(encoding="utf-8"))["clip"]
    utterance = next(utterance for utterance in corpus["test"] if utterance.id == clip["id"])
    assert (ROOT / clip["file"]).read_bytes() == utterance.audio
    assert clip["text"] == utterance.text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "dev-000.tar").unlink(), "dev-000.tar: cannot read the shard"),
        (lambda root: (root / "dev-000.tar").write_bytes(b""), "dev-000.tar: the shard is not the one"),
        (lambda root: (root / "index.json").unlink(), "index.json: cannot read the index"),
        (lambda root: (root / "index.json").write_text("{"), "index.json: not the index of this corpus"),
        (lambda root: (root / "index.json").write_text("[]"), "index.json: not the index of this corpus"),
        (lambda root: (root / "index.json").write_text('{"splits": {}}'), "'dev' cannot be found"),
    ],
)
def test_damage_is_named(imitation: Path, damage: object, message: str) -> None:
    damage(imitation)  # type: ignore[operator]
    with pytest.raises(CorpusError, match=re.escape(message)):
        list(RECIPE.read(imitation, "dev"))


def test_one_changed_byte_is_found_and_other_splits_are_not_concerned(imitation: Path) -> None:
    shard = imitation / "dev-000.tar"
    content = bytearray(shard.read_bytes())
    content[2000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorpusError, match=r"dev-000\.tar"):
        list(RECIPE.read(imitation, "dev"))
    assert len(list(RECIPE.read(imitation, "train"))) == 3


def test_numbers_are_read_back_from_their_words() -> None:
    """An independent reader: every word adds, multiplies the last hundred, or closes the thousands."""
    sentences = generator("sentences")
    value_of = {word: value for value, word in enumerate([*sentences.ONES, *sentences.TEENS])}
    value_of |= {word: 20 + 10 * number for number, word in enumerate(sentences.TENS)}

    def value(text: str) -> int:
        thousands, rest = 0, 0
        for word in text.split():
            if word == "million":
                return rest * 1_000_000
            if word == "thousand":
                thousands, rest = rest * 1000, 0
            else:
                rest = rest * 100 if word == "hundred" else rest + value_of[word]
        return thousands + rest

    for number in (*range(1200), *range(1200, 1_000_000, 997), 1_000_000):
        assert value(sentences.number_words(number)) == number


def test_ordinals_of_a_month_differ() -> None:
    ordinals = [generator("sentences").ordinal_words(day) for day in range(1, 32)]
    assert len(set(ordinals)) == 31
    assert [ordinals[day - 1] for day in (1, 12, 20, 21, 30, 31)] == [
        "first",
        "twelfth",
        "twentieth",
        "twenty first",
        "thirtieth",
        "thirty first",
    ]


def test_the_examples_of_the_grammar_are_true() -> None:
    assert doctest.testmod(generator("sentences")).failed == 0


def test_drawn_sentences_keep_what_was_asked() -> None:
    sentences = generator("sentences")
    asked = {"words": range(3, 11), "each_word": 3, "unlike": ["set a timer for ten minutes"]}
    drawn = sentences.draw(500, random.Random(5), **asked)
    assert len(drawn) == 500
    assert {len(text.split()) for text in drawn} <= set(range(3, 11))
    assert "set a timer for ten minutes" not in drawn
    said = Counter(word for text in drawn for word in text.split())
    assert min(said[word] for word in sentences.vocabulary()) >= 3
    assert drawn == sentences.draw(500, random.Random(5), **asked)
    assert drawn != sentences.draw(500, random.Random(6), **asked)


def test_sentences_differ_when_no_word_is_asked_for() -> None:
    drawn = generator("sentences").draw(300, random.Random(1), words=range(3, 12))
    assert len(set(drawn)) == 300


def test_words_that_cannot_be_said_often_enough_are_named() -> None:
    """`all` stands in sentences of nine words only: once, all sentences were chosen for a word that never came."""
    with pytest.raises(ValueError, match=r"\['all'\] 3 times"):
        generator("sentences").draw(600, random.Random(1), words=range(3, 9), each_word=3)


def test_no_voice_speaks_in_two_parts() -> None:
    voices = generator("voices")
    for by_split in (voices.VARIANTS, voices.FLITE_VOICES):
        names = [name for part in by_split.values() for name in part]
        assert len(names) == len(set(names))
    seen = {split: {voices.draw_voice(split, random.Random(seed)).speaker for seed in range(300)} for split in SPLITS}
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


def test_a_recording_has_the_level_and_the_noise_that_were_asked() -> None:
    acoustics = generator("acoustics")
    speech = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    scene = acoustics.Scene(-26.0, "white", 12.0, 0.0, 10.0, 0.0, (50.0, 8000.0), (0.5, 0.5))
    heard = acoustics.record(speech, 16000, scene, np.random.default_rng(1))
    noise = np.sqrt(np.mean(heard[:7000] ** 2))
    both = np.sqrt(np.mean(heard[9000:23000] ** 2))
    assert len(heard) == pytest.approx(32000, abs=320)
    assert 20 * np.log10(noise) == pytest.approx(-38, abs=0.5)
    assert 10 * np.log10(both**2 - noise**2) == pytest.approx(-26, abs=0.5)


def test_a_room_adds_what_was_asked_behind_the_sound() -> None:
    acoustics = generator("acoustics")
    click = np.zeros(16000)
    click[1000] = 1.0
    heard = acoustics._reverberant(click, 0.4, 6.0, np.random.default_rng(1))
    assert np.abs(heard[:1000]).max() < 1e-9
    assert heard[1000] == pytest.approx(1.0)
    assert 10 * np.log10(np.sum(heard[1001:] ** 2)) == pytest.approx(-6.0, abs=0.1)
    halves = np.sum(heard[1001:4200] ** 2), np.sum(heard[4200:7400] ** 2)
    assert 10 * np.log10(halves[0] / halves[1]) == pytest.approx(30, abs=3)


@pytest.mark.parametrize("level_db", [-30.0, 20.0])
def test_nothing_is_clipped(level_db: float) -> None:
    acoustics = generator("acoustics")
    speech = np.random.default_rng(0).standard_normal(16000)
    scene = acoustics.Scene(level_db, "hum", 0.0, 0.3, 3.0, 5.0, (50.0, 4000.0), (0.1, 0.1))
    assert np.abs(acoustics.record(speech, 22050, scene, np.random.default_rng(1))).max() <= 0.95 + 1e-9


def test_opus_files_are_the_same_bytes_each_time_and_still_open() -> None:
    shards = generator("shards")
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(24000) / 16000)
    first, second = (shards.encode_opus(tone, 16000, 7) for _ in range(2))
    assert first == second
    assert first != shards.encode_opus(tone, 16000, 8)
    samples, rate = soundfile.read(io.BytesIO(first))
    assert rate == 16000
    assert len(samples) == 24000
    # libsndfile drops pages whose checksum is wrong without a word, so the sound itself has to be there.
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


def test_shards_are_split_and_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = generator("shards")
    monkeypatch.setattr(shards, "SHARD_BYTES", 1000)
    samples = [({"id": f"a-{number}", "text": "one"}, bytes([number]) * 700) for number in range(5)]
    hashes = shards.write_shards(samples, "dev", tmp_path)
    assert list(hashes) == ["dev-000.tar", "dev-001.tar", "dev-002.tar"]
    for name, sha256 in hashes.items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == sha256


def test_the_shards_are_what_the_generator_draws(corpus: dict[str, list[Utterance]]) -> None:
    """Sentences, voices and scenes follow from the seed, so a change of the generator without new shards is seen here."""
    generate = generator("generate")
    for split, texts in generate.texts(generate.SEED).items():
        assert [utterance.text for utterance in corpus[split]] == texts
        for number, utterance in enumerate(corpus[split]):
            voice, scene, _ = generate.plan(generate.SEED, split, number)
            assert utterance.id == f"{split}-{number:04d}"
            assert utterance.speaker == voice.speaker
            assert utterance.metadata == voice.described() | scene.described()


def test_the_generator_names_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    generate = generator("generate")
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "flite" else f"/usr/bin/{program}")
    monkeypatch.setattr(sys, "argv", ["generate.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="not found: flite; on Debian: apt-get install"):
        generate.main()
    assert not (tmp_path / "out").exists()


def test_training_texts_are_read_aloud_the_same_in_every_run(tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None or shutil.which("flite") is None:
        pytest.skip("needs espeak-ng and flite")
    folder = tmp_path / "train-x" / "1" / "2"
    folder.mkdir(parents=True)
    (folder / "1-2.trans.txt").write_text("1-2-0000 A FIRST TEXT\n1-2-0001 AND ANOTHER ONE\n", encoding="utf-8")
    script = generator("read_aloud")
    jobs = list(script.texts_of(tmp_path))
    assert jobs == [("1-2-0000", "A FIRST TEXT"), ("1-2-0001", "AND ANOTHER ONE")]
    once, twice = ([script.read_aloud(job, {"flite": 0.5}) for job in jobs] for _ in range(2))
    assert once == twice
    assert [(each.id, each.text) for each in once] == [(f"{name}-aloud", text) for name, text in jobs]
    assert all(len(read_audio(each.audio, 16000)) > 8000 for each in once)


def test_each_synthesiser_gets_its_share_of_the_texts() -> None:
    voices = generator("voices")
    asked = {"flite": 0.2, "pico2wave": 0.5}
    drawn = [voices.draw_voice("train", random.Random(number), asked) for number in range(2000)]
    shares = Counter(voice.synthesiser for voice in drawn)
    assert {name: round(count / 2000, 1) for name, count in shares.items()} == asked | {"espeak-ng": 0.3}
    assert {voice.name for voice in drawn if voice.synthesiser == "pico2wave"} == set(voices.MORE_VOICES["pico2wave"])


def test_voices_of_other_corpora_speak_as_fast_as_the_rest() -> None:
    voices = generator("voices")
    if missing := [program for program in voices.MORE_VOICES if shutil.which(program) is None]:
        pytest.skip(f"needs {' and '.join(missing)}")
    text = "it is better to have read a few good books twice than many bad ones once"
    for program, names in voices.MORE_VOICES.items():
        for name in names:
            samples, rate = voices.speak(text, voices.Voice(program, name, 1.0, 1.0, 1.1))
            assert 11 < len(text) * rate / len(samples) < 17


def test_words_of_training_texts_get_their_phones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("needs espeak-ng")
    texts, out = tmp_path / "texts.txt", tmp_path / "phones.txt"
    texts.write_text("THE CAT'S HAT\nthe 2 extraordinary cats\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["pronounce.py", str(texts), "--out", str(out)])
    generator("pronounce").main()
    assert "5 words, " in (said := capsys.readouterr().out)
    assert "1 left out" in said
    lexicon = Lexicon(out, str.lower)
    phones = {line.split()[0]: line.split()[1:] for line in out.read_text(encoding="utf-8").splitlines()}
    assert lexicon.unknown_words("the cat's hat extraordinary cats") == []
    assert phones["cats"] == phones["cat's"] == ["k", "æ", "t", "s"]
    assert len(phones["extraordinary"]) > 8
    monkeypatch.setattr(sys, "argv", ["pronounce.py", str(tmp_path / "no.txt"), "--out", str(out)])
    with pytest.raises(SystemExit, match=r"no\.txt: expected a folder .* or a file of texts, found nothing there"):
        generator("pronounce").main()


def test_lines_of_a_text_file_are_texts_with_ids(tmp_path: Path) -> None:
    texts_of = generator("read_aloud").texts_of
    (tmp_path / "words.text.gz").write_bytes(gzip.compress(b"A FIRST TEXT\n\nAND ANOTHER ONE\n"))
    (tmp_path / "words.txt").write_text("A FIRST TEXT\n\nAND ANOTHER ONE\n", encoding="utf-8")
    expected = [("words-000001", "A FIRST TEXT"), ("words-000003", "AND ANOTHER ONE")]
    assert list(texts_of(tmp_path / "words.text.gz")) == list(texts_of(tmp_path / "words.txt")) == expected


def test_texts_of_a_test_set_are_not_read_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chapter = tmp_path / "corpus" / "test-clean" / "1" / "2"
    chapter.mkdir(parents=True)
    (chapter / "1-2.trans.txt").write_text("1-2-0 NOT TO BE HEARD\n", encoding="utf-8")
    for source in (chapter, *chapter.parents[:3]):
        monkeypatch.setattr(sys, "argv", ["read_aloud.py", str(source), "--out", str(tmp_path / "out")])
        with pytest.raises(SystemExit, match="test-clean: expected a training part, found one to measure on"):
            generator("read_aloud").main()
    assert not (tmp_path / "out").exists()
