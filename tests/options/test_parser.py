"""The parser of one command: spellings, misspellings, files, pages of help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from simclr_ext.options.errors import ConfigError
from simclr_ext.options.parser import CommandParser, given_options, text_in


@dataclass(frozen=True)
class Oven:
    """The oven.

    Attributes:
        peak_heat: In degrees.
        racks: Heights.
    """

    peak_heat: float = 180.0
    racks: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Cake:
    """A cake.

    Attributes:
        name: Its name.
        egg_count: Eggs.
        icing: Its color.
        warm: Whether it is eaten warm.
        toppings: What lies on it.
        oven: The oven.
    """

    name: str
    egg_count: int = 3
    icing: Literal["white", "dark"] | None = None
    warm: bool = False
    toppings: tuple[str, ...] = ()
    oven: Oven = field(default_factory=Oven)


Parse = Callable[..., dict[str, Any]]


@pytest.fixture
def parse() -> Parse:
    """Parses arguments into what differs from the defaults."""

    def parse(*arguments: str) -> dict[str, Any]:
        parser = CommandParser("bake", "Bake a cake.", Cake)
        default = parser.parse_args(["plain"]).as_flat().__dict__
        values = parser.parse_args(arguments).as_flat().__dict__
        return {k: v for k, v in values.items() if v != default[k] and k != "config"}

    return parse


@pytest.mark.parametrize(
    "arguments",
    ["--egg-count 5", "--egg_count 5", "--egg-count=5", "--egg_count=5"],
)
def test_hyphens_are_underscores(parse: Parse, arguments: str) -> None:
    assert parse("plain", *arguments.split()) == {"egg_count": 5}


def test_hyphens_in_names_of_groups_and_in_values(parse: Parse) -> None:
    assert parse("plain", "--oven.peak-heat", "-5") == {"oven.peak_heat": -5.0}
    assert parse("--oven.peak-heat=2e2", "a-b_c") == {"oven.peak_heat": 200.0, "name": "a-b_c"}


@pytest.mark.parametrize("value", ["nuts", "nuts,a-b", "[nuts, a-b]", "[nuts]"])
@pytest.mark.parametrize("equals", [False, True])
def test_lists_need_no_brackets(parse: Parse, value: str, equals: bool) -> None:
    arguments = [f"--toppings={value}"] if equals else ["--toppings", value]
    expected = tuple(value.strip("[]").replace(" ", "").split(","))
    assert parse(*arguments, "tart") == {"toppings": expected, "name": "tart"}


def test_lists_of_numbers_in_a_group(parse: Parse) -> None:
    assert parse("plain", "--oven.racks", "2,-3") == {"oven.racks": (2, -3)}


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ("--egg-cuont", "--egg-cuont is not an option; did you mean --egg_count?"),
        ("--egg_cuont=3", "--egg_cuont is not an option; did you mean --egg_count?"),
        ("-egg_count", "-egg_count is not an option; did you mean --egg_count?"),
        ("--egg_co", "--egg_co is not an option; did you mean --egg_count?"),
        ("--peak-heat", "--peak-heat is not an option; did you mean --oven.peak_heat?"),
        ("--zzz", "--zzz is not an option; --help lists the options"),
    ],
)
def test_a_misspelled_option_is_answered_with_the_nearest(
    parse: Parse, argument: str, answer: str
) -> None:
    with pytest.raises(ConfigError) as error:
        parse("plain", argument, "3")
    assert str(error.value) == answer


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("--egg-count 3x", "egg_count must be an integer, got 3x"),
        ("--egg-count=", "egg_count must be an integer, got ''"),
        ("--oven.peak_heat hot", "oven.peak_heat must be a number, got hot"),
        ("--oven.racks 1,x", "oven.racks must be a list of integers, got x"),
        ("--icing drak", "icing must be one of white, dark or null, got drak; did you mean dark?"),
        ("--warm maybe", "warm must be true or false, got maybe"),
        ("--egg-count", "--egg_count needs a value"),
        ("tart", "unrecognized arguments: tart"),
        ("--config gone.yaml", "config: File does not exist: "),
    ],
)
def test_a_wrong_value_is_told_in_the_words_of_the_checks(
    parse: Parse, arguments: str, answer: str
) -> None:
    with pytest.raises(ConfigError) as error:
        parse("plain", *arguments.split())
    assert str(error.value).startswith(answer)


@pytest.mark.parametrize("arguments", ["plain --warm", "--warm --warm=true plain"])
def test_a_switch_needs_no_value(parse: Parse, arguments: str) -> None:
    assert parse(*arguments.split()) == {"warm": True}


def test_what_follows_a_switch_is_its_value(parse: Parse) -> None:
    with pytest.raises(ConfigError, match="warm must be true or false, got plain"):
        parse("--warm", "plain")


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# nothing\n", "---\n", "null", "oven:\n", "oven:\n  # racks: 3\n"]
)
def test_a_file_with_nothing_in_it_changes_nothing(parse: Parse, tmp_path: Path, text: str) -> None:
    path = tmp_path / "cake.yaml"
    path.write_text(text)
    assert parse("--config", str(path), "plain") == {}


def test_what_is_in_the_file_counts_beside_an_empty_section(parse: Parse, tmp_path: Path) -> None:
    path = tmp_path / "cake.yaml"
    path.write_text("egg_count: 4\ntoppings: [nuts]\noven:\n")
    assert parse("plain", "--config", str(path)) == {"egg_count": 4, "toppings": ("nuts",)}
    path.write_text("oven:\n  peak_heat: 1e+2\n")
    assert parse("plain", "--config", str(path)) == {"oven.peak_heat": 100.0}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("egg_cuont: 3", "egg_cuont is not an option; did you mean egg_count?"),
        ("oven:\n  peek_heat: 3", "oven.peek_heat is not an option; did you mean oven.peak_heat?"),
        ("peak_heat: 3", "peak_heat is not an option; did you mean oven.peak_heat?"),
        ("{3: 4}", "3 is not an option; --help lists the options"),
        ("egg_count: 3x", "egg_count must be an integer, got 3x"),
        ("egg_count: [1]", "egg_count must be an integer, got [1]"),
        ("icing: drak", "icing must be one of white, dark or null, got drak; did you mean dark?"),
        ("oven:\n  racks: 3", "oven.racks must be a list of integers, got 3"),
        ("oven: 3", "oven must have options below it, got 3"),
        ("oven: [3]", "oven must have options below it, got [3]"),
    ],
)
def test_a_misspelled_option_of_a_file(
    parse: Parse, tmp_path: Path, text: str, answer: str
) -> None:
    path = tmp_path / "cake.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        parse("plain", "--config", str(path))
    assert str(error.value) == answer


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("bake plain", {}),
        ("--egg-count 5 --oven.peak-heat=2e2", {"egg_count": "5", "oven.peak_heat": "2e2"}),
        ("--oven.peak_heat -5 a-b --name", {"oven.peak_heat": "-5", "name": None}),
        ("--egg-count 5 --egg_count=6 -h", {"egg_count": "6", "h": None}),
        ("--name= --toppings=a=b", {"name": "", "toppings": "a=b"}),
    ],
)
def test_options_are_found_before_they_are_parsed(
    arguments: str, given: dict[str, str | None]
) -> None:
    assert given_options(arguments.split()) == given


@pytest.mark.parametrize(
    ("contents", "text"),
    [
        (b"name: tart\noven:\n", "tart"),
        (b"", None),
        (b"# name: tart", None),
        (b"name:", None),
        (b"name: 3", None),
        (b"tart", None),
        (b"name: [", None),
        (b"name: \xff", None),
    ],
)
def test_one_text_of_a_file(tmp_path: Path, contents: bytes, text: str | None) -> None:
    path = tmp_path / "cake.yaml"
    path.write_bytes(contents)
    assert text_in(str(path), "name") == text
    assert text_in(str(tmp_path / "gone.yaml"), "name") is None
    assert text_in(None, "name") is None


def page(capsys: pytest.CaptureFixture[str], option: str) -> tuple[str, list[str]]:
    """Return the usage of a page of help, and the options that it shows."""
    parser = CommandParser("bake", "Bake a cake.", Cake, common=("egg_count", "oven.racks"))
    with pytest.raises(SystemExit) as stop:
        parser.parse_args([option])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    return lines[0], [line.split()[0] for line in lines if line.startswith("  -")]


def test_help_shows_the_common_options_first_and_how_to_see_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage, options = page(capsys, "--help")
    assert usage == "usage: simclr-ext bake [options] name"
    assert options == ["--egg_count", "--oven.racks", "-h,", "--help-all", "--help-oven"]


def test_help_of_a_group_and_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert page(capsys, "--help-oven")[1] == ["--oven", "--oven.peak_heat", "--oven.racks"]
    options = page(capsys, "--help-all")[1]
    assert {"--config", "--egg_count", "--toppings", "--oven.peak_heat", "-h,"} <= set(options)
    assert len(options) == len(set(options))
