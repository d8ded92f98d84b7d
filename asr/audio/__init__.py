"""Sound files: any format, rate and number of channels in, mono float32 at one rate out.

In: a path or the bytes of a file. Out: samples (N,) within about ±1, or an `AudioError` that names file and reason.
The decision that lives here: damaged audio is refused, never mended in silence; silence itself is legal.
"""

from __future__ import annotations

from asr.audio.io import AudioInfo, Codec, UnusableAudioError, audio_info, encode_audio, read_audio

__all__ = ["AudioInfo", "Codec", "UnusableAudioError", "audio_info", "encode_audio", "read_audio"]
