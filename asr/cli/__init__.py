"""The command line: parse, call, print. Each file is one group of commands; heavy imports happen inside the commands.

Decided here: names of commands, and that a user's mistake is one line and exit code 2, never a traceback.
"""

import sys

try:
    from asr.cli.main import app, main
except KeyboardInterrupt:
    # Before there is a `main` that could say it.
    print("error: stopped", file=sys.stderr)
    sys.exit(130)

__all__ = ["app", "main"]
