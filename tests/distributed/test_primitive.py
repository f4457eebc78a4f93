"""The operators over ranks where some rows have no positive (their loss is 0), or no negative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_ext.backends import ops
from simclr_ext.distributed import operators  # noqa: F401, defines the operators over ranks

ROWS, T = 3, torch.tensor(0.3, dtype=torch.float64)


def inputs(columns: int | None) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the rows of both ranks, their columns, and a weight of each loss."""
    generator = torch.Generator().manual_seed(3)
    count = ROWS if columns is None else ROWS + columns
    z = torch.randn(2, count, 5, dtype=torch.float64, generator=generator)
    weights = torch.rand(2, count, dtype=torch.float64, generator=generator)
    return z[:, :ROWS], None if columns is None else z[:, ROWS:], weights


def compute(
    rank: int, group: Any, columns: int | None, shifts: Sequence[int], backend: str
) -> tuple[Tensor, Tensor]:
    ops.register()
    x, y, weights = inputs(columns)
    other = {"y": None if y is None else y[rank]}
    both = [ROWS, ROWS if columns is None else columns]
    pairing = {"shifts": shifts, "label": None, "ignored": None, "denominator": "all"}
    where = {"backend": backend, "exchange": "gather", "after": None, "group": group.group_name}
    shared = {"temperature": T, "sizes": torch.tensor([both, both]), "eps": 1e-12, **pairing}
    saved = torch.ops.simclr_ext.ranks_contrastive_forward(
        x=x[rank], **other, normalize=False, **shared, **where
    )
    names = ("loss", "lse", "z", "inv_norm", "visitors", "visitors_inv_norm")
    gradient = torch.ops.simclr_ext.ranks_contrastive_backward(
        grad_loss=weights[rank],
        grad_lse=None,
        **dict(zip(names, saved, strict=False)),
        **{"dim": 5, "rows": ROWS, "needs_temperature": False},
        **shared,
        **where,
    )[0]
    return saved[0], gradient


def dense(columns: int | None, shifts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return losses and the gradient of [x; y] or x, of both ranks."""
    x, y, weights = inputs(columns)
    z = [part.clone().requires_grad_() for part in (x, y) if part is not None]
    sides = [(z[0], z[-1], 1)] if y is None else [(z[0], z[1], 1), (z[1], z[0], -1)]
    losses = []
    for rows, others, sign in sides:
        s = rows.flatten(0, 1) @ others.flatten(0, 1).T / T
        if y is None:
            s = s.masked_fill(torch.eye(len(s), dtype=torch.bool), -torch.inf)
        loss = torch.zeros(2, rows.shape[1], dtype=torch.float64)
        for rank in range(2):
            for i in range(rows.shape[1]):
                own = s[rank * rows.shape[1] + i]
                positives = [
                    own[rank * others.shape[1] + j]
                    for j in (i + sign * shift for shift in shifts)
                    if 0 <= j < others.shape[1]
                ]
                if positives:
                    loss[rank, i] = own.logsumexp(0) - torch.stack(positives).mean()
        losses.append(loss)
    loss = torch.cat(losses, 1)
    nothing = sum(0 * part.sum() for part in z)  # so that there is a gradient without positives
    grads = torch.autograd.grad((loss * weights).sum() + nothing, z)
    return loss.detach(), torch.cat(grads, 1)


@pytest.mark.parametrize("backend", ["fused", "tiled"])
@pytest.mark.parametrize(
    ("columns", "shifts"),
    [(2, [0]), (4, [1]), (3, [-2, 1]), (2, [5]), (None, [2, -2]), (None, [1, -1])],
    ids=str,
)
def test_rows_without_positives(
    columns: int | None, shifts: list[int], backend: str, run: Callable[..., list[Any]]
) -> None:
    found = run(compute, 2, columns, shifts, backend)
    losses, gradients = (torch.stack(values) for values in zip(*found, strict=True))
    loss, gradient = dense(columns, shifts)
    torch.testing.assert_close(losses, loss, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients, gradient, rtol=1e-10, atol=1e-10)


def lses(rank: int, group: Any, rows: int, shifts: Sequence[int], backend: str) -> list[Tensor]:
    """Return the lse over one rank, and by the operator of one process, of negatives alone."""
    ops.register()
    x = torch.randn(rows, 5, dtype=torch.float64)
    pairing = {"shifts": shifts, "label": None, "ignored": None, "denominator": "negatives"}
    shared = {"x": x, "y": None, "temperature": T, "normalize": True, "eps": 1e-12, **pairing}
    where = {"backend": backend, "exchange": "ring", "after": None, "group": group.group_name}
    _, over_ranks, *_ = torch.ops.simclr_ext.ranks_contrastive_forward(
        **shared, sizes=torch.tensor([[rows, rows]]), **where
    )
    _, alone, *_ = torch.ops.simclr_ext.contrastive_forward(**shared, owned=[])
    return [over_ranks, alone]


@pytest.mark.parametrize("backend", ["fused", "tiled"])
@pytest.mark.parametrize("shifts", [[], [1, -1]], ids=["no positives", "positives"])
@pytest.mark.parametrize("rows", [2, 3])
def test_negatives_of_few_rows(
    rows: int, shifts: list[int], backend: str, run: Callable[..., list[Any]]
) -> None:
    (found,) = run(lses, 1, rows, shifts, backend)
    assert not isinstance(found, Exception), found
    torch.testing.assert_close(found[0], found[1])
