r"""PocketSphinx, with its own English model and language model, on any data of a recipe: transcripts for `asr score`.

    python -m venv peer && peer/bin/pip install pocketsphinx       # its wheel holds the models
    python benchmarks/peers/pocketsphinx_transcripts.py librispeech:test-other --root CORPORA --peer-python peer/bin/python \
        --reference said.txt --hypothesis pocketsphinx.txt
    asr score said.txt pocketsphinx.txt ours.txt --normalize case,punctuation --speaker-before -

The sound is read here, as every recogniser of this package gets it, and passed to the peer as 16-bit samples at 16 kHz.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from asr.atomic import write_text
from asr.audio import read_audio
from asr.recipe import find_corpus, find_part, find_recipe

RATE = 16000
PEER = """
import sys
from pathlib import Path
from pocketsphinx import Decoder
decoder = Decoder(samprate=16000, loglevel="FATAL")
for line in sys.stdin:
    path = Path(line.rstrip("\\n"))
    decoder.start_utt()
    decoder.process_raw(path.read_bytes(), full_utt=True)
    decoder.end_utt()
    heard = decoder.hyp()
    print(heard.hypstr if heard else "", flush=True)
"""


def main() -> None:
    """Writes what was said and what PocketSphinx heard, as lines of `id text`."""
    options = parsed()
    recipe, _, split = options.data.partition(":")
    corpus = find_corpus(find_recipe(recipe), [split], root=options.root)
    said, heard = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [options.peer_python, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as peer,
    ):
        if peer.stdin is None or peer.stdout is None:
            raise SystemExit("the peer has no pipes")
        samples = Path(folder, "samples.raw")
        for utterance in find_part(options.data, find_recipe(recipe)).read(corpus):
            signal = read_audio(utterance.audio, RATE)
            samples.write_bytes((signal.clip(-1, 1) * 32767).astype("<i2").tobytes())
            print(samples, file=peer.stdin, flush=True)
            said.append(f"{utterance.id} {utterance.text}\n")
            heard.append(f"{utterance.id} {peer.stdout.readline()}")
            print(f"\r{len(said)} utterances", end="", file=sys.stderr)
    write_text(options.reference, "".join(said))
    write_text(options.hypothesis, "".join(heard))


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="RECIPE:SPLIT")
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the corpora")
    parser.add_argument("--peer-python", required=True, help="interpreter that has pocketsphinx")
    parser.add_argument("--reference", type=Path, required=True, help="file to write")
    parser.add_argument("--hypothesis", type=Path, required=True, help="file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
