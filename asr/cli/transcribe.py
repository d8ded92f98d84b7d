"""`asr transcribe`: audio files to text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from asr.cli.decoder_option import Width, Words, parse_decoder, words_for
from asr.cli.model_option import ModelsOrDefault, default_model

if TYPE_CHECKING:
    from asr.audio import AudioInfo
    from asr.recognizer import Recognized, Recognizer

LongestPiece = Annotated[
    float | None,
    typer.Option(
        min=1,
        help="Seconds. What is longer is cut at pauses, and its pieces are heard one after another, so that memory hardly "
        "grows with the recording. inf: never cut. Default: as long as the longest utterance that the model learnt from, "
        "40 at most.",
    ),
]

Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Write a file for each recording into this folder, in place of printing: what is heard in talks/a.wav is in "
        "FOLDER/a.srt, say; txt is the text alone there.",
    ),
]


Channel = Annotated[
    str,
    typer.Option(
        help="mix: the mean of all channels. A number from 1: that one. each: a transcript of each, as of telephone calls "
        "with a speaker per channel. The number stands behind the name, as in call-1; in ctm, in its column."
    ),
]


class _Sound(NamedTuple):
    """A sound file with its id, a channel of it or None for the mean, and what the transcript is called."""

    path: Path
    id: str
    channel: int | None
    name: str


def transcribe(
    audio: Annotated[
        list[Path],
        # What cannot be read is named at its place, and the others are still transcribed.
        typer.Argument(
            help="Sound files (wav, flac, ogg, opus, mp3), or stored features where the model takes these; folders of them; "
            "or - for what comes in.",
            readable=False,
        ),
    ],
    model: ModelsOrDefault = None,
    format: Annotated[
        str, typer.Option(help="txt or json: a line per file. ctm: a line per word, with times. srt, vtt: subtitles.")
    ] = "txt",
    decoder: Annotated[
        str | None,
        typer.Option(
            help="greedy, beam, lexicon, attention or joint. Default: lexicon where there are words, else beam."
        ),
    ] = None,
    width: Width = None,
    words: Words = None,
    num_best: Annotated[
        int, typer.Option(min=1, help="So many different readings of each file, at most; --format json holds them.")
    ] = 1,
    longest_piece: LongestPiece = None,
    channel: Channel = "mix",
    out: Out = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Print what is said in sound files; a file that cannot be read is named, and the others are still transcribed.

    json and ctm hold the words, their times, and how sure the model is of each, from 0 to 1. There, a
    file of a folder is called by its path below that folder, another by its name, both without suffix; in ctm with
    underscores for spaces.

    Examples:
    - `asr transcribe hello.wav`
    - `asr transcribe hello.wav --model runs/spoken_commands`
    - `asr transcribe recordings/ --model model.pt --format json > heard.jsonl`; then `asr score recordings/ heard.jsonl`
    - `asr transcribe talk.mp3 --format srt > talk.srt`
    - `asr transcribe talks/ --format vtt --out talks/`
    - `asr transcribe calls/ --channel each --format ctm > calls.ctm`; then `asr score calls.stm calls.ctm`
    - `asr transcribe order.wav --model runs/mine --decoder lexicon --words words.txt`
    - `asr transcribe hello.wav --model runs/gru --model runs/lstm`
    - `ffmpeg -i talk.mkv -f wav - | asr transcribe - --format vtt > talk.vtt`
    """
    from asr.errors import ConfigError, did_you_mean
    from asr.recognizer import FORMATS, Recognizer, default_decoder

    if format not in FORMATS:
        raise ConfigError(f"--format {format}: unknown format{did_you_mean(format, FORMATS)}")
    files = _sounds(audio, channel)
    _check_files(files, format, num_best, out)
    model = model or [default_model()]
    words = words_for(decoder, words, model[0])
    choice = parse_decoder(decoder or default_decoder(words).kind, width=width, words=words, num_best=num_best)
    recognizer = Recognizer.load(model[0], choice, device, model[1:])
    _transcribe_all(files, recognizer, format, longest_piece, out)


def _sounds(audio: list[Path], channel: str) -> list[_Sound]:
    """The sound files that are named, or lie in folders that are, each `channel` that is asked for."""
    from asr.corpus.folder import file_id, sound_files
    from asr.errors import ConfigError
    from asr.recognizer.writers import with_channel

    if channel not in ("mix", "each") and not (channel.isdecimal() and int(channel)):
        raise ConfigError(f"--channel {channel}: expected mix, each or a number from 1")
    files: list[_Sound] = []
    for path in map(_named, audio):
        folder, found = (path, sound_files(path)) if path.is_dir() else (path.parent, [path])
        files += [
            _Sound(file, name := file_id(file, folder), number, with_channel(name, number))
            for file in found
            for number in _channels_of(file, channel)
        ]
    return files


def _channels_of(path: Path, channel: str) -> Sequence[int | None]:
    """The numbers of the channels that `channel` means in the sound file at `path`; None is the mean of all."""
    from asr.errors import ConfigError

    if channel != "each":
        return [int(channel) if channel != "mix" else None]
    if path.is_fifo():
        raise ConfigError(f"--channel each: {path} is read once; name one channel, or write it to a file first")
    info = _header(path)
    return range(1, info.num_channels + 1) if info else [None]


def _check_target(out: Path, target: Path, sound: _Sound) -> None:
    """Complains of a `target` in `out` for what is heard in `sound` that is a folder, or may hold what was said in it."""
    from asr.errors import ConfigError
    from asr.recognizer.writers import with_channel

    if target.is_dir():
        raise ConfigError(f"--out {out}: {target} is a folder; name another one")
    beside = sound.path.with_name(f"{with_channel(sound.path.stem, sound.channel)}.txt")
    if beside.exists() and target.resolve() == beside.resolve():
        raise ConfigError(f"--out {out}: {beside} is there already, and may be what was said; name another folder")


def _named(audio: Path) -> Path:
    """The file that `audio` names; `-` is what comes in."""
    from asr.errors import ConfigError

    if str(audio) != "-":
        return audio
    if sys.stdin.isatty():
        raise ConfigError("-: nothing comes in; expected a sound file behind a pipe or `<`")
    return Path("/dev/stdin")


def _transcribe_all(
    files: list[_Sound], recognizer: Recognizer, format: str, longest_piece: float | None, out: Path | None
) -> None:
    """Prints what is said in each of `files` as soon as it is known, or writes it to `out`.

    Raises:
        AudioError: some cannot be read, which is told when all are done; each of several is named at its place.
    """
    from asr.errors import AudioError
    from asr.recognizer import FORMATS
    from asr.terminal import progress_bar

    def tell(name: str, recognized: Recognized) -> None:
        written = FORMATS[format](recognized, recognizer.seconds_per_frame)
        if out is not None:
            _write(_file_of(out, name, format), recognized.best.text if format == "txt" else written)
        elif written:  # where nothing was heard there is no line of a word
            print(written, flush=True)

    num_files = len({sound.path for sound in files})
    failed: set[Path] = set()
    said = False
    for sound in files:
        path, info = sound.path, _header(sound.path)
        said = said or (info is not None and _says_of_rate(path, info, recognizer))
        is_long = info is not None and info.seconds > (longest_piece or recognizer.longest_piece)
        try:
            bar = progress_bar(sound.name, info.seconds) if info and is_long else nullcontext(lambda seconds: None)
            with bar as advance:
                recognized = recognizer.transcribe(
                    path, sound.id, longest_piece=longest_piece, channel=sound.channel, advance=advance
                )
        except AudioError as error:
            if num_files == 1:
                raise
            if path not in failed:  # once for all its channels
                print(f"error: {error}", file=sys.stderr)
            failed.add(path)
        else:
            tell(sound.name, recognized)
    if failed:
        raise AudioError(f"{len(failed)} of {num_files} files could not be transcribed")


def _file_of(out: Path, name: str, format: str) -> Path:
    """The file in the folder `out` for what is heard in the recording called `name`."""
    return out / f"{name}.{format}"


def _write(path: Path, content: str) -> None:
    """Writes `content` to `path`, which is told."""
    from asr.atomic import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"{content}\n" if content else "")
    print(f"wrote {path}", flush=True)


def _header(path: Path) -> AudioInfo | None:
    """What the sound file says of itself; None where what reads its samples will complain, and for pipes."""
    from asr.audio import UnusableAudioError, audio_info

    try:
        return audio_info(path) if path.is_file() else None
    except (UnusableAudioError, OSError):
        return None


def _says_of_rate(path: Path, info: AudioInfo, recognizer: Recognizer) -> bool:
    """Whether the sound file lacks what the model listens to, which is said."""
    from asr.corpus.rates import MORE_ERRORS

    highest_hz = recognizer.model.config.highest_hz
    if not highest_hz or info.sample_rate >= 2 * highest_hz:
        return False
    print(
        f"warning: {path} has {info.sample_rate} Hz, and so nothing above {info.sample_rate // 2} Hz, where the model "
        f"listens up to {highest_hz:g}: {MORE_ERRORS} (said once)",
        file=sys.stderr,
    )
    return True


def _check_files(files: list[_Sound], format: str, num_best: int, out: Path | None) -> None:
    """Complains of several files or readings where `format` holds one, of files that would be one, and of a lost text."""
    from asr.cli.output_option import check_folder
    from asr.errors import ConfigError
    from asr.recognizer.writers import recording_id

    if num_best > 1 and format != "json":
        raise ConfigError(f"--num-best {num_best}: --format {format} holds one reading of each file; say --format json")
    check_folder("--out", out)
    if out is None and format in ("srt", "vtt") and len(files) > 1:
        raise ConfigError(
            f"--format {format}: subtitles are of one recording, found {len(files)}; write them with --out"
        )
    if out is None and format == "txt":
        return
    seen: dict[str, Path] = {}
    for sound in files:
        file, name = sound.path, recording_id(sound.name, format)
        if name in seen and seen[name].resolve() == file.resolve():
            raise ConfigError(f"'{file}' is named twice, or lies in a folder that is named too; name it once")
        if name in seen:
            raise ConfigError(
                f"--format {format}: '{seen[name]}' and '{file}' would both be called '{name}'; rename one, or transcribe "
                "them apart"
            )
        seen[name] = file
        if out is not None:
            _check_target(out, _file_of(out, sound.name, format), sound)
