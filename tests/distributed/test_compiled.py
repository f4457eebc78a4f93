"""torch.compile of the losses over several processes: one graph, and eager's gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from simclr_ext import (
    NTXentLoss,
    dcl_loss,
    hcl_loss,
    info_nce_loss,
    nt_xent_loss,
    siglip_loss,
    sup_con_loss,
)

Run = Callable[..., list[Any]]


def nt_xent(z0: Tensor, z1: Tensor, t: Tensor, group: Any) -> Tensor:
    return nt_xent_loss(z0, z1, t, group=group, exchange="ring")


def own_temperatures(z0: Tensor, z1: Tensor, t: Tensor, group: Any) -> Tensor:
    return nt_xent_loss(z0, z1, t.expand(len(z0)), group=group)


def clip(z0: Tensor, z1: Tensor, t: Tensor, group: Any) -> Tensor:
    return info_nce_loss(z0, z1, logit_scale=1 / t, symmetric=True, group=group)


def sup_con(z0: Tensor, z1: Tensor, t: Tensor, group: Any) -> Tensor:
    labels = torch.arange(len(z0)) % 3
    return sup_con_loss(torch.stack([z0, z1], 1), labels, t, form="in", group=group)


def dclw(z0: Tensor, z1: Tensor, t: Tensor, group: Any) -> Tensor:
    return dcl_loss(z0, z1, t, sigma=0.5, weights=z0.detach()[:, 0].abs(), group=group)


def hcl(z0: Tensor, z1: Tensor, t: Tensor, group: Any) -> Tensor:
    return hcl_loss(z0, z1, t, group=group)


def siglip(z0: Tensor, z1: Tensor, t: Tensor, group: Any) -> Tensor:
    return siglip_loss(z0, z1, 1 / t, -t, group=group, exchange="ring")


LOSSES = [nt_xent, own_temperatures, clip, sup_con, dclw, hcl, siglip]


def gradients_of(loss: Callable[..., Tensor], n: int, rank: int, group: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(10 * n + rank)
    z = torch.randn(2, n, 6, generator=generator, dtype=torch.float64)
    z0, z1 = (view.clone().requires_grad_() for view in z)
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    value = loss(2 * z0, z1, t, group)
    value.backward()
    assert z0.grad is not None
    assert z1.grad is not None
    assert t.grad is not None
    return [value.detach(), z0.grad, z1.grad, t.grad]


def compiled(rank: int, group: Any, loss: Callable[..., Tensor]) -> list[tuple[Tensor, Tensor]]:
    torch._dynamo.reset()
    # Inductor takes long, and most graphs are like these two's: rows that are gathered, a ring.
    backend = "inductor" if loss in (own_temperatures, siglip) else "aot_eager"
    function = torch.compile(loss, fullgraph=True, dynamic=True, backend=backend)
    pairs = []
    for n in (4, 7):  # sizes that differ from call to call, and from rank to rank
        found = gradients_of(function, n + rank, rank, group)
        pairs += list(zip(found, gradients_of(loss, n + rank, rank, group), strict=True))
    return pairs


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_one_graph_of_any_sizes(loss: Callable[..., Tensor], run: Run) -> None:
    for results in run(compiled, 2, loss):
        assert not isinstance(results, Exception), results
        for found, eager in results:
            torch.testing.assert_close(found, eager, rtol=1e-12, atol=1e-14)


class Model(nn.Module):
    """An encoder and a learned temperature."""

    def __init__(self, group: Any) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Linear(5, 4)
        self.criterion = NTXentLoss(nn.Parameter(torch.tensor([0.4])), group=group)

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        loss: Tensor = self.criterion(self.encoder(x0), self.encoder(x1))
        return loss


def with_ddp(rank: int, group: Any) -> list[list[Tensor]]:
    torch._dynamo.reset()
    x0, x1 = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(rank))
    found = []
    for fullgraph in (False, True):
        model = Model(group)
        module = torch.compile(model, fullgraph=True) if fullgraph else model
        parallel = DistributedDataParallel(module, process_group=group)
        parallel(x0, x1).backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    return found


def test_a_model_of_ddp(run: Run) -> None:
    first, second = run(with_ddp, 2)
    for results in (first, second):
        assert not isinstance(results, Exception), results
        for eager, found in zip(*results, strict=True):
            torch.testing.assert_close(found, eager)
    for own, other in zip(first[1], second[1], strict=True):
        assert torch.equal(own, other)
