"""`python -m asr.cli`: the command line where the script `asr` is not on the path."""

from asr.cli.main import main

main()
