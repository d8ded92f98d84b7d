"""What every recipe promises, checked on its own imitation: a new file in `recipes/` is tested by lying there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asr.audio import audio_info, read_audio
from asr.corpus.shards import ShardIndex, ShardsConfig, write_shards
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError
from asr.recipe import Recipe, find_recipe, find_recipes
from asr.resources import resource

CORPORA = Path(__file__).parents[2].parent / "shared" / "corpora"
SECONDS_TOLERANCE = 0.05


@pytest.fixture(params=find_recipes(), ids=lambda recipe: recipe.name)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def root(recipe: Recipe, tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    recipe.imitate(tmp_path / "corpus")
    return tmp_path / "corpus"


def splits_of(recipe: Recipe) -> list[str]:
    return [*recipe.splits.train, recipe.splits.dev, *recipe.splits.test]


def read(recipe: Recipe, root: Path) -> dict[str, list[Utterance]]:
    return {split: list(recipe.read(root, split)) for split in splits_of(recipe)}


def test_it_is_found_by_its_name_and_describes_itself(recipe: Recipe) -> None:
    assert find_recipe(recipe.name).name == recipe.name
    for words in (recipe.title, recipe.licence, recipe.source):
        assert words.strip()
    assert recipe.hours > 0
    assert recipe.speakers > 0
    assert resource("conf", recipe.config).is_file()


def test_every_split_has_utterances_with_text(recipe: Recipe, root: Path) -> None:
    for split, utterances in read(recipe, root).items():
        assert utterances, split
        for utterance in utterances:
            assert utterance.text.strip(), utterance.id


def test_a_split_that_is_not_there_is_named(recipe: Recipe, root: Path) -> None:
    with pytest.raises(CorpusError, match=f"^{recipe.name}: no split 'nowhere'"):
        next(recipe.read(root, "nowhere"))


def test_splits_are_disjoint(recipe: Recipe, root: Path) -> None:
    splits = read(recipe, root)
    ids = [utterance.id for utterances in splits.values() for utterance in utterances]
    assert len(set(ids)) == len(ids)
    audio = [utterance.audio for utterances in splits.values() for utterance in utterances]
    files = [source for source in audio if isinstance(source, Path)]
    assert len(set(files)) == len(files)
    if recipe.speakers_disjoint:
        speakers = [{utterance.speaker for utterance in utterances} for utterances in splits.values()]
        assert sum(map(len, speakers)) == len(set().union(*speakers))


def test_audio_opens_and_durations_agree(recipe: Recipe, root: Path) -> None:
    for utterances in read(recipe, root).values():
        for utterance in utterances:
            info = audio_info(utterance.audio, name=utterance.id)
            assert len(read_audio(utterance.audio, info.sample_rate, name=utterance.id)) == info.num_samples
            if utterance.seconds is not None:
                assert abs(utterance.seconds - info.seconds) < SECONDS_TOLERANCE


def test_reading_twice_gives_the_same(recipe: Recipe, root: Path) -> None:
    assert read(recipe, root) == read(recipe, root)


def test_shards_can_be_made(recipe: Recipe, root: Path, tmp_path: Path) -> None:
    for split in splits_of(recipe):
        write_shards(recipe.read(root, split), tmp_path / split, sample_rate=16000, config=ShardsConfig())
        assert ShardIndex.load(tmp_path / split).num_skipped == 0


def test_an_unknown_split_and_an_empty_root_are_named(recipe: Recipe, root: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no-such-split"):
        list(recipe.read(root, "no-such-split"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty"):
        list(recipe.read(tmp_path / "empty", recipe.splits.train[0]))


def test_fsdd_is_found_where_its_archive_unpacks_to(tmp_path: Path) -> None:
    recipe = find_recipe("fsdd")
    recipe.imitate(tmp_path / "free-spoken-digit-dataset-1.0.10")
    assert [utterance.text for utterance in recipe.read(tmp_path, "test")] == ["zero", "one", "two"]
    assert len(list(recipe.read(tmp_path / "free-spoken-digit-dataset-1.0.10" / "recordings", "test"))) == 3


@pytest.fixture
def fsdd_root() -> Path:
    root = CORPORA / "fsdd"
    if not root.is_dir():
        pytest.skip(f"the corpora are not here: {root}")
    return root


def test_fsdd_has_its_official_split(fsdd_root: Path) -> None:
    recipe = find_recipe("fsdd")
    splits = read(recipe, fsdd_root)
    assert {split: len(utterances) for split, utterances in splits.items()} == {"train": 2520, "dev": 180, "test": 300}
    assert {int(utterance.id.split("_")[2]) for utterance in splits["test"]} == set(range(5))
    ids = [utterance.id for utterances in splits.values() for utterance in utterances]
    assert len(set(ids)) == 3000


@pytest.mark.parametrize("speaker", ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"])
def test_fsdd_leaves_one_speaker_out(fsdd_root: Path, speaker: str) -> None:
    recipe = find_recipe("fsdd")
    for split, number in (("train", 2100), ("dev", 150)):
        others = list(recipe.read(fsdd_root, f"{split}-without-{speaker}"))
        assert len(others) == number
        assert speaker not in {utterance.speaker for utterance in others}
    for split, number in (("test", 50), ("only", 500)):
        alone = list(recipe.read(fsdd_root, f"{split}-{speaker}"))
        assert len(alone) == number
        assert {utterance.speaker for utterance in alone} == {speaker}


def named_as_missing(recipe: Recipe, root: Path) -> list[str]:
    names: list[str] = []

    def reading() -> Iterator[Utterance]:
        names.extend((yield from recipe.read(root, "test-other")))

    list(reading())
    return names


def test_librispeech_in_part_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = find_recipe("librispeech")
    recipe.imitate(tmp_path)
    chapter = next((tmp_path / "LibriSpeech" / "test-other").glob("*/*"))
    lost = next(chapter.glob("*-0001.flac"))
    lost.unlink()
    found = list(recipe.read(tmp_path, "test-other"))
    assert [utterance.id[-4:] for utterance in found] == ["0000", "0002"]
    assert {utterance.metadata["sex"] for utterance in found} == {"F"}
    assert lost.stem in caplog.text
    assert "2 utterances, the whole subset has 2939\n" in caplog.text
    readers = tmp_path / "LibriSpeech" / "SPEAKERS.TXT"
    readers.write_bytes(readers.read_bytes() + "77 | M | test-other | 8.0 | Zo\u00eb\n".encode("latin-1"))
    list(recipe.read(tmp_path, "test-other"))
    assert "has 2939; 1 of its readers are not there: 77" in caplog.text
    assert named_as_missing(recipe, tmp_path) == [lost.stem, "reader 77"]
    # The same from within the folder that the archives unpack to.
    assert list(recipe.read(tmp_path / "LibriSpeech", "test-other")) == found


def test_gaps_in_the_numbers_of_a_chapter_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As in copies whose transcripts were cut down with their sounds."""
    recipe = find_recipe("librispeech")
    recipe.imitate(tmp_path)
    (transcript,) = (tmp_path / "LibriSpeech" / "test-other").glob("*/*/*.trans.txt")
    *_, last = transcript.read_text(encoding="utf-8").splitlines()
    transcript.write_text(f"{last}\n", encoding="utf-8")
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").unlink()
    (found,) = recipe.read(tmp_path, "test-other")
    chapter = found.id.removesuffix("-0002")
    assert (
        f"2 more are not there by the numbers of their chapters: {chapter}-0000, {chapter}-0001; which" in caplog.text
    )
    assert f"SPEAKERS.TXT in {tmp_path / 'LibriSpeech'} would tell" in caplog.text
    assert named_as_missing(recipe, tmp_path) == [f"{chapter}-0000", f"{chapter}-0001"]


def test_sound_of_librispeech_is_found_by_any_case_and_the_first_kind_is_taken(tmp_path: Path) -> None:
    recipe = find_recipe("librispeech")
    recipe.imitate(tmp_path)
    first, second, third = sorted((tmp_path / "LibriSpeech" / "test-other").glob("*/*/*.flac"))
    first.rename(first.with_suffix(".FLAC"))
    for suffix in (".mp3", ".wav", ".opus"):
        second.with_suffix(suffix).write_bytes(b"another recoding")
    third.rename(third.with_suffix(".WAV"))
    third.with_suffix(".ogg").write_bytes(b"another recoding")
    names = [utterance.audio.name for utterance in recipe.read(tmp_path, "test-other")]  # type: ignore[union-attr]
    assert names == [first.with_suffix(".FLAC").name, second.name, third.with_suffix(".WAV").name]


def test_librispeech_says_which_subsets_there_are(tmp_path: Path) -> None:
    recipe = find_recipe("librispeech")
    for name in ("train-clean-5", "dev-clean"):
        (tmp_path / "LibriSpeech" / name).mkdir(parents=True)
    with pytest.raises(CorpusError, match=r"no dev-clean-2; .*, found train-clean-5, dev-clean: name these in splits"):
        next(recipe.read(tmp_path, "dev-clean-2"))
    with pytest.raises(CorpusError, match="no split 'dev-claen', did you mean 'dev-clean'"):
        next(recipe.read(tmp_path, "dev-claen"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("speechocean762", '{"id": "a", "audio": "a.wav", "text": "x"}\n', r"manifest\.jsonl: 'a' has no key 'split'"),
        ("read_english", '{"id": "a"\n', r"manifest\.jsonl:1: not JSON"),
    ],
)
def test_another_manifest_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        list(find_recipe(name).read(tmp_path, "train"))


def test_blank_lines_of_a_manifest_are_passed_over(tmp_path: Path) -> None:
    recipe = find_recipe("read_english")
    recipe.imitate(tmp_path)
    with (tmp_path / "manifest.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert len(list(recipe.read(tmp_path, "all"))) == 60


def test_a_list_that_is_missing_is_not_told_as_shards(tmp_path: Path) -> None:
    recipe = find_recipe("an4")
    recipe.imitate(tmp_path)
    (tmp_path / "etc" / "an4_train.transcription").unlink()
    with pytest.raises(CorpusError, match=r"an4_train\.transcription: cannot read the corpus: No such file"):
        write_shards(recipe.read(tmp_path, "train"), tmp_path / "shards", sample_rate=16000, config=ShardsConfig())


def test_librispeech_downloads_only_the_subsets_that_are_used() -> None:
    recipe = find_recipe("librispeech")
    for download in recipe.downloads:
        assert download.md5
        assert download.splits == (download.file_name.removesuffix(".tar.gz"),)
    assert {download.splits[0] for download in recipe.downloads} == set(recipe.sizes)


@pytest.mark.parametrize(
    ("name", "split", "number", "num_speakers"),
    [
        ("librispeech", "train-clean-5", 1519, 28),
        ("librispeech", "dev-clean", 920, 14),
        ("speechocean762", "train-all", 2500, 125),
        ("speechocean762", "test", 500, 25),
        ("read_english", "all", 2103, 3),
        ("an4", "train-all", 948, 74),
        ("an4", "test", 130, 10),
    ],
)
def test_real_corpora_are_read_whole(name: str, split: str, number: int, num_speakers: int) -> None:
    if not (CORPORA / name).is_dir():
        pytest.skip(f"the corpora are not here: {CORPORA}")
    found = list(find_recipe(name).read(CORPORA / name, split))
    assert len({utterance.id for utterance in found}) == number
    assert len({utterance.speaker for utterance in found}) == num_speakers


@pytest.mark.parametrize(
    ("name", "speakers"),
    [
        ("an4", "ftmj mcen mjdr mkdb msjm msrb mtje"),
        ("speechocean762", "0104 1033 1362 1372 2427 2799 2981 3049 3208 5424 9609 9619"),
    ],
)
def test_the_development_part_is_the_one_that_models_were_chosen_by(name: str, speakers: str) -> None:
    if not (CORPORA / name).is_dir():
        pytest.skip(f"the corpora are not here: {CORPORA}")
    assert {utterance.speaker for utterance in find_recipe(name).read(CORPORA / name, "dev")} == set(speakers.split())


def test_speechocean762_is_read_as_it_is_published(tmp_path: Path) -> None:
    recipe = find_recipe("speechocean762")
    for split, speaker, age in (("train", "0001", "7"), ("test", "0003", "25")):
        folder = tmp_path / "speechocean762" / split
        folder.mkdir(parents=True)
        (folder / "wav.scp").write_text(f"u{speaker}\tWAVE/SPEAKER{speaker}/u{speaker}.WAV\n")
        (folder / "text").write_text(f"u{speaker}\tMARK IS GOING\n")
        (folder / "utt2spk").write_text(f"u{speaker} {speaker}\n")
        (folder / "spk2age").write_text(f"{speaker} {age}\n")
        (folder / "spk2gender").write_text(f"{speaker} f\n")
    (child,) = recipe.read(tmp_path, "train-all")
    assert child.audio == tmp_path / "speechocean762" / "WAVE" / "SPEAKER0001" / "u0001.WAV"
    assert (child.text, child.speaker) == ("MARK IS GOING", "0001")
    assert child.metadata == {"sex": "f", "age": "7", "group": "child"}
    (adult,) = recipe.read(tmp_path, "test")
    assert adult.metadata["group"] == "adult"
    (tmp_path / "speechocean762" / "test" / "spk2age").write_text("0003 12y\n")
    with pytest.raises(CorpusError, match=r"spk2age: expected a number of years for '0003', found '12y'"):
        list(recipe.read(tmp_path, "test"))
