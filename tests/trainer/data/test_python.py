"""Data sets from Python: PIL images and tensors, with and without labels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset, TensorDataset

from simclr_ext.options.errors import ConfigError, DataError, MissingArgumentError
from simclr_ext.trainer.config import ImagesConfig
from simclr_ext.trainer.data import CUSTOM, Dataset, LazyImages, open_data

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), dtype=np.uint8)
IMAGES = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
BANDS, PICTURE = IMAGES[0, :2], Image.fromarray(PIXELS[0])
WHOLE = ImagesConfig(test_share=0)


class Items(TorchDataset[Any]):
    """A list as a data set, with more attributes."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        self.items = items
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def opened(given: object) -> Dataset:
    return open_data(CUSTOM, images=WHOLE, given=given)


@pytest.mark.parametrize("form", ["PIL", "tensor"])
@pytest.mark.parametrize("labels", [True, False])
def test_images_of_one_size_are_kept_in_memory(form: str, labels: bool) -> None:
    images = [Image.fromarray(p) for p in PIXELS] if form == "PIL" else list(IMAGES)
    items = [(image, 3 + row % 2) for row, image in enumerate(images)] if labels else images
    data = opened(Items(items))
    assert torch.equal(data.train.images[:], IMAGES)
    assert data.train.labels.tolist() == ([0, 1] * 3 if labels else [-1] * 6)
    assert data.class_names == (("3", "4") if labels else ())
    assert (data.name, data.train.ids.tolist()) == ("Items", [b"0", b"1", b"2", b"3", b"4", b"5"])


def test_images_of_many_sizes_are_read_on_demand() -> None:
    images = [Image.fromarray(pixels[: 4 + row]) for row, pixels in enumerate(PIXELS)]
    data = opened(Items([(image, 0) for image in images]))
    assert isinstance(data.train.images, LazyImages)
    with data.train.images.open(2) as picture:
        assert torch.equal(picture.whole(), IMAGES[2][:, :6])
    versions = list(data.train.images.versions())
    images[2].putpixel((0, 0), (1, 2, 3))
    again = list(data.train.images.versions())
    assert [row for row in range(6) if versions[row] != again[row]] == [2]


def test_training_and_test_images_and_names() -> None:
    train = Items(list(IMAGES[:4]), targets=[1, 0, 1, 0], classes=["cat", "dog", "cow"])
    data = opened((train, Items(list(IMAGES[4:]), targets=np.array([0, 1]))))
    assert (data.class_names, data.train.labels.tolist()) == (("cat", "dog", "cow"), [1, 0, 1, 0])
    assert (data.test.labels.tolist(), data.test.ids.tolist()) == ([0, 1], [b"0", b"1"])
    assert torch.equal(data.test.images[:], IMAGES[4:])


def test_labels_without_a_list_are_read_from_the_items(
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    data = opened(Subset(TensorDataset(IMAGES, labels), [5, 0, 3]))
    assert data.train.labels.tolist() == [1, 0, 1]
    assert torch.equal(data.train.images[:], IMAGES[[5, 0, 3]])
    assert "reading the labels of every item of Subset" in capsys.readouterr().err


def test_a_method_is_not_a_list_of_labels() -> None:
    data = opened(Items(list(IMAGES), labels=lambda: [0] * 6))
    assert data.train.labels.tolist() == [-1] * 6


def test_tensors_of_many_channels() -> None:
    bands = torch.randint(256, (4, 5, 8, 8), dtype=torch.uint8)
    data = opened((Items(list(bands[:3])), Items(list(bands[3:]))))
    assert torch.equal(data.train.images[:], bands[:3])
    assert torch.equal(data.test.images[:], bands[3:])


def test_a_data_set_of_this_package() -> None:
    digits = open_data("digits")
    assert open_data(CUSTOM, given=digits).train.images is digits.train.images


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from IMAGES


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Stream(), "must be a map-style data set, or two, got Stream"),
        (iter([]), "must be a map-style data set, or two, got list_iterator"),
        (Items([]), "a Items without images"),
        ((), "must be a map-style data set, or two, got 0"),
        ((Items(list(IMAGES)),) * 3, "must be a map-style data set, or two, got 3"),
        (Items(["a.png"]), "images must be PIL images or tensors, got str"),
        (Items([IMAGES[0].float()]), r"data\[0\] must be uint8 .*, got torch.float32 \[3, 9, 7\]"),
        (Items([(IMAGES[0], "cat")]), "labels must be integers from 0, got <U3"),
        (Items([IMAGES[0]], targets=[-7]), "labels must be integers from 0"),
        (Items([IMAGES[0]], targets=[2], classes=["x"]), "1 classes for labels up to 2"),
        (Items([torch.zeros(5, 4, 4), torch.zeros(5, 4, 4)]), "images must be uint8"),
        (Items([BANDS, PICTURE]), r"uint8 \[2, 9, 7\], and data\[1\] is a PIL image"),
        (Items([BANDS, BANDS[:1]]), r"data\[1\] is torch.uint8 \[1, 9, 7\]"),
        (Items([BANDS, BANDS.int()]), r"data\[1\] is torch.int32 \[2, 9, 7\]"),
        (Items([PICTURE, BANDS]), r"data\[1\] must be uint8 .* 3, got torch.uint8 \[2, 9, 7\]"),
        (Items([BANDS[0]]), r"images must be uint8 \[C, H, W\] .*, got torch.uint8 \[9, 7\]"),
        (Items([torch.tensor(3)]), r"images must be uint8 .*, got torch.int64 \[\]"),
    ],
)
def test_what_is_wrong_with_a_data_set(given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(given)


def test_images_from_python_are_needed_again() -> None:
    with pytest.raises(MissingArgumentError, match="give them again, by the argument data"):
        open_data(CUSTOM)
    with pytest.raises(ConfigError, match="must be None for a run with its own data set, 'digits'"):
        open_data("digits", given=Items(list(IMAGES)))
