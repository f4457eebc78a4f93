"""The benchmark of a folder of many files, on few."""

import sys

import pytest

from benchmarks.trainer import million


def test_few_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(million, "_CLASSES", 4)
    monkeypatch.setattr(sys, "argv", ["million", "--files", "40"])
    million.main()
    assert "images: 32 training images, 8 test images, 4 classes: " in capsys.readouterr().out
