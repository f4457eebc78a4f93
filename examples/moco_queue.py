"""MoCo: keys of a momentum encoder, negatives of a queue; on scikit-learn's digits.

    python examples/moco_queue.py

What changes in a loop that you have:

    -loss = F.cross_entropy(torch.cat([positive, queries @ queue.T], 1) / 0.2, zeros)
    +loss = info_nce_loss(queries, keys, 0.2, negatives=queue, in_batch=False)
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from simclr_ext import info_nce_loss

BATCH, QUEUE = 64, 512
MOMENTUM = 0.98
TEST = 300  # images that are kept for the evaluation


def view(images: Tensor) -> Tensor:
    """Return images [N, 1, 8, 8], each moved by an affine map of its own, with noise."""
    maps = torch.eye(2, 3) + 0.15 * torch.randn(len(images), 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    return moved + 0.1 * torch.randn_like(moved)


@torch.no_grad()
def follow(follower: nn.Module, leader: nn.Module) -> None:
    """Move the weights of one encoder towards those of the other."""
    for slow, fast in zip(follower.parameters(), leader.parameters(), strict=True):
        slow.lerp_(fast, 1 - MOMENTUM)


def main(steps: int = 200) -> float:
    """Train for a number of steps; return the accuracy of k-NN on h of the test images."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    train, test = images[:-TEST], images[-TEST:]
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
    )
    momentum_encoder = copy.deepcopy(encoder).requires_grad_(False)
    queue = momentum_encoder(view(train[:QUEUE]))  # then of earlier batches, the newest first
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)

    for step in range(steps):
        batch = train[torch.randperm(len(train))[:BATCH]]
        queries, keys = encoder(view(batch)), momentum_encoder(view(batch))
        loss = info_nce_loss(queries, keys, 0.2, negatives=queue, in_batch=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        follow(momentum_encoder, encoder)
        queue = torch.cat([keys, queue])[:QUEUE]
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}")

    with torch.no_grad():
        h_train, h_test = encoder[:-1](train).numpy(), encoder[:-1](test).numpy()
    probe = KNeighborsClassifier(metric="cosine").fit(h_train, digits.target[:-TEST])
    accuracy = float(probe.score(h_test, digits.target[-TEST:]))
    print(f"accuracy of k-NN: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
