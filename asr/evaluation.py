"""Evaluation: subsets of speech with references, recognised, timed and scored."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from asr.corpus.batch_order import BatchesConfig
from asr.corpus.batches import Batch, Unusable, batches_of_utterances, sequential_batches
from asr.corpus.list_form import check_is_list
from asr.corpus.places import as_file_name, find_place, title
from asr.corpus.rates import watch_rates
from asr.corpus.shards import ShardIndex
from asr.corpus.utterance import Utterance
from asr.decoding import DecoderConfig
from asr.errors import AsrError, CorpusError, first_of
from asr.model.acoustic import AcousticConfig
from asr.model.device import select_device, wait_for
from asr.recipe import find_corpus, find_recipe, read_files
from asr.recognizer import Encoded, Ensemble, Recognizer
from asr.report import System
from asr.report.collect import Collector
from asr.scoring import (
    Result,
    UtteranceScore,
    score_utterance,
    summarize,
    write_hypotheses,
)
from asr.terminal import progress_bar

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Speech with references under one name.

    Attributes:
        name: as the results call it.
        batches: gives all of it, as a model of that configuration hears it, each time it is called; what cannot be used of
            it is told to the third argument and left out.
        whole: utterances in all of the published subset, 0 when that is not known.
        size: utterances, where that is known before they are read.
        missing: names what of the published subset is known not to be there, once it has been read.
    """

    name: str
    batches: Callable[[AcousticConfig, BatchesConfig, Unusable], Iterator[Batch]]
    whole: int = 0
    size: int | None = None
    missing: Callable[[], list[str]] = list

    @classmethod
    def of_shards(cls, name: str, index: ShardIndex, whole: int = 0) -> Subset:
        """The subset in the shards of `index`, of which the published one has `whole` utterances, if they do not say."""

        def batches(model: AcousticConfig, config: BatchesConfig, unusable: Unusable) -> Iterator[Batch]:
            index.check_fits(model.features.sample_rate, model.num_stored_features)
            return sequential_batches(index, config)

        return cls(name=name, batches=batches, whole=index.whole or whole, size=index.num_utterances)

    @classmethod
    def of_utterances(cls, name: str, read: Callable[[], Iterator[Utterance]], whole: int = 0) -> Subset:
        """The subset of the utterances that `read` yields."""

        def batches(model: AcousticConfig, config: BatchesConfig, unusable: Unusable) -> Iterator[Batch]:
            utterances, num_features = read(), model.num_stored_features
            if not num_features:
                utterances = watch_rates(utterances, math.ceil(2 * model.highest_hz), name, only_measured=True)
            return batches_of_utterances(
                utterances, model.features.sample_rate, config, num_features=num_features, unusable=unusable
            )

        return cls(name=name, batches=batches, whole=whole)


def open_subsets(data: str, root: Path | None, mirror: str | None = None, cache: Path | None = None) -> list[Subset]:
    """The subsets that `data` means: a manifest, a folder of audio, a folder or URL of shards, or RECIPE:SPLIT[,SPLIT].

    A recipe's corpus lies below `root`, or is downloaded, from `mirror` if there is one; `cache` as of `ShardIndex.load`.

    Raises:
        CorpusError: nothing of that kind, or its download fails.
    """
    path = find_place(data)
    if isinstance(path, str) or (path / "index.json").is_file():
        return [Subset.of_shards(title(path), ShardIndex.load(path, cache=cache))]
    inside = sorted(index.parent for index in path.glob("*/index.json")) if path.is_dir() else []
    if inside:
        raise CorpusError(f"--data {data}: it holds several folders of shards, name one: {', '.join(map(str, inside))}")
    if path.exists():
        check_is_list(path)
        return [Subset.of_utterances(path.stem, lambda: read_files(path, may_be_silent=True))]
    name, colon, splits = data.rpartition(":")
    if not colon or not splits:
        raise CorpusError(
            f"--data {data}: expected a manifest, a folder of audio, a folder or URL of shards, or RECIPE:SPLIT, such as "
            "librispeech:test-clean; none there"
        )
    recipe = find_recipe(name, files_by="--data")
    names = [split.strip() for split in splits.split(",")]
    folder = find_corpus(recipe, names, root=root, mirror=mirror)

    def subset(split: str) -> Subset:
        missing: list[str] = []

        def read() -> Iterator[Utterance]:
            reading = cast(Generator[Utterance, None, list[str] | None], recipe.read(folder, split))
            missing[:] = (yield from reading) or []

        found = Subset.of_utterances(f"{recipe.name}:{split}", read, recipe.sizes.get(split, 0))
        return replace(found, missing=lambda: missing)

    return [subset(name) for name in names]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One subset under one decoder.

    Attributes:
        result: counts, rates and intervals.
        scores: of every utterance.
        system: what a report shows, None where it was not collected.
    """

    result: Result
    scores: list[UtteranceScore]
    system: System | None = None


@dataclass(kw_only=True)
class _Reader:
    """One decoder at work on a subset.

    Attributes:
        kind: of the decoder.
        recognizer: what reads with it.
        collector: what gathers for a report, None where there is none.
        scores: of the utterances that were read so far.
        seconds: that reading took, but for what all decoders share.
    """

    kind: str
    recognizer: Recognizer
    collector: Collector | None
    scores: list[UtteranceScore] = field(default_factory=list)
    seconds: float = 0.0

    def read(self, batch: Batch, encoded: Encoded) -> None:
        """Read, then score and collect, which do not count: the same model is as fast with a report as without."""
        start = time.perf_counter()
        recognized = self.recognizer.read(batch, encoded)
        self.seconds += time.perf_counter() - start
        if self.collector is not None:
            self.collector.add(batch, encoded, recognized)
        for number, each in enumerate(recognized):
            self.scores.append(
                score_utterance(
                    id=each.id,
                    speaker=batch.speakers[number],
                    reference=self.recognizer.normalize(batch.texts[number]),
                    hypothesis=each.best.text,
                    seconds=each.seconds,
                    columns=batch.metadata[number],
                )
            )


def evaluate_subsets(
    model: Path,
    subsets: Sequence[Subset],
    decoders: Sequence[DecoderConfig],
    *,
    others: Sequence[Path] = (),
    batches: BatchesConfig | None = None,
    device: str = "auto",
    hypotheses: Path | None = None,
    for_report: bool = False,
    embed_audio: bool = False,
    failures: list[AsrError] | None = None,
) -> list[Evaluation]:
    """One evaluation per subset and decoder; with `hypotheses`, also a file of utterances, worst first, in that folder.

    Each subset is read and encoded once, for all decoders. The probabilities of `model` are averaged with those of the
    `others`, if any. What a report shows is collected `for_report` only, with `embed_audio` the sound too. What is wrong
    with a subset is added to `failures`, where these are given, and costs none of the others.

    Raises:
        CheckpointError: no model at `model` or one of `others`.
        ConfigError: the models do not fit together, or one of `decoders` needs an attention decoder that is not there.
        CorpusError: a subset cannot be read, or is empty; or two have one name.
    """
    if len({hypotheses_file(subset.name, "") for subset in subsets}) < len(subsets):
        names = ", ".join(subset.name for subset in subsets)
        raise CorpusError(f"subsets need different names, found {names}: rename a file or folder")
    ensemble = Ensemble.load([model, *others])
    acoustic, *other_models = ensemble.models
    at_device = select_device(device)
    recognizers: dict[str, Recognizer] = {
        choice.kind: Recognizer(acoustic, ensemble.tokenizer, ensemble.decoder(choice), at_device, other_models)
        for choice in decoders
    }
    found = []
    for subset in subsets:
        try:
            evaluations = _evaluations(
                subset, recognizers, batches or BatchesConfig(), for_report=for_report, embed_audio=embed_audio
            )
        except CorpusError as error:
            if failures is None:
                raise
            failures.append(error)
            continue
        found += evaluations
        if hypotheses is not None:
            hypotheses.mkdir(parents=True, exist_ok=True)
            for each in evaluations:
                file = hypotheses_file(each.result.subset, each.result.decoder)
                write_hypotheses(hypotheses / file, each.scores)
    return found


def _evaluations(
    subset: Subset,
    recognizers: Mapping[str, Recognizer],
    batches: BatchesConfig,
    *,
    for_report: bool,
    embed_audio: bool,
) -> list[Evaluation]:
    """What each of `recognizers`, by the kind of its decoder, makes of `subset`, which is read and encoded once."""
    readers: list[_Reader] = []
    for kind, recognizer in recognizers.items():
        # The recordings are the same for every decoder.
        collector = Collector(recognizer, recordings=not readers, embed_audio=embed_audio) if for_report else None
        readers.append(_Reader(kind=kind, recognizer=recognizer, collector=collector))
    first = readers[0].recognizer
    unusable: list[str] = []
    of_subset = subset.batches(first.model.config, batches, unusable.append)
    with progress_bar(subset.name, subset.size or subset.whole or None) as advance:
        shared_seconds = _recognize_and_score(readers, of_subset, advance)
    subset = _known_to_be_part(subset, unusable, len(readers[0].scores))
    _tell_of_silence(subset, readers[0])
    _tell_of_unspellable(subset, readers[0])
    for reader in readers:
        _tell_of_unwritable(subset, reader)
    return [_evaluation(subset, reader, shared_seconds, 1 + len(first.others)) for reader in readers]


def _tell_of_silence(subset: Subset, reader: _Reader) -> None:
    """How many references say nothing."""
    if silent := sum(not score.reference for score in reader.scores):
        _LOG.warning(
            "%s: %d of %d references are empty: what is heard there counts as insertions",
            *(subset.name, silent, len(reader.scores)),
        )


def _tell_of_unspellable(subset: Subset, reader: _Reader) -> None:
    """How many references the model has no tokens for, as where it learnt another language or alphabet."""
    tokenizer = reader.recognizer.tokenizer
    complaints = [found for score in reader.scores if (found := tokenizer.complaint(score.reference))]
    if complaints:
        _LOG.warning(
            "%s: %d of %d references cannot be spelt with the model's tokens, the first: %s",
            *(subset.name, len(complaints), len(reader.scores), complaints[0]),
        )


def _tell_of_unwritable(subset: Subset, reader: _Reader) -> None:
    """What the references say and the decoder cannot: each such word is an error, whatever the model hears."""
    if (vocabulary := reader.recognizer.decoder.vocabulary) is None:
        return
    said = Counter(word for score in reader.scores for word in score.reference.split())
    missing = Counter({word: count for word, count in said.items() if word not in vocabulary})
    if missing:
        named = first_of([f"'{word}'" for word, _ in missing.most_common()])
        _LOG.warning(
            "%s: %.1f %% of the words of the references (%d of %d) are not in the list of the %s decoder, such as %s",
            subset.name,
            100 * missing.total() / said.total(),
            missing.total(),
            said.total(),
            reader.kind,
            named,
        )


def _known_to_be_part(subset: Subset, unusable: Sequence[str], num_heard: int) -> Subset:
    """`subset`, which is more than what was heard of it where something could not be used; that is told."""
    for message in unusable:
        _LOG.warning("%s: left out: %s", subset.name, message)
    return replace(subset, whole=max(subset.whole, num_heard + len(unusable))) if unusable else subset


def hypotheses_file(subset: str, decoder: str) -> str:
    """Name of the file with what `decoder` heard in each utterance of `subset`."""
    return f"{as_file_name(subset)}-{decoder}.tsv"


def _recognize_and_score(
    readers: Sequence[_Reader], batches: Iterator[Batch], advance: Callable[[float], None]
) -> float:
    """Lets all `readers` read all `batches`; the seconds that they share, for reading in and encoding."""
    seconds = 0.0
    with ExitStack() as collecting:
        for reader in readers:
            if reader.collector is not None:
                collecting.enter_context(reader.collector)
        recognizer = readers[0].recognizer
        start = time.perf_counter()
        for batch in batches:
            encoded = recognizer.encode(batch)
            wait_for(recognizer.device)
            seconds += time.perf_counter() - start
            for reader in readers:
                reader.read(batch, encoded)
            advance(len(batch))
            start = time.perf_counter()
    return seconds


def _evaluation(subset: Subset, reader: _Reader, shared_seconds: float, models: int) -> Evaluation:
    if not reader.scores:
        raise CorpusError(f"{subset.name}: there are no utterances to evaluate")
    result = summarize(
        reader.scores,
        subset=subset.name,
        decoder=reader.kind,
        processing_seconds=shared_seconds + reader.seconds,
        whole=subset.whole,
        models=models,
        may_be_silent=True,
    )
    system = None if reader.collector is None else reader.collector.system(reader.kind, result, reader.scores)
    return Evaluation(result=result, scores=reader.scores, system=system)
