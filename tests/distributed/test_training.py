"""Gradients that FSDP2 and GradCache make of the loss over several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from simclr_ext import InfoNCELoss, NTXentLoss, SupConLoss
from tests.torch_faults import needs_fsdp_on_the_cpu

Run = Callable[..., list[Any]]
SIZES = (4, 6)  # images of each rank


class Model(nn.Module):
    """An encoder and a loss with a learned temperature of shape [1]: FSDP2 shards no scalars."""

    def __init__(self, loss: str, group: Any = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Sequential(
            nn.Linear(5, 8, dtype=torch.float64), nn.ReLU(), nn.Linear(8, 6, dtype=torch.float64)
        )
        temperature = nn.Parameter(torch.tensor([0.4], dtype=torch.float64))
        self.criterion: nn.Module
        if loss == "SupCon":
            self.criterion = SupConLoss(temperature, group=group)
        elif loss == "CLIP":
            self.criterion = InfoNCELoss(temperature, symmetric=True, group=group)
        else:
            self.criterion = NTXentLoss(temperature, group=group, exchange="ring")
        self.labeled = loss == "SupCon"

    def forward(self, x0: Tensor, x1: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of images and labels."""
        return self.loss(self.encoder(x0), self.encoder(x1), labels)

    def loss(self, z0: Tensor, z1: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of views and labels."""
        if self.labeled:
            found: Tensor = self.criterion(torch.stack([z0, z1], 1), labels)
        else:
            found = self.criterion(z0, z1)
        return found


def batch(rank: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return images and labels of a rank, or of all."""
    generator = torch.Generator().manual_seed(3)
    x0, x1 = torch.randn(2, sum(SIZES), 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (sum(SIZES),), generator=generator)
    own = slice(0, None)
    if rank is not None:
        own = slice(sum(SIZES[:rank]), sum(SIZES[: rank + 1]))
    return x0[own], x1[own], labels[own]


def gradients(model: nn.Module) -> list[Tensor]:
    found = []
    for parameter in model.parameters():
        assert parameter.grad is not None
        grad = parameter.grad
        found.append(grad.full_tensor() if hasattr(grad, "full_tensor") else grad)
    return found


def in_one_process(loss: str) -> list[Tensor]:
    model = Model(loss)
    model(*batch()).backward()
    return gradients(model)


def with_fsdp(rank: int, group: Any, loss: str, half: bool) -> list[Tensor]:
    mesh = DeviceMesh.from_group(group, "cpu")
    model = Model(loss, mesh)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options = {"mp_policy": policy} if half else {}
    fully_shard(model.encoder, mesh=mesh, **options)
    fully_shard(model, mesh=mesh)
    x0, x1, labels = batch(rank)
    model(x0, x1, labels).backward()
    return gradients(model)


@needs_fsdp_on_the_cpu
@pytest.mark.parametrize("loss", ["NT-Xent", "CLIP", "SupCon"])
def test_gradients_of_fsdp_are_those_of_one_process(loss: str, run: Run) -> None:
    for found in run(with_fsdp, 2, loss, False):
        assert not isinstance(found, Exception), found
        for gradient, truth in zip(found, in_one_process(loss), strict=True):
            torch.testing.assert_close(gradient, truth, rtol=1e-10, atol=1e-12)


@needs_fsdp_on_the_cpu
def test_fsdp_in_bfloat16(run: Run) -> None:
    for found in run(with_fsdp, 2, "NT-Xent", True):
        assert not isinstance(found, Exception), found
        for gradient, truth in zip(found, in_one_process("NT-Xent"), strict=True):
            error = (gradient - truth).norm() / truth.norm()
            assert error < 0.1


def with_grad_cache(rank: int, group: Any) -> list[Tensor]:
    model = Model("NT-Xent", group)
    ddp = nn.parallel.DistributedDataParallel(model.encoder, process_group=group)
    x0, x1, labels = batch(rank)
    with torch.no_grad():
        z0, z1 = model.encoder(x0), model.encoder(x1)
    z0.requires_grad_()
    z1.requires_grad_()
    model.loss(z0, z1, labels).backward()  # of the projections, and of the temperature
    pieces = list(zip((x0, x1), (z0.grad, z1.grad), strict=True))
    chunks = [
        (part, grad)
        for x, z_grad in pieces
        for part, grad in zip(x.split(2), z_grad.split(2), strict=True)
    ]
    for index, (part, grad) in enumerate(chunks):
        ddp.require_backward_grad_sync = index == len(chunks) - 1
        ddp(part).backward(grad)
    return gradients(model)


def test_gradients_in_pieces_are_those_of_one_process(run: Run) -> None:
    for found in run(with_grad_cache, 2):
        assert not isinstance(found, Exception), found
        for gradient, truth in zip(found, in_one_process("NT-Xent"), strict=True):
            torch.testing.assert_close(gradient, truth, rtol=1e-10, atol=1e-12)
