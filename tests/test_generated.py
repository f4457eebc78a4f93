"""Text that is generated from data: the other text is kept, and outdated text is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import generated
from tests.generated import END, marker, replaced
from tests.mutants import found
from tests.mutants.fault import Fault

OTHER = f"{marker('b')}\nkept\n{END}\n"
PAGE = f"before\n{marker('a')}\nold\n{END}\nafter\n{OTHER}"


def test_only_the_text_between_the_markers_is_replaced() -> None:
    expected = f"before\n{marker('a')}\n\nnew\n\n{END}\nafter\n{OTHER}"
    assert replaced(PAGE, "a", "\nnew\n") == expected
    assert replaced(expected, "a", "new") == expected


@pytest.mark.parametrize("page", [marker("a"), f"{END}\n{marker('a')}", PAGE + PAGE])
def test_a_page_without_the_markers_or_with_two_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="a page must have <!-- generated: a -->"):
        replaced(page, "a", "new")


def test_a_page_that_is_not_what_the_data_say_is_named_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{marker('a')}\n\n1\n\n{END}\n")
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    monkeypatch.setattr(generated, "BLOCKS", {"page.md": {"a": lambda: "1"}})
    assert generated.main([]) == 0
    monkeypatch.setattr(generated, "BLOCKS", {"page.md": {"a": lambda: "2"}})
    assert generated.main([]) == 1
    assert "page.md is out of date: make generated writes it" in capsys.readouterr().out
    assert generated.main(["--write"]) == generated.main([]) == 0
    assert page.read_text() == f"{marker('a')}\n\n2\n\n{END}\n"
    monkeypatch.setattr(generated, "BLOCKS", {"page.md": {}})
    with pytest.raises(ValueError, match=r"page\.md must have the markers of"):
        generated.main([])


def test_what_found_a_fault_is_kept_until_it_is_run_again(tmp_path: Path) -> None:
    file = tmp_path / "found.csv"
    file.write_text("suite,fault,found by\ncpu,one,test a\n")
    found.record("cpu", {"two": "test b"}, file)
    found.record("cuda", {"two": "bf16: race", "three": ""}, file)
    faults = [Fault(name, "csrc/cuda/x.cuh", "old", "new") for name in ("two", "three", "four")]
    assert found.read(file)["cpu", "one"] == "test a"
    assert found.table("cuda", faults, found.read(file)).splitlines() == [
        "1 of 3 were found:",
        "",
        "| fault | file | found by |",
        "|---|---|---|",
        "| two | `x.cuh` | bf16: race |",
        "| three | `x.cuh` | **nothing** |",
        "| four | `x.cuh` | **not run yet** |",
    ]
