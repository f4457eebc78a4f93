"""Supervised contrastive learning (SupCon) on scikit-learn's digits, then a linear probe.

    python examples/sup_con_digits.py

What changes if your loss is that of pytorch-metric-learning:

    -loss = SupConLoss(0.1)(features.flatten(0, 1), labels.repeat_interleave(2))
    +loss = sup_con_loss(features, labels, temperature=0.1)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from simclr_ext import sup_con_loss

BATCH = 128
TEST = 300  # images that are kept for the evaluation


def view(images: Tensor) -> Tensor:
    """Return images [N, 1, 8, 8], each moved by an affine map of its own, with noise."""
    maps = torch.eye(2, 3) + 0.15 * torch.randn(len(images), 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    return moved + 0.1 * torch.randn_like(moved)


def main(steps: int = 100) -> float:
    """Train for a number of steps; return the accuracy of a linear probe on the test images."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    classes = torch.tensor(digits.target)
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 64),
    )
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)

    for step in range(steps):
        rows = torch.randperm(len(images) - TEST)[:BATCH]
        batch, labels = images[rows], classes[rows]
        features = torch.stack([encoder(view(batch)), encoder(view(batch))], dim=1)  # [N, 2, D]
        loss = sup_con_loss(features, labels, temperature=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}")

    with torch.no_grad():
        h = F.normalize(encoder(images)).numpy()
    probe = LogisticRegression(max_iter=1000).fit(h[:-TEST], digits.target[:-TEST])
    accuracy = float(probe.score(h[-TEST:], digits.target[-TEST:]))
    print(f"accuracy of the linear probe: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
