"""The options of how images are read and split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simclr_ext.options.checks import check, check_color, check_types


@dataclass(frozen=True)
class ImagesConfig:
    """How the images of a data set are read and split.

    Attributes:
        labels: Whether labels are read: the names of folders, columns of lists, arrays; false: as
            if there were none.
        test_share: Share of the labeled images of every class that are test images, if the data set
            has none of its own; every class keeps a training image; 0: none are held out.
        split_seed: Seed of that choice.
        background: Color behind transparent pixels of image files: red, green, blue in 0..255.
        on_broken: What becomes of images that cannot be read: "stop", or "skip": every image is
            read once before the training, and broken ones are left out.
    """

    labels: bool = True
    test_share: float = 0.2
    split_seed: int = 0
    background: tuple[int, int, int] = (255, 255, 255)
    on_broken: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        check_types(self, "images.")
        check(0 <= self.test_share < 1, "images.test_share", self.test_share, "in [0, 1)")
        check(0 <= self.split_seed < 2**32, "images.split_seed", self.split_seed, "in [0, 2**32)")
        check_color("images.background", self.background)
