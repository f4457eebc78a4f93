"""lightly's transform and projection head with this loss, on digits; needs `pip install lightly`.

    python examples/lightly_simclr.py

What changes in a program that uses lightly:

    -from lightly.loss import NTXentLoss
    +from simclr_ext import NTXentLoss
"""

from __future__ import annotations

from itertools import chain, islice, repeat

import torch
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

from simclr_ext import NTXentLoss


class Digits(Dataset[object]):
    """Two views of each digit, [3, 16, 16] each."""

    def __init__(self) -> None:
        pixels = (load_digits().images * (255 / 16)).astype("uint8")
        self.images = [Image.fromarray(image).convert("RGB") for image in pixels]
        self.transform = SimCLRTransform(input_size=16, min_scale=0.5, gaussian_blur=0, hf_prob=0)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> object:
        return self.transform(self.images[index])


def main(steps: int = 40) -> None:
    """Train for a number of steps."""
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
    )
    model = nn.Sequential(backbone, SimCLRProjectionHead(128, 128, 64))
    criterion = NTXentLoss(temperature=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(Digits(), batch_size=64, shuffle=True, drop_last=True)

    epochs = chain.from_iterable(repeat(loader))
    for step, (x0, x1) in enumerate(islice(epochs, steps)):
        loss = criterion(model(x0), model(x1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
