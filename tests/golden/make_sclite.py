"""Writes `sclite/`: made-up transcripts of two systems, and what NIST's sclite and sc_stats say of them.

    python tests/golden/make_sclite.py        # needs the Debian package sctk; /usr/lib/sctk/bin in PATH

The transcripts are random function words with random errors: few different words, so that alignments are ambiguous.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "sclite"
WORDS = "the a to of and in that was he it his her she with as had for you not be is at on by which".split()
SYSTEMS = {"a": 0.2, "b": 0.18}
SPEAKERS, UTTERANCES = 6, 30


def main() -> None:
    """Makes transcripts and runs the two programs on them."""
    generator = random.Random(5)
    lines: dict[str, list[str]] = {"ref": [], **{name: [] for name in SYSTEMS}}
    for speaker in range(SPEAKERS):
        for utterance in range(UTTERANCES):
            said = [generator.choice(WORDS) for _ in range(generator.randint(3, 25))]
            for name in lines:
                heard = said if name == "ref" else damaged(said, SYSTEMS[name], generator)
                lines[name].append(" ".join([*heard, f"(sp{speaker}_{utterance:03d})"]))
    FOLDER.mkdir(exist_ok=True)
    for name, of_system in lines.items():
        (FOLDER / f"{name}.trn").write_text("\n".join(of_system) + "\n", encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        result = scored(Path(folder))
    (FOLDER / "sclite.json").write_text(json.dumps(result) + "\n", encoding="utf-8")


def damaged(words: list[str], share: float, generator: random.Random) -> list[str]:
    """`words` with about `share` of them exchanged, dropped or doubled by others."""
    result = []
    for word in words:
        draw = generator.random()
        if draw >= share * 0.3:
            result.append(generator.choice(WORDS) if draw < share * 0.8 else word)
        if generator.random() < share * 0.2:
            result.append(generator.choice(WORDS))
    return result


def scored(folder: Path) -> dict[str, object]:
    """Counts of hits, substitutions, deletions and insertions by system and utterance, and the matched-pairs test."""
    result: dict[str, object] = {}
    alignments = ""
    for name in SYSTEMS:
        files = [FOLDER / "ref.trn", "trn", "-h", FOLDER / f"{name}.trn", "trn", name]
        subprocess.run(["sclite", "-r", *files, "-i", "rm", "-o", "pra", "sgml", "-O", folder], check=True)
        pattern = r"id: \((\S+)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)"
        found = re.findall(pattern, (folder / f"{name}.trn.pra").read_text(encoding="utf-8"))
        result[name] = {utterance: [int(count) for count in counts] for utterance, *counts in found}
        alignments += (folder / f"{name}.trn.sgml").read_text(encoding="utf-8")
    for option, key, pattern in (("-v", "segments", r"Number of Segments (\d+)"), ("-u", "p", r"MP .*b +([\d.]+)")):
        command = ["sc_stats", "-p", "-t", "mapsswe", option, "-n", "-"]
        printed = subprocess.run(
            command, input=alignments, capture_output=True, text=True, check=False, cwd=folder
        ).stdout
        match = re.search(pattern, printed)
        if match is None:
            raise SystemExit(f"{' '.join(command)}: expected '{pattern}' in what it prints, found:\n{printed}")
        result[key] = float(match[1])
    return result


if __name__ == "__main__":
    main()
