"""The contrastive operators of the CPU against a dense computation in float64.

Rectangles, queues, labels and a rank's share of the rows; the budget is that of tests/accuracy.py.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext import ops

EVERYTHING = [True, True, True]


@pytest.fixture(autouse=True)
def _registered() -> None:
    ops.register()


def dense(
    x: Tensor,
    y: Tensor | None,
    temperature: Tensor,
    normalize: bool,
    shifts: list[int],
    labels: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor]:
    """Return loss and lse of the rows and, where there are such, of the columns."""
    rows = F.normalize(x, dim=1) if normalize else x
    columns = rows if y is None else F.normalize(y, dim=1) if normalize else y
    logits = rows @ columns.T / temperature
    i, j = (torch.arange(size) for size in logits.shape)
    counts = i[:, None] != j if y is None else torch.ones_like(logits, dtype=torch.bool)
    positive = torch.zeros_like(counts)
    for shift in shifts:
        positive |= j == i[:, None] + shift
    if labels[0] is not None:
        positive = labels[0][:, None] == (labels[0] if labels[1] is None else labels[1])
    positive = positive & counts
    sides = [(logits, counts, positive)]
    if y is not None:
        sides.append((logits.T, counts.T, positive.T))
    losses, lses = [], []
    for values, counted, positives in sides:
        lse = values.masked_fill(~counted, -torch.inf).logsumexp(1)
        number = positives.sum(1)
        mean = (values * positives).sum(1) / number.clamp_min(1)
        losses.append(torch.where(number > 0, lse - mean, 0.0))
        lses.append(lse)
    return torch.cat(losses), torch.cat(lses)


def check(
    rows: int,
    columns: int | None,
    dtype: torch.dtype,
    temperature: float = 0.3,
    normalize: bool = True,
    shifts: tuple[int, ...] = (),
    classes: int = 0,
    owned: tuple[int, ...] = (),
) -> None:
    """Fail if a loss or gradient is further from float64 than roundings of its terms explain."""
    x, y = (None if n is None else torch.randn(n, 9).to(dtype) for n in (rows, columns))
    assert x is not None
    labels = [
        torch.randint(classes, (n,), dtype=torch.int32) if classes and n is not None else None
        for n in (rows, columns)
    ]
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    inputs = [z.double().requires_grad_() for z in (x, y) if z is not None]
    exact, exact_lse = dense(
        inputs[0], None if y is None else inputs[1], t, normalize, list(shifts), (*labels,)
    )
    weights = torch.linspace(0.5, 1.5, len(exact), dtype=torch.float64) / len(exact)
    grads = torch.autograd.grad(exact @ weights, [*inputs, t])

    forward, backward = (
        torch.ops.simclr_ext.contrastive_forward,
        torch.ops.simclr_ext.contrastive_backward,
    )
    pairing = (list(shifts), *labels)
    whole = forward(x, y, t.detach(), normalize, 1e-12, *pairing, [])
    loss, lse, *_ = forward(x, y, t.detach(), normalize, 1e-12, *pairing, list(owned))
    args = (weights.to(dtype), *whole, 9, rows, t.detach(), *pairing, list(owned))
    grad_z, grad_t = backward(*args, EVERYTHING)

    part = slice(*owned) if owned else slice(None)
    square = 1.0 if normalize else max(z.norm(dim=1).max().item() for z in (x, *inputs)) ** 2
    rounding = 16 * torch.finfo(dtype).eps * square / temperature
    torch.testing.assert_close(loss.double(), exact[part].detach(), rtol=1e-6, atol=rounding)
    torch.testing.assert_close(lse, exact_lse[part].detach(), rtol=1e-6, atol=rounding)
    true_z = torch.cat(grads[:-1])[part]
    length = max(1 / min(z.norm(dim=1).min().item() for z in inputs), square)
    bound = rounding * (true_z.norm() + length / temperature / len(exact) ** 0.5)
    assert (grad_z.double() - true_z).norm() <= bound
    if not owned:
        assert (grad_t - grads[-1]).abs() <= rounding * square / temperature**2
    for needs in ([True, False, False], [False, True, False], [False, False, True], [False] * 3):
        first, last = (0 if needs[0] or needs[2] else rows), rows + (columns or 0)
        last = last if needs[1] else rows
        if y is None:
            first, last = 0, len(grad_z) if needs[0] or needs[2] else 0
        assert torch.equal(backward(*args, needs)[0], grad_z[first:last])


dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


@dtypes
@pytest.mark.parametrize(
    ("rows", "columns"),
    [(1, 1), (1, 5), (7, 3), (64, 128), (100, 300), (300, 100), (130, 131), (40, 1500), (1300, 90)],
)
@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_rectangles(rows: int, columns: int, temperature: float, dtype: torch.dtype) -> None:
    check(rows, columns, dtype, temperature, shifts=(0,))


@dtypes
@pytest.mark.parametrize(("rows", "columns"), [(5, 9), (50, 700), (200, 130)])
def test_queues_two_shifts_and_dot_products(rows: int, columns: int, dtype: torch.dtype) -> None:
    check(rows, columns, dtype)
    check(rows, columns, dtype, shifts=(3, -2))
    check(rows, columns, dtype, 4.0, normalize=False, shifts=(0,))


@dtypes
@pytest.mark.parametrize("classes", [1, 4, 40, 100_000])
@pytest.mark.parametrize("temperature", [0.01, 0.3])
@pytest.mark.parametrize(("rows", "columns"), [(2, None), (129, None), (700, None), (200, 130)])
def test_labels(
    rows: int, columns: int | None, temperature: float, classes: int, dtype: torch.dtype
) -> None:
    check(rows, columns, dtype, temperature, classes=classes)


@dtypes
@pytest.mark.parametrize("n", [2, 60, 600])
@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_a_share_of_the_rows(n: int, temperature: float, dtype: torch.dtype) -> None:
    check(2 * n, None, dtype, temperature, shifts=(n, -n), owned=(n // 2, n + 1))
    check(2 * n, None, dtype, temperature, classes=5, owned=(1, 2 * n - 1))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("n", [1, 60, 700])
def test_nt_xent_is_a_case(n: int, normalize: bool) -> None:
    z0, z1 = torch.randn(2, n, 9)
    t = torch.tensor(0.3, dtype=torch.float64)
    expected = torch.ops.simclr_ext.nt_xent_forward(z0, z1, t, normalize, 1e-12)
    z = torch.cat([z0, z1])
    options = (t, normalize, 1e-12, [n, -n], None, None, [])
    for value, other in zip(
        torch.ops.simclr_ext.contrastive_forward(z, None, *options), expected, strict=True
    ):
        assert torch.equal(value, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": torch.ones(4, 2)}, r"y must be \[C, 3\]"),
        ({"y": torch.ones(4, 3).double()}, "y must have the dtype of x"),
        ({"shifts": [1, 2, 3]}, "shifts must be at most 2"),
        ({"y": None, "shifts": [1]}, r"shifts must be \[\] or \[k, -k\]"),
        ({"y": None, "shifts": [6, -6]}, r"0 < k < 6"),
        ({"owned": [0, 2]}, r"owned must be \[\] where y is given"),
        ({"y": None, "owned": [2, 2]}, "0 <= begin < end <= 6"),
        ({"y": None, "owned": [2, 7]}, "0 <= begin < end <= 6"),
        ({"x_label": torch.ones(6)}, "x_label must be int32|y_label must be given"),
        ({"x_label": torch.ones(6, dtype=torch.int32)}, "y_label must be given with y"),
        ({"y_label": torch.ones(4, dtype=torch.int32)}, "y_label needs x_label"),
    ],
)
def test_bad_input(changes: dict[str, object], message: str) -> None:
    inputs = {"x": torch.ones(6, 3), "y": torch.ones(4, 3), "normalize": True, "eps": 1e-12}
    inputs |= {"temperature": torch.tensor(0.5, dtype=torch.float64), "shifts": []}
    inputs |= {"x_label": None, "y_label": None, "owned": []}
    with pytest.raises((ValueError, TypeError), match=message):
        torch.ops.simclr_ext.contrastive_forward(**(inputs | changes))
