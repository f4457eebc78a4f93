"""Small things to measure studies on."""

import dataclasses

import torch

from simclr_ext.studies.scales import recipe
from simclr_ext.studies.study import Context
from simclr_ext.trainer.data import ImageData


def colour_context(train: int = 64, test: int = 32) -> Context:
    """Return colour images of two classes, each image of a hue of its own, at the tiny scale."""
    random = torch.Generator().manual_seed(0)

    def images(count: int) -> torch.Tensor:
        hue = torch.rand(count, 3, 1, 1, generator=random)
        noise = 0.1 * torch.rand(count, 3, 10, 10, generator=random)
        return (255 * (0.9 * hue + noise)).byte()

    labels = torch.arange(train) % 2, torch.arange(test) % 2
    data = ImageData("hues", images(train), labels[0], images(test), labels[1], ("even", "odd"))
    return Context(data, dataclasses.replace(recipe("tiny", data), batch_size=16), "tiny")
