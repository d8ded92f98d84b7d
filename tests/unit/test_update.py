"""One update: its gradient, its loss, and what it does with utterances that cannot be learnt."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from documents import ROOT, run_python

from asr.corpus.batch_order import BatchesConfig
from asr.corpus.batches import Batch
from asr.errors import TrainingError
from asr.features import AugmentConfig, LogMelConfig
from asr.features.augment import Augmenter
from asr.model import AcousticConfig, AcousticModel, EncoderConfig, SubsamplingConfig
from asr.model.attention import AttentionConfig
from asr.text.tokenizer import CharacterTokenizerConfig, Tokenizer, train_tokenizer
from asr.training import update
from asr.training.distributed import Workers
from asr.training.loss import LossConfig, Objective
from asr.training.optimizer import SgdConfig, make_optimizer
from asr.training.running_statistics import RunningStatistics
from asr.training.terms import CtcTargets, Term, divergence_from_even, divergence_of_views
from asr.training.update import Updater, derived_seed, gradient_norms

WORDS = ("ab", "ba", "abc", "c", "cab", "bb", "ac", "b")


def make_updater(
    dtype: torch.dtype = torch.float32,
    num_layers: int = 1,
    loss: LossConfig | None = None,
    attention: AttentionConfig | None = None,
    encoder: dict[str, object] | None = None,
    heads: Callable[[AcousticModel, Tokenizer], Sequence[Term]] = lambda model, tokenizer: (),
    device: str = "cpu",
    **changes: object,
) -> Updater:
    torch.manual_seed(1)
    tokenizer = train_tokenizer(WORDS, CharacterTokenizerConfig())
    config = AcousticConfig(
        features=LogMelConfig(sample_rate=8000, n_mels=8),
        encoder=EncoderConfig.model_validate(
            {
                "hidden_size": 6,
                "num_layers": num_layers,
                "dropout": 0.0,
                "subsampling": SubsamplingConfig(factor=2, channels=2),
                **(encoder or {}),
            }
        ),
        attention=attention,
    )
    model = AcousticModel(config, tokenizer.size)
    arguments: dict[str, object] = {
        "augment": AugmentConfig(spec_augment=None),
        "max_gradient_norm": 0.0,
        "l1": 0.0,
        "dtype": dtype,
        "seed": 3,
    }
    objective = Objective(model, loss or LossConfig(), heads(model, tokenizer)).to(device)
    optimizer = make_optimizer(SgdConfig(momentum=0.0, l2=0.0), objective)
    return Updater(objective, tokenizer, optimizer, **(arguments | changes))


def make_batch(texts: tuple[str, ...] = WORDS, num_samples: int = 4000) -> Batch:
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor([num_samples - 100 * index for index in range(len(texts))])
    waveforms = 0.1 * torch.randn(len(texts), num_samples, generator=generator)
    for row, length in zip(waveforms, lengths.tolist(), strict=True):
        row[length:] = 0
    ids = tuple(f"utterance{index}" for index in range(len(texts)))
    return Batch(ids=ids, texts=texts, speakers=("",) * len(texts), waveforms=waveforms, num_samples=lengths)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_gradient_of_one_batch_equals_that_of_its_parts(size: int) -> None:
    batch = make_batch()
    whole, parts = make_updater(), make_updater()
    loss = whole.accumulate([batch], 0).loss
    assert parts.accumulate([batch.rows(at, at + size) for at in range(0, 8, size)], 0).loss == pytest.approx(
        loss, rel=1e-5
    )
    for expected, found in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-5)


def brute_force_ctc(log_probs: torch.Tensor, tokens: list[int]) -> float:
    """Negative log of the summed probability of every path that collapses to `tokens`."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        collapsed = [token for token, _ in itertools.groupby(path) if token]
        if collapsed == tokens:
            total += math.exp(sum(float(frame[token]) for frame, token in zip(log_probs, path, strict=True)))
    return -math.log(total)


@pytest.mark.parametrize("text", ["ab", "aa", "c", "cab"])
def test_loss_equals_the_sum_over_all_paths(text: str) -> None:
    updater = make_updater()
    log_probs = torch.randn(1, 5, updater.tokenizer.size, generator=torch.Generator().manual_seed(2)).log_softmax(-1)
    targets = CtcTargets([text], updater.tokenizer, torch.device("cpu"))
    losses, impossible = targets.losses(log_probs, torch.tensor([4]))
    assert not impossible.any()
    assert float(losses) == pytest.approx(brute_force_ctc(log_probs[0, :4], updater.tokenizer.encode(text)), rel=1e-4)


def test_loss_of_long_texts_equals_the_recursion_that_the_documentation_explains() -> None:
    recursion = run_python(ROOT / "docs" / "ctc.md", "def ctc_loss")["ctc_loss"]
    updater, texts, num_frames = make_updater(), ("abc" * 7, "bbaa" * 4, ""), [40, 35, 30]
    drawn = torch.randn(3, 40, updater.tokenizer.size, generator=torch.Generator().manual_seed(3))
    log_probs = (3 * drawn).log_softmax(-1)
    targets = CtcTargets(texts, updater.tokenizer, torch.device("cpu"))
    losses, impossible = targets.losses(log_probs, torch.tensor(num_frames))
    assert not impossible.any()
    for row, frames, text, loss in zip(log_probs, num_frames, texts, losses, strict=True):
        assert float(loss) == pytest.approx(recursion(row[:frames].tolist(), updater.tokenizer.encode(text)), rel=1e-4)


def test_utterance_too_short_for_its_text_is_named_and_teaches_nothing() -> None:
    long_text = "abcabcabcabcabcabc" * 10
    with_long, without = make_batch((*WORDS[:7], long_text)), make_batch().rows(0, 7)
    updater, reference = make_updater(), make_updater()
    result = updater.accumulate([with_long], 0)
    assert result.impossible == ["utterance7"]
    num_tokens = sum(len(text) for text in WORDS[:7])
    expected = reference.accumulate([without], 0)
    assert result.loss == pytest.approx(expected.loss, rel=1e-4)  # which is compared with the loss of validation
    scale = num_tokens / (num_tokens + len(long_text))
    for found, alone in zip(updater.model.parameters(), reference.model.parameters(), strict=True):
        torch.testing.assert_close(found.grad, alone.grad * scale, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", [{"label_smoothing": 0.1}, {"consistency": {}}])
def test_what_ctc_cannot_say_teaches_nothing_by_other_terms_either(loss: dict[str, object]) -> None:
    updater = make_updater(loss=LossConfig.model_validate(loss), encoder={"dropout": 0.3})
    updater.accumulate([make_batch(("abc" * 60,) * 8)], 0)
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in updater.model.parameters())


def test_texts_without_tokens_do_not_make_an_update_of_any_size() -> None:
    def loss_of(*texts: str) -> float:
        return make_updater().accumulate([make_batch(texts)], 0).loss

    # The same recordings, and a model that has learnt nothing: as one token each. Divided by 1 it would be twice that.
    assert loss_of("", "") < 1.8 * loss_of("a", "b")


def test_double_letters_need_a_blank_between() -> None:
    updater = make_updater()
    log_probs = torch.zeros(2, 2, updater.tokenizer.size).log_softmax(-1)
    targets = CtcTargets(["ab", "bb"], updater.tokenizer, torch.device("cpu"))
    _, impossible = targets.losses(log_probs, torch.tensor([2, 2]))
    assert impossible.tolist() == [False, True]


def test_non_finite_gradient_leaves_the_weights_alone() -> None:
    updater = make_updater()
    with torch.no_grad():
        updater.model.head.weight[0, 0] = float("nan")
    before = {name: value.clone() for name, value in updater.model.state_dict().items()}
    result = updater.update([make_batch()], 0, lr=0.1)
    assert result.skipped
    for name, value in updater.model.state_dict().items():
        assert torch.equal(value.nan_to_num(), before[name].nan_to_num()), name


def test_update_follows_the_gradient_by_the_given_rate() -> None:
    """The whole gradient, however long it is, where it is not to be clipped."""
    updater, reference = make_updater(), make_updater()
    reference.accumulate([make_batch()], 0)
    result = updater.update([make_batch()], 0, lr=0.25)
    assert result.gradient_norm > 1
    for new, old in zip(updater.model.parameters(), reference.model.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old.detach() - 0.25 * old.grad)


def test_an_update_of_nothing_that_can_be_learnt_changes_nothing() -> None:
    updater = make_updater(max_gradient_norm=1.0)
    before = [parameter.detach().clone() for parameter in updater.model.parameters()]
    result = updater.update([make_batch(("abcabcabc" * 20,))], 0, lr=0.25)
    assert (result.impossible, result.gradient_norm, result.clipped_to) == (["utterance0"], 0.0, 1.0)
    for old, new in zip(before, updater.model.parameters(), strict=True):
        assert torch.equal(old, new)


def test_long_gradients_are_scaled_down() -> None:
    updater = make_updater(max_gradient_norm=0.01)
    result = updater.update([make_batch()], 0, lr=0.1)
    assert result.gradient_norm > 0.01
    norm = torch.linalg.vector_norm(torch.stack([parameter.grad.norm() for parameter in updater.model.parameters()]))
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


def test_randomness_follows_from_seed_and_number() -> None:
    noisy = AugmentConfig.model_validate({"noise": {"probability": 1.0}, "gain": {}})
    losses = [
        make_updater(augment=noisy, seed=seed).accumulate([make_batch()], number).loss
        for seed, number in [(1, 1), (1, 1), (2, 1), (1, 2)]
    ]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_bfloat16_gives_nearly_the_same_loss_and_gradient() -> None:
    exact, half = make_updater(), make_updater(torch.bfloat16)
    loss = exact.accumulate([make_batch()], 0).loss
    assert half.accumulate([make_batch()], 0).loss == pytest.approx(loss, rel=0.05)
    assert half.model.head.weight.grad.dtype == torch.float32
    expected, found = exact.model.head.weight.grad.flatten(), half.model.head.weight.grad.flatten()
    assert float(torch.cosine_similarity(expected, found, dim=0)) > 0.98


@pytest.mark.parametrize("limit", [0.0, 0.01])
def test_gradient_norms_name_every_part_and_add_up_to_what_it_was_before_clipping(limit: float) -> None:
    updater = make_updater(max_gradient_norm=limit)
    result = updater.update([make_batch()], 0, lr=0.0)
    norms = gradient_norms(updater.model, result.clipped_to)
    assert list(norms) == ["subsampling", "layer1", "head"]
    assert all(value > 0 for value in norms.values())
    assert math.hypot(*norms.values()) == pytest.approx(result.gradient_norm, rel=1e-4)


@pytest.mark.parametrize("encoder", [{"cell": "ligru"}, {"norm": "batch"}])
def test_an_update_that_is_left_out_leaves_running_statistics_alone(encoder: dict[str, object]) -> None:
    updater, batch = make_updater(encoder=encoder), make_batch()
    before = {name: value.clone() for name, value in updater.model.state_dict().items()}
    loud = replace(batch, waveforms=batch.waveforms.clone())
    loud.waveforms[0, 100] = math.inf
    assert updater.update([loud], 0, lr=0.1).skipped
    assert all(torch.equal(value, before[name]) for name, value in updater.model.state_dict().items())
    assert not updater.update([batch], 1, lr=0.1).skipped
    assert any(
        "running" in name and not torch.equal(value, before[name]) for name, value in updater.model.state_dict().items()
    )


def test_running_statistics_move_once_by_the_mean_of_all_batches() -> None:
    halves = [make_batch().rows(0, 4), make_batch().rows(4, 8)]

    def moved(batches: list[Batch]) -> dict[str, torch.Tensor]:
        updater = make_updater(encoder={"norm": "batch"})
        before = {name: value.clone() for name, value in updater.model.named_buffers() if "running" in name}
        updater.update(batches, 0, lr=0.0)
        return {name: value - before[name] for name, value in updater.model.named_buffers() if name in before}

    both, first, second = moved(halves), moved(halves[:1]), moved(halves[1:])
    assert both
    share = float(halves[0].num_samples.sum() / make_batch().num_samples.sum())
    for name, value in both.items():
        torch.testing.assert_close(value, share * first[name] + (1 - share) * second[name])


class Summing(Workers):
    """Two processes, of which the one that is asked last hears the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: list[torch.Tensor] = []

    def sum_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        self.sums.append(tensor)
        return torch.stack(self.sums).sum(0)


def test_running_statistics_are_those_of_the_batches_of_all_processes() -> None:
    """One has two batches, the other one and another that only keeps it company; an attempt of each has failed.

    The last counts for as much as the other two, of which it was twice as long.
    """

    def moved(shares: list[list[tuple[float, float]]]) -> tuple[float, ...]:
        workers = Summing()
        for share in shares:
            norm = torch.nn.BatchNorm1d(1)
            statistics = RunningStatistics(norm)
            statistics.begin()
            norm(torch.tensor([[50.0], [70.0]]))
            statistics.begin_again()
            for level, length in share:
                norm(level * torch.tensor([[1.0], [3.0]]))
                statistics.take(length)
            statistics.finish(workers)
        return tuple(float(value) for value in norm.buffers())

    expected = pytest.approx((0.1 * (2 + 4 + 2 * 12) / 4, 0.9 + 0.1 * (2 + 8 + 2 * 72) / 4, 1))
    assert moved([[(1.0, 0.5), (2.0, 0.5), (6.0, 1.0)]]) == expected
    assert moved([[(1.0, 0.5), (2.0, 0.5)], [(6.0, 1.0), (9.0, 0.0)]]) == expected


def test_a_failed_attempt_moves_no_running_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch()
    limited, reference = (make_updater(encoder={"norm": "batch"}) for _ in range(2))
    limit_memory(limited, monkeypatch, 4)
    limited.update([batch.rows(0, 2), batch.rows(2, 8)], 0, lr=0.0)
    reference.update([batch.rows(0, 2), batch.rows(2, 5), batch.rows(5, 8)], 0, lr=0.0)
    expected = dict(reference.model.named_buffers())
    for name, value in limited.model.named_buffers():
        torch.testing.assert_close(value, expected[name])


def test_a_validation_before_it_changes_nothing_of_an_update() -> None:
    losses = []
    for is_training in (True, False):
        updater = make_updater(num_layers=2, encoder={"dropout": 0.5})
        updater.model.train(is_training)
        losses.append(updater.update([make_batch()], 0, lr=0.1).loss)
    assert losses[0] == losses[1]


def test_intermediate_loss_is_that_of_the_model_without_its_top() -> None:
    two_layers = {"intermediate_ctc": {"layers": [1], "weight": 0.25}}
    plain, mixed = make_updater(num_layers=2), make_updater(num_layers=2, loss=LossConfig.model_validate(two_layers))
    lower = make_updater(num_layers=1)
    states = {name: value for name, value in plain.model.state_dict().items() if "layers.1" not in name}
    lower.model.load_state_dict(states)
    losses = [updater.accumulate([make_batch()], 0).loss for updater in (plain, mixed, lower)]
    assert losses[0] == losses[1] != losses[2]
    expected = 0.75 * plain.model.head.weight.grad + 0.25 * lower.model.head.weight.grad
    torch.testing.assert_close(mixed.model.head.weight.grad, expected)
    first = lambda updater: next(updater.model.encoder.layers[0].parameters()).grad  # noqa: E731
    torch.testing.assert_close(first(mixed), 0.75 * first(plain) + 0.25 * first(lower))


def test_divergence_of_views_is_that_of_their_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(4, 3, 5, generator=generator).log_softmax(-1)
    num_frames = torch.tensor([3, 1, 3, 1])
    expected = 0.0
    for one, other in ((0, 2), (1, 3), (2, 0), (3, 1)):
        for frame in range(int(num_frames[one])):
            p, q = log_probs[other, frame].exp(), log_probs[one, frame].exp()
            expected += float((p * (p / q).log()).sum())
    assert float(divergence_of_views(log_probs, num_frames)) == pytest.approx(expected, rel=1e-4)


def test_two_views_without_masks_are_one() -> None:
    # Nothing differs between the views, so they agree, and the mean of their losses is the loss of one.
    consistent = LossConfig.model_validate({"consistency": {}})
    plain, twice = make_updater(), make_updater(loss=consistent)
    losses = [updater.accumulate([make_batch()], 0).loss for updater in (plain, twice)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for expected, found in zip(plain.model.parameters(), twice.model.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-5)


def test_views_are_masked_differently_and_learn_from_each_other() -> None:
    masks = AugmentConfig.model_validate({"spec_augment": {"frequency_width": 4, "time_width": 20, "time_share": 0.5}})
    grads = []
    for weight in (1e-9, 1.0):
        updater = make_updater(augment=masks, loss=LossConfig.model_validate({"consistency": {"weight": weight}}))
        updater.accumulate([make_batch()], 0)
        grads.append(updater.model.head.weight.grad.clone())
    assert (grads[0] - grads[1]).abs().max() > 1e-4


def test_impossible_utterances_are_named_once_with_two_views() -> None:
    updater = make_updater(loss=LossConfig.model_validate({"consistency": {}}))
    assert updater.accumulate([make_batch((*WORDS[:7], "abc" * 60))], 0).impossible == ["utterance7"]


@pytest.mark.parametrize("below", [1, 2])
def test_lower_layers_learn_nothing_that_ctc_cannot_say_at_the_top(below: int) -> None:
    """Below a pyramid a layer has frames enough for what the top has not."""
    encoder = {"pyramid": {"after": 1}, "dropout": 0.0}
    loss = LossConfig.model_validate({"intermediate_ctc": {"layers": [below]}})
    updater = make_updater(num_layers=3, encoder=encoder, loss=loss)
    result = updater.accumulate([make_batch(("abc" * 7,), num_samples=4000)], 0)
    assert result.impossible == ["utterance0"]
    assert result.terms == {"intermediate_ctc": 0.0}
    assert all(float(weight.grad.abs().max()) == 0 for weight in updater.model.parameters() if weight.grad is not None)


def test_label_smoothing_is_the_divergence_from_an_even_distribution() -> None:
    even = torch.full((2, 3, 4), 0.25).log()
    assert float(divergence_from_even(even, torch.tensor([3, 1]))) == pytest.approx(0, abs=1e-6)
    log_probs = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    frames = [log_probs[0, 0], log_probs[0, 1], log_probs[0, 2], log_probs[1, 0]]
    expected = sum(float((frame.exp() * (frame.exp() / 0.25).log()).sum()) for frame in frames)
    assert float(divergence_from_even(log_probs, torch.tensor([3, 1]))) == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_pulls_towards_even_and_leaves_the_reported_loss_alone() -> None:
    plain, smooth = make_updater(), make_updater(loss=LossConfig(label_smoothing=0.5))
    losses = [updater.accumulate([make_batch()], 0).loss for updater in (plain, smooth)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert (plain.model.head.weight.grad - smooth.model.head.weight.grad).abs().max() > 1e-4


ON_GPU = torch.OutOfMemoryError("CUDA out of memory")
ON_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:126] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
)


def limit_memory(updater: Updater, monkeypatch: pytest.MonkeyPatch, most: int, error: Exception = ON_GPU) -> list[int]:
    """Makes a batch of more than `most` utterances fail as it does where memory is full, after part of the work.

    What comes of it is how many utterances those batches have that are tried.
    """
    forward, tried = updater.model.after_layers, []

    def limited(waveforms: torch.Tensor, *arguments: object) -> object:
        tried.append(len(waveforms))
        if len(waveforms) > most:
            raise error
        return forward(waveforms, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(updater.model, "after_layers", limited)
    return tried


@pytest.mark.parametrize(("most", "error"), [(1, ON_GPU), (3, ON_GPU), (4, ON_GPU), (4, ON_CPU), (4, MemoryError())])
def test_batch_that_does_not_fit_is_halved_and_teaches_the_same(
    most: int, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, limited = make_updater(), make_updater()
    limit_memory(limited, monkeypatch, most, error)
    expected, found = whole.accumulate([make_batch()], 0), limited.accumulate([make_batch()], 0)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.utterances == 8
    assert set(found.split) == set(make_batch().ids)
    assert not expected.split
    for one, other in zip(whole.model.parameters(), limited.model.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-5)


def test_batches_are_halved_before_they_are_tried_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, halving = make_updater(), make_updater()
    tried = limit_memory(halving, monkeypatch, 8)
    batch = make_batch()
    halving.most_seconds = 0.3 * batch.waveforms.numel() / halving.sample_rate
    expected, found = whole.accumulate([batch], 0), halving.accumulate([batch], 0)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.utterances == 8
    assert (tried, found.split) == ([2, 2, 2, 2], []), "into quarters, which is no news"
    for one, other in zip(whole.model.parameters(), halving.model.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-5)
    halving.most_seconds = 1e-6
    assert halving.accumulate([batch], 0).loss == pytest.approx(expected.loss, rel=1e-5), (
        "single utterances stay as they are"
    )


def test_batches_are_halved_also_beside_a_single_longer_utterance(monkeypatch: pytest.MonkeyPatch) -> None:
    halving = make_updater()
    tried = limit_memory(halving, monkeypatch, 8)
    long, batch = make_batch(("a",), 9000), make_batch()
    halving.most_seconds = 0.6 * batch.waveforms.numel() / halving.sample_rate
    halving.accumulate([long, batch], 0)
    assert tried == [1, 4, 4]


def test_only_what_was_not_known_not_to_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    halving, batch = make_updater(), make_batch()
    tried = limit_memory(halving, monkeypatch, 2)
    halving.most_seconds = 0.6 * batch.waveforms.numel() / halving.sample_rate
    assert sorted(halving.accumulate([batch], 0).split) == sorted(batch.ids)
    assert tried[0] == 4


def test_an_utterance_that_does_not_fit_alone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    updater = make_updater()
    limit_memory(updater, monkeypatch, 0)
    with pytest.raises(TrainingError, match=r"'utterance0', an utterance of \d s, does not fit.*batches\.max_seconds"):
        updater.accumulate([make_batch()], 0)


def test_memory_is_freed_when_nothing_holds_on_to_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    # While an error is handled, its traceback holds what the failed attempt had made.
    updater = make_updater()
    limit_memory(updater, monkeypatch, 4)
    handled: list[BaseException | None] = []
    monkeypatch.setattr(update, "_free_memory", lambda device: handled.append(sys.exception()))
    updater.accumulate([make_batch()], 0)
    assert updater.largest_batch_seconds(BatchesConfig(seconds=8.0), 1.0, "ab") == 4.0
    assert handled == [None] * 3


@pytest.mark.parametrize("error", [ON_GPU, RuntimeError("CUDA error: out of memory")])
def test_the_largest_batch_is_found_and_nothing_learnt(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    updater = make_updater()
    before = {name: value.clone() for name, value in updater.model.state_dict().items()}
    assert updater.largest_batch_seconds(BatchesConfig(seconds=40.0), 1.0, "ab") == 40.0
    limit_memory(updater, monkeypatch, 12, error)
    assert updater.largest_batch_seconds(BatchesConfig(seconds=40.0), 1.0, "ab") == 10.0
    assert all(torch.equal(value, before[name]) for name, value in updater.model.state_dict().items())
    assert all(parameter.grad is None for parameter in updater.model.parameters())


def test_the_largest_batch_leaves_room_for_what_the_optimiser_will_remember() -> None:
    updater = make_updater()
    updater.optimizer = torch.optim.AdamW(updater.objective.parameters())
    reserved = sum(room.numel() for room in updater._room_for_optimizer())
    updater.update([make_batch()], 0, lr=0.1)
    moments = [value for state in updater.optimizer.state.values() for name, value in state.items() if name != "step"]
    assert reserved == sum(moment.numel() for moment in moments) > 0
    assert not updater._room_for_optimizer()


def test_the_largest_batch_has_no_more_utterances_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    updater = make_updater()
    limit_memory(updater, monkeypatch, 12)
    assert updater.largest_batch_seconds(BatchesConfig(seconds=40.0, max_utterances=12), 1.0, "ab") == 40.0
    assert updater.largest_batch_seconds(BatchesConfig(seconds=40.0, max_utterances=16), 1.0, "ab") == 8.0


def test_a_longest_utterance_that_does_not_fit_alone_is_not_said_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    updater = make_updater()
    limit_memory(updater, monkeypatch, 0)
    assert updater.largest_batch_seconds(BatchesConfig(seconds=8.0), 1.0, "ab") == 0.0
    assert updater.largest_batch_seconds(BatchesConfig(seconds=0.5), 1.0, "ab") == 0.0


def test_the_largest_batch_says_the_longest_text(monkeypatch: pytest.MonkeyPatch) -> None:
    # What an attention decoder keeps grows with the number of tokens: without any, nearly all batches would fit.
    updater = make_updater(attention=AttentionConfig(hidden_size=5))
    decoder = updater.model.attention
    assert decoder is not None
    forward = decoder.forward

    def limited(frames: torch.Tensor, num_frames: torch.Tensor, tokens: torch.Tensor, **options: float) -> torch.Tensor:
        if tokens.numel() > 24:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(frames, num_frames, tokens, **options)

    monkeypatch.setattr(decoder, "forward", limited)
    assert updater.largest_batch_seconds(BatchesConfig(seconds=16.0), 1.0, "abcabc") == 4.0


class LeastOfTwo(Workers):
    """Two processes, of which the other, with less memory, answers a quarter; any sum would wait for it."""

    def gather(self, items: Sequence[float]) -> list[float]:  # type: ignore[override]
        return [*items, *(item / 4 for item in items)]

    def sum(self, *values: float) -> list[float]:
        raise AssertionError("the other process may need another number of attempts")


def test_processes_try_the_largest_batch_without_waiting_for_each_other() -> None:
    updater = make_updater()
    updater.workers = LeastOfTwo(size=2)
    assert updater.largest_batch_seconds(BatchesConfig(seconds=4.0), 1.0, "ab") == 1.0


def test_rooms_are_as_long_as_the_sample_rate_makes_them() -> None:
    rooms = AugmentConfig.model_validate({"spec_augment": None, "reverberation": {"probability": 1.0}})
    updater, batch = make_updater(augment=rooms), make_batch()
    found = updater.accumulate([batch], 0).loss
    targets = CtcTargets(batch.texts, updater.tokenizer, updater.device)
    augmenter = Augmenter(rooms, derived_seed(updater.seed, 0, 0), 8000)
    expected = updater.objective(batch, targets, augmenter, 0).ctc.sum() / sum(map(len, batch.texts))
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_views_learn_from_each_other_as_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(4, 3, 5, generator=generator).log_softmax(-1).requires_grad_()
    divergence_of_views(log_probs, torch.full((4,), 3)).backward()
    torch.testing.assert_close(log_probs.grad, -log_probs.detach().exp().roll(2, 0))


def test_several_lower_layers_share_the_weight_of_the_intermediate_loss() -> None:
    def value(*layers: int) -> float:
        loss = LossConfig.model_validate({"intermediate_ctc": {"layers": layers}})
        return make_updater(num_layers=3, loss=loss).accumulate([make_batch()], 0).terms["intermediate_ctc"]

    assert value(1, 2) == pytest.approx((value(1) + value(2)) / 2, rel=1e-5)
