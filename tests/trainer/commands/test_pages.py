"""The pages command: the page contains every picture, and marks neighbors of the same class."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from simclr_ext.trainer.api import draw_pages
from simclr_ext.trainer.config.commands import PagesConfig
from simclr_ext.trainer.data import load_data
from tests.trainer.pages.test_neighbors import pictures


def test_command_writes_the_pages(write_checkpoint: Callable[..., Path]) -> None:
    path = write_checkpoint()
    result = draw_pages(PagesConfig(str(path), queries=4, neighbors=3))
    page, picture, _ = result.files
    data = load_data(str(path.parent.parent / "tiny.npz"))
    shown = pictures(page.read_text(encoding="utf-8"))
    assert len(shown) == 4 * 4
    test_images = [image.permute(1, 2, 0).numpy() for image in data.test.images]
    assert any(np.array_equal(shown[0], image) for image in test_images)
    assert picture.read_bytes().startswith(b"\x89PNG")
