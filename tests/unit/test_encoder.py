"""The encoder's parts: normalisation over valid frames, reversal by length, settings. Cells: `contract/test_cells.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ragged import encoder_config, ragged_features, shaken
from torch import nn

from asr.config import validated
from asr.errors import ConfigError
from asr.lengths import valid_mask
from asr.model import Encoder, EncoderConfig
from asr.model.blocks import reversed_frames
from asr.model.encoder import UtteranceDropout
from asr.model.norm import make_norm, normalize


def test_reversal_turns_each_utterance_by_its_own_length() -> None:
    lengths = [5, 1, 3]
    index = reversed_frames(torch.tensor(lengths), 6)
    for column, length in zip(index.T.tolist(), lengths, strict=True):
        assert column == [*reversed(range(length)), *range(length, 6)]


def test_batch_statistics_are_those_of_the_valid_frames() -> None:
    norm = shaken(make_norm("batch", 4)).train()
    mean_before, variance_before = norm.running_mean.clone(), norm.running_var.clone()
    hidden = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = valid_mask(torch.tensor([6, 2, 3]), 6).T
    hidden[~mask] = 1e6
    valid = hidden[mask].numpy()
    scaled = (valid - valid.mean(0)) / np.sqrt(valid.var(0) + norm.eps)
    expected = scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy()

    found = normalize(norm, hidden, mask)
    np.testing.assert_allclose(found[mask].detach().numpy(), expected, atol=1e-5)
    assert found[~mask].abs().max() == 0
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.9 * mean_before.numpy() + 0.1 * valid.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        norm.running_var.numpy(), 0.9 * variance_before.numpy() + 0.1 * valid.var(0, ddof=1), rtol=1e-5
    )


def test_batch_norm_uses_its_running_statistics_when_not_training() -> None:
    norm = shaken(make_norm("batch", 4)).eval()
    hidden = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))
    expected = (hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    expected[2] = -1
    torch.testing.assert_close(normalize(norm, hidden, torch.arange(3)[:, None] < 2, padding=-1.0), expected)


def test_the_last_norm_remembers_the_last_layer_alone() -> None:
    """Intermediate CTC lends it to lower layers, whose frames are of other size; they are never evaluated."""
    encoder = shaken(Encoder(encoder_config(norm="batch", num_layers=3), 8)).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features, num_frames = ragged_features([20, 13], 8)
    with torch.no_grad():
        (alone,), _ = encoder.after_layers(features, num_frames, (3,))
        expected = encoder.norm.state_dict()["running_mean"].clone()
        encoder.load_state_dict(before)
        (first, last), _ = encoder.after_layers(features, num_frames, (1, 3))
    assert torch.equal(encoder.norm.state_dict()["running_mean"], expected)
    assert torch.equal(last.hidden, alone.hidden)
    valid = torch.cat([first.hidden[0, :10], first.hidden[1, :7]])
    scaled = (valid - encoder.norm.bias) / encoder.norm.weight
    torch.testing.assert_close(scaled.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(12), atol=1e-3, rtol=0)


def test_batch_norm_learns_from_a_single_frame() -> None:
    """One short clip alone in a batch has no variance; training must go on all the same."""
    norm, frame = shaken(make_norm("batch", 4)), (torch.ones(1, 1, 4), torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(normalize(norm.train(), *frame), normalize(norm.eval(), *frame))


def test_layer_norm_acts_on_each_frame_alone() -> None:
    norm = make_norm("layer", 4)
    hidden = torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(0))
    found = normalize(norm, hidden, torch.ones(5, 2, dtype=torch.bool)).detach()
    torch.testing.assert_close(found.mean(-1), torch.zeros(5, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(-1, correction=0), torch.ones(5, 2), atol=1e-3, rtol=0)
    assert normalize(norm, hidden, None, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_no_norm_changes_nothing() -> None:
    hidden = torch.randn(5, 2, 4)
    assert normalize(make_norm("none", 4), hidden, torch.ones(5, 2, dtype=torch.bool)) is hidden


@pytest.mark.parametrize(("bidirectional", "width"), [(True, 12), (False, 6)])
def test_width_counts_both_directions(bidirectional: bool, width: int) -> None:
    config = encoder_config(bidirectional=bidirectional, factor=4)
    hidden, frames = Encoder(config, num_features=8)(*ragged_features([9, 5], 8))
    assert config.output_size == width
    assert hidden.shape == (2, 3, width)
    assert frames.tolist() == [3, 2]


def test_number_of_layers_and_directions_is_that_of_the_configuration() -> None:
    encoder = Encoder(encoder_config(num_layers=3), num_features=8)
    assert [len(layer.directions) for layer in encoder.layers] == [2, 2, 2]
    assert len({id(part) for layer in encoder.layers for part in layer.directions}) == 6


def test_residual_stream_passes_a_stack_that_says_nothing() -> None:
    encoder = Encoder(encoder_config(norm="none", num_layers=3, factor=1), num_features=8).eval()
    for layer in encoder.layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    features, num_frames = ragged_features([6], 8)
    torch.testing.assert_close(encoder(features, num_frames)[0], encoder.subsampling.projection(features))


def test_lengths_may_stay_on_another_device_than_features() -> None:
    features, num_frames = ragged_features([6, 4], 8)
    hidden, frames = Encoder(encoder_config(), num_features=8).to("meta")(features.to("meta"), num_frames)
    assert hidden.device.type == "meta"
    assert frames.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"cell": "gruu"}, "cell: unknown cell 'gruu', did you mean 'gru'"),
        ({"cell": "transformer"}, "cell: unknown cell 'transformer'; known: gru, .*, sru"),
        ({"norm": "instance"}, "norm: input should be 'layer', 'batch' or 'none', found 'instance'"),
        ({"dropout": 1.0}, "dropout: .*less than 1, found 1.0"),
        ({"hidden_size": 0}, "hidden_size: .*found 0"),
        ({"num_layers": 0}, "num_layers: .*found 0"),
        ({"subsampling": {"kind": "conv2d", "factors": 2}}, "subsampling.factors: unknown key, did you mean 'factor'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        validated(EncoderConfig, settings, where="test")


def test_a_lower_layer_gives_what_a_shorter_encoder_would() -> None:
    deep = shaken(Encoder(encoder_config(num_layers=3), 12)).eval()
    shallow = Encoder(encoder_config(num_layers=2), 12).eval()
    shallow.load_state_dict({name: value for name, value in deep.state_dict().items() if "layers.2" not in name})
    features, num_frames = ragged_features([40, 17, 9], 12)
    (second, third), _ = deep.after_layers(features, num_frames, (2, 3))
    assert torch.equal(second.hidden, shallow(features, num_frames)[0])
    assert torch.equal(third.hidden, deep(features, num_frames)[0])


def test_utterance_dropout_leaves_out_the_same_units_in_all_frames() -> None:
    torch.manual_seed(0)
    dropout = UtteranceDropout(0.25).train()
    frames = torch.rand(50, 40, 30) + 1
    ratio = dropout(frames) / frames
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert sorted({round(value, 4) for value in ratio[0].flatten().tolist()}) == [0.0, 1.3333]
    assert float((ratio[0] == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert (ratio[0] != ratio[0, :1]).any()
    assert torch.equal(dropout.eval()(frames), frames)


@pytest.mark.parametrize("over", ["frame", "utterance"])
def test_dropout_is_drawn_for_each_frame_or_each_utterance_as_asked(over: str) -> None:
    torch.manual_seed(0)
    config = encoder_config(num_layers=1, dropout=0.5, dropout_over=over, residual=False)
    layer = Encoder(config, num_features=8).layers[0].train()
    hidden = torch.randn(20, 3, config.output_size)
    reversal = torch.arange(19, -1, -1)[:, None].expand(20, 3)
    left_out = layer(hidden, torch.ones(20, 3, dtype=torch.bool), reversal) == 0
    assert left_out.any()
    assert bool((left_out == left_out[:1]).all()) == (over == "utterance")
