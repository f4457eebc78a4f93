"""SupContrast's loss, written down from the paper and its factor, and the adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_ext.compat.supcontrast import SupConLoss
from tests.compat_losses.helpers import assert_same_training, batches, dtypes, unit

CLASSES = torch.tensor([4, 4, 4, 9, 9, 1, 0, 2, 2])


def dense(
    features: Tensor, ids: Tensor, temperature: float, base: float, first_view_alone: bool
) -> Tensor:
    """Return the mean over the anchors, view by view, of T / T_base times equation 2."""
    n, views = features.shape[:2]
    rows = features.transpose(0, 1).flatten(0, 1)
    logits = rows @ rows.mT / temperature
    label = ids.repeat(views)
    own = torch.eye(len(rows), dtype=torch.bool)
    positive = (label[:, None] == label) & ~own
    lse = logits.masked_fill(own, -torch.inf).logsumexp(1)
    means = ((lse[:, None] - logits) * positive).sum(1) / positive.sum(1).clamp(min=1)
    return temperature / base * (means[:n] if first_view_alone else means).mean()


@dtypes
@pytest.mark.parametrize("mode", ["all", "one"])
@pytest.mark.parametrize(
    ("how", "views"),
    [("views", 2), ("views", 3), ("labels", 1), ("labels", 2), ("mask", 1), ("mask", 3)],
)
@pytest.mark.parametrize(("temperature", "base"), [(0.1, 0.07), (0.5, 1.0)])
def test_same_training(
    temperature: float, base: float, how: str, views: int, mode: Any, dtype: torch.dtype
) -> None:
    ids = torch.arange(9) if how == "views" else CLASSES
    given: dict[str, Tensor] = {
        "views": {},
        "labels": {"labels": CLASSES[:, None]},
        "mask": {"mask": (CLASSES[:, None] == CLASSES).float()},
    }[how]  # type: ignore[assignment]
    criterion = SupConLoss(temperature, mode, base)

    def wrapped(loss: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        return lambda *z: loss(unit(torch.stack(z, 1)))

    theirs = wrapped(lambda z: dense(z, ids, temperature, base, mode == "one"))
    assert_same_training(theirs, wrapped(lambda z: criterion(z, **given)), batches(9, views, dtype))


def test_rows_without_positives() -> None:
    features = torch.randn(5, 1, 4, requires_grad=True)
    loss = SupConLoss()(features)
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert not features.grad.any()


def test_defaults_and_features_as_they_are() -> None:
    features = torch.randn(9, 2, 2, 3, dtype=torch.float64)
    expected = dense(features.flatten(2), CLASSES, 0.07, 0.07, False)
    torch.testing.assert_close(SupConLoss()(features, CLASSES), expected)
    torch.testing.assert_close(SupConLoss()(features.transpose(2, 3).mT, CLASSES), expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float64])
def test_masks_of_any_dtype(dtype: torch.dtype) -> None:
    features = unit(torch.randn(9, 2, 4))
    mask = (CLASSES[:, None] == CLASSES).to(dtype)
    assert torch.equal(SupConLoss()(features, mask=mask), SupConLoss()(features, CLASSES))


@pytest.mark.parametrize(
    "mask",
    [
        [[0, 0, 0], [0, 1, 0], [0, 0, 1]],  # not of its own class
        [[1, 1, 0], [0, 1, 0], [0, 0, 1]],  # one-sided
        [[1, 1, 0], [1, 1, 1], [0, 1, 1]],  # 0 like 1 like 2, and 0 not like 2
        [[2, 0, 0], [0, 2, 0], [0, 0, 2]],  # weights
        [[0.5, 0, 0], [0, 1, 0], [0, 0, 1]],
    ],
)
def test_other_masks_are_refused(mask: list[list[float]]) -> None:
    with pytest.raises(NotImplementedError, match="mask must be that of labels"):
        SupConLoss()(torch.randn(3, 2, 4), mask=torch.tensor(mask))


def test_errors() -> None:
    features, labels = torch.randn(3, 2, 4), torch.arange(3)
    with pytest.raises(ValueError, match=r"features must be \[N, V, ...\]"):
        SupConLoss()(features[:, 0])
    with pytest.raises(ValueError, match="exclude each other"):
        SupConLoss()(features, labels, torch.eye(3))
    with pytest.raises(ValueError, match=r"mask must be \[N, N\] = \[3, 3\]"):
        SupConLoss()(features, mask=torch.eye(2))
    with pytest.raises(ValueError, match=r"labels must be \[N\]"):
        SupConLoss()(features, labels[:2])
    with pytest.raises(ValueError, match="contrast_mode must be 'all' or 'one', got 'two'"):
        SupConLoss(contrast_mode="two")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="base_temperature must be positive"):
        SupConLoss(base_temperature=0)
