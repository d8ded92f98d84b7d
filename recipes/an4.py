"""AN4, the CMU Census database: spelled letters, numbers, names and addresses by 84 speakers, 16 kHz.

Origin: Carnegie Mellon University, 1991, http://www.speech.cs.cmu.edu/databases/an4/; A. Acero, "Acoustical and
Environmental Robustness in Automatic Speech Recognition", Kluwer 1993; free for any use with its licence kept.

Layout, at the root or in `an4/`, where the archive unpacks to: `etc/an4_{train,test}.{fileids,transcription}` and the
recordings, `wav/FILEID.sph` (or .wav, .flac), or mel cepstra in Sphinx's form, `feat/FILEID.mfc`, which are taken where
there is no `wav`; `--config an4_cepstra` has the settings for these.

The publisher has no development part: `dev` is seven of the 74 training speakers, those with a low CRC of their name, and
`train` the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from asr.corpus.download import Download
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError
from asr.recipe import Recipe, holding_out_dev, tone

DEV_SHARE = 0.1
"""Between the CRCs of the seventh and the eighth speaker: another value would move speakers that models learnt from."""
RECORDINGS = (("wav", (".sph", ".wav", ".flac")), ("feat", (".mfc",)))
LINE = re.compile(r"(?:<s> )?(?P<text>.*?) ?(?:</s> )?\((?P<id>[^()]+)\)")


def read_published(root: Path, split: str) -> Iterator[Utterance]:
    """The utterances of the publisher's own part `split`, train or test."""
    folder = next((each for each in (root / "an4", root) if (each / "etc" / f"an4_{split}.fileids").is_file()), None)
    if folder is None:
        raise CorpusError(f"{root}: expected etc/an4_{split}.fileids there or in an4/")
    listed = (folder / "etc" / f"an4_{split}.fileids").read_text(encoding="utf-8").split()
    transcription = folder / "etc" / f"an4_{split}.transcription"
    texts = {}
    for number, line in enumerate(transcription.read_text(encoding="utf-8").splitlines(), start=1):
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise CorpusError(f"{transcription}:{number}: expected 'TEXT (ID)', found {line!r}")
        texts[match["id"]] = match["text"]
    for name in listed:
        utterance_id, speaker = Path(name).name, Path(name).parent.name
        if utterance_id not in texts:
            raise CorpusError(f"{transcription}: no line for '{utterance_id}'")
        yield Utterance(id=utterance_id, audio=recording(folder, name), text=texts[utterance_id], speaker=speaker)


def recording(folder: Path, name: str) -> Path:
    """The file of the recording, or of its cepstra, that the lists call `name`."""
    for kind, suffixes in RECORDINGS:
        for suffix in suffixes:
            path = folder / kind / f"{name}{suffix}"
            if path.is_file():
                return path
    raise CorpusError(f"{folder}: no recording '{name}', neither wav/{name}.sph nor feat/{name}.mfc")


def imitate(root: Path) -> None:
    """Two training speakers and one test speaker with three utterances each: tones instead of voices."""
    (root / "etc").mkdir(parents=True)
    for split, speakers in (("train", ("fash", "mblb")), ("test", ("fcaw",))):
        names, lines = [], []
        for number, speaker in enumerate(speakers):
            for count, text in enumerate(("YES", "U M N Y H SIX", "GO")):
                names.append(f"an4_clstk/{speaker}/an{count}-{speaker}-b")
                lines.append(f"{text} (an{count}-{speaker}-b)\n")
                path = root / "wav" / f"{names[-1]}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                pitch = 200 + 100 * number + 30 * count + len(names[-1])
                path.write_bytes(tone(pitch, 0.4, codec="wav"))
        (root / "etc" / f"an4_{split}.fileids").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        (root / "etc" / f"an4_{split}.transcription").write_text("".join(lines), encoding="utf-8")


RECIPE = Recipe(
    name="an4",
    title="AN4: spelled letters, numbers, addresses",
    hours=0.7,
    speakers=74,
    licence="free with its licence kept",
    source="http://www.speech.cs.cmu.edu/databases/an4/",
    read=holding_out_dev("an4", read_published, DEV_SHARE),
    imitate=imitate,
    config="an4.yaml",
    downloads=(Download(url="http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"),),
    sizes={"train-all": 948, "test": 130},
    speakers_disjoint=True,
)
