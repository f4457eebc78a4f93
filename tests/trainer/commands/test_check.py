"""The check command: broken files and files with the same content are listed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from simclr_ext.cli import main
from simclr_ext.trainer.api import check_data
from simclr_ext.trainer.config import CheckConfig
from tests.trainer.helpers import write_folder


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    write_folder(tmp_path / "pets", [(30, 20)], per_class=3)
    return tmp_path / "pets"


def test_nothing_is_wrong(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(pets)]) == 0
    assert capsys.readouterr().out == "pets: 12 images, decoded\nnothing is wrong\n"


def test_broken_files_and_duplicates(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, cut = pets / "train" / "cat" / "0.png", pets / "test" / "dog" / "1.png"
    text.write_bytes(b"no image")
    cut.write_bytes(cut.read_bytes()[:-400])  # its header is whole
    first, second = pets / "test" / "cat" / "2.png", pets / "train" / "copy.png"
    shutil.copyfile(first, second)
    headers = check_data(CheckConfig(str(pets), decode=False))
    assert (headers.images, headers.exit_code) == (13, 1)
    assert [line.partition(":")[0] for line in headers.broken] == [str(text)]
    assert headers.duplicates == ((str(first), str(second)),)
    decoded = check_data(CheckConfig(str(pets), duplicates=False, workers=3))
    assert [line.partition(":")[0] for line in decoded.broken] == [str(cut), str(text)]
    assert decoded.duplicates == ()
    assert main(["check", str(pets)]) == 1
    printed = capsys.readouterr().out
    assert "2 broken:" in printed
    assert f"1 with the same content:\n  {first} = {second}" in printed


def test_arrays(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    images[3] = images[1]
    np.save(tmp_path / "images.npy", images)
    result = check_data(CheckConfig(str(tmp_path / "images.npy")))
    assert (result.images, result.duplicates) == (5, (("train 1", "train 3"),))


def test_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "gone")]) == 2
    assert "there is no such folder or file" in capsys.readouterr().err
    assert main(["check", str(tmp_path)]) == 2
    assert "no images in it" in capsys.readouterr().err
