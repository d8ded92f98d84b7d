"""Beam search of width 16: the compiled decoder against the same algorithm in plain Python, and against real time.

Log-probabilities are simulated as CTC models give them after 4x subsampling, 25 frames to the second: blank in most
frames, a spike for each token, now and then two tokens that compete. Both searches take the same short cuts and must give
the same tokens and scores; the compiled one is timed with all that a user gets: text and token frames too.

    python benchmarks/beam.py
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from plain_search import search as search_in_python
from record import record, spread

from asr.decoding import BeamDecoderConfig, build_decoder
from asr.decoding.beam import BeamDecoder
from asr.text import CharacterTokenizerConfig, train_tokenizer

FRAMES_PER_SECOND = 25
TOKENS_PER_SECOND = {30: 14, 256: 5}
"""Speech at a usual pace: by vocabulary, letters and pieces of words."""


def simulated_log_probs(num_frames: int, vocabulary: int, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Log-probabilities (S, V) as of a CTC model that is sure of most tokens and torn between two at some."""
    logits = generator.normal(0.0, 1.5, (num_frames, vocabulary))
    spoken = generator.random(num_frames) < TOKENS_PER_SECOND[vocabulary] / FRAMES_PER_SECOND
    logits[~spoken, 0] += 9.0
    frames = np.flatnonzero(spoken)
    logits[frames, generator.integers(1, vocabulary, len(frames))] += 9.0
    torn = frames[generator.random(len(frames)) < 0.25]
    logits[torn, generator.integers(0, vocabulary, len(torn))] += generator.uniform(6.0, 10.0, len(torn))
    return torch.from_numpy(logits).log_softmax(dim=-1).float().numpy()


def seconds_of(work: Callable[[], object], num_runs: int) -> list[float]:
    """How long each of several runs of `work` takes."""
    result = []
    for _ in range(num_runs):
        start = time.perf_counter()
        work()
        result.append(time.perf_counter() - start)
    return result


def make_decoder(vocabulary: int, width: int) -> BeamDecoder:
    """A beam decoder for as many tokens as `vocabulary`, returning all that the beam holds."""
    letters = "".join(chr(0x4E00 + number) for number in range(vocabulary - 2))
    decoder = build_decoder(
        BeamDecoderConfig(width=width, num_best=width), train_tokenizer([letters], CharacterTokenizerConfig())
    )
    if not isinstance(decoder, BeamDecoder):
        raise TypeError("the configuration of a beam decoder built another one")
    return decoder


def check_equal(decoder: BeamDecoder, log_probs: npt.NDArray[np.float32]) -> None:
    """Raise unless both searches give the same prefixes in the same order with the same scores."""
    plain = search_in_python(log_probs.tolist(), decoder.config.width)
    tree, nodes, scores = decoder._prefix_search.search(log_probs, decoder.config.width, -math.inf)
    found = [tuple(decoder._prefix_search.spell(tree, node)[1:, 0].tolist()) for node in nodes]
    if found != [prefix for prefix, _ in plain]:
        raise RuntimeError("the compiled search and the one in plain Python find different prefixes")
    np.testing.assert_allclose(scores[:, 2], [score for _, score in plain], rtol=1e-9)


def measure(vocabulary: int, options: argparse.Namespace) -> dict[str, object]:
    """Speed of both searches on the same utterances, one thread each."""
    width, generator = options.width, np.random.default_rng(options.seed)
    lengths = torch.from_numpy(generator.integers(100, 301, options.utterances))
    utterances = [simulated_log_probs(length, vocabulary, generator) for length in lengths.tolist()]
    batch = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(utterance) for utterance in utterances], batch_first=True)
    searching = make_decoder(vocabulary, width)
    for utterance in utterances:
        check_equal(searching, utterance)
    decoder = BeamDecoder(BeamDecoderConfig(width=width), searching.tokenizer)
    rows = [utterance.tolist() for utterance in utterances]
    compiled = seconds_of(lambda: decoder.decode(batch, lengths), options.runs)
    plain = seconds_of(lambda: [search_in_python(row, width) for row in rows], max(3, options.runs // 5))
    speech = int(lengths.sum()) / FRAMES_PER_SECOND
    return {
        "vocabulary": vocabulary,
        "speech_seconds": speech,
        "compiled_seconds": spread(compiled),
        "plain_python_seconds": spread(plain),
        "times_plain_python": spread(plain)["median"] / spread(compiled)["median"],
        "times_real_time_per_core": speech / spread(compiled)["median"],
        "times_real_time_per_core_slowest_run": speech / max(compiled),
    }


def main() -> None:
    """Measure both vocabularies and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--utterances", type=int, default=20)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    make_decoder(30, options.width)
    loading = time.perf_counter() - start
    rows = [measure(vocabulary, options) for vocabulary in TOKENS_PER_SECOND]
    record("beam", {"width": options.width, "seed": options.seed, "seconds_to_load": loading, "results": rows})


if __name__ == "__main__":
    main()
