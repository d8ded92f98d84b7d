"""The options that say how to decode: names to configurations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr.errors import ConfigError, did_you_mean
from asr.resources import WORDS_FILE

if TYPE_CHECKING:
    from asr.decoding import DecoderConfig

_WIDTH = 16  # of the decoders whose own is narrower than a command line's should be

Decoders = Annotated[
    str | None,
    typer.Option(
        help="greedy, beam, lexicon, attention, joint; with commas for several. Default: greedy and beam; where there are "
        "words, lexicon too."
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        min=1, max=4096, help="Beams that are kept by searches; greedy is none. Default: 16, for lexicon 128."
    ),
]
Words = Annotated[
    Path | None,
    typer.Option(
        help="File of the only words that --decoder lexicon writes, the more readily the more often they stand there: "
        "a list, any text, or lines of a word, a tab and a number; .gz is unpacked. "
        f"Default: {WORDS_FILE} beside the model's checkpoint, if there is one."
    ),
]


def words_for(names: str | None, words: Path | None, model: Path) -> Path | None:
    """`words`; where none are named and the decoders called `names` may write them, those that came along with `model`.

    Raises:
        CheckpointError: there is no such model.
    """
    from asr.recognizer import words_beside

    beside = words_beside(model)
    wanted = names is None or "lexicon" in names
    return words or (beside if wanted else None)


def parse_decoders(
    names: str, *, width: int | None = None, words: Path | None = None, num_best: int = 1
) -> list[DecoderConfig]:
    """The decoders called `names` (with commas between), searches with `width` beams, the lexicon's those in `words`.

    Raises:
        ConfigError: an unknown name, or one that stands twice; `words` without the lexicon decoder or the other way round;
            a width or several best texts for greedy alone; more best texts than beams.
    """
    from pydantic import ValidationError

    from asr.decoding import (
        AttentionDecoderConfig,
        BeamDecoderConfig,
        GreedyDecoderConfig,
        JointDecoderConfig,
        LexiconDecoderConfig,
    )

    # CTC's searches have their own width where none is asked for.
    given: dict[str, Any] = ({} if width is None else {"width": width}) | {"num_best": num_best}
    wide = {"width": width or _WIDTH, "num_best": num_best}
    known: dict[str, Callable[[], DecoderConfig]] = {
        "greedy": GreedyDecoderConfig,
        "beam": partial(BeamDecoderConfig, **given),
        "lexicon": partial(LexiconDecoderConfig, **given | {"words": words}),
        "attention": partial(AttentionDecoderConfig, **wide),
        "joint": partial(JointDecoderConfig, **wide),
    }
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--decoder {names}: unknown decoder '{name}'{did_you_mean(name, known)}")
    if len(set(wanted)) < len(wanted):
        raise ConfigError(f"--decoder {names}: each decoder may stand once")
    if "lexicon" in wanted and words is None:
        raise ConfigError(
            f"--decoder {names}: say with --words FILE which words the lexicon decoder may write, or lay them beside the "
            f"model as {WORDS_FILE}"
        )
    if "lexicon" not in wanted and words is not None:
        raise ConfigError(f"--words {words}: only --decoder lexicon keeps to given words, and --decoder is {names}")
    if wanted == ["greedy"] and width is not None:
        raise ConfigError(f"--width {width}: greedy keeps no beams; say --decoder beam")
    if wanted == ["greedy"] and num_best > 1:
        raise ConfigError(f"--num-best {num_best}: greedy finds one text; say --decoder beam")
    try:
        return [known[name]() for name in wanted]
    except ValidationError as error:
        raise ConfigError(
            f"--num-best {num_best}: expected at most --width, the beams that are kept (16, of lexicon 128)"
        ) from error


def parse_decoder(
    name: str, *, width: int | None = None, words: Path | None = None, num_best: int = 1
) -> DecoderConfig:
    """The one decoder called `name`, as of `parse_decoders`.

    Raises:
        ConfigError: also for several.
    """
    choice, *others = parse_decoders(name, width=width, words=words, num_best=num_best)
    if others:
        raise ConfigError(f"--decoder {name}: transcribing takes one decoder")
    return choice
