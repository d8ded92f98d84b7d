"""What a network costs: counted without building it, and in seconds of the training that it would have."""

from __future__ import annotations

import statistics
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from tones import TINY, write_tone_corpus

from asr.corpus.batches import Batch
from asr.errors import ConfigError
from asr.experiment import RunRequest, load_experiment
from asr.model.acoustic import AcousticModel, num_parameters
from asr.model.cells import CELLS
from asr.pipeline import run_stages
from asr.studies.measures import hidden_size_for, network_size, seconds_per_utterance
from asr.training.moving_average import MovingAverage
from asr.training.update import Updater, UpdateResult

SMALL = [
    "features.n_mels=12",
    "augment.spec_augment=null",
    "encoder.hidden_size=6",
    "encoder.num_layers=2",
    "encoder.subsampling.channels=3",
]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_parameters_are_those_of_the_model(cell: str, bidirectional: bool) -> None:
    overrides = [*SMALL, f"encoder.cell={cell}", f"encoder.bidirectional={str(bidirectional).lower()}"]
    config = load_experiment(None, overrides).acoustic
    assert network_size(config, 9).parameters == num_parameters(AcousticModel(config, 9))


def test_an_attention_decoder_and_more_features_have_parameters_too() -> None:
    config = load_experiment(None, [*SMALL, "features.deltas=1", "attention={hidden_size: 5}"]).acoustic
    assert network_size(config, 9).parameters == num_parameters(AcousticModel(config, 9))


@pytest.mark.parametrize("bidirectional", ["true", "false"])
def test_matched_sizes_can_be_shared_among_heads(bidirectional: str) -> None:
    settings = [*SMALL, "encoder.hidden_size=12", "encoder.self_attention={after: 1, heads: 4}"]
    settings.append(f"encoder.bidirectional={bidirectional}")
    wanted = network_size(load_experiment(None, settings).acoustic, 9).parameters
    lstm = [*settings, "encoder.cell=lstm"]
    off: dict[int, int] = {}
    for size in range(4, 16):
        with suppress(ConfigError):  # of heads that cannot share it
            config = load_experiment(None, [*lstm, f"encoder.hidden_size={size}"]).acoustic
            off[size] = abs(network_size(config, 9).parameters - wanted)
    assert hidden_size_for(load_experiment(None, lstm), wanted, 9) == min(off, key=off.__getitem__)
    assert hidden_size_for(load_experiment(None, settings), wanted, 9) == 12


def test_multiplications_are_counted_by_hand() -> None:
    config = load_experiment(None, [*SMALL, "encoder.subsampling.factor=2", "encoder.bidirectional=false"]).acoustic
    frames = 50  # encoder frames per second
    convolution = 9 * 3 * 6  # taps, channels, bands behind the stride
    projection, head = 3 * 6 * 6, 6 * 9
    gru = 2 * 3 * 6 * 6
    assert network_size(config, 9).multiply_adds == frames * (convolution + projection + 2 * gru + head)


def test_layers_above_a_pyramid_are_multiplied_half_as_often() -> None:
    settings = [*SMALL, "encoder.subsampling={kind: conv1d, factor: 2, channels: 3, kernel: 3}"]
    config = load_experiment(None, [*settings, "encoder.bidirectional=false", "encoder.pyramid={after: 1}"]).acoustic
    convolution, projection, pairs, head = 3 * 12 * 3, 3 * 6, 12 * 6, 6 * 9
    gru = 2 * 3 * 6 * 6
    assert network_size(config, 9).multiply_adds == 50 * (convolution + projection + gru) + 25 * (pairs + gru + head)


def test_a_block_below_a_pyramid_is_multiplied_as_often_as_without() -> None:
    def cost(*settings: str) -> float:
        common = [*SMALL, "encoder.hidden_size=8", "encoder.num_layers=3"]
        return network_size(load_experiment(None, [*common, *settings]).acoustic, 9).multiply_adds

    attention, pyramid = "encoder.self_attention={after: 1, heads: 4}", "encoder.pyramid={after: 2}"
    assert cost(attention, pyramid) - cost(pyramid) == cost(attention) - cost() > 0


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_matched_size_is_the_nearest_of_all(cell: str) -> None:
    wanted = network_size(load_experiment(None, [*SMALL, "encoder.hidden_size=20"]).acoustic, 9).parameters
    found = hidden_size_for(load_experiment(None, [*SMALL, f"encoder.cell={cell}"]), wanted, 9)

    def off(size: int) -> int:
        config = load_experiment(None, [*SMALL, f"encoder.cell={cell}", f"encoder.hidden_size={size}"]).acoustic
        return abs(network_size(config, 9).parameters - wanted)

    assert found == min(range(1, 60), key=off)


def test_updates_that_are_timed_are_those_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    updaters: set[Updater] = set()
    updates: list[tuple[int, int]] = []
    averaged: list[MovingAverage] = []
    update, average = Updater.update, MovingAverage.update

    def watched(self: Updater, group: list[Batch], *arguments: object) -> UpdateResult:
        updaters.add(self)
        result = update(self, group, *arguments)  # type: ignore[arg-type]
        updates.append((len(group), result.utterances))
        return result

    def counted(self: MovingAverage) -> None:
        averaged.append(self)
        average(self)

    # Every update takes a second.
    monkeypatch.setattr("asr.studies.measures.time", SimpleNamespace(perf_counter=count().__next__))
    monkeypatch.setattr(Updater, "update", watched)
    monkeypatch.setattr(MovingAverage, "update", counted)
    settings = (
        "loss.speaker={}",
        "init.freeze=[subsampling]",
        "training.moving_average=0.9",
        "batches.seconds=2",
        "training.accumulate=2",
    )
    manifest = write_tone_corpus(tmp_path / "train", 8, seed=1)
    run = RunRequest(recipe=None, manifest=manifest, overrides=(*TINY, *settings)).run(tmp_path / "run")
    run_stages(run, ["prepare"])
    seconds = seconds_per_utterance(run)
    assert max(batches for batches, _ in updates) == 2
    assert len(updates) == 3 + 20
    assert seconds == statistics.median(1 / utterances for _, utterances in updates[3:])
    (updater,) = updaters
    assert [type(head).__name__ for head in updater.objective.heads] == ["SpeakerHead"]
    assert not any(weight.requires_grad for weight in updater.model.encoder.subsampling.parameters())
    assert len(averaged) > 20
    assert averaged[0].model is updater.model
