"""The contrastive operators against the float64 reference: rectangles, labels, owned rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_ext.backends import ops
from simclr_ext.backends.reference import contrastive
from simclr_ext.backends.tiled import schedule
from tests.contrastive import (
    Case,
    backward_args,
    check,
    compare,
    forward,
    operators,
    ours,
    owned_parts,
    with_inputs,
)

SIDE = 64  # of a tile
SIZES = [
    (1, 1), (1, 9), (9, 1), (2, 3), (5, 300), (300, 5), (63, 64), (64, 65), (129, 128),
    (40, 1500), (700, 90),
]  # fmt: skip


@pytest.fixture(params=["fused", "tiled"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a backend; tiles are small, so that these few rows make many and ragged ones."""
    monkeypatch.setattr(schedule, "_CPU_SIDE", SIDE)
    ops.register()
    return str(request.param)


Form = Callable[[int, int], Case]


def rows_of(size: int, d: int = 12) -> Tensor:
    """Return rows of many lengths."""
    return torch.randn(size, d) * torch.rand(size, 1).add(0.2)


def labels_of(size: int, classes: int) -> Tensor:
    """Return labels, some of which are negative, and some of one row alone."""
    return torch.randint(-2, classes, (size,), dtype=torch.int32)


def rectangle(rows: int, columns: int, *shifts: int, **options: bool) -> Case:
    """Return rows and columns as similar as those of a half-trained encoder."""
    x, y = rows_of(rows), rows_of(columns)
    both = min(rows, columns)
    y[:both] = x[:both] + 0.8 * torch.randn(both, x.shape[1])
    return Case(x, y, shifts=shifts, **options)


def nt_xent(rows: int, columns: int) -> Case:
    z = rectangle(rows, rows)
    return Case(z.rows, None, shifts=(rows, -rows))


def labels_on_rectangle(rows: int, columns: int) -> Case:
    return replace(rectangle(rows, columns), label=labels_of(rows + columns, max(2, columns // 3)))


def one_label_each(rows: int, columns: int) -> Case:
    # The same as shift 0, by labels; 2^24 + 1 is no float.
    case = rectangle(rows, columns)
    labels = [2**24 + torch.arange(size, dtype=torch.int32) for size in (rows, columns)]
    return replace(case, label=torch.cat(labels))


def neighbors(rows: int, columns: int) -> Case:
    # Two positives of most rows, and one of those at the ends.
    return Case(rows_of(rows + 2), None, shifts=(1, -1))


def far(rows: int, columns: int) -> Case:
    # No positive of most rows.
    return Case(rows_of(rows + 1), None, shifts=(rows, -rows))


def supcon(rows: int, columns: int) -> Case:
    return Case(rows_of(rows), None, label=labels_of(rows, max(2, rows // 3)))


def of_lse(form: Form, **changes: Any) -> Form:
    """Return a form whose objective has the losses and the lse of all rows."""
    return lambda rows, columns: replace(form(rows, columns), of_lse=True, **changes)


def with_ignored(form: Form, **changes: Any) -> Form:
    """Return a form in which rows of equal numbers are left out of each other's sums."""

    def make(rows: int, columns: int) -> Case:
        case = of_lse(form, **changes)(rows, columns)
        size = len(case.rows)
        return replace(case, ignored=labels_of(size, size))

    return make


FORMS: dict[str, Form] = {
    "shift 0": lambda rows, columns: rectangle(rows, columns, 0),
    "shift 1": lambda rows, columns: rectangle(rows, columns, 1),
    "shifts -3 and 70": lambda rows, columns: rectangle(rows, columns, -3, 70),
    "rows only": lambda rows, columns: rectangle(rows, columns, 0, one_sided=True),
    "queue": lambda rows, columns: replace(
        rectangle(rows, columns, 0, one_sided=True), needs_grad=(True, False, True)
    ),
    "no positives": rectangle,
    "labels": labels_on_rectangle,
    "one label each": one_label_each,
    "NT-Xent": nt_xent,
    "neighbors": neighbors,
    "far": far,
    "SupCon": supcon,
    "lse of NT-Xent": of_lse(nt_xent),
    "lse of labels": of_lse(labels_on_rectangle),
    "lse of no positives": of_lse(rectangle),
    "NT-Xent, negatives": of_lse(nt_xent, denominator="negatives"),
    "shift 0, negatives": of_lse(
        lambda rows, columns: rectangle(rows, columns, 0), denominator="negatives"
    ),
    "SupCon, negatives": of_lse(supcon, denominator="negatives"),
    "labels, negatives": of_lse(labels_on_rectangle, denominator="negatives"),
    "NT-Xent, positives": of_lse(nt_xent, denominator="positives"),
    "SupCon, positives": of_lse(supcon, denominator="positives"),
    "labels, positives": of_lse(labels_on_rectangle, denominator="positives"),
    "NT-Xent, ignored": with_ignored(nt_xent),
    "shifts, ignored": with_ignored(lambda rows, columns: rectangle(rows, columns, -3, 1)),
    "SupCon, ignored": with_ignored(supcon),
    "labels, ignored, negatives": with_ignored(labels_on_rectangle, denominator="negatives"),
}
# Every kind of pair, once for those of shifts and once for labels.
FEW = [
    "shift 0",
    "SupCon",
    "queue",
    "lse of labels",
    "NT-Xent, ignored",
    "labels, ignored, negatives",
]
form = pytest.mark.parametrize("form", FORMS)
few_forms = pytest.mark.parametrize("form", FEW)
same_form = pytest.mark.parametrize(
    "form",
    ["NT-Xent", "neighbors", "far", "SupCon", "lse of NT-Xent", "SupCon, negatives",
     "NT-Xent, ignored"],
)  # fmt: skip


@form
@pytest.mark.parametrize(("rows", "columns"), SIZES, ids=str)
def test_sizes(rows: int, columns: int, form: str, backend: str) -> None:
    case = FORMS[form](rows, columns)
    if len(case.rows) == 1:
        pytest.skip("meets nobody; see test_a_row_that_meets_nobody")
    check(case, backend)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("classes", [1, 2, 100_000])
@pytest.mark.parametrize("rows_themselves", [False, True], ids=["rectangle", "SupCon"])
def test_few_and_many_classes(
    rows_themselves: bool, classes: int, temperature: float, backend: str
) -> None:
    case = rectangle(130, 200)
    if rows_themselves:
        case = replace(case, y=None)
    label = torch.randint(classes, (len(case.rows),), dtype=torch.int32)
    check(replace(case, temperature=temperature, label=label), backend)


@form
@pytest.mark.parametrize("temperature", [0.005, 0.0251, 1.0])
def test_temperatures(temperature: float, form: str, backend: str) -> None:
    check(replace(FORMS[form](70, 97), temperature=temperature), backend)


@few_forms
@pytest.mark.parametrize("temperature", [0.005, 0.02, 0.1, 10.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_temperatures_and_dtypes(
    dtype: torch.dtype, temperature: float, form: str, backend: str
) -> None:
    case = with_inputs(FORMS[form](70, 97), lambda z: z.to(dtype))
    check(replace(case, temperature=temperature), backend)


@form
@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0], ids=lambda scale: f"norm {scale}")
def test_dot_products(scale: float, form: str, backend: str) -> None:
    case = with_inputs(FORMS[form](70, 97), lambda z: scale * z)
    check(replace(case, normalize=False), backend)


@form
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_zero_and_short_rows(temperature: float, form: str, backend: str) -> None:
    def shorten(z: Tensor) -> Tensor:
        z = z.clone()
        z[0] = 0
        z[1] *= 1e-4 / z[1].norm()
        return z

    case = with_inputs(FORMS[form](70, 97), shorten)
    check(replace(case, temperature=temperature, eps=1e-3), backend)


@few_forms
def test_strides(form: str, backend: str) -> None:
    case = FORMS[form](70, 97)
    strided = with_inputs(case, lambda z: z.t().contiguous().t())
    for value, other in zip(
        ours(strided, backend).values(), ours(case, backend).values(), strict=True
    ):
        assert torch.equal(value, other)


@few_forms
@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=3)), ids=str)
@pytest.mark.parametrize("temperature", [0.01, 0.5], ids=["a shift each", "one shift"])
def test_what_is_not_needed_changes_nothing(
    temperature: float, needs: tuple[bool, bool, bool], form: str, backend: str
) -> None:
    case = replace(FORMS[form](70, 97), temperature=temperature, needs_grad=(True, True, True))
    whole, part = ours(case, backend), ours(replace(case, needs_grad=needs), backend)
    names = [name for name in ("grad_x", "grad_y", "grad_temperature") if name in part]
    needs_x, needs_y, needs_temperature = needs
    wanted = (needs_x or needs_temperature, needs_y and case.y is not None, needs_temperature)
    assert len(names) == sum(wanted)
    for name in names:
        torch.testing.assert_close(part[name], whole[name], rtol=1e-5, atol=1e-6)


@same_form
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_owned_parts_are_the_whole(temperature: float, form: str, backend: str) -> None:
    case = replace(FORMS[form](70, 97), temperature=temperature)
    size = len(case.x)
    found = owned_parts(case, backend, [0, 1, 25, size // 2 + 3, size])
    compare(found, case)
    assert owned_parts(case, backend, [0, size])["loss"].shape == found["loss"].shape


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("n", [1, 2, 97])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_nt_xent_is_one_of_the_pairings(
    dtype: torch.dtype, n: int, temperature: float, backend: str
) -> None:
    case = with_inputs(replace(nt_xent(n, n), temperature=temperature), lambda z: z.to(dtype))
    kind = "tiled_" if backend == "tiled" else ""
    forward_op, backward_op = (
        getattr(torch.ops.simclr_ext, f"nt_xent_{kind}{way}") for way in ("forward", "backward")
    )
    t = case.held_temperature
    expected = forward_op(case.x[:n], case.x[n:], t, True, case.eps)
    found = forward(case, backend)
    for value, other in zip(found, expected, strict=True):
        assert torch.equal(value, other)
    grads = operators(backend)[1](*backward_args(case, found))
    weights = case.weights().to(found[0].dtype)
    expected = backward_op(weights, *expected, case.x.shape[1], t, case.eps, [True] * 3)
    for value, other in zip(grads, expected, strict=True):
        assert torch.equal(value, other)


@pytest.mark.parametrize("temperature", [0.005, 0.5])
def test_a_row_without_terms(temperature: float, backend: str) -> None:
    # The first row's only columns are positive, or have its number.
    x = torch.randn(70, 3)
    numbers = torch.tensor([0, 0, *range(1, 69)], dtype=torch.int32)
    numbers[0] = 0
    everything = torch.zeros(70, dtype=torch.int32)
    for case in (
        Case(x, None, temperature, label=everything, denominator="negatives"),
        Case(x, None, temperature, ignored=everything),
        Case(x, None, temperature, label=numbers, denominator="positives"),
    ):
        loss, lse, *rest = forward(case, backend)
        _, expected = contrastive(
            x.double(), None, temperature, normalize=True, eps=1e-12, label=case.label,
            ignored=case.ignored, denominator=case.denominator,
        )  # fmt: skip
        alone = expected == -math.inf
        assert alone.sum() in (68, 70)
        assert torch.equal(lse.isinf(), alone)
        # Nothing can be multiplied by the gradient of an lse of -inf.
        weights, grad_lse = torch.zeros_like(loss), torch.ones_like(lse)
        _, _, *args = backward_args(case, (loss, lse, *rest))
        grad_z, grad_temperature = operators(backend)[1](weights, grad_lse, *args)
        assert grad_z[alone].eq(0).all()
        assert grad_z.isfinite().all()
        assert grad_temperature.isfinite()


def test_a_row_that_meets_nobody(backend: str) -> None:
    for temperature in (0.005, 0.5):
        case = Case(torch.randn(1, 3), None, temperature)
        for label in (None, torch.zeros(1, dtype=torch.int32)):
            found = ours(replace(case, label=label), backend)
            assert (found["loss"].item(), found["lse"].item()) == (0, -math.inf)
            assert torch.equal(found["grad_x"], torch.zeros(1, 3))
            assert found["grad_temperature"] == 0


@pytest.mark.parametrize("temperature", [0.005, 0.5])
def test_a_positive_that_alone_counts_has_no_loss(temperature: float, backend: str) -> None:
    one_column, one_row = (replace(rectangle(*size, 0), temperature=temperature)
                           for size in ((40, 1), (1, 40)))  # fmt: skip
    for case in (one_column, one_row, replace(rectangle(1, 1, 0), temperature=temperature)):
        found = ours(case, backend)
        alone = slice(0, 1) if len(case.y) == 1 else slice(1, 2)
        assert torch.equal(found["loss"][alone], torch.zeros(1))
    assert torch.equal(found["grad_x"], torch.zeros_like(found["grad_x"]))


@pytest.mark.parametrize("pairing", ["shift", "labels"])
@pytest.mark.parametrize("temperature", [0.04, 0.02], ids=["one shift", "a shift each"])
def test_gradients_of_confident_rows_keep_their_digits(
    temperature: float, pairing: str, backend: str
) -> None:
    # s_ij is 1 for the positives and 0.5 for all others.
    x = torch.cat([torch.eye(8), torch.ones(8, 1)], 1)
    label = torch.arange(8, dtype=torch.int32).repeat(2) if pairing == "labels" else None
    shifts = (0,) if pairing == "shift" else ()
    case = Case(x, x, temperature, shifts, label)
    # The exact results of the forward pass: those of `case` are rounded relative to 1.
    exact = Case(x.double(), x.double(), temperature, shifts, label)
    loss, lse, *_ = forward(exact, backend)
    _, _, *rows = forward(case, backend)
    saved = (loss.float(), lse, *rows)
    grad_z, _ = operators(backend)[1](*backward_args(case, saved))
    truth = torch.cat([ours(exact, backend)[name] for name in ("grad_x", "grad_y")])
    assert truth.abs().max() < 1e-4
    torch.testing.assert_close(grad_z.double(), truth, rtol=1e-4, atol=1e-4 * truth.abs().max())


def test_losses_are_not_negative(backend: str) -> None:
    x = torch.ones(60, 3)
    for label in (torch.zeros(60, dtype=torch.int32), torch.arange(60, dtype=torch.int32) // 2):
        for y in (None, x):
            for temperature in (0.005, 0.5):
                case = Case(x, y, temperature, label=label if y is None else label.repeat(2))
                assert (ours(case, backend)["loss"] >= 0).all()


def test_rows_without_a_positive_have_no_weight(backend: str) -> None:
    case = rectangle(40, 30, 0)
    for temperature in (0.005, 0.5):
        case = replace(case, temperature=temperature)
        saved = forward(case, backend)
        weights, *args = backward_args(case, saved)
        others = weights.clone()
        others[30:40] = 1e30
        for value, other in zip(
            operators(backend)[1](weights, *args),
            operators(backend)[1](others, *args),
            strict=True,
        ):
            assert torch.equal(value, other)


@few_forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype, form: str, backend: str) -> None:
    case = with_inputs(FORMS[form](5, 7), lambda z: z.to(dtype))
    options = (case.held_temperature, True, 1e-6, *case.pairing())
    torch.library.opcheck(operators(backend)[0], (case.x, case.y, *options))
    args = backward_args(case, forward(case, backend))
    torch.library.opcheck(operators(backend)[1], args)


@same_form
def test_opcheck_of_owned_rows(form: str, backend: str) -> None:
    case = FORMS[form](5, 7)
    options = (case.held_temperature, True, 1e-6, *case.pairing((1, 4)))
    torch.library.opcheck(operators(backend)[0], (case.x, None, *options))
    args = backward_args(case, forward(case, backend), (1, 4))
    torch.library.opcheck(operators(backend)[1], args)
