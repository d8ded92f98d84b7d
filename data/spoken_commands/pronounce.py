r"""Lets espeak-ng pronounce the words of training texts: a lexicon of phones to learn besides (`loss.phones`).

    python data/spoken_commands/pronounce.py train-clean-100.text.gz LibriSpeech/train-clean-5 --out phones.txt
    asr run librispeech "loss.phones={lexicon: phones.txt, layer: 4}"

The texts are those that `read_aloud.py` takes. Each word, in small letters, has one pronunciation, without stress; what is
not made of a to z and apostrophes is left out, and so told. Needs espeak-ng.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from read_aloud import check_sources, texts_of

from asr.atomic import write_text

STRESS = str.maketrans("", "", "ˈˌ")
WORD = re.compile("'?[a-z][a-z']*")


def pronounce(words: list[str], voice: str) -> list[list[str]]:
    """The phones of each of `words`, in IPA, by the espeak-ng voice called `voice`."""
    # A sentence for each, since the words of one are drawn together.
    spoken = "".join(f"{word}.\n\n" for word in words)
    command = ["espeak-ng", "-q", "-v", voice, "--ipa", "--sep=_", "--stdin"]
    lines = subprocess.run(command, input=spoken, capture_output=True, text=True, check=True).stdout.splitlines()
    spelled = [re.split("[_ ]+", line.strip().translate(STRESS)) for line in lines if line.strip()]
    if len(spelled) != len(words):
        sys.exit(f"error: espeak-ng: expected {len(words)} pronunciations, found {len(spelled)}; nothing was written")
    return [[phone for phone in phones if phone and not phone.startswith("(")] for phones in spelled]


def main() -> None:
    """Write the lexicon."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sources", nargs="+", type=Path, help="training parts of a corpus, or files of texts, one a line"
    )
    parser.add_argument("--voice", default="en-us", help="of espeak-ng (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="file for the lexicon, lines of WORD PHONE ...")
    options = parser.parse_args()
    check_sources(options.sources)
    if shutil.which("espeak-ng") is None:
        sys.exit("error: not found: espeak-ng; on Debian: apt-get install espeak-ng")
    found = {word for source in options.sources for _, text in texts_of(source) for word in text.lower().split()}
    words = sorted(word for word in found if WORD.fullmatch(word))
    if not words:
        sys.exit(f"error: {options.sources[0]}: expected texts with words of a to z, found none")
    phones = pronounce(words, options.voice)
    write_text(
        options.out, "".join(f"{word} {' '.join(of_word)}\n" for word, of_word in zip(words, phones, strict=True))
    )
    left_out = f", {len(found) - len(words)} left out" if len(found) > len(words) else ""
    print(f"{options.out}: {len(words)} words, {len({phone for each in phones for phone in each})} phones{left_out}")


if __name__ == "__main__":
    main()
