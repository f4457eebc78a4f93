"""YAML of others: plain values, and no more of them than in the file."""

from pathlib import Path

import pytest
import yaml

from simclr_ext import cli
from simclr_ext.options.read_yaml import read_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
CODE = (
    "seed: !!python/object/apply:pathlib.Path.touch [!!python/object/new:pathlib.Path [executed]]"
)
HARM = {
    "laughs": (LAUGHS, "stand for more than 1,000,000 values"),
    "itself": ("a: &a [*a]", "stand for more than 1,000,000 values"),
    "text": (f"a: &a {'x' * 2000}\nb: [{', '.join(['*a'] * 1000)}]", "stand for more than"),
    "brackets": ("[" * 1500, "too many brackets"),
    "code": (CODE, "could not determine a constructor"),
    **{
        text: (text, "not what its form or its tag says")
        for text in ("a: !!int", "a: !!float x", "a: !!bool x", "a: !!timestamp x", "a: 2020-99-99")
    },
}


@pytest.mark.parametrize(("text", "message"), HARM.values(), ids=HARM)
def test_what_is_not_plain_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(yaml.YAMLError, match=message):
        read_yaml(text)
    assert list(tmp_path.iterdir()) == []


def test_aliases_of_a_few_values_are_read() -> None:
    assert read_yaml("a: &a [1, 2]\nb: [*a, *a]") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


@pytest.mark.parametrize("name", HARM)
def test_a_configuration_file_is_read_as_carefully(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text(HARM[name][0].replace("a: ", "seed: ", 1))
    assert cli.main(["train", "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("simclr-ext: error: ")
    assert len(error) < 2000
    assert list(tmp_path.iterdir()) == [file]
