"""SimCLR as a LightningModule, on scikit-learn's digits; needs `pip install lightning`.

    python examples/lightning_module.py

What changes if your loss is that of pytorch-metric-learning:

    -self.criterion = SelfSupervisedLoss(NTXentLoss(temperature=0.5))
    +self.criterion = NTXentLoss(temperature=0.5)
"""

from __future__ import annotations

import lightning
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from simclr_ext import NTXentLoss


def view(images: Tensor) -> Tensor:
    """Return images [N, 1, 8, 8], each moved by an affine map of its own, with noise."""
    identity = torch.eye(2, 3, device=images.device)
    maps = identity + 0.15 * torch.randn(len(images), 2, 3, device=images.device)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    return moved + 0.1 * torch.randn_like(moved)


class SimCLR(lightning.LightningModule):
    """An encoder with its projection head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))
        self.criterion = NTXentLoss(temperature=0.5)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss of two views of a batch."""
        (images,) = batch
        z0, z1 = (self.head(self.encoder(view(images))) for _ in range(2))
        loss: Tensor = self.criterion(z0, z1)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(steps: int = 100) -> SimCLR:
    """Train for a number of steps; return the model."""
    lightning.seed_everything(0)
    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
    loader = DataLoader(TensorDataset(images), batch_size=256, shuffle=True, drop_last=True)
    model = SimCLR()
    trainer = lightning.Trainer(
        max_steps=steps, logger=False, enable_checkpointing=False, log_every_n_steps=1
    )
    trainer.fit(model, loader)
    return model


if __name__ == "__main__":
    main()
