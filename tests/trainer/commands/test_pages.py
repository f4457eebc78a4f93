"""The pages command: the page contains every picture, and marks neighbors of the same class."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from simclr_ext.trainer.api import draw_pages
from simclr_ext.trainer.commands.pages import neighbors_page
from simclr_ext.trainer.config.commands import PagesConfig
from simclr_ext.trainer.data import Dataset, Part, load_data


def pictures(page: str) -> list[np.ndarray]:
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for text in encoded]


def test_page_shows_the_images_and_names_the_classes() -> None:
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 2, 2)
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    train, test = Part.of(images, labels), Part.of(images + 100, labels)
    data = Dataset("a<b", train, test, ("cat", "dog & co"))
    queries = test.take(torch.tensor([4, 0]))
    page = neighbors_page(data, queries, torch.tensor([[2, 1], [5, 0]]))
    assert [int(p[0, 0, 0]) for p in pictures(page)] == [104, 2, 1, 100, 5, 0]
    assert re.findall(r'<td class="(\w+)">', page) == [
        "query", "same", "other", "query", "same", "same",
    ]  # fmt: skip
    assert "75% of them" in page
    assert "a&lt;b" in page
    assert "dog &amp; co" in page
    assert "http" not in page  # nothing to fetch


def test_command_writes_both_pages(write_checkpoint: Callable[..., Path]) -> None:
    path = write_checkpoint()
    result = draw_pages(PagesConfig(str(path), queries=4, neighbors=3))
    page, picture = result.files
    data = load_data(str(path.parent.parent / "tiny.npz"))
    shown = pictures(page.read_text(encoding="utf-8"))
    assert len(shown) == 4 * 4
    test_images = [image.permute(1, 2, 0).numpy() for image in data.test.images]
    assert any(np.array_equal(shown[0], image) for image in test_images)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_page_of_images_without_labels() -> None:
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 2, 2)
    train = Part.of(images, ids=np.array([b"a.png", b"<b>.png", b"c.png", b"d.png"]))
    data = Dataset("photos", train, train.take(torch.arange(0)))
    page = neighbors_page(data, train.take(torch.tensor([3])), torch.tensor([[1, 0]]))
    assert [int(p[0, 0, 0]) for p in pictures(page)] == [3, 1, 0]
    assert re.findall(r'<td class="(\w+)">', page) == ["query", "none", "none"]
    assert re.findall(r'title="([^"]+)"', page) == ["d.png", "&lt;b&gt;.png", "a.png"]
    assert "same class" not in page
