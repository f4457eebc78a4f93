"""SimCLR in one file of plain PyTorch, on scikit-learn's digits.

    python examples/plain_pytorch.py

What changes in a loop that you have:

    -loss = F.cross_entropy(cosines.fill_diagonal_(-inf) / 0.5, positives)
    +loss = nt_xent_loss(z0, z1, temperature=0.5)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from simclr_ext import nt_xent_loss

BATCH = 256
TEST = 300  # images that are kept for the evaluation


def view(images: Tensor) -> Tensor:
    """Return images [N, 1, 8, 8], each moved by an affine map of its own, with noise."""
    maps = torch.eye(2, 3) + 0.15 * torch.randn(len(images), 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    return moved + 0.1 * torch.randn_like(moved)


def main(steps: int = 200) -> float:
    """Train for a number of steps; return the accuracy of k-NN on h of the test images."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    train, test = images[:-TEST], images[-TEST:]
    encoder = nn.Sequential(  # images to h
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
    )
    head = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))  # h to z
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-3)

    for step in range(steps):
        batch = train[torch.randperm(len(train))[:BATCH]]
        z0, z1 = head(encoder(view(batch))), head(encoder(view(batch)))
        loss = nt_xent_loss(z0, z1, temperature=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}")

    with torch.no_grad():
        h_train, h_test = encoder(train).numpy(), encoder(test).numpy()
    probe = KNeighborsClassifier(metric="cosine").fit(h_train, digits.target[:-TEST])
    accuracy = float(probe.score(h_test, digits.target[-TEST:]))
    print(f"accuracy of k-NN: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
