"""The first stage of a run: corpora become shards, and training texts a tokenizer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path

from asr.atomic import write_text
from asr.audio import holds_features
from asr.config import read_yaml
from asr.corpus.apart import Apart
from asr.corpus.places import Place
from asr.corpus.rates import watch_rates
from asr.corpus.shard_reader import shard_utterances
from asr.corpus.shards import ShardIndex, source_of, write_shards
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError
from asr.experiment import Run
from asr.recipe import Part, find_corpus
from asr.resources import resource
from asr.terminal import counted, progress_bar
from asr.text.tokenizer import Tokenizer, train_tokenizer
from asr.training.init import model_to_start_from

# Fewer than these make intervals too narrow, too.
_FEW_TO_CHOOSE_BY = 10
# Size of Opus by that of FLAC.
_OPUS_SHARE = 1 / 6


def prepare(run: Run) -> None:
    """Write shards of every part, but for those that are ready, and train the tokenizer on the training texts.

    Where the tokens of a model to start from stay, there is none to be trained.

    Raises:
        CheckpointError, ConfigError: there is no such model to start from, or it does not fit.
        CorpusError: a corpus is missing or damaged, ready shards are of another kind than the model hears, or an utterance
            stands in a training part and in another.
    """
    init, kept = run.experiment.init, None
    if init.model is not None:
        # What does not fit should not show after hours of preparing.
        kept = model_to_start_from(init, run.experiment.acoustic)[1]
    train_places = {run.shards(part) for part in run.train_parts}
    parts = _all_parts(run, train_places)
    roots = _roots(run, parts)
    _check_there(run, parts, roots)
    # Of what corpus ready shards are nobody knows, and in two corpora an id may mean two things.
    apart = Apart(by_text=any(part.shards is not None for part in parts))

    def checked(part: Part, utterances: Iterable[Utterance]) -> Iterator[Utterance]:
        files = part.recipe.files
        # Of a part that is held out from the one to learn from, copies of what is learnt from are no one's mistake.
        return apart.passed(
            utterances,
            part.name,
            part.recipe.name,
            is_train=run.shards(part) in train_places,
            of_user=bool(files),
            by_contents=bool(files) and not (part.split == "dev" and files["dev"] == files["train"]),
        )

    def read(part: Part) -> Iterator[Utterance]:
        return checked(part, part.read(roots[part.recipe.name]))

    for part in parts:
        if part.shards is None:
            index = _prepare_part(run, part, partial(read, part))
        else:
            index = run.index(part)
            _read_ready(run, part, index, checked(part, shard_utterances(index)))
        _tell_part(run, part, index)
    tokenizer = kept if kept is not None and init.keeps_tokens else _new_tokenizer(run)
    for part in parts:
        if run.shards(part) not in train_places:
            _tell_of_unspellable(run, part, tokenizer)


def _roots(run: Run, parts: Sequence[Part]) -> dict[str, Path]:
    """The folder of each corpus that shards of `parts` are to be made of, by its recipe's name; downloaded if need be."""
    recipes = {part.recipe.name: part.recipe for part in parts if part.shards is None}
    # Those that nothing can be downloaded of first: that one is missing should not show after hours of downloading others.
    recipes = dict(sorted(recipes.items(), key=lambda item: bool(item[1].downloads)))
    return {
        name: find_corpus(
            recipe,
            {part.split for part in parts if part.recipe.name == name and part.shards is None},
            root=run.root,
            mirror=run.mirror,
            shards=run.prepared_in,
            # FLAC is about as large again: sound in archives is compressed already.
            shards_share=_OPUS_SHARE if run.experiment.shards.codec == "opus" else 1.0,
        )
        for name, recipe in recipes.items()
    }


def _new_tokenizer(run: Run) -> Tokenizer:
    """The tokenizer of the training texts of `run`, which is written to its file."""
    texts = (utterance.text for utterance in shard_utterances(run.train_index, with_audio=False))
    tokenizer = train_tokenizer(texts, run.experiment.tokenizer)
    write_text(run.tokenizer_file, json.dumps(tokenizer.state(), ensure_ascii=False))
    print(f"  tokenizer: {run.experiment.tokenizer.kind}, {tokenizer.size} tokens with blank", flush=True)
    return tokenizer


def _tell_of_unspellable(run: Run, part: Part, tokenizer: Tokenizer) -> None:
    """How many texts of `part` have characters that `tokenizer` lacks, and which those of the first are."""
    place = run.shards(part)
    if isinstance(place, str) and part != run.dev_part:
        return  # `asr evaluate` tells it, too: not worth another download
    index = run.index(part)
    complaints = [
        f"'{utterance.id}': {found}"
        for utterance in shard_utterances(index, with_audio=False)
        if (found := tokenizer.complaint(utterance.text))
    ]
    if complaints:
        print(
            f"  note: {part.name}: {len(complaints)} of {counted(index.num_utterances, 'text')} cannot be spelt with the "
            f"model's tokens, the first: {complaints[0]}",
            flush=True,
        )


def _check_there(run: Run, parts: Sequence[Part], roots: Mapping[str, Path]) -> None:
    """Complains of all parts that are not there, or not of what the model hears, before one is prepared for hours.

    The user's own lists are read to their ends, since a line may be wrong anywhere; their sound is not.
    """
    complaints: list[str] = []
    for part in (each for each in parts if each.shards is None):
        try:
            utterances = iter(part.read(roots[part.recipe.name]))  # a list, in some recipes of users
            first = next(utterances, None)
            for _ in utterances if part.recipe.files else ():
                pass
        except CorpusError as error:
            complaints.append(str(error))
            continue
        audio = None if first is None or run.experiment.acoustic.num_stored_features else first.audio
        if isinstance(audio, Path) and holds_features(audio):
            raise CorpusError(
                f"{part.name}: {audio} and what is with it are stored features, not sound: take features.kind=stored"
                + "".join(f", as --config {name} does" for name in _made_for_stored(part.recipe.config))
            )
    if complaints:
        raise CorpusError("; ".join(dict.fromkeys(complaints)))


def _made_for_stored(config: str) -> list[str]:
    """The configurations for stored features that come along beside `config`."""
    files = sorted(resource("conf").glob(f"{Path(config).stem}*.yaml"))
    return [path.stem for path in files if read_yaml(path).get("features", {}).get("kind") == "stored"]


def _tell_part(run: Run, part: Part, index: ShardIndex) -> None:
    skipped = "".join(f", {len(ids)} left out ({reason})" for reason, ids in index.skipped.items())
    whole = part.recipe.sizes.get(part.split, 0)
    found = index.num_utterances + index.num_skipped
    partial = f" (a part: {found} of {whole} are there)" if found < whole else ""
    print(
        f"  {part.name}: {counted(index.num_utterances, 'utterance')}, {index.seconds / 3600:.2f} h, "
        f"{counted(index.num_speakers, 'speaker')}{skipped}{partial}",
        flush=True,
    )
    if part == run.dev_part and part.recipe.files and index.num_utterances < _FEW_TO_CHOOSE_BY:
        print(
            f"  note: epochs are chosen by {counted(index.num_utterances, 'utterance')}, where a word more or less is "
            "chance: name more to choose by with --dev",
            flush=True,
        )


def _read_ready(run: Run, part: Part, index: ShardIndex, utterances: Iterator[Utterance]) -> None:
    """Reads ready shards once: the model must hear them, all be there, and nothing be learnt from and measured on."""
    index.check_fits(run.experiment.features.sample_rate, run.experiment.acoustic.num_stored_features)
    with progress_bar(f"reading {part.name}", index.num_utterances) as advance:
        for _ in utterances:
            advance(1)


def _all_parts(run: Run, train_places: Set[Place]) -> list[Part]:
    """The parts of `run`, each once, though it may be both the one to choose by and one to measure on.

    Those to learn from, which are at `train_places`, come first.

    Raises:
        CorpusError: one of them is also to be measured on, or two parts would have one folder.
    """
    for part in (run.dev_part, *run.test_parts):
        if run.shards(part) in train_places:
            raise CorpusError(
                f"'{part.name}' is to be learnt from and to be measured on: a model must not be measured on what it learnt "
                "from; name other parts in splits"
            )
    parts = list({(run.shards(part), part.name): part for part in run.parts}.values())
    if len(set(map(run.own_shards, parts))) < len(parts):
        names = ", ".join(part.name for part in parts)
        raise CorpusError(f"parts need different names, found {names}: rename a folder of shards")
    return parts


def _prepare_part(run: Run, part: Part, read: Callable[[], Iterator[Utterance]]) -> ShardIndex:
    """The index of the shards of `part`, newly written of the utterances that `read` gives unless they are there."""
    folder = run.own_shards(part)
    sample_rate, num_stored = run.experiment.features.sample_rate, run.experiment.acoustic.num_stored_features
    index: ShardIndex | None = None
    with contextlib.suppress(CorpusError):  # what is not whole is written anew
        index = ShardIndex.load(folder)
    if index is not None:
        # Finished before this stage was cut off. The corpus may have been mended since, or have been on its way.
        source = source_of(read(), sample_rate=sample_rate, num_features=num_stored, config=run.experiment.shards)
        if index.source == source:
            return index
    whole = part.recipe.sizes.get(part.split, 0)  # a copy may be partial, which nobody knows before it is read
    with progress_bar(f"shards of {part.name}" + f" ({whole} if whole)" * bool(whole), whole or None) as advance:
        return write_shards(
            read() if num_stored else watch_rates(read(), sample_rate, part.name, run.experiment.init.model),
            folder,
            sample_rate=sample_rate,
            num_features=num_stored,
            config=run.experiment.shards,
            whole=whole,
            progress=lambda count, seconds: advance(1),
        )
