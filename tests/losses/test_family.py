"""Every loss of the family against its dense definition in float64: values and all gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import simclr_ext as ours
from simclr_ext.backends import ops
from simclr_ext.backends.tiled import schedule
from tests.losses import dense

BACKENDS = ["fused", "tiled", "reference"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a backend; tiles are small, so that these few rows make many and ragged ones."""
    monkeypatch.setattr(schedule, "_CPU_SIDE", 64)
    ops.register()
    return str(request.param)


@dataclass(frozen=True)
class Member:
    """A loss and its definition, both functions of N-row inputs and a temperature: [rows].

    Args:
        ours: Called with inputs, temperature, and the options of the loss functions.
        truth: Called with inputs and temperature.
        inputs: Which inputs it takes: rows of each.
        shape: Of one temperature; "N" if there is one for each row.
    """

    ours: Callable[..., Tensor]
    truth: Callable[..., Tensor]
    inputs: Callable[[int], list[tuple[int, ...]]] = lambda n: [(n, 7), (n, 7)]
    temperatures: str = ""


def ids(n: int, classes: int = 0) -> Tensor:
    """Return ids that are no small numbers."""
    kinds = torch.arange(n) % (classes or max(1, n // 3))
    return kinds * 2**40 - 5


def features(n: int) -> list[tuple[int, ...]]:
    return [(n, 3, 7)]


def with_queue(n: int) -> list[tuple[int, ...]]:
    return [(n, 7), (n, 7), (n + 9, 7)]


def flat(losses: Tensor) -> Tensor:
    return losses.flatten() if losses.ndim else losses


MEMBERS = {
    "nt_xent positive_ids": Member(
        lambda a, b, t, **o: ours.nt_xent_loss(a, b, t, positive_ids=ids(len(a)), **o),
        lambda a, b, t: dense.nt_xent(a, b, t, positive_ids=ids(len(a))),
    ),
    "nt_xent ignore_ids": Member(
        lambda a, b, t, **o: ours.nt_xent_loss(a, b, t, ignore_ids=ids(len(a)), **o),
        lambda a, b, t: dense.nt_xent(a, b, t, ignore_ids=ids(len(a))),
    ),
    "nt_xent both ids": Member(
        lambda a, b, t, **o: ours.nt_xent_loss(
            a, b, t, positive_ids=ids(len(a)), ignore_ids=ids(len(a), 2), **o
        ),
        lambda a, b, t: dense.nt_xent(a, b, t, ids(len(a)), ids(len(a), 2)),
    ),
    "nt_xent a temperature each": Member(ours.nt_xent_loss, dense.nt_xent, temperatures="N"),
    "nt_xent a temperature each, ignore_ids": Member(
        lambda a, b, t, **o: ours.nt_xent_loss(a, b, t, ignore_ids=ids(len(a)), **o),
        lambda a, b, t: dense.nt_xent(a, b, t, ignore_ids=ids(len(a))),
        temperatures="N",
    ),
    "info_nce": Member(ours.info_nce_loss, dense.info_nce),
    "info_nce ignore_ids": Member(
        lambda a, b, t, **o: ours.info_nce_loss(a, b, t, ignore_ids=ids(len(a)), **o),
        lambda a, b, t: dense.info_nce(a, b, t, ignore_ids=ids(len(a))),
    ),
    "info_nce symmetric": Member(
        lambda a, b, t, **o: ours.info_nce_loss(a, b, t, symmetric=True, **o),
        lambda a, b, t: torch.cat([dense.info_nce(a, b, t), dense.info_nce(b, a, t)]),
    ),
    "info_nce symmetric, a temperature each": Member(
        lambda a, b, t, **o: ours.info_nce_loss(a, b, t, symmetric=True, **o),
        lambda a, b, t: torch.cat([dense.info_nce(a, b, t), dense.info_nce(b, a, t)]),
        temperatures="N",
    ),
    "info_nce queue": Member(
        lambda a, b, q, t, **o: ours.info_nce_loss(a, b, t, negatives=q, **o),
        lambda a, b, q, t: dense.info_nce(a, b, t, q),
        with_queue,
    ),
    "info_nce symmetric queue, ignore_ids": Member(
        lambda a, b, q, t, **o: ours.info_nce_loss(
            a, b, t, negatives=q, symmetric=True, ignore_ids=ids(len(a)), **o
        ),
        lambda a, b, q, t: torch.cat(
            [
                dense.info_nce(a, b, t, q, ignore_ids=ids(len(a))),
                dense.info_nce(b, a, t, ignore_ids=ids(len(a))),
            ]
        ),
        with_queue,
    ),
    "MoCo": Member(
        lambda a, b, q, t, **o: ours.info_nce_loss(a, b, t, negatives=q, in_batch=False, **o),
        lambda a, b, q, t: dense.info_nce(a, b, t, q, in_batch=False),
        with_queue,
    ),
    "MoCo, a temperature each": Member(
        lambda a, b, q, t, **o: ours.info_nce_loss(a, b, t, negatives=q, in_batch=False, **o),
        lambda a, b, q, t: dense.info_nce(a, b, t, q, in_batch=False),
        with_queue,
        temperatures="N",
    ),
    "sup_con out": Member(
        lambda z, t, **o: flat(ours.sup_con_loss(z, ids(len(z)), t, **o)),
        lambda z, t: dense.sup_con(z, ids(len(z)), t, "out"),
        features,
    ),
    "sup_con in": Member(
        lambda z, t, **o: flat(ours.sup_con_loss(z, ids(len(z)), t, form="in", **o)),
        lambda z, t: dense.sup_con(z, ids(len(z)), t, "in"),
        features,
    ),
    "sup_con in, some alone": Member(
        lambda z, t, **o: ours.sup_con_loss(z[:, 0], ids(len(z), 5), t, form="in", **o),
        lambda z, t: dense.sup_con(z[:, :1], ids(len(z), 5), t, "in"),
        features,
    ),
    "sup_con three views": Member(
        lambda z, t, **o: flat(ours.sup_con_loss(z, None, t, **o)),
        lambda z, t: dense.sup_con(z, torch.arange(len(z)), t, "out"),
        features,
    ),
    "dcl": Member(ours.dcl_loss, lambda a, b, t: dense.dcl(a, b, t, None)),
    "dcl sigma": Member(
        lambda a, b, t, **o: ours.dcl_loss(a, b, t, sigma=0.5, **o),
        lambda a, b, t: dense.dcl(a, b, t, 0.5),
    ),
    "hcl": Member(
        lambda a, b, t, **o: ours.hcl_loss(a, b, t, beta=0.8, tau_plus=0.1, **o),
        lambda a, b, t: dense.hcl(a, b, t, 0.8, 0.1),
    ),
    "debiased": Member(
        lambda a, b, t, **o: ours.hcl_loss(a, b, t, beta=0, tau_plus=0.2, **o),
        lambda a, b, t: dense.hcl(a, b, t, 0, 0.2),
    ),
    "siglip": Member(
        lambda a, b, t, **o: ours.siglip_loss(a, b, 1 / t, -3.0, **o),
        lambda a, b, t: dense.siglip(a, b, t, -3.0),
    ),
    "siglip with more keys": Member(
        lambda a, b, q, t, **o: ours.siglip_loss(a, torch.cat([b, q]), 1 / t, 0.5, **o),
        lambda a, b, q, t: dense.siglip(a, torch.cat([b, q]), t, 0.5),
        with_queue,
    ),
    "hard": Member(
        lambda a, b, t, **o: ours.hcl_loss(a, b, t, beta=2.0, tau_plus=0.0, **o),
        lambda a, b, t: dense.hcl(a, b, t, 2.0, 0.0),
    ),
}
member = pytest.mark.parametrize("name", MEMBERS)


def inputs_of(name: str, n: int, dtype: torch.dtype) -> list[Tensor]:
    """Return rows as similar to each other as those of a half-trained encoder."""
    center = torch.randn(7)
    shapes = MEMBERS[name].inputs(n)
    rows = [center + torch.randn(shape) * torch.rand(n, *[1] * (len(shape) - 1)).add(0.3)
            if shape[0] == n else torch.randn(shape) for shape in shapes]  # fmt: skip
    return [z.to(dtype).requires_grad_() for z in rows]


def temperature_of(name: str, n: int, value: float) -> Tensor:
    if MEMBERS[name].temperatures == "N":
        return (value * (1 + torch.arange(n, dtype=torch.float64) / n)).requires_grad_()
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def value_and_grads(
    loss: Callable[..., Tensor], inputs: list[Tensor], **options: str
) -> list[Tensor]:
    rows = loss(*inputs, **options)
    weights = torch.linspace(0.5, 1.5, len(rows), dtype=torch.float64).to(rows.dtype)
    return [rows.detach(), *torch.autograd.grad(rows @ weights / len(rows), inputs)]


@member
@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("n", [2, 9, 70])
def test_values_and_gradients(n: int, temperature: float, name: str, backend: str) -> None:
    inputs = [*inputs_of(name, n, torch.float64), temperature_of(name, n, temperature)]
    expected = value_and_grads(MEMBERS[name].truth, inputs)
    found = value_and_grads(MEMBERS[name].ours, inputs, reduction="none", backend=backend)
    for value, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-9, atol=1e-11)


@member
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_less_precise_rows(dtype: torch.dtype, name: str, backend: str) -> None:
    rows, t = inputs_of(name, 40, dtype), temperature_of(name, 40, 0.1)
    exact = [z.detach().double().requires_grad_() for z in rows]
    expected = value_and_grads(MEMBERS[name].truth, [*exact, t])
    found = value_and_grads(MEMBERS[name].ours, [*rows, t], reduction="none", backend=backend)
    assert found[0].dtype == torch.float32
    for value, truth in zip(found, expected, strict=True):
        rounding = torch.finfo(value.dtype).eps if value is not found[-1] else 1e-6
        error = (value.double() - truth).norm() / truth.norm()
        assert error < max(4 * rounding, 3e-5), (error, name)


@member
def test_reductions_and_weights(name: str) -> None:
    n = 9
    rows = MEMBERS[name].ours
    inputs = [*inputs_of(name, n, torch.float64), temperature_of(name, n, 0.3)]
    losses = rows(*inputs, reduction="none")
    torch.testing.assert_close(rows(*inputs, reduction="sum"), losses.sum())
    torch.testing.assert_close(rows(*inputs), losses.mean())
    weights = torch.linspace(0, 2, n, dtype=torch.float64, requires_grad=True)
    repeats = len(losses) // n
    each = weights.repeat_interleave(repeats) if "sup_con" in name else weights.repeat(repeats)
    weighted = rows(*inputs, weights=weights)
    torch.testing.assert_close(weighted, (losses * each).sum() / each.sum())
    torch.testing.assert_close(rows(*inputs, weights=weights, reduction="none"), losses * each)
    torch.testing.assert_close(
        torch.autograd.grad(weighted, weights)[0],
        torch.autograd.grad((losses * each).sum() / each.sum(), weights)[0],
    )


@member
def test_compiles_without_graph_breaks(name: str) -> None:
    inputs = [*inputs_of(name, 9, torch.float32), temperature_of(name, 9, 0.3)]
    compiled = torch.compile(MEMBERS[name].ours, fullgraph=True, backend="aot_eager")
    expected = MEMBERS[name].ours(*inputs)
    torch.testing.assert_close(compiled(*inputs), expected)


@member
@pytest.mark.parametrize("temperature", [0.003, 100.0])
def test_extreme_temperatures_are_finite(temperature: float, name: str, backend: str) -> None:
    inputs = [*inputs_of(name, 30, torch.float32), temperature_of(name, 30, temperature)]
    found = value_and_grads(MEMBERS[name].ours, inputs, reduction="none", backend=backend)
    for value in found:
        assert value.isfinite().all()


MODULES = [
    (ours.InfoNCELoss(0.2, symmetric=True), ours.info_nce_loss, {"symmetric": True}),
    (ours.SupConLoss(0.2, form="in"), lambda a, b, t, **o: ours.sup_con_loss(
        torch.stack([a, b], 1), torch.arange(6) % 2, t, **o), {"form": "in"}),
    (ours.DCLLoss(0.2, sigma=0.7), ours.dcl_loss, {"sigma": 0.7}),
    (ours.HCLLoss(0.2, beta=0.5, tau_plus=0.2), ours.hcl_loss, {"beta": 0.5, "tau_plus": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "function", "options"), MODULES, ids=lambda value: type(value).__name__
)
def test_modules_are_the_functions(
    module: nn.Module, function: Callable[..., Tensor], options: dict[str, object]
) -> None:
    z0, z1 = torch.randn(2, 6, 4)
    args = (z0, z1)
    if isinstance(module, ours.SupConLoss):
        args = (torch.stack([z0, z1], 1), torch.arange(6) % 2)
    assert torch.equal(module(*args), function(z0, z1, 0.2, **options))
    learned = type(module)(nn.Parameter(torch.tensor([0.2])), max_scale=50)
    learned(*args).backward()
    assert learned.temperature.grad.shape == (1,)
    assert [name for name, _ in learned.named_parameters()] == ["temperature"]


def test_logit_scale_is_one_over_the_temperature() -> None:
    z0, z1 = torch.randn(2, 6, 4)
    scale = torch.tensor(5.0, requires_grad=True)
    loss = ours.info_nce_loss(z0, z1, logit_scale=scale, symmetric=True)
    assert torch.equal(loss, ours.info_nce_loss(z0, z1, logit_scale=scale.item(), symmetric=True))
    torch.testing.assert_close(loss, ours.info_nce_loss(z0, z1, 0.2, symmetric=True))
    (grad,) = torch.autograd.grad(loss, scale)
    t = torch.tensor(0.2, requires_grad=True)
    (grad_t,) = torch.autograd.grad(ours.info_nce_loss(z0, z1, t, symmetric=True), t)
    torch.testing.assert_close(grad, -grad_t / 25)


def test_with_two_views_sup_con_without_labels_is_nt_xent() -> None:
    z0, z1 = torch.randn(2, 40, 8)
    loss = ours.sup_con_loss(torch.stack([z0, z1], 1), temperature=0.2)
    torch.testing.assert_close(loss, ours.nt_xent_loss(z0, z1, 0.2))


def test_a_queue_without_gradient_gets_none() -> None:
    queries, keys, queue = torch.randn(3, 6, 4)
    queries.requires_grad_()
    ours.info_nce_loss(queries, keys, negatives=queue, in_batch=False).backward()
    assert queries.grad is not None
    assert keys.grad is None
    assert queue.grad is None


def test_ids_of_any_integers_are_told_apart_by_value() -> None:
    z0, z1 = torch.randn(2, 4, 3)
    expected = ours.nt_xent_loss(z0, z1, positive_ids=torch.tensor([0, 1, 1, 2]))
    for values in ([-5, 2**62, 2**62, 2**40], [7, 0, 0, -(2**63)]):
        found = ours.nt_xent_loss(z0, z1, positive_ids=torch.tensor(values))
        assert torch.equal(found, expected)
    for dtype in (torch.int32, torch.uint8, torch.int8):
        small = torch.tensor([9, 3, 3, 0], dtype=dtype)
        assert torch.equal(ours.nt_xent_loss(z0, z1, positive_ids=small), expected)


@pytest.mark.parametrize("negative_only", [False, True])
def test_gradients_of_scale_and_bias_of_siglip(negative_only: bool, backend: str) -> None:
    queries, keys = torch.randn(2, 30, 5, dtype=torch.float64)
    scale, bias = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (4.0, -2.0))
    options = {"negative_only": negative_only, "backend": backend, "reduction": "none"}
    rows = ours.siglip_loss(queries, keys, scale, bias, **options)
    logits = scale * dense.cosines(queries, keys) + bias
    sign = torch.full((30, 30), -1.0).double()
    if not negative_only:
        sign.fill_diagonal_(1)
    expected = torch.nn.functional.softplus(-sign * logits).sum(1)
    torch.testing.assert_close(rows, expected)
    weights = torch.rand(30, dtype=torch.float64)
    found, truth = (torch.autograd.grad(v @ weights, [scale, bias]) for v in (rows, expected))
    torch.testing.assert_close(found, truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_confident_pairs_of_siglip_keep_their_digits(dtype: torch.dtype, backend: str) -> None:
    # u = 10 for the pairs, -10 for all others: each loss is 2 log(1 + e^-10).
    z = torch.eye(2, dtype=dtype)
    rows = ours.siglip_loss(z, z, 20.0, -10.0, reduction="none", backend=backend)
    expected = torch.full((2,), 2 * math.log1p(math.exp(-10)), dtype=dtype)
    torch.testing.assert_close(rows, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_siglip_module_learns_scale_and_bias() -> None:
    queries, keys = torch.randn(2, 6, 4)
    module = ours.SigLIPLoss(5.0, -2.0)
    torch.testing.assert_close(module(queries, keys), ours.siglip_loss(queries, keys, 5.0, -2.0))
    module(queries, keys).backward()
    assert all(p.grad is not None and p.grad != 0 for p in module.parameters())


@pytest.mark.parametrize("needs", [[True] * 3, [False, True, False], [False, False, True]], ids=str)
@pytest.mark.parametrize("kind", ["", "tiled_"])
def test_opcheck_of_siglip(kind: str, needs: list[bool]) -> None:
    ops.register()
    ours_ops = torch.ops.simclr_ext
    scale, bias = (torch.tensor(value, dtype=torch.float64) for value in (3.0, -1.0))
    args = (torch.randn(5, 3), torch.randn(7, 3), scale, bias, True, 1e-6, [0])
    forward_op = getattr(ours_ops, f"sigmoid_{kind}forward")
    torch.library.opcheck(forward_op, args)
    loss, _, z, inv_norm = forward_op(*args)
    grads = (loss, z, inv_norm, 3, scale, bias, 1e-6, [0], needs)
    torch.library.opcheck(getattr(ours_ops, f"sigmoid_{kind}backward"), grads)


Z = torch.randn(4, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ours.nt_xent_loss(Z, Z, positive_ids=torch.rand(4)), TypeError,
         r"positive_ids must be a tensor of integers \[N\] = \[4\], got torch.float32"),
        (lambda: ours.nt_xent_loss(Z, Z, ignore_ids=[1, 2, 3, 4]), TypeError,
         "ignore_ids must be a tensor of integers .* got list"),
        (lambda: ours.nt_xent_loss(Z, Z, ignore_ids=torch.arange(8)), ValueError,
         r"ignore_ids must be \[N\] = \[4\], got shape \(8,\)"),
        (lambda: ours.nt_xent_loss(Z, Z, ignore_ids=torch.arange(4, device="meta")), ValueError,
         "ignore_ids must be on the device of the rows, cpu, got meta"),
        (lambda: ours.nt_xent_loss(Z, Z, weights=torch.arange(4)), TypeError,
         r"weights must be a floating tensor \[N\] = \[4\], got torch.int64"),
        (lambda: ours.nt_xent_loss(Z, Z, weights=torch.rand(8)), ValueError,
         r"weights must be \[N\] = \[4\], got shape \(8,\)"),
        (lambda: ours.nt_xent_loss(Z, Z, torch.rand(3)), ValueError,
         r"temperature must be .* \(N,\), here \(4,\), got a tensor of shape \(3,\)"),
        (lambda: ours.nt_xent_loss(Z, Z, torch.ones(4), positive_ids=torch.arange(4)), ValueError,
         "positive_ids need one temperature"),
        (lambda: ours.info_nce_loss(Z, Z[:3]), ValueError,
         r"keys must have the shape of queries, \(4, 3\), got \(3, 3\)"),
        (lambda: ours.info_nce_loss(Z, Z, negatives=Z[:, :2]), ValueError,
         r"negatives must be \[K, 3\], as wide as queries, got .* \(4, 2\)"),
        (lambda: ours.info_nce_loss(Z, Z, negatives=Z[:0]), ValueError,
         r"negatives must be \[K, D\] with K >= 1"),
        (lambda: ours.info_nce_loss(Z, Z, in_batch=False), ValueError, "in_batch=False needs neg"),
        (lambda: ours.info_nce_loss(Z, Z, negatives=Z, in_batch=False, symmetric=True), ValueError,
         "symmetric=True needs in_batch=True"),
        (lambda: ours.info_nce_loss(Z, Z, 0.1, logit_scale=torch.ones(())), ValueError,
         "temperature and logit_scale exclude each other"),
        (lambda: ours.info_nce_loss(Z, Z, logit_scale="3"), TypeError, "logit_scale must .*str"),
        (lambda: ours.info_nce_loss(Z, Z, logit_scale=Z), ValueError, "logit_scale must .*shape"),
        (lambda: ours.info_nce_loss(Z, Z, -0.1), ValueError, "temperature must be positive"),
        (lambda: ours.sup_con_loss(Z[0]), ValueError, r"features must be .* got \(3,\)"),
        (lambda: ours.sup_con_loss(Z[:, None, :0]), ValueError, "features must be"),
        (lambda: ours.sup_con_loss(Z, form="both"), ValueError, "form must be one of .*got 'both'"),
        (lambda: ours.nt_xent_loss(Z, torch.arange(3)), ValueError, r"sup_con_loss\(z0, labels\)"),
        (lambda: ours.hcl_loss(Z, Z, beta="1"), TypeError, "beta must be a number, got str"),
        (lambda: ours.SigLIPLoss("10"), TypeError, "init_logit_scale must be a number, got str"),
        (lambda: ours.info_nce_loss(Z, Z, logit_scale=-1), ValueError, "logit_scale must be pos"),
        (lambda: ours.select_backend("cpu"), TypeError, "z0 must be a torch.Tensor, got str"),
        (lambda: ours.sup_con_loss(Z), ValueError, r"two views or more if there are no labels"),
        (lambda: ours.sup_con_loss(Z[:, None]), ValueError, r"got shape \(\d+, 1, \d+\)"),
        (lambda: ours.nt_xent_loss(Z, Z, normalize="no"), TypeError, "True or False, got str"),
        (lambda: ours.nt_xent_loss(Z, Z, exchange="star"), ValueError, "exchange must be one of"),
        (lambda: ours.NTXentLoss(exchange="star"), ValueError, "exchange must be one of"),
        (lambda: ours.SigLIPLoss(exchange="star"), ValueError, "exchange must be one of"),
        (
            lambda: ours.nt_xent_loss(Z, Z, weights=torch.ones(len(Z), device="meta")),
            ValueError,
            "weights must be on the device of the rows, cpu, got meta",
        ),
        (
            lambda: ours.nt_xent_loss(Z, Z, torch.ones(len(Z), device="meta")),
            ValueError,
            "temperature must be on the device of the rows, cpu, got meta",
        ),
        (lambda: ours.sup_con_loss(Z, torch.arange(3)), ValueError, r"labels must be \[N\]"),
        (lambda: ours.dcl_loss(Z), TypeError, "z1 is missing"),
        (lambda: ours.dcl_loss(Z[:1], Z[:1]), ValueError, "N >= 2, got N = 1: no negatives"),
        (lambda: ours.dcl_loss(Z, Z, sigma=0), ValueError, "sigma must be positive and finite"),
        (lambda: ours.siglip_loss(Z, Z[:3]), ValueError, "keys must be .* K >= N = 4, got K = 3"),
        (lambda: ours.SigLIPLoss(0.0), ValueError, "init_logit_scale must be positive and finite"),
        (lambda: ours.siglip_loss(Z, Z, -1.0), ValueError, "scale must be positive and finite"),
        (lambda: ours.siglip_loss(Z, Z, 1.0, torch.tensor(math.inf)), ValueError,
         "bias must be finite, got inf"),
        (lambda: ours.siglip_loss(Z, Z, "10"), TypeError, "logit_scale must be a float .* got str"),
        (lambda: ours.siglip_loss(Z, Z, torch.ones(2)), ValueError, "logit_scale must be .* shape"),
        (lambda: ours.hcl_loss(Z, Z, beta=-1), ValueError, "beta must be at least 0"),
        (lambda: ours.hcl_loss(Z, Z, tau_plus=1), ValueError, "tau_plus must be .* below 1"),
        (lambda: ours.hcl_loss(Z[:1], Z[:1]), ValueError, "N >= 2"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[], Tensor], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
