"""Lists of image files: text, CSV, patterns, and a single image."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data import absolute_data, open_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "b.png", "deep/c.png", "deep/er/d.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.md").write_text("no image")
    return tmp_path


def test_a_text_file_has_paths_and_patterns(folder: Path) -> None:
    (folder / "list.txt").write_text(f"deep/**/*.png\n\n  b.png\n{folder / 'a.png'}\n")
    data = open_data(str(folder / "list.txt"))
    assert list(map(os.fsdecode, data.train.ids)) == [
        "deep/c.png", "deep/er/d.png", "b.png", str(folder / "a.png"),
    ]  # fmt: skip
    assert data.train.images[:, 0, 0, 0].tolist() == [2, 3, 1, 0]
    assert (data.name, data.class_names, len(data.test)) == ("list", (), 0)


def test_a_csv_file_has_labels_and_a_split(folder: Path) -> None:
    rows = [
        "path,label,split",
        "a.png,red,train",
        "b.png,blue,",
        "deep/c.png,,",
        "deep/er/d.png,red,val",
    ]
    (folder / "list.csv").write_text("\ufeff" + "\r\n".join(rows), encoding="utf-8")
    data = open_data(str(folder / "list.csv"))
    assert data.class_names == ("blue", "red")
    assert data.train.labels.tolist() == [1, 0, -1]
    assert (data.test.labels.tolist(), data.test.ids.tolist()) == ([1], [b"deep/er/d.png"])


def test_a_csv_file_without_a_split_gets_one(folder: Path) -> None:
    (folder / "list.csv").write_text(
        "label,path\nx,a.png\nx,b.png\ny,deep/c.png\ny,deep/er/d.png\n"
    )
    data = open_data(str(folder / "list.csv"))
    assert data.test.labels.tolist() == [0, 1]


def test_a_pattern(folder: Path) -> None:
    data = open_data(f"{folder}/**/*")
    assert sorted(data.train.ids) == [b"a.png", b"b.png", b"deep/c.png", b"deep/er/d.png"]
    assert open_data(f"{folder}/deep/*.png").train.ids.tolist() == [b"c.png"]
    with pytest.raises(DataError, match=r"\*\.gif: no images match"):
        open_data(f"{folder}/*.gif")


def test_a_folder_whose_name_looks_like_a_pattern(folder: Path) -> None:
    (folder / "deep").rename(folder / "deep[1]")
    assert len(open_data(f"{folder}/deep[1]").train) == 2


def test_a_single_image(folder: Path) -> None:
    data = open_data(str(folder / "b.png"))
    assert (data.train.ids.tolist(), data.train.images[0, 0, 0, 0]) == ([b"b.png"], 1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.txt", "", "the list has no images"),
        ("list.txt", "a.png\nb.png\na.png\n", "the list has a.png twice"),
        ("list.txt", "gone.png\na.png\nlost.png", "gone.png: no such file, and 1 more"),
        ("list.txt", "*.gif", r"\*\.gif: no images match"),
        ("list.csv", "", "the columns are missing; expected path, and optionally label and split"),
        ("list.csv", "file,label\na.png,x", "the columns are file, label; expected path"),
        (
            "list.csv",
            "path,split\na.png,dev",
            "line 2: split must be train, .*, got 'dev'",
        ),
        ("list.csv", "path\na.png,red", "line 2: expected path"),
        ("list.csv", "path,label\n,red", "line 2: expected path, label"),
        ("list.csv", "path,split\na.png,test", "no training images"),
    ],
)
def test_what_is_wrong_with_a_list(name: str, text: str, message: str, folder: Path) -> None:
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=message):
        open_data(str(folder / name))


def test_a_list_that_is_not_text(folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"list\.txt: not readable"):
        open_data(str(folder / "list.txt"))


def test_paths_become_absolute_and_names_do_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "deep")
    assert absolute_data("../a.png") == str(folder / "a.png")
    assert absolute_data("**/*.png") == str(folder / "deep/**/*.png")
    assert absolute_data("digits") == "digits"
    assert absolute_data("~/x") == str(Path.home() / "x")
