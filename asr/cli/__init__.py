"""The command line: parse, call, print. Each file is one group of commands; heavy imports happen inside the commands.

Decided here: names of commands, and that a user's mistake is one line and exit code 2, never a traceback.
"""

from asr.cli.main import app, main

__all__ = ["app", "main"]
