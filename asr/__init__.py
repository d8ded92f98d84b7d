"""bigru-asr: speech recognition whose every step can be read, changed and measured."""

__version__ = "0.1.0"
