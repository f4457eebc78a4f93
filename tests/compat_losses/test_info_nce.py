"""info-nce-pytorch and its adapter, with it installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_ext.compat import info_nce as ours
from tests.compat_losses.helpers import assert_same_training, batches, dtypes

theirs = pytest.importorskip("info_nce", reason="info-nce-pytorch is not installed")


def negatives_from(mode: str, z: Tensor) -> Tensor | None:
    """Return negative keys of the shape that a mode takes, made of z [N, D], with its gradient."""
    if mode == "in batch":
        return None
    others = torch.stack([z.roll(shift, 0) * (1 + shift) for shift in (1, 2, 5)], 1)
    return others if mode == "paired" else others.flatten(0, 1)


@dtypes
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("mode", ["in batch", "unpaired", "paired"])
@pytest.mark.parametrize(("n", "temperature"), [(2, 0.1), (31, 0.05), (31, 1.0)])
def test_same_training(
    n: int, temperature: float, mode: str, reduction: str, dtype: torch.dtype
) -> None:
    options = {"negative_mode": mode} if mode == "paired" else {}

    def wrapped(module: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda q, k, x: module(q, k, negatives_from(mode, x))

    pair = [
        wrapped(package.InfoNCE(temperature, reduction, **options)) for package in (theirs, ours)
    ]
    assert_same_training(pair[0], pair[1], batches(n, 3, dtype))


@pytest.mark.parametrize("mode", ["in batch", "unpaired", "paired"])
def test_function_and_defaults(mode: str) -> None:
    query, key, other = torch.randn(3, 7, 4, dtype=torch.float64)
    names: dict[str, Any] = {"query": query, "positive_key": key, "reduction": "none"}
    names["negative_keys"] = negatives_from(mode, other)
    if mode == "paired":
        names["negative_mode"] = mode
    torch.testing.assert_close(ours.info_nce(**names), theirs.info_nce(**names))


def test_rows_of_zeros() -> None:
    query, key = torch.randn(2, 3, 4, dtype=torch.float64)
    negatives = torch.randn(3, 2, 4, dtype=torch.float64)
    query[0] = key[1] = negatives[2, 0] = 0
    options = {"negative_mode": "paired"}
    expected = theirs.info_nce(query, key, negatives, **options)
    torch.testing.assert_close(ours.info_nce(query, key, negatives, **options), expected)


Z = torch.randn(4, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Z, Z[:2]), "keys must have the shape"),
        ((Z, Z, Z[None]), "negative_keys must have 2 dimensions if negative_mode is 'unpaired'"),
        ((Z, Z, Z, 0.1, "mean", "paired"), "negative_keys must have 3 dimensions"),
        ((Z, Z, Z[:2, None], 0.1, "mean", "paired"), r"negative_keys must be \[N, M, D\] with N ="),
        ((Z, Z, Z[:, None, :2], 0.1, "mean", "paired"), "and D = 3 of query"),
        ((Z, Z[:, :2], Z[:, None], 0.1, "mean", "paired"), "positive_key must have the shape"),
        ((Z, Z, Z[:, None], -0.1, "mean", "paired"), "temperature must be positive"),
        ((Z, Z, Z, 0.1, "mean", "both"), "negative_mode must be .* got 'both'"),
        ((Z, Z, None, 0.1, "max"), "reduction must be one of"),
        ((Z, Z, Z[:, None], 0.1, "max", "paired"), "reduction must be one of"),
    ],
)
def test_errors(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ours.info_nce(*arguments)
