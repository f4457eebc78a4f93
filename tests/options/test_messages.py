"""What a wrong option or value is answered."""

from __future__ import annotations

import pytest

from simclr_ext.options.checks import describe
from simclr_ext.options.messages import nearest, reworded


@pytest.mark.parametrize(
    ("name", "known", "answer"),
    [
        ("epocs", ["epochs", "seed"], "epochs"),
        ("lr", ["optim.lr"], "optim.lr"),
        ("lr", ["optim.lars", "optim.learning_rate"], "optim.learning_rate"),
        ("optim.lr", ["optim.learning_rate"], "optim.learning_rate"),
        ("width", ["model.width_multiplier", "model.width"], "model.width"),
        ("--data-r", ["data", "data_root"], "data_root"),
        ("a.flip", ["a", "a.size", "a.flip_probability"], "a.flip_probability"),
        ("a.blur", ["a.blur_probability", "a.blur_sigma"], "a.blur_probability"),
        ("cpu-smal", ["imagenet-r50", "cpu-small"], "cpu-small"),
        ("x", ["epochs", "seed"], None),
        ("x", [], None),
        ("", ["epochs"], None),
    ],
)
def test_the_nearest_name_is_one_of_the_known(
    name: str, known: list[str], answer: str | None
) -> None:
    assert nearest(name, known) == answer


def test_tuples_are_described_as_what_is_written() -> None:
    assert describe(tuple[int, ...]) == "a tuple of integers"
    assert describe(tuple[float, float], "list") == "a list of 2 numbers"
    assert describe(tuple[float, float] | None, "list") == "a list of 2 numbers or null"


def test_a_message_of_another_kind_stays() -> None:
    assert reworded("the oven is cold", {}) == "the oven is cold"
    assert reworded('Parser key "eggs": Broken. Got value: 3', {}) == "eggs: Broken. Got value: 3"
    nested = 'Parser key "oven":\nnot read\n- Parser key "heat": Expected. Got value: a\nb'
    assert reworded(nested, {"heat": int}) == "heat must be an integer, got a\nb"
