"""Folders of images: in memory if they have one size, otherwise decoded on demand."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.config import ImagesConfig, TrainConfig
from simclr_ext.trainer.data import Dataset, LazyImages, Part, dataset, load_data, open_data
from simclr_ext.trainer.data.verify import check_readable
from tests.trainer.helpers import write_folder


@pytest.mark.parametrize("test", ["test", "val"])
def test_images_of_one_size_are_decoded_once(tmp_path: Path, test: str) -> None:
    write_folder(tmp_path / "pets", [(7, 5)], per_class=2, test=test)
    data = open_data(str(tmp_path / "pets"))
    assert isinstance(data.train.images, torch.Tensor)
    assert (data.name, data.class_names) == ("pets", ("cat", "dog"))
    assert data.train.images.shape == (4, 3, 5, 7)
    assert data.train.labels.tolist() == data.test.labels.tolist() == [0, 0, 1, 1]
    with Image.open(tmp_path / "pets" / test / "dog" / "1.png") as image:
        assert torch.equal(data.test.images[3], torch.from_numpy(np.array(image)).permute(2, 0, 1))


def test_images_of_many_sizes_stay_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", [(7, 5), (16, 32)], per_class=2)
    data = open_data(str(tmp_path / "pets"))
    assert isinstance(data.train.images, LazyImages)
    assert (data.channels, len(data.train.images), data.sides) == (3, 4, (224, 224))
    memory = load_data(str(tmp_path / "pets"), side=14)
    assert memory.train.images.shape == (4, 3, 14, 14)
    # The central 14 x 14 pixels of the 16 x 32 image, not resized: 8/7 of 14 is 16.
    with data.train.images.open(1) as picture:
        assert torch.equal(memory.train.images[1], picture.whole()[:, 9:23, 1:15])
    assert torch.equal(data.at(14).test.images[:], memory.test.images[:])
    with pytest.raises(ValueError, match="must be chosen first"):
        data.test.images[:]
    assert data.train.labels.tolist() == memory.train.labels.tolist() == [0, 0, 1, 1]


def test_too_many_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_MEMORY_LIMIT", 1000)
    write_folder(tmp_path / "pets", [(8, 8)], per_class=4)
    data = open_data(str(tmp_path / "pets"))
    assert isinstance(data.train.images, LazyImages)
    with pytest.raises(DataError, match="pets: 16 images of 8 x 8 take"):
        data.in_memory()
    assert data.sides == (8, 8)  # their own
    assert data.at(2).too_large is None


def test_large_images_of_one_size_are_read_at_224(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like images of different sizes; `image_size` null is also at most 224."""
    write_folder(tmp_path / "pets", [(300, 280)], per_class=2)
    data = open_data(str(tmp_path / "pets"))
    assert (data.sides, TrainConfig().resolve(3, *data.sides).side) == ((280, 300), 224)
    monkeypatch.setattr(dataset, "_MEMORY_LIMIT", 3 * 224 * 224 * 8)
    assert open_data(str(tmp_path / "pets")).sides == (224, 224)
    assert load_data(str(tmp_path / "pets")).train.images.shape == (4, 3, 224, 224)


def picture(path: Path, size: tuple[int, int] = (4, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 256, (*size, 3))
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path)


# Files of a folder, and what is made of them: ids and classes of the training and the test images.
FORMS = {
    "flat": (["a.png", "b.jpg"], {"a.png": "", "b.jpg": ""}, {}),
    "nested": (["2024/a.png", "2025/05/b.png", "c.png"],
               {"2024/a.png": "", "2025/05/b.png": "", "c.png": ""}, {}),
    "classes": (["x/1.png", "x/2.png", "y/deep/1.png", "y/2.png"],
                {"x/1.png": "x", "x/2.png": "x", "y/2.png": "y", "y/deep/1.png": "y"}, {}),
    "one class": (["x/1.png", "x/2.png"], {"x/1.png": "", "x/2.png": ""}, {}),
    "train without classes": (["train/1.png", "test/1.png"], {"train/1.png": ""},
                              {"test/1.png": ""}),
    "train without test": (["train/x/1.png", "train/y/1.png"],
                           {"train/x/1.png": "x", "train/y/1.png": "y"}, {}),
    "split": (["train/x/1.png", "train/y/1.png", "val/y/1.png"],
              {"train/x/1.png": "x", "train/y/1.png": "y"}, {"val/y/1.png": "y"}),
    "unlabeled images": (["train/x/1.png", "train/y/1.png", "unlabeled/z/1.png"],
                         {"train/x/1.png": "x", "train/y/1.png": "y", "unlabeled/z/1.png": ""}, {}),
    "test before val": (["train/x/1.png", "train/y/1.png", "test/x/1.png", "val/x/1.png"],
                        {"train/x/1.png": "x", "train/y/1.png": "y"}, {"test/x/1.png": "x"}),
}  # fmt: skip


def classes(data: Dataset, part: Part) -> dict[str, str]:
    names = (*data.class_names, "")
    ids = map(os.fsdecode, part.ids)
    return {key: names[label] for key, label in zip(ids, part.labels.tolist(), strict=True)}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_folders(form: str, tmp_path: Path) -> None:
    files, train, test = FORMS[form]
    for name in files:
        picture(tmp_path / "data" / name)
    data = open_data(str(tmp_path / "data"), images=ImagesConfig(test_share=0))
    assert (classes(data, data.train), classes(data, data.test)) == (train, test)
    for part in data.parts.values():
        for key, image in zip(part.ids, part.images[:], strict=True):
            with Image.open(tmp_path / "data" / os.fsdecode(key)) as expected:
                pixels = torch.from_numpy(np.array(expected)).permute(2, 0, 1)
            assert torch.equal(image, pixels)


def test_other_files_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "a.png")
    litter = (".DS_Store", "._a.png", ".ipynb_checkpoints/a.png", "Thumbs.db", "__MACOSX/a.png")
    for name in (*litter, "notes.txt", "more/clip.MP4", "more/LICENSE", "other.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    assert open_data(str(tmp_path)).train.ids.tolist() == [b"a.png"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "left out, since they are not images: 2 .txt, 1 .mp4, 1 without a suffix" in line
    assert not any(name in line for name in litter)


def test_images_outside_of_the_parts_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train/a.png", "elsewhere/b.png", "c.png"):
        picture(tmp_path / name)
    assert len(open_data(str(tmp_path)).train) == 1
    assert "2 images outside of train/ and test/ left out" in capsys.readouterr().err


def test_links_are_followed_but_not_into_a_circle(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    assert open_data(str(tmp_path / "data")).train.ids.tolist() == [b"link/a.png"]
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "data")
    with pytest.raises(DataError, match="a link to a folder that contains it"):
        open_data(str(tmp_path / "data"))


@pytest.mark.parametrize("sizes", [[(4, 4)], [(4, 4), (9, 7)]])
def test_gray_images_have_one_channel_unless_there_is_color(
    sizes: list[tuple[int, int]], tmp_path: Path
) -> None:
    for number in range(4):
        picture(tmp_path / f"{number}.png", sizes[number % len(sizes)], "L")
    gray = open_data(str(tmp_path))
    assert (gray.channels, gray.at(4).train.images[:].shape[1]) == (1, 1)
    color = gray.at(4).with_channels(3)
    assert torch.equal(color.train.images[:], gray.at(4).train.images[:].expand(-1, 3, -1, -1))
    picture(tmp_path / "color.png", sizes[0])
    assert open_data(str(tmp_path)).channels == 3


def test_color_among_images_whose_headers_were_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simclr_ext.trainer.data.listing._HEADERS", 2)
    for number, (size, mode) in enumerate([((4, 4), "L"), ((9, 7), "RGB"), ((4, 4), "L")]):
        picture(tmp_path / f"{number}.png", size, mode)
    with pytest.raises(DataError, match=r"1\.png: has color .*gray images are needed"):
        open_data(str(tmp_path))
    picture(tmp_path / "1.png", (9, 7), "L")
    assert isinstance(open_data(str(tmp_path)).train.images, LazyImages)


def test_broken_images_stop_or_are_skipped(tmp_path: Path) -> None:
    for name in ("x/1", "x/2", "x/3", "y/1", "y/2", "y/3"):
        picture(tmp_path / f"{name}.png", (8, 8) if name == "y/2" else (5, 6))
    broken = tmp_path / "x" / "2.png"
    broken.write_bytes(broken.read_bytes()[:60])
    data = open_data(str(tmp_path), images=ImagesConfig(on_broken="skip", test_share=0))
    assert data.train.ids.tolist() == [b"x/1.png", b"x/3.png", b"y/1.png", b"y/2.png", b"y/3.png"]
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]
    (reason,) = data.broken
    assert reason.startswith(f"{broken}: not a readable image (")
    data = open_data(str(tmp_path), images=ImagesConfig(test_share=0)).at(4)
    with pytest.raises(DataError, match=r"2\.png: not a readable image"):
        data.train.images[:]
    with pytest.raises(DataError, match=r"2\.png: .*; `simclr-ext check` lists them"):
        check_readable(data.train.images, workers=2)


def test_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    with pytest.raises(DataError, match=r"got .*pets'; there is no such folder or file"):
        open_data(str(root))
    (root / "test").mkdir(parents=True)
    with pytest.raises(DataError, match="pets: no images in it"):
        open_data(str(root))
    write_folder(root, [(8, 8)], per_class=1, classes=("cat", "dog"), test="val")
    (root / "val" / "dog").rename(root / "val" / "cow")
    with pytest.raises(DataError, match="classes without training images: cow"):
        open_data(str(root))
    (root / "val" / "cow").rename(root / "val" / "dog")
    (root / "val" / "dog" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0.png: not a readable image"):
        open_data(str(root))


def test_the_split_does_not_depend_on_broken_images(tmp_path: Path) -> None:
    for name in ("x", "y"):
        for number in range(10):
            picture(tmp_path / name / f"{number}.png", (5, 6 + number % 2))
    whole = open_data(str(tmp_path))
    gone = {whole.train.ids[3], whole.test.ids[1]}
    for key in gone:
        (tmp_path / os.fsdecode(key)).write_bytes(b"no image")
    data = open_data(str(tmp_path), images=ImagesConfig(on_broken="skip"))
    for part, before in ((data.train, whole.train), (data.test, whole.test)):
        assert part.ids.tolist() == [key for key in before.ids.tolist() if key not in gone]
