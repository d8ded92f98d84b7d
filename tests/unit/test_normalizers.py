"""The named steps of normalisation before scoring."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from asr.cli.normalize_option import Steps
from asr.errors import ScoringError
from asr.scoring import NORMALIZERS, normalizer


@pytest.mark.parametrize(
    ("steps", "text", "expected"),
    [
        (["case"], "Ǆ Hello", "ǆ hello"),
        (["case-tr"], "ISPARTA I\u0307zmir İzmir", "ısparta izmir izmir"),
        (["unicode"], "ﬁne ＡＢ c\u00ado", "fine AB co"),
        (["punctuation"], "“Don’t”, she said: well-known 5%!", "Don't she said well known 5%"),
        (["brackets"], "[noise] yes <unk> (laughs) no {x}", "yes no"),
        (["fillers-en"], "uh Yes, um hm umbrella", "Yes, umbrella"),
        (["fillers-en"], "a cat — uh; “um” (er) dog uh:", "a cat — dog"),
        (
            ["numbers-en"],
            "1.10 and 10.0 or 12345678901234567.5 or 3.5th",
            "one point one zero and ten point zero or twelve quadrillion three hundred forty five trillion six hundred "
            "seventy eight billion nine hundred one million "
            "two hundred thirty four thousand five hundred sixty seven point five or three point five th",
        ),
        (
            ["numbers-en"],
            "1,200 and 21st, 3.5 or 1999",
            "one thousand two hundred and twenty first, three point five or one thousand nine hundred ninety nine",
        ),
        (["numbers-en"], "v2 x86 10.20.30", "v2 x86 10.20.30"),
        (["numbers-en"], f"{'9' * 400} 0.{'3' * 400} 1", f"{'9' * 400} 0.{'3' * 400} one"),
        (["numbers-en"], f"1{'0' * 30}", f"1{'0' * 30}"),
        (["spelling-en"], "the colour was organised in the program", "the color was organized in the program"),
        (["characters"], "今天a好 test", "今 天 a 好 test"),
        (["characters"], "二〇〇八年様々", "二 〇 〇 八 年 様 々"),
        (["characters"], "か\u3099ｶﾞ葛\U000e0100", "か\u3099 ｶﾞ 葛\U000e0100"),
        (["case", "punctuation", "spelling-en"], "COLOUR!", "color"),
        ([], "a  b", "a b"),
    ],
)
def test_steps(steps: list[str], text: str, expected: str) -> None:
    assert normalizer(steps)(text) == expected


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("text", ["", " ", "Grüße, 1,000 um [x] colours’ 今天 10.20 3rd", "a" * 50])
def test_a_step_done_twice_changes_nothing(name: str, text: str) -> None:
    step = normalizer([name])
    assert step(step(text)) == step(text)


def test_the_help_of_asr_score_names_every_step_in_the_order_that_works() -> None:
    (option,) = get_args(Steps)[1:]
    _, _, listed = option.help.partition(": ")
    assert re.findall(r"(?:^|, )([a-z-]+)", listed.partition(". ")[0]) == list(NORMALIZERS)


def test_unknown_step() -> None:
    with pytest.raises(ScoringError, match="--normalize numbers: no such step, did you mean 'numbers-en'"):
        normalizer(["case", "numbers"])
