"""CLIP: two towers, for images and texts, and a learned scale; on synthetic pairs.

    python examples/clip_two_towers.py

What changes in a model that you have:

    -loss = (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2
    +loss = info_nce_loss(image, text, logit_scale=scale, symmetric=True)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_ext import info_nce_loss

BATCH = 256
IMAGE, TEXT, EMBEDDING = 96, 48, 32  # dimensions


class Pairs:
    """Pairs of an "image" and a "text": two nonlinear functions of what both show, with noise."""

    def __init__(self, content: int = 8) -> None:
        self.content = content
        self.to_image = torch.randn(content, IMAGE) / math.sqrt(content)
        self.to_text = torch.randn(content, TEXT) / math.sqrt(content)

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Return images [n, IMAGE] and their texts [n, TEXT]."""
        content = torch.randn(n, self.content)
        images = torch.tanh(content @ self.to_image) + 0.1 * torch.randn(n, IMAGE)
        texts = torch.relu(content @ self.to_text) + 0.1 * torch.randn(n, TEXT)
        return images, texts


class TwoTowers(nn.Module):
    """A tower for images, one for texts, and the logarithm of the scale of their cosines."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(IMAGE, 128), nn.GELU(), nn.Linear(128, EMBEDDING))
        self.text = nn.Sequential(nn.Linear(TEXT, 128), nn.GELU(), nn.Linear(128, EMBEDDING))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the embeddings of both, [N, EMBEDDING], and the scale, at most 100."""
        return self.image(images), self.text(texts), self.log_scale.exp().clamp(max=100)


def main(steps: int = 200) -> float:
    """Train for a number of steps; return how often a pair of a new batch is found."""
    torch.manual_seed(0)
    pairs, model = Pairs(), TwoTowers()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    for step in range(steps):
        image, text, scale = model(*pairs.draw(BATCH))
        loss = info_nce_loss(image, text, logit_scale=scale, symmetric=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}, scale {scale.item():.2f}")

    with torch.no_grad():
        image, text, _ = model(*pairs.draw(BATCH))
    nearest = (F.normalize(image) @ F.normalize(text).T).argmax(dim=1)
    accuracy = (nearest == torch.arange(BATCH)).float().mean().item()
    print(f"the nearest text of {BATCH} is that of the image: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
