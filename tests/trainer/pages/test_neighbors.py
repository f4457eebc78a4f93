"""The page of nearest neighbors: it contains every picture, and marks those of the same class."""

import base64
import io
import re

import numpy as np
import torch
from PIL import Image

from simclr_ext.trainer.data import Part
from simclr_ext.trainer.pages.neighbors import neighbors_page


def pictures(page: str) -> list[np.ndarray]:
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for text in encoded]


def test_page_shows_the_images_and_names_the_classes() -> None:
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 2, 2)
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    train, test = Part.of(images, labels), Part.of(images + 100, labels)
    queries = test.take(torch.tensor([4, 0]))
    found = torch.tensor([[2, 1], [5, 0]])
    page = neighbors_page("a<b", queries, train, found, ("cat", "dog & co"))
    assert [int(p[0, 0, 0]) for p in pictures(page)] == [104, 2, 1, 100, 5, 0]
    assert re.findall(r'<td class="(\w+)">', page) == [
        "query", "same", "other", "query", "same", "same",
    ]  # fmt: skip
    assert "75% of them" in page
    assert "a&lt;b" in page
    assert "dog &amp; co" in page
    assert re.search("https?:", page) is None  # nothing to fetch


def test_page_of_images_without_labels() -> None:
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 2, 2)
    train = Part.of(images, ids=np.array([b"a.png", b"<b>.png", b"c.png", b"d.png"]))
    found = torch.tensor([[1, 0]])
    page = neighbors_page("photos", train.take(torch.tensor([3])), train, found, ())
    assert [int(p[0, 0, 0]) for p in pictures(page)] == [3, 1, 0]
    assert re.findall(r'<td class="(\w+)">', page) == ["query", "none", "none"]
    assert re.findall(r'title="([^"]+)"', page) == ["d.png", "&lt;b&gt;.png", "a.png"]
    assert "same class" not in page


def test_page_says_which_channels_it_shows() -> None:
    part = Part.of(torch.randint(256, (6, 5, 2, 2), dtype=torch.uint8))
    found = torch.tensor([[2, 1]])
    page = neighbors_page("satellite", part.take(torch.tensor([4])), part, found, ())
    assert "Pictures show the first three of 5 channels." in page
    assert np.array_equal(pictures(page)[0], part.images[4, :3].permute(1, 2, 0))
