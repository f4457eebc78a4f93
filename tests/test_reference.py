"""The reference against a plain loop over rows and columns."""

from __future__ import annotations

import math

import pytest
import torch

from simclr_ext.backends.reference import contrastive, nt_xent


def similarity(x: list[float], y: list[float], normalize: bool, eps: float) -> float:
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    return dot / max(math.hypot(*x), eps) / max(math.hypot(*y), eps) if normalize else dot


def losses_by_loop(
    rows: list[list[float]], n: int, temperature: float, normalize: bool, eps: float
) -> list[float]:
    losses = []
    for i, row in enumerate(rows):
        positive = rows[i + n] if i < n else rows[i - n]
        denominator = sum(
            math.exp(similarity(row, other, normalize, eps) / temperature)
            for j, other in enumerate(rows)
            if j != i
        )
        numerator = math.exp(similarity(row, positive, normalize, eps) / temperature)
        losses.append(-math.log(numerator / denominator))
    return losses


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 3.0])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 3), (7, 4)])
def test_against_the_loop(n: int, d: int, temperature: float, normalize: bool) -> None:
    z0, z1 = torch.randn(2, n, d, dtype=torch.float64)
    z0[0] *= 1e-3  # shorter than eps
    expected = losses_by_loop([*z0.tolist(), *z1.tolist()], n, temperature, normalize, 0.01)
    for reduction, value in (
        ("none", expected),
        ("sum", sum(expected)),
        ("mean", sum(expected) / (2 * n)),
    ):
        loss = nt_xent(z0, z1, temperature, reduction=reduction, normalize=normalize, eps=0.01)
        torch.testing.assert_close(loss, torch.tensor(value, dtype=torch.float64))


def test_half_views_are_computed_in_float32() -> None:
    z = torch.randn(4, 8).bfloat16()
    options = {"reduction": "none", "normalize": True, "eps": 1e-12}
    loss = nt_xent(z, z, 0.5, **options)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, nt_xent(z.float(), z.float(), 0.5, **options))


def loss_and_lse_by_loop(
    logits: list[list[float | None]], positives: list[set[int]]
) -> tuple[list[float], list[float]]:
    """Return loss and lse of each row of ``logits``; None marks pairs that do not count."""
    losses, lses = [], []
    for row, own in zip(logits, positives, strict=True):
        terms = [math.exp(logit) for logit in row if logit is not None]
        lse = math.log(sum(terms)) if terms else -math.inf
        mean = sum(row[j] for j in own) / len(own) if own else 0
        losses.append(lse - mean if own else 0.0)
        lses.append(lse)
    return losses, lses


X_LABEL, Y_LABEL = [4, -1, 4, 7, 4], [4, 7, 4, 9, 9, 9, 7]
COLUMNS_OF = {  # the positives of each of five rows, by hand
    "shift 0": ([0], None, [{0}, {1}, {2}, {3}, {4}]),
    "shift 1": ([1], None, [{1}, {2}, {3}, {4}, {5}]),
    "shifts beyond the ends": ([-2, 4], None, [{4}, {5}, {0, 6}, {1}, {2}]),
    "none": ([], None, [set()] * 5),
    "labels": ([], (X_LABEL, Y_LABEL), [{0, 2}, set(), {0, 2}, {1, 6}, {0, 2}]),
}


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("form", COLUMNS_OF)
def test_rows_and_columns_against_the_loop(form: str, normalize: bool) -> None:
    shifts, labels, positives = COLUMNS_OF[form]
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    x[0] *= 1e-3  # shorter than eps
    label = torch.tensor([*labels[0], *labels[1]]) if labels else None
    logits = [[similarity(a, b, normalize, 0.01) / 0.3 for b in y.tolist()] for a in x.tolist()]
    turned = [{i for i in range(5) if j in positives[i]} for j in range(7)]
    of_rows = loss_and_lse_by_loop(logits, positives)
    of_columns = loss_and_lse_by_loop(
        [list(column) for column in zip(*logits, strict=True)], turned
    )
    found = contrastive(x, y, 0.3, normalize=normalize, eps=0.01, shifts=shifts, label=label)
    for value, rows, columns in zip(found, of_rows, of_columns, strict=True):
        torch.testing.assert_close(value, torch.tensor(rows + columns, dtype=torch.float64))


@pytest.mark.parametrize(
    ("shifts", "label", "positives"),
    [
        ([2, -2], None, [{2}, {3}, {0, 4}, {1}, {2}]),
        ([4, -4], None, [{4}, set(), set(), set(), {0}]),
        ([], [4, -1, 4, 7, 4], [{2, 4}, set(), {0, 4}, set(), {0, 2}]),
    ],
    ids=["shifts", "far shifts", "labels"],
)
def test_rows_that_are_the_columns_against_the_loop(
    shifts: list[int], label: list[int] | None, positives: list[set[int]]
) -> None:
    x = torch.randn(5, 3, dtype=torch.float64)
    logits = [
        [None if i == j else similarity(a, b, True, 0.01) / 0.3 for j, b in enumerate(x.tolist())]
        for i, a in enumerate(x.tolist())
    ]
    labels = None if label is None else torch.tensor(label)
    found = contrastive(x, None, 0.3, normalize=True, eps=0.01, shifts=shifts, label=labels)
    for value, expected in zip(found, loss_and_lse_by_loop(logits, positives), strict=True):
        torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_a_row_that_meets_nobody_has_no_loss_and_no_gradient() -> None:
    x = torch.randn(1, 3, requires_grad=True)
    loss, lse = contrastive(x, None, 0.3, normalize=True, eps=0.01)
    assert (loss.item(), lse.item()) == (0, -math.inf)
    (grad,) = torch.autograd.grad(loss.sum(), x)
    assert torch.equal(grad, torch.zeros(1, 3))


@pytest.mark.parametrize("n", [1, 2, 30])
def test_nt_xent_is_one_of_its_pairings(n: int) -> None:
    z = torch.randn(2 * n, 4)
    options = {"normalize": True, "eps": 1e-12}
    expected = nt_xent(z[:n], z[n:], 0.1, reduction="none", **options)
    loss, _ = contrastive(z, None, 0.1, shifts=[n, -n], **options)
    torch.testing.assert_close(loss, expected)
    assert n > 1 or loss.tolist() == [0, 0]
