"""The other losses over several processes are those of one process on the union batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import simclr_ext

Run = Callable[..., list[Any]]
QUEUE = 5  # further negatives


@dataclass(frozen=True)
class Case:
    """One loss with its arguments.

    Args:
        loss: Its name.
        of_rows: Names of the arguments with one row for each image.
        scalars: Values of the arguments that all ranks share, each of which gets a gradient.
        options: Its other options.
        queue: Whether there are further negatives, the same on all ranks.
        both: Whether an image has two losses.
    """

    loss: str
    of_rows: tuple[str, ...]
    scalars: dict[str, float] = field(default_factory=lambda: {"temperature": 0.3})
    options: dict[str, Any] = field(default_factory=dict)
    queue: bool = False
    both: bool = False


VIEWS, PAIR = ("z0", "z1"), ("queries", "keys")
CASES = {
    "NT-Xent, weights": Case("nt_xent_loss", (*VIEWS, "weights"), both=True),
    "NT-Xent, ignored": Case("nt_xent_loss", (*VIEWS, "ignore_ids"), both=True),
    "NT-Xent, positives": Case("nt_xent_loss", (*VIEWS, "positive_ids", "weights"), both=True),
    "NT-Xent, both ids": Case("nt_xent_loss", (*VIEWS, "positive_ids", "ignore_ids"), both=True),
    "NT-Xent, own T": Case("nt_xent_loss", (*VIEWS, "temperature"), {}, both=True),
    "NT-Xent, own T, ignored": Case(
        "nt_xent_loss", (*VIEWS, "temperature", "ignore_ids", "weights"), {}, both=True
    ),
    "InfoNCE": Case("info_nce_loss", (*PAIR, "weights")),
    "InfoNCE, ignored": Case("info_nce_loss", (*PAIR, "ignore_ids")),
    "InfoNCE, negatives": Case("info_nce_loss", PAIR, queue=True),
    "InfoNCE, own T": Case("info_nce_loss", (*PAIR, "temperature"), {}, queue=True),
    "MoCo": Case("info_nce_loss", (*PAIR, "weights"), options={"in_batch": False}, queue=True),
    "CLIP": Case(
        "info_nce_loss",
        (*PAIR, "weights", "ignore_ids"),
        {"logit_scale": 4.0},
        {"symmetric": True},
        both=True,
    ),
    "CLIP, negatives": Case(
        "info_nce_loss", PAIR, options={"symmetric": True}, queue=True, both=True
    ),
    "CLIP, own T": Case(
        "info_nce_loss", (*PAIR, "temperature"), {}, {"symmetric": True}, both=True
    ),
    "SupCon": Case("sup_con_loss", ("features", "labels", "weights")),
    "SupCon, in": Case("sup_con_loss", ("features", "labels"), options={"form": "in"}),
    "SupCon, no labels": Case("sup_con_loss", ("features",), options={"form": "in"}),
    "DCL": Case("dcl_loss", (*VIEWS, "weights"), both=True),
    "DCLW": Case("dcl_loss", VIEWS, options={"sigma": 0.5}, both=True),
    "HCL": Case("hcl_loss", (*VIEWS, "weights"), options={"beta": 1.0, "tau_plus": 0.1}, both=True),
    "debiased": Case("hcl_loss", VIEWS, options={"beta": 0.0, "tau_plus": 0.2}, both=True),
    "SigLIP": Case("siglip_loss", (*PAIR, "weights"), {"logit_scale": 3.0, "logit_bias": -1.0}),
    "SigLIP, negatives": Case(
        "siglip_loss", PAIR, {"logit_scale": 3.0, "logit_bias": -1.0}, {"negative_only": True}
    ),
}
LABELED = {"SupCon", "SupCon, in", "SupCon, no labels", "NT-Xent, positives", "NT-Xent, both ids"}
SIZES = {1: [(4,)], 2: [(3, 4), (7, 1)], 3: [(1, 6, 2), (3, 2, 5)], 4: [(5, 1, 4, 2), (2, 3, 2, 4)]}


def inputs(case: Case, images: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the tensors of the union batch; those that are floating require gradients."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    anchor, labels = normal(images, 6), torch.randint(4, (images,), generator=generator)
    rows = {
        "features": anchor[:, None] + normal(images, 3, 6),
        "labels": labels,
        "positive_ids": labels - 2**40,
        "ignore_ids": torch.randint(5, (images,), generator=generator, dtype=torch.int16),
    }
    rows |= {name: anchor + normal(images, 6) for name in (*VIEWS, *PAIR)}
    rows |= {
        name: torch.rand(images, generator=generator).double() + 0.2
        for name in ("weights", "temperature")
    }
    found = {name: rows[name] for name in case.of_rows}
    found |= {
        name: value.to(dtype)
        for name, value in found.items()
        if name in (*VIEWS, *PAIR, "features")
    }
    if case.queue:
        found["negatives"] = normal(QUEUE, 6).to(dtype)
    for name, value in case.scalars.items():
        found[name] = torch.tensor(value, dtype=torch.float64)
    return found


def weights_of_losses(losses: Tensor, case: Case) -> Tensor:
    """Return [copies, N, ...] of the losses [copies N, ...]."""
    return losses.unflatten(0, (2, -1)) if case.both else losses[None]


def objective_of(losses: Tensor, case: Case, images: slice, reduction: str) -> Tensor:
    """Return the loss, or a weighted sum of losses."""
    if reduction != "none":
        return losses
    of_images = weights_of_losses(losses, case).double()
    weights = torch.linspace(0.5, 1.5, 100, dtype=torch.float64)[images]
    return (of_images * weights.view(1, -1, *[1] * (of_images.ndim - 2))).sum()


def compute(
    case: Case, tensors: dict[str, Tensor], images: slice, **options: Any
) -> dict[str, Tensor]:
    """Return the loss and the gradients of all floating tensors."""
    leaves = {
        name: value.detach().clone().requires_grad_(value.is_floating_point())
        for name, value in tensors.items()
    }
    function = getattr(simclr_ext, case.loss)
    losses = function(**leaves, **case.options, **options)
    objective_of(losses, case, images, options["reduction"]).backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.requires_grad}
    return {"loss": losses.detach(), **gradients}


Job = tuple[str, tuple[int, ...], str, str, str, torch.dtype]  # case, sizes, and the options


def on_a_rank(rank: int, group: Any, jobs: list[Job]) -> list[dict[str, Tensor]]:
    """Return for each job what `compute` returns for this rank's images."""
    found = []
    for name, sizes, exchange, reduction, backend, dtype in jobs:
        case = CASES[name]
        begin = sum(sizes[:rank])
        own = slice(begin, begin + sizes[rank])
        tensors = {
            key: value[own] if key in case.of_rows else value
            for key, value in inputs(case, sum(sizes), dtype).items()
        }
        options: dict[str, Any] = {"group": group, "reduction": reduction, "backend": backend}
        if case.loss != "sup_con_loss":
            options["exchange"] = exchange
        found.append(compute(case, tensors, own, **options))
    return found


def check(job: Job, found: list[dict[str, Tensor]], tolerance: float) -> None:
    """Fail unless losses and averaged gradients are those of one process, in float64."""
    name, sizes, _, reduction, _, dtype = job
    case, ranks = CASES[name], len(sizes)
    tensors = {
        key: value.double() if value.is_floating_point() else value
        for key, value in inputs(case, sum(sizes), dtype).items()
    }
    everything = slice(0, sum(sizes))
    truth = compute(case, tensors, everything, reduction=reduction, backend="reference")
    # Of the sum over all rows there is one on each rank; of the losses of rows, one in all.
    times = 1 if reduction == "none" else ranks
    if reduction == "none":
        parts = [weights_of_losses(results["loss"], case) for results in found]
        assert_close(torch.cat(parts, 1), weights_of_losses(truth["loss"], case), tolerance)
    for results in found if reduction != "none" else []:
        assert torch.equal(results["loss"], found[0]["loss"])
        assert_close(results["loss"], truth["loss"], tolerance)
    for key in truth.keys() - {"loss"}:
        gradients = [results[key].double() for results in found]
        if key in case.of_rows:
            assert_close(torch.cat(gradients) / times, truth[key], tolerance)
        elif key == "negatives":
            assert_close(sum(gradients, torch.zeros(())) / times, truth[key], tolerance)
        else:
            for gradient in gradients:
                assert_close(gradient * ranks / times, truth[key], tolerance)


def assert_close(value: Tensor, truth: Tensor, tolerance: float) -> None:
    size = tolerance * truth.abs().max().item()
    torch.testing.assert_close(value.double(), truth, rtol=tolerance, atol=size)


def jobs_of(ranks: int) -> list[Job]:
    return [
        (name, sizes, exchange, reduction, backend, torch.float64)
        for name in CASES
        for sizes in SIZES[ranks]
        for exchange in (["gather"] if name in LABELED else ["gather", "ring"])
        for reduction in ("mean", "sum", "none")
        for backend in ("fused", "tiled")
        # Of one image, a temperature [1] is one for all.
        if not ("own T" in name and 1 in sizes)
    ]


@pytest.mark.parametrize("ranks", SIZES)
def test_values_and_gradients_in_float64(ranks: int, run: Run) -> None:
    jobs = jobs_of(ranks)
    everything = run(on_a_rank, ranks, jobs)
    for results in everything:
        assert not isinstance(results, Exception), results
    for index, job in enumerate(jobs):
        check(job, [of_rank[index] for of_rank in everything], 1e-10)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-4), (torch.bfloat16, 0.03), (torch.float16, 0.03)],
)
def test_less_precise_rows(dtype: torch.dtype, tolerance: float, run: Run) -> None:
    jobs: list[Job] = [
        (name, (40, 33), "gather" if name in LABELED else "ring", "mean", "fused", dtype)
        for name in CASES
    ]
    everything = run(on_a_rank, 2, jobs)
    for results in everything:
        assert not isinstance(results, Exception), results
    for index, job in enumerate(jobs):
        check(job, [of_rank[index] for of_rank in everything], tolerance)
