"""The attention decoder: a GRU that writes a text token by token, and before each one looks for it in the encoder's frames.

Where it looks depends on the frames, on where it looked before, so that it moves on, and on its state: on what it had
written until then but for the last token, which the GRU takes in together with what was seen. It does not wait for the
speech in order, as CTC must; it learns what follows what, as CTC cannot.

Sources: Chorowski et al. 2015, "Attention-Based Models for Speech Recognition", section 2.2, for how places are compared;
Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and Translate", appendix A.2, for the order of
looking and taking in.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.config import Section
from asr.lengths import valid_mask
from asr.model.subsampling import OddNumber

# What the text begins after and what it ends with has the number of CTC's blank, which is never in a text.
END = 0


class AttentionConfig(Section):
    """Sizes of the attention decoder; `loss.attention` says how it learns, `decoders` how it is asked."""

    hidden_size: int = Field(default=256, ge=1, description="units of its GRU")
    embedding_size: int = Field(default=64, ge=1, description="values that stand for the token before")
    attention_size: int = Field(default=128, ge=1, description="width in which frames and state are compared")
    num_filters: int = Field(default=10, ge=1, description="filters over where it looked before")
    filter_frames: OddNumber = Field(default=31, ge=1, description="encoder frames that a filter sees, an odd number")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of embedding and output, in training")


class Memory(NamedTuple):
    """What is looked at: frames (B, S, D), what the state is compared with (B, S, A), and which frames are valid (B, S)."""

    frames: Tensor
    keys: Tensor
    mask: Tensor


class AttentionState(NamedTuple):
    """Where a text stands: the GRU's state (B, H), and how much each frame was looked at for the last token (B, S)."""

    hidden: Tensor
    weights: Tensor

    def rows(self, index: Tensor) -> AttentionState:
        """The states of the texts numbered `index`."""
        return AttentionState(self.hidden[index], self.weights[index])


class AttentionDecoder(nn.Module):
    """Encoder frames (B, S, D) and the tokens so far to scores of the next token (B, V), 0 being the text's end.

    All is computed in float32: it is small, and its sums over frames are long.
    """

    def __init__(self, config: AttentionConfig, frame_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_size)
        self.gru = nn.GRUCell(config.embedding_size + frame_size, config.hidden_size)
        self.keys = nn.Linear(frame_size, config.attention_size)
        self.query = nn.Linear(config.hidden_size, config.attention_size, bias=False)
        self.filters = nn.Conv1d(
            1, config.num_filters, config.filter_frames, padding=config.filter_frames // 2, bias=False
        )
        self.location = nn.Linear(config.num_filters, config.attention_size, bias=False)
        self.energy = nn.Linear(config.attention_size, 1, bias=False)
        self.output = nn.Linear(config.hidden_size + frame_size, vocabulary_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, frames: Tensor, num_frames: Tensor, tokens: Tensor, *, sampling: float = 0.0) -> Tensor:
        """Scores (B, U + 1, V), before the softmax, of each of `tokens` (B, U) and of the end, given those before it.

        With `sampling`, so often what stands before is not the token but what the decoder itself draws there.
        """
        with torch.autocast(frames.device.type, enabled=False):
            memory = self.memory(frames.float(), num_frames)
            state = self.start(memory)
            last = tokens.new_full((len(tokens),), END)
            outputs: list[Tensor] = []
            for position in range(tokens.shape[1] + 1):
                output, state = self._advance(last, state, memory)
                outputs.append(output)
                if position < tokens.shape[1]:
                    last = tokens[:, position]
                if sampling:
                    last = self._sometimes_drawn(last, output, sampling)
            scores: Tensor = self.output(self.dropout(torch.stack(outputs, dim=1)))
            return scores

    @torch.no_grad()
    def _sometimes_drawn(self, tokens: Tensor, output: Tensor, share: float) -> Tensor:
        # By a race of exponential times: `multinomial` ends the process where something is not finite, and an update is only
        # left out for that.
        times = torch.empty_like(scores := self.output(output)).exponential_()
        drawn = (torch.softmax(scores, dim=-1) / times).argmax(dim=-1)
        return torch.where(torch.rand(tokens.shape, device=tokens.device) < share, drawn, tokens)

    def memory(self, frames: Tensor, num_frames: Tensor) -> Memory:
        """What is looked at in `frames` (B, S, D), of which the first `num_frames` (B,), 1 or more, are valid."""
        mask = valid_mask(num_frames, frames.shape[1], frames.device)
        return Memory(frames, self.keys(frames), mask)

    def start(self, memory: Memory) -> AttentionState:
        """The state before the first token: nothing written, looking at the first frame."""
        batch_size, num_frames = memory.mask.shape
        weights = memory.frames.new_zeros(batch_size, num_frames)
        weights[:, 0] = 1
        return AttentionState(memory.frames.new_zeros(batch_size, self.config.hidden_size), weights)

    def step(self, last: Tensor, state: AttentionState, memory: Memory) -> tuple[Tensor, AttentionState]:
        """Log-probabilities (B, V) of what follows the tokens `last` (B,), and the state then.

        A memory of one utterance serves any number of texts.
        """
        output, state = self._advance(last, state, memory)
        return torch.log_softmax(self.output(self.dropout(output)), dim=-1), state

    def _advance(self, last: Tensor, state: AttentionState, memory: Memory) -> tuple[Tensor, AttentionState]:
        """What the next token is told from (B, H + D), and the state: looks, then takes in `last` with what was seen."""
        places = self.location(self.filters(state.weights[:, None]).transpose(1, 2))
        compared = torch.tanh(memory.keys + self.query(state.hidden)[:, None] + places)
        energies = self.energy(compared)[..., 0].masked_fill(~memory.mask, -torch.inf)
        weights = torch.softmax(energies, dim=-1)
        seen = (weights[:, None] @ memory.frames)[:, 0]
        said = self.dropout(self.embedding(last))
        hidden = self.gru(torch.cat([said, seen], dim=-1), state.hidden)
        return torch.cat([hidden, seen], dim=-1), AttentionState(hidden, weights)
