"""The attention decoder as a part of the model: padding, gradients, what it costs when it is off, and that it learns."""

from __future__ import annotations

import pytest
import torch
from ragged import VOCABULARY_SIZE, encoder_config, ragged_batch, ragged_features, shaken, small_model

from asr.config import validated
from asr.errors import ConfigError
from asr.model import AcousticConfig, AcousticModel
from asr.model.attention import END, AttentionConfig, AttentionDecoder

FRAME_SIZE = 6
SMALL = AttentionConfig(hidden_size=5, embedding_size=3, attention_size=4, num_filters=2, filter_frames=3, dropout=0.0)


def small_decoder(config: AttentionConfig = SMALL) -> AttentionDecoder:
    decoder = AttentionDecoder(config, FRAME_SIZE, VOCABULARY_SIZE)
    shaken(decoder)
    return decoder.eval()


def test_scores_of_a_batch_are_those_of_each_utterance_alone() -> None:
    decoder = small_decoder()
    frames, num_frames = ragged_features((9, 1, 4), FRAME_SIZE, extra=3)
    tokens, lengths = torch.tensor([[1, 2, 2, 4], [3, 0, 0, 0], [4, 1, 0, 0]]), (4, 1, 2)
    together = decoder(frames, num_frames, tokens)
    for row, (frame_count, length) in enumerate(zip(num_frames.tolist(), lengths, strict=True)):
        alone = decoder(frames[row : row + 1, :frame_count], num_frames[row : row + 1], tokens[row : row + 1, :length])
        torch.testing.assert_close(together[row, : length + 1], alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_scores_are_those_of_the_equations() -> None:
    """Chorowski et al. 2015, equations 5 to 9, frame by frame and token by token."""
    decoder = small_decoder()
    (filters,), (location,) = decoder.filters.parameters(), decoder.location.parameters()
    frames, tokens = ragged_features((6,), FRAME_SIZE)[0], [3, 1, 1]
    scores = decoder(frames, torch.tensor([6]), torch.tensor([tokens]))[0]
    hidden, weights = torch.zeros(SMALL.hidden_size), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    for row, last in zip(scores, (END, *tokens), strict=True):
        beside = [0.0, *weights, 0.0]
        energies = []
        for place, frame in enumerate(frames[0]):
            heard = sum(filters[:, 0, offset] * beside[place + offset] for offset in range(SMALL.filter_frames))
            energies.append(
                decoder.energy.weight[0]
                @ (decoder.keys(frame) + decoder.query.weight @ hidden + location @ heard).tanh()
            )
        shares = [energy.exp() for energy in energies]
        weights = [float(share / sum(shares)) for share in shares]
        seen = sum(weight * frame for weight, frame in zip(weights, frames[0], strict=True))
        hidden = decoder.gru(torch.cat([decoder.embedding.weight[last], seen]), hidden)
        torch.testing.assert_close(row, decoder.output(torch.cat([hidden, seen])), atol=1e-5, rtol=1e-5)


def test_steps_say_what_the_whole_says() -> None:
    decoder = small_decoder()
    frames, num_frames = ragged_features((7,), FRAME_SIZE)
    tokens = torch.tensor([[2, 2, 1]])
    expected = decoder(frames, num_frames, tokens).log_softmax(-1)[0]
    memory = decoder.memory(frames, num_frames)
    state = decoder.start(memory).rows(torch.tensor([0, 0]))
    for position, last in enumerate((END, 2, 2, 1)):
        # The same text twice: one memory serves any number of them.
        log_probs, state = decoder.step(torch.tensor([last, last]), state, memory)
        torch.testing.assert_close(log_probs[0], expected[position])
        torch.testing.assert_close(log_probs[1], expected[position])
        torch.testing.assert_close(state.weights.sum(dim=1), torch.ones(2))


def test_gradient_of_a_step_is_right() -> None:
    decoder = small_decoder().double()
    frames, num_frames = ragged_features((4, 3), FRAME_SIZE)
    frames = frames.double().requires_grad_()
    hidden = torch.randn(2, SMALL.hidden_size, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)

    def step(frames: torch.Tensor, hidden: torch.Tensor, weights: torch.Tensor, *parameters: torch.Tensor) -> object:
        memory = decoder.memory(frames, num_frames)
        log_probs, state = decoder.step(
            torch.tensor([1, 3]), decoder.start(memory)._replace(hidden=hidden, weights=weights), memory
        )
        return log_probs, *state

    assert torch.autograd.gradcheck(step, (frames, hidden, weights, *decoder.parameters()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_leaves_it_in_float32(dtype: torch.dtype) -> None:
    decoder = small_decoder()
    frames, num_frames = ragged_features((5, 3), FRAME_SIZE)
    tokens = torch.tensor([[1, 2], [3, 0]])
    with torch.autocast("cpu", dtype):
        scores = decoder(frames, num_frames, tokens)
    torch.testing.assert_close(scores, decoder(frames, num_frames, tokens))


def test_sampling_follows_up_what_it_drew_and_draws_nothing_when_off() -> None:
    decoder = small_decoder()
    frames, num_frames = ragged_features((5, 5), FRAME_SIZE)
    tokens = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    before = torch.get_rng_state()
    plain = decoder(frames, num_frames, tokens)
    assert torch.equal(torch.get_rng_state(), before)
    drawn = decoder(frames, num_frames, tokens, sampling=0.9)
    torch.testing.assert_close(drawn[:, 0], plain[:, 0])
    assert not torch.equal(drawn, plain)


@torch.no_grad()
def test_sampling_draws_by_probability_and_as_often_as_asked() -> None:
    decoder = small_decoder()
    decoder.output.weight.zero_()
    probabilities = torch.full((VOCABULARY_SIZE,), 1e-6)
    probabilities[1:4] = torch.tensor([0.6, 0.3, 0.1])
    decoder.output.bias.copy_(probabilities.log())
    followed: list[torch.Tensor] = []
    decoder.embedding.register_forward_hook(lambda _, inputs, __: followed.append(inputs[0]))
    frames, num_frames = ragged_features((2,), FRAME_SIZE)
    given = 4
    decoder(frames.expand(8000, -1, -1), num_frames.expand(8000), torch.full((8000, 1), given), sampling=0.8)
    assert (followed[0] == END).all()
    found = followed[1].bincount(minlength=VOCABULARY_SIZE) / 8000
    probabilities = 0.8 * probabilities
    probabilities[given] += 0.2
    torch.testing.assert_close(found, probabilities, atol=0.03, rtol=0)


def test_dropout_is_of_embedding_and_output() -> None:
    sizes: list[int] = []
    decoder = small_decoder()
    decoder.dropout.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[-1]))
    decoder(*ragged_features((5,), FRAME_SIZE), torch.tensor([[1]]))
    assert set(sizes) == {SMALL.embedding_size, SMALL.hidden_size + FRAME_SIZE}


def test_what_is_not_finite_is_passed_on_and_not_drawn_from() -> None:
    """An update is left out for it; `torch.multinomial` would end the training."""
    frames, num_frames = ragged_features((5, 5), FRAME_SIZE)
    scores = small_decoder()(frames * torch.nan, num_frames, torch.tensor([[1, 2], [4, 3]]), sampling=0.9)
    assert scores.isnan().all()


def test_with_it_the_rest_of_the_model_is_as_without() -> None:
    models = []
    for attention in (None, SMALL):
        torch.manual_seed(3)
        models.append(AcousticModel(AcousticConfig(encoder=encoder_config(), attention=attention), VOCABULARY_SIZE))
    plain, more = (model.state_dict() for model in models)
    assert all(torch.equal(more[name], value) for name, value in plain.items())
    assert {name.split(".")[0] for name in more.keys() - plain.keys()} == {"attention"}
    assert [row.name for row in models[1].describe()] == [*(row.name for row in models[0].describe()), "attention"]
    assert models[1].describe()[-1].frames == 0


def test_a_model_hears_the_same_in_a_batch_as_alone() -> None:
    model = small_model()
    waveforms, num_samples = ragged_batch((2000, 700, 1300))
    hidden, num_frames = model.encode(waveforms, num_samples)
    log_probs, _ = model(waveforms, num_samples)
    torch.testing.assert_close(model.log_probs(hidden), log_probs)
    for row, length in enumerate(num_frames.tolist()):
        assert not hidden[row, length:].any()


def test_filters_are_odd() -> None:
    with pytest.raises(ConfigError, match="expected an odd number of frames, found 4"):
        validated(AttentionConfig, {"filter_frames": 4}, where="test")
