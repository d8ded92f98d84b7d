"""Blocks between recurrent layers: their formulas, the bottleneck's price, and settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ragged import encoder_config, ragged_features, shaken
from test_loop import make_trainer, run
from test_update import make_batch, make_updater
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.utils._python_dispatch import TorchDispatchMode

from asr.config import validated
from asr.corpus.batches import Batch
from asr.errors import ConfigError
from asr.experiment import load_experiment
from asr.lengths import valid_mask
from asr.model import AcousticConfig, AcousticModel, EncoderConfig
from asr.model.blocks import (
    Bottleneck,
    BottleneckConfig,
    Pyramid,
    SelfAttention,
    SelfAttentionConfig,
    Stream,
    make_stream,
)
from asr.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from asr.text.tokenizer import CharacterTokenizerConfig, train_tokenizer
from asr.training.init import InitConfig, model_parts, part_names, pretrained
from asr.training.loop import TrainingConfig
from asr.training.loss import LossConfig
from asr.training.terms import CtcTargets
from asr.training.update import Updater, gradient_norms

LENGTHS = [7, 4, 1]


def stream_of(lengths: list[int], size: int) -> Stream:
    """A stream whose frames behind the ends are anything but zero."""
    hidden = torch.randn(max(lengths), len(lengths), size, generator=torch.Generator().manual_seed(0))
    return make_stream(hidden, torch.tensor(lengths), torch.ones(len(lengths)))


def test_pyramid_joins_neighbours_and_ends_in_zero() -> None:
    pyramid, stream = shaken(Pyramid(3)), stream_of(LENGTHS, 3)
    found = pyramid(stream)
    assert found.num_frames.tolist() == [4, 2, 1]
    assert torch.equal(found.divergence, stream.divergence)
    assert found.hidden.shape == (4, 3, 3)
    assert found.mask.T.tolist() == valid_mask(found.num_frames, 4).tolist()
    assert found.reversal.T.tolist() == [[3, 2, 1, 0], [1, 0, 2, 3], [0, 1, 2, 3]]
    for row, length in enumerate(LENGTHS):
        frames = [*stream.hidden[:length, row], torch.zeros(3)]
        for position in range((length + 1) // 2):
            expected = pyramid.projection(torch.cat(frames[2 * position : 2 * position + 2]))
            torch.testing.assert_close(found.hidden[position, row], expected)


class LargestTensor(TorchDispatchMode):
    """How many numbers the largest tensor has that is made meanwhile."""

    size = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor):
                self.size = max(self.size, tensor.numel())
        return result


@pytest.mark.parametrize("is_causal", [False, True])
def test_self_attention_makes_nothing_as_large_as_frames_by_frames(is_causal: bool) -> None:
    """An hour has 90,000 frames of 40 ms, and their square does not fit into memory."""
    block = SelfAttention(SelfAttentionConfig(after=(1,), heads=2), 4, norm="layer", is_causal=is_causal).eval()
    num_frames = 600
    with torch.no_grad(), LargestTensor() as largest:
        block(stream_of([num_frames], 4))
    assert largest.size < num_frames**2 / 10


@pytest.mark.parametrize("is_causal", [False, True])
def test_self_attention_equals_torchs(is_causal: bool) -> None:
    """torch's own module, one utterance at a time, is an independent way to the same numbers."""
    block = shaken(SelfAttention(SelfAttentionConfig(after=(1,), heads=3), 6, norm="layer", is_causal=is_causal)).eval()
    reference = nn.MultiheadAttention(6, 3, batch_first=True).eval()
    reference.load_state_dict(
        {
            "in_proj_weight": block.input.weight,
            "in_proj_bias": block.input.bias,
            "out_proj.weight": block.output.weight,
            "out_proj.bias": block.output.bias,
        }
    )
    stream = stream_of(LENGTHS, 6)
    found = block(stream).hidden
    for row, length in enumerate(LENGTHS):
        frames = stream.hidden[:length, row][None]
        normed = block.norm(frames)
        later = torch.ones(length, length).triu(1).bool() if is_causal else None
        expected = frames + reference(normed, normed, normed, attn_mask=later, need_weights=False)[0]
        torch.testing.assert_close(found[:length, row], expected[0])


def bottleneck_and_posterior(stream: Stream) -> tuple[Bottleneck, Normal]:
    block = shaken(Bottleneck(BottleneckConfig(after=(1,), size=2), 3, norm="layer"))
    mean, log_variance = block.posterior(block.norm(stream.hidden)).detach().chunk(2, dim=-1)
    return block, Normal(mean, (log_variance / 2).exp())


def test_self_attention_sees_nothing_of_what_is_infinite_behind_an_end() -> None:
    attention = SelfAttention(SelfAttentionConfig(after=1, heads=2, dropout=0), 4, norm="none", is_causal=False)
    stream = stream_of(LENGTHS, 4)
    broken = stream._replace(hidden=stream.hidden.masked_fill(~stream.mask[..., None], torch.inf))
    expected, found = (attention(each).hidden[stream.mask] for each in (stream, broken))
    torch.testing.assert_close(found, expected)


def test_bottleneck_passes_the_mean_and_counts_the_divergence() -> None:
    stream = stream_of(LENGTHS, 3)
    block, posterior = bottleneck_and_posterior(stream)
    found = block.eval()(stream)
    torch.testing.assert_close(found.hidden, block.output(posterior.mean))
    each = kl_divergence(posterior, Normal(0.0, 1.0)).sum(-1)
    expected = torch.stack([each[:length, row].sum() for row, length in enumerate(LENGTHS)])
    torch.testing.assert_close(found.divergence, 1 + expected)


def test_bottleneck_draws_from_the_posterior_in_training() -> None:
    stream = stream_of(LENGTHS, 3)
    block, posterior = bottleneck_and_posterior(stream)
    block.output = nn.Identity()
    torch.manual_seed(0)
    drawn = torch.stack([block.train()(stream).hidden for _ in range(2000)])
    torch.testing.assert_close(
        (drawn.mean(0) - posterior.mean) / posterior.stddev, torch.zeros(7, 3, 2), atol=0.1, rtol=0
    )
    torch.testing.assert_close(drawn.std(0) / posterior.stddev, torch.ones(7, 3, 2), atol=0.08, rtol=0)


def priced(annealing_updates: int, **changes: object) -> Updater:
    price = {"after": 1, "size": 4, "weight": 0.5, "annealing_updates": annealing_updates}
    return make_updater(num_layers=2, encoder={"bottleneck": price}, **changes)


def test_price_of_the_bottleneck_grows_and_is_reported_whole() -> None:
    """Half of the annealing gives the gradient halfway between none and all of the price."""
    updaters = [priced(each) for each in (10**9, 10, 5, 0)]
    results = [updater.accumulate([make_batch()], 5) for updater in updaters]
    assert len({result.terms["bottleneck"] for result in results}) == len({result.loss for result in results}) == 1
    assert results[0].terms["bottleneck"] > 0
    none, half, whole, always = (
        updater.model.encoder.blocks[0].bottleneck.posterior.weight.grad for updater in updaters
    )
    assert (whole - none).abs().max() > 1e-4
    torch.testing.assert_close(half, (none + whole) / 2, rtol=1e-3, atol=1e-6)
    assert torch.equal(whole, always)


def test_price_is_that_of_all_utterances_per_token() -> None:
    updater = priced(0)
    result = updater.accumulate([make_batch()], 0)
    features, num_frames = updater.model.features(make_batch().waveforms, make_batch().num_samples)
    divergence = updater.model.encoder.after_layers(features, num_frames, (2,)).divergence
    num_tokens = sum(len(updater.tokenizer.encode(text)) for text in make_batch().texts)
    assert result.terms["bottleneck"] == pytest.approx(float(divergence.detach().sum()) / num_tokens, rel=1e-4)


def test_what_ctc_cannot_say_pays_no_price() -> None:
    updater, batch = priced(0), make_batch()
    impossible = make_batch(tuple(100 * text for text in batch.texts))
    result = updater.accumulate([impossible], 0)
    assert len(result.impossible) == len(batch)
    assert result.terms["bottleneck"] == 0
    assert all(weight.grad is None or not weight.grad.any() for weight in updater.model.encoder.parameters())


def test_a_resumed_training_ends_the_same_with_noise(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=2, checkpoint_every_updates=1)
    whole = make_trainer(tmp_path / "whole", updater=priced(6), config=config)
    run(whole, tmp_path / "whole")
    half = make_trainer(tmp_path / "half", updater=priced(6), config=config)
    batches = half.data.epoch

    def cut_off(number: int, skip: int) -> Iterator[Batch]:
        stream = batches(number, skip)
        yield from (next(stream), next(stream), next(stream))
        raise RuntimeError("power failure")

    object.__setattr__(half.data, "epoch", cut_off)
    with pytest.raises(RuntimeError, match="power failure"):
        run(half, tmp_path / "half")
    checkpoint = load_checkpoint(tmp_path / "half" / "checkpoints" / "last.pt")
    resumed = make_trainer(tmp_path / "half", updater=priced(6), config=config)
    resumed.recognizer.model.load_state_dict(checkpoint.model)
    resumed.resume(checkpoint.training)
    run(resumed, tmp_path / "half")
    expected = whole.recognizer.model.state_dict()
    for name, value in resumed.recognizer.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_intermediate_ctc_hears_a_lower_layer_at_its_own_rate() -> None:
    """Below the pyramid there are twice the frames of the top."""
    loss = LossConfig.model_validate({"intermediate_ctc": {"layers": [1]}})
    updater, batch = make_updater(num_layers=2, loss=loss, encoder={"pyramid": {"after": 1}}), make_batch()
    found = updater.accumulate([batch], 0)
    (lower, top), _ = updater.model.after_layers(batch.waveforms, batch.num_samples, (1, 2))
    assert torch.equal((lower.num_frames + 1) // 2, top.num_frames)
    targets = CtcTargets(batch.texts, updater.tokenizer, updater.device)
    losses, _ = targets.losses(updater.model.log_probs(lower.hidden), lower.num_frames)
    assert found.terms["intermediate_ctc"] == pytest.approx(
        float(losses.detach().sum()) / targets.num_counted(), rel=1e-5
    )


ALL = {
    "pyramid": {"after": [1, 2]},
    "self_attention": {"after": [2], "heads": 2, "dropout": 0.0},
    "bottleneck": {"after": [2], "size": 4},
}
NAMES = ["subsampling", "layer1", "pyramid1", "layer2", "pyramid2", "self_attention2", "bottleneck2", "layer3", "head"]


def test_blocks_are_parts_that_can_be_named() -> None:
    updater = make_updater(num_layers=3, encoder=ALL)
    assert part_names(updater.model.config.encoder, attention=False) == list(model_parts(updater.model)) == NAMES
    updater.accumulate([make_batch()], 0)
    norms = gradient_norms(updater.model)
    assert list(norms) == NAMES
    assert all(value > 0 for value in norms.values())
    overrides = ["encoder.pyramid={after: 1}", "init.freeze=[pyramid1]"]
    assert load_experiment(None, overrides).encoder.factor == 8
    with pytest.raises(ConfigError, match=r"init.freeze: no part 'pyramid2'"):
        load_experiment(None, [*overrides[:1], "init.freeze=[pyramid2]"])


def test_price_and_dropout_may_change_where_a_training_starts_from_a_model(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["abc"], CharacterTokenizerConfig())
    config = AcousticConfig(encoder=encoder_config(num_layers=3, **ALL))
    path = tmp_path / "model.pt"
    state = AcousticModel(config, tokenizer.size).state_dict()
    save_checkpoint(
        path, Checkpoint(experiment=config.model_dump(mode="json"), tokenizer=tokenizer.state(), model=state)
    )
    changes = ["encoder.bottleneck={weight: 0.5, annealing_updates: 7}", "encoder.self_attention.dropout=0.3"]
    experiment = load_experiment(None, [*changes, f"init.model={path}"])
    assert experiment.encoder.bottleneck == BottleneckConfig(after=(2,), size=4, weight=0.5, annealing_updates=7)
    assert experiment.encoder.self_attention == SelfAttentionConfig(after=(2,), heads=2, dropout=0.3)
    model, _ = pretrained(InitConfig(model=str(path)), experiment.acoustic, lambda: tokenizer)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"pyramid": {"after": [1, 3]}}, r"test: pyramid: after=\[1, 3\] must lie below the last of 3 layers$"),
        ({"bottleneck": {"after": 4}}, r"test: bottleneck: after=\[4\] must lie below the last of 3 layers$"),
        ({"pyramid": {"after": 0}}, r"pyramid.after.0: .* greater than or equal to 1, found 0$"),
        ({"pyramid": {"after": []}}, r"pyramid.after: .* at least 1 item"),
        ({"pyramid": {"after": [1, 1]}}, r"pyramid.after: each layer may stand once, found \[1, 1\]$"),
        ({"pyramid": {}}, r"pyramid.after: Field required$"),
        ({"self_attention": {"after": 1, "heads": 5}}, r"self_attention: heads=5 must divide the width of 512 "),
        ({"self_attention": {"after": 1, "head": 4}}, "self_attention.head: unknown key, did you mean 'heads'"),
        ({"bottleneck": {"after": 1, "weight": 0}}, "bottleneck.weight: .* greater than 0, found 0$"),
        ({"subsampling": {"kind": "conv3d"}}, "subsampling.kind: unknown kind 'conv3d', did you mean 'conv"),
        (
            {"subsampling": {"kind": "conv1d", "kernel": 4}},
            "subsampling.kernel: expected an odd number of frames, found 4$",
        ),
        ({"subsampling": {"kind": "conv1d", "kernel": 1}}, "subsampling.kernel: .* equal to 3, found 1$"),
        ({"subsampling": {"kind": "conv1d", "factor": 1}}, "subsampling.factor: .* 2, 4 or 8, found 1$"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        validated(EncoderConfig, settings, where="test")


def test_the_kind_of_the_front_end_decides_which_settings_there_are() -> None:
    assert load_experiment(None, ["encoder.subsampling.factor=2"]).encoder.subsampling.kind == "conv2d"
    # Those of the other kind do not stay behind.
    changed = load_experiment("spoken_commands", ["encoder.subsampling.kind=conv1d"]).encoder.subsampling
    assert (changed.kind, changed.factor, changed.channels) == ("conv1d", 4, 256)


def test_time_convolutions_equal_plain_ones_on_each_utterance() -> None:
    encoder = AcousticModel(
        AcousticConfig(encoder=encoder_config(subsampling={"kind": "conv1d", "channels": 4, "kernel": 5})), 3
    ).encoder
    module = shaken(encoder.subsampling).double()
    assert module.extra_repr() == "2 x conv 5 stride 2 over time, linear"
    features, num_frames = ragged_features([17, 1, 8], 80, extra=5)
    features = features.double()
    found, frames = module(features, num_frames)
    assert frames.tolist() == [5, 1, 2]
    for row, length, count in zip(range(3), num_frames.tolist(), frames.tolist(), strict=True):
        hidden: Tensor = features[row, :length].T[None]
        for convolution in module.convolutions:
            padded = nn.functional.pad(hidden, (2, 2))
            hidden = nn.functional.conv1d(padded, convolution.weight, convolution.bias, stride=2).relu()
        torch.testing.assert_close(found[row, :count], module.projection(hidden[0].T))
