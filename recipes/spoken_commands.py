"""Spoken commands: the embedded corpus, synthetic speech made by this project, so that everything runs without a download.

Home control, numbers up to a million, times and dates, spoken by espeak-ng and flite with varied speed, pitch, level, noise
and room. Voices of the test parts never occur in training; `test-unseen-synthesiser` is spoken by festival, which occurs
nowhere else. `data/README.md` tells where each voice comes from, `data/spoken_commands/generate.py` makes it again.

Layout: `index.json` names the shards of each split with their SHA-256; a shard, `SPLIT-000.tar`, holds `ID.opus` and
`ID.json` (id, text, speaker, seconds, and how it was spoken) for each utterance.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from asr.corpus.utterance import Utterance
from asr.errors import CorpusError
from asr.recipe import Recipe, Splits, tone

SPLITS = Splits(test=("test", "test-unseen-synthesiser"))
OWN_KEYS = ("id", "text", "speaker", "seconds")
ADVICE = "take a fresh copy of data/spoken_commands, or make it again with its generate.py"


def read(root: Path, split: str) -> Iterator[Utterance]:
    """The utterances of `split` in the shards below `root`, with their audio as bytes.

    Raises:
        CorpusError: no such split, or an index or shard that is missing or not what it was.
    """
    known = (*SPLITS.train, SPLITS.dev, *SPLITS.test)
    if split not in known:
        raise CorpusError(f"spoken_commands: no split '{split}'; known: {', '.join(known)}")
    for name, sha256 in _shards(root / "index.json", split).items():
        path = root / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CorpusError(f"{path}: cannot read the shard ({error.strerror}); {ADVICE}") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise CorpusError(f"{path}: the shard is not the one that index.json describes; {ADVICE}")
        yield from _utterances(content)


def _shards(index: Path, split: str) -> dict[str, str]:
    """SHA-256 of the shards of `split`, by name."""
    try:
        shards: dict[str, str] = json.loads(index.read_bytes())["splits"][split]["shards"]
    except OSError as error:
        raise CorpusError(f"{index}: cannot read the index ({error.strerror}); {ADVICE}, or say --root") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"{index}: not the index of this corpus, '{split}' cannot be found in it; {ADVICE}"
        ) from error
    return shards


def _utterances(shard: bytes) -> Iterator[Utterance]:
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        content = {member.name: tar.extractfile(member) for member in tar}
        for name, file in content.items():
            audio = content[name.replace(".json", ".opus")]
            if file is None or audio is None or not name.endswith(".json"):
                continue
            row = json.load(file)
            yield Utterance(**{key: row.pop(key) for key in OWN_KEYS}, audio=audio.read(), metadata=row)


def imitate(root: Path) -> None:
    """Three utterances of each split: tones instead of voices."""
    root.mkdir(parents=True, exist_ok=True)
    index = {}
    for number, split in enumerate((*SPLITS.train, SPLITS.dev, *SPLITS.test)):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            for take, text in enumerate(("turn on the light", "seven", "half past nine")):
                seconds = 0.5 + 0.05 * take
                row = {"id": f"{split}-{take:04d}", "text": text, "speaker": f"tone{number}", "seconds": seconds}
                audio = tone(300 + 100 * take + 10 * number, seconds, codec="opus")
                for name, data in ((f"{row['id']}.opus", audio), (f"{row['id']}.json", json.dumps(row).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        (root / f"{split}-000.tar").write_bytes(content.getvalue())
        index[split] = {"shards": {f"{split}-000.tar": hashlib.sha256(content.getvalue()).hexdigest()}}
    (root / "index.json").write_text(json.dumps({"splits": index}), encoding="utf-8")


RECIPE = Recipe(
    name="spoken_commands",
    title="home commands, numbers, times and dates by speech synthesisers; test voices are held out, and one synthesiser",
    hours=1.0,
    speakers=104,
    licence="Apache-2.0",
    source="made by this project, comes with it",
    splits=SPLITS,
    read=read,
    imitate=imitate,
    config="spoken_commands.yaml",
    default_root="data/spoken_commands",
    speakers_disjoint=True,
)
