"""What a recipe is and how it is found: by name, by the path of a Python file, or made from the user's own files.

A recipe reads one corpus. Everything else (shards, training, evaluation) is the same for every corpus and lives in
`asr.pipeline`.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from asr.corpus.apart import contents_of
from asr.corpus.download import Download, obtain
from asr.corpus.folder import read_folder
from asr.corpus.list_form import check_is_list
from asr.corpus.places import Place, as_file_name, find_place, title
from asr.corpus.utterance import Utterance, read_manifest
from asr.errors import AsrError, CorpusError, did_you_mean
from asr.resources import resource
from asr.terminal import file_progress

if TYPE_CHECKING:
    from asr.audio import Codec

ReadSplit = Callable[[Path, str], Iterator[Utterance]]

_HELD_OUT_SHARE = 0.05
SHARDS = "shards:"
"""What stands before the place of ready shards where the name of a part of a corpus could stand."""

# Beside the runs, not in one of them: the next run of a recipe finds its corpus there.
_DOWNLOADS = Path("corpora")


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The names of the parts of a corpus: those to learn from, one to choose by, and those that are only measured."""

    train: tuple[str, ...] = ("train",)
    dev: str = "dev"
    test: tuple[str, ...] = ("test",)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One corpus: what it is, and how to read it.

    Attributes:
        name: as in `asr run NAME`; also the name of the default run folder.
        title, hours, speakers, licence, source: for people, as `asr recipes` prints them (hours and speakers of training).
        read: yields the utterances of one split below a root folder; the only code that knows the corpus. What a generator
            returns at its end names what a partial copy is known to lack.
        imitate: writes a three-utterance imitation of every split below a folder, in the corpus's layout, for tests.
        config: file in `conf/` with the settings that suit this corpus.
        splits: names that `read` understands, by use.
        default_root: folder below the package's resources that holds the corpus, "" when the user must say `--root`.
        downloads: what `asr run` fetches when there is no `--root`.
        sizes: utterances in each split of the whole corpus, by the split's name, where that is known.
        speakers_disjoint: whether no speaker occurs in two splits.
        files: manifests or folders of the user's own audio, by split; empty where the corpus is found by `root`.
        source_file: the Python file that it was loaded from; None: it was made of files.
    """

    name: str
    title: str
    hours: float
    speakers: int
    licence: str
    source: str
    read: ReadSplit
    imitate: Callable[[Path], None]
    config: str
    splits: Splits = Splits()
    default_root: str = ""
    downloads: tuple[Download, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    speakers_disjoint: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)
    source_file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One split of one corpus, or shards that are ready.

    Attributes:
        name: "SPLIT", or "RECIPE:SPLIT" where several corpora take part; of ready shards "shards:" and the folder's name.
        weight: how many times an epoch hears each utterance, on average.
        shards: path or URL of ready shards, which stand in a split's place; None: `split` of `recipe` is to be prepared.
    """

    name: str
    recipe: Recipe
    split: str
    weight: float = 1.0
    shards: Place | None = None

    def read(self, root: Path) -> Iterator[Utterance]:
        """The utterances of this part, in the corpus's order, below the corpus's folder `root`."""
        return self.recipe.read(root, self.split)


def find_part(name: str, recipe: Recipe, weight: float = 1.0) -> Part:
    """The part that `name` means: a split of `recipe`, of another in "RECIPE:SPLIT", or the shards in "shards:PLACE".

    Raises:
        CorpusError: no such recipe, or a URL of a kind that cannot be read.
    """
    if name.startswith(SHARDS):
        place = find_place(name.removeprefix(SHARDS))
        return Part(name=SHARDS + title(place), recipe=recipe, split="", weight=weight, shards=place)
    other, colon, split = name.rpartition(":")
    return Part(name=name, recipe=find_recipe(other) if colon else recipe, split=split, weight=weight)


def train_or_dev(published: Iterable[Utterance], split: str, share: float = 0.1) -> Iterator[Utterance]:
    """Of a publisher's training part, what is left to learn from ("train") or held out to choose by ("dev").

    Whole speakers are held out, at least one: those whose names have CRCs in the lowest `share` of all CRCs, of many
    speakers about that share. So the choice is the same in every run, and who else is there moves none from one part into
    the other.
    """
    utterances = list(published)
    crcs = {each.speaker: zlib.crc32(each.speaker.encode()) for each in utterances}
    low = {name for name, crc in crcs.items() if crc < share * 2**32}
    # Among few, all may be low, or none.
    held_out = low if 0 < len(low) < len(crcs) else set(sorted(crcs, key=lambda name: (crcs[name], name))[:1])
    yield from (each for each in utterances if (each.speaker in held_out) == (split == "dev"))


def holding_out_dev(name: str, read_published: ReadSplit, share: float) -> ReadSplit:
    """What reads the corpus `name`, of which `read_published` reads the parts that its publisher has, "train" and "test".

    "train" and "dev" are those of `train_or_dev`, "train-all" is both together; any other raises a CorpusError.
    """
    known = ("train", "dev", "test", "train-all")

    def read(root: Path, split: str) -> Iterator[Utterance]:
        if split not in known:
            raise CorpusError(f"{name}: no split '{split}'; known: {', '.join(known)}")
        published = read_published(root, "test" if split == "test" else "train")
        return train_or_dev(published, split, share) if split in ("train", "dev") else published

    return read


def tone(hertz: float, seconds: float, sample_rate: int = 16000, codec: Codec = "flac") -> bytes:
    """The sound file of a tone, which stands for speech where a recipe imitates its corpus."""
    import numpy as np

    from asr.audio import encode_audio

    times = np.arange(round(seconds * sample_rate)) / sample_rate
    return encode_audio((0.3 * np.sin(2 * np.pi * hertz * times)).astype(np.float32), sample_rate, codec)


def find_corpus(
    recipe: Recipe,
    splits: Collection[str],
    *,
    root: Path | None = None,
    mirror: str | None = None,
    shards: Path | None = None,
    shards_share: float = 1.0,
) -> Path:
    """The folder that holds `splits` of the corpus of `recipe`: given, embedded, or downloaded now below `corpora/`.

    A given `root` may hold several corpora, each in a folder of its recipe's name. `shards` and
    `shards_share` as of `obtain`.

    Raises:
        CorpusError: there is no such folder, the download fails, or there is none, or not of one of `splits`.
    """
    if root is not None:
        if not root.is_dir():
            raise CorpusError(f"--root {root}: no such folder")
        named = root / recipe.name
        return named if named.is_dir() else root
    if recipe.default_root:
        return resource(recipe.default_root)
    folder = _DOWNLOADS / recipe.name
    if not (recipe.downloads or recipe.files or folder.is_dir()):
        raise CorpusError(
            f"{recipe.name}: this corpus cannot be downloaded; say with --root where it lies, or leave it out"
        )
    published = {split for each in recipe.downloads for split in each.splits}
    if all(each.splits for each in recipe.downloads) and (unknown := sorted(set(splits) - published)) and published:
        raise CorpusError(f"{recipe.name}: no split '{unknown[0]}'{did_you_mean(unknown[0], published)}")
    needed = [each for each in recipe.downloads if not each.splits or set(each.splits) & set(splits)]
    if needed:
        with file_progress() as progress:
            obtain(needed, folder, mirror=mirror, progress=progress, shards=shards, shards_share=shards_share)
    return folder


def recipe_files() -> list[Path]:
    """The Python files of the recipes that come with this package, by name."""
    return sorted(resource("recipes").glob("*.py"))


def find_recipes() -> list[Recipe]:
    """All recipes that come with this package, by name."""
    return [load_recipe(path) for path in recipe_files()]


def find_recipe(name: str, *, files_by: str = "asr run --manifest") -> Recipe:
    """The recipe called `name`, or the one in the `.py` file at that path; one's own files are told `files_by`.

    Raises:
        CorpusError: no such recipe or file, or the file defines no `RECIPE`.
    """
    if name.endswith(".py"):
        return load_recipe(Path(name))
    by_name = {path.stem: path for path in recipe_files()}
    if name not in by_name:
        own = f"; for your own files: `{files_by} {shlex.quote(name)}`" if Path(name).exists() else ""
        raise CorpusError(f"no recipe '{name}'{did_you_mean(name, by_name)} (`asr recipes` lists them{own})")
    return load_recipe(by_name[name])


def load_recipe(path: Path) -> Recipe:
    """The `RECIPE` that the Python file at `path` defines.

    Raises:
        CorpusError: the file is missing, fails when run, or defines no `RECIPE`.
    """
    if not path.is_file():
        raise CorpusError(f"{path}: no such recipe file")
    # By its path, too: two may have one file name.
    name = f"asr_recipe_{path.stem}_{zlib.crc32(os.fsencode(path.resolve())):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CorpusError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except AsrError:
        raise
    except Exception as error:
        raise CorpusError(f"{path}: the recipe fails when loaded: {type(error).__name__}: {error}") from error
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise CorpusError(f"{path}: expected a module-level RECIPE = Recipe(...), found {type(recipe).__name__}")
    return replace(recipe, source_file=path)


def recipe_of_files(train: Path, test: tuple[Path, ...], dev: Path | None = None) -> Recipe:
    """A recipe for the user's own audio: manifests (JSONL) or folders of audio with `.txt` beside each.

    Without `dev`, a twentieth of the utterances of `train`, at least one, is held out to choose by: those with the lowest
    CRC of their id, so that the choice is the same in every run, and those of the same sound with them. A new
    utterance that is among the lowest takes the place of another there, so that adding some moves about as many at most: a
    list of one's own for `dev` stays as it is.

    Raises:
        CorpusError: a path does not exist, or two test sets have the same name.
    """
    names = tuple(_test_name(path.stem if path.is_file() else path.resolve().name) for path in test)
    if len(set(names)) < len(names):
        raise CorpusError(f"test sets need different names, found {', '.join(names)}: rename one file or folder")
    sources = {
        "train": train,
        "dev": dev or train,
        **{f"test:{name}": path for name, path in zip(names, test, strict=True)},
    }
    for path in sources.values():
        check_is_list(path)

    held_out = functools.cache(functools.partial(_held_out, train))

    def read(root: Path, split: str) -> Iterator[Utterance]:
        shared = dev is None and split in ("train", "dev")
        source = sources.get(split) or sources.get(f"test:{split}")
        if source is None:
            known = ", ".join(("train", "dev", *names))
            raise CorpusError(
                f"splits: no part '{split}' among files of one's own, known: {known}; a configuration made for a corpus "
                "names that corpus's parts"
            )
        try:
            for utterance in read_files(source):
                if not shared or (utterance.id in held_out()) == (split == "dev"):
                    yield utterance
        except CorpusError as error:
            raise CorpusError(f"{error} (`asr data check {source}` names all that is wrong there)") from error

    name = train.stem if train.is_file() else train.resolve().name
    return Recipe(
        name=name,
        title="your own audio",
        hours=0.0,
        speakers=0,
        licence="yours",
        source="your files",
        read=read,
        imitate=lambda root: None,
        config="own_files.yaml",
        splits=Splits(test=names),
        files=sources,
    )


def _held_out(train: Path) -> frozenset[str]:
    """The ids of the utterances of `train` that `recipe_of_files` holds out."""
    sounds = _sounds(read_files(train))
    ids = sorted(sounds, key=lambda name: (zlib.crc32(name.encode()), name))
    if len(ids) == 1:
        raise CorpusError(
            f"{train}: expected two utterances or more, one to learn from and one to choose epochs by, found one; add some, "
            "or say --dev"
        )
    lowest = ids[: max(1, round(_HELD_OUT_SHARE * len(ids)))]
    chosen = {sounds[name] for name in lowest}
    with_copies = [name for name in ids if sounds[name] in chosen]
    # Where all is one sound, something must be left to learn from.
    return frozenset(with_copies if len(with_copies) < len(ids) else lowest)


def _sounds(utterances: Iterable[Utterance]) -> dict[str, str]:
    """What tells the sound of each id from others: its file, or the contents where several files are of one size."""
    path_of = {each.id: Path(os.path.realpath(each.audio)) for each in utterances if isinstance(each.audio, Path)}
    readable = [path for path in set(path_of.values()) if os.access(path, os.R_OK) and path.is_file()]
    of_size: defaultdict[int, list[Path]] = defaultdict(list)
    for path in readable:
        of_size[path.stat().st_size].append(path)
    alike = {path for paths in of_size.values() if len(paths) > 1 for path in paths}
    contents = {path: contents_of(path) for path in alike}
    return {name: contents.get(path, str(path)) for name, path in path_of.items()}


def _test_name(name: str) -> str:
    """`name`, or another where that is the name of the part to learn from or to choose by, or would name a recipe's part."""
    name = as_file_name(name)
    return f"test-{name}" if name in ("train", "dev") else name


def read_files(path: Path, *, may_be_silent: bool = False) -> Iterator[Utterance]:
    """The utterances of a manifest, or of a folder of audio files with `.txt` beside each; see `read_manifest`."""
    read = read_folder if path.is_dir() else read_manifest
    return read(path, may_be_silent=may_be_silent)
