"""The `--decoder` option: names to configurations."""

from __future__ import annotations

from asr.decoding import (
    AttentionDecoderConfig,
    BeamDecoderConfig,
    DecoderConfig,
    GreedyDecoderConfig,
    JointDecoderConfig,
)
from asr.errors import ConfigError, did_you_mean


def parse_decoders(names: str, *, width: int) -> list[DecoderConfig]:
    """The decoders called `names` (with commas between), searches with `width` beams.

    Raises:
        ConfigError: an unknown name, or one that stands twice.
    """
    known: dict[str, DecoderConfig] = {
        "greedy": GreedyDecoderConfig(),
        "beam": BeamDecoderConfig(width=width),
        "attention": AttentionDecoderConfig(width=width),
        "joint": JointDecoderConfig(width=width),
    }
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--decoder {names}: unknown decoder '{name}'{did_you_mean(name, known)}")
    if len(set(wanted)) < len(wanted):
        raise ConfigError(f"--decoder {names}: each decoder may stand once")
    return [known[name] for name in wanted]
