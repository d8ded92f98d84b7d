"""What varies in a study: how it is written, and what is said of mistakes."""

from __future__ import annotations

import pytest

from asr.errors import ConfigError
from asr.studies.grammar import Axis, Space, split_axes, split_spaces, split_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a,b , c", ["a", "b", "c"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("{a: {b: [1, 2]}, c: 1},null", ["{a: {b: [1, 2]}, c: 1}", "null"]),
        ("'a,]b',\"c,\"", ["'a,]b'", '"c,"']),
        ("", [""]),
        ("a,", ["a", ""]),
    ],
)
def test_values_are_split_outside_brackets_and_quotes(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def test_what_has_several_values_varies_and_the_rest_is_fixed() -> None:
    axes, fixed = split_axes(["cells=gru,lstm", "encoder.num_layers=1,2", "splits.test=[a, b]", "seed=3"])
    assert axes == [Axis("encoder.cell", ("gru", "lstm")), Axis("encoder.num_layers", ("1", "2"))]
    assert fixed == ["splits.test=[a, b]", "seed=3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cells=gru,"], "cells=gru,: .*an empty one"),
        (["cells=gru,gru"], "'gru' stands twice"),
        (["cells=gru,lstm", "encoder.cell=rnn,gru"], "each varied setting once"),
        (["cells=gru,lstm", "encoder.cell=rnn"], r"encoder\.cell: is fixed, and encoder\.cell varies"),
        (["cells=gru,lstm", "encoder={}"], r"encoder: is fixed, and encoder\.cell varies"),
        (["encoder={},{cell: gru}", "encoder.cell=rnn"], r"encoder\.cell: is fixed, and encoder varies"),
        (
            ["encoder.cell=gru,lstm", "encoder={num_layers: 1},{cell: rnn}"],
            r"encoder: varies, and encoder\.cell varies too",
        ),
        (["optimizer.lr=1e-3,0.001"], r"'0\.001' stands twice"),
        (["cels=gru,lstm"], "cels: unknown key, did you mean 'cells'"),
        (["=a,b"], "each varied setting once"),
        (["loss.x={a: 1},}{,"], "empty one|not valid YAML"),
    ],
)
def test_mistakes_in_what_is_compared(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_axes(words)


def test_spaces_are_known_by_their_names() -> None:
    words = [
        "a.lr= log(1e-4, 1e-2) ",
        "b=int(1,9)",
        "c=uniform(0,0.5)",
        "cells=choice(gru, lstm)",
        "d=choice(null,{x: 1, y: 2})",
    ]
    spaces, fixed = split_spaces([*words, "augment.speed={factors: [0.9, 1.1]}"])
    assert spaces == [
        Space("a.lr", "log", ("1e-4", "1e-2")),
        Space("b", "int", ("1", "9")),
        Space("c", "uniform", ("0", "0.5")),
        Space("encoder.cell", "choice", ("gru", "lstm")),
        Space("d", "choice", ("null", "{x: 1, y: 2}")),
    ]
    assert fixed == ["augment.speed={factors: [0.9, 1.1]}"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("cell=choice(gru,lstm)", "cell: unknown key, did you mean 'cells'"),
        ("a=log(0,1)", "both above 0"),
        ("a=log(2,1)", "the lower bound first"),
        ("a=int(1,1)", "the lower bound first"),
        ("a=int(1,2.5)", r"two whole numbers.*int\(1,10\)"),
        ("a=uniform(1)", "two numbers"),
        ("a=uniform(true,false)", "two numbers"),
        ("a=choice(x)", "two values or more"),
        ("a=gru,lstm", r"write a=choice\(gru,lstm\)"),
    ],
)
def test_mistakes_in_what_is_searched_for(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_spaces([word])
