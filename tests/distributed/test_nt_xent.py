"""The loss over several processes is that of one process on the union of their batches."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from simclr_ext import NTXentLoss, dcl_loss, info_nce_loss, nt_xent_loss, siglip_loss
from tests.distributed.processes import Processes

Run = Callable[..., list[Any]]
EXCHANGES = ["gather", "ring"]


@dataclass(frozen=True)
class Job:
    """One case, on all ranks.

    Args:
        sizes: N of each rank.
        exchange: How the ranks' rows meet.
        temperature: T.
        reduction: As the loss takes it.
        normalize: As the loss takes it.
        dtype: Of the views.
        backend: As the loss takes it.
    """

    sizes: tuple[int, ...]
    exchange: str = "gather"
    temperature: float = 0.3
    reduction: str = "mean"
    normalize: bool = True
    dtype: torch.dtype = torch.float64
    backend: str = "fused"

    def views(self) -> tuple[Tensor, Tensor]:
        """Return the views of the union batch, the same on every rank."""
        generator = torch.Generator().manual_seed(0)
        z0 = torch.randn(sum(self.sizes), 6, generator=generator, dtype=torch.float64)
        z1 = z0 + torch.randn(z0.shape, generator=generator, dtype=torch.float64)
        return z0.to(self.dtype), z1.to(self.dtype)

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of the loss."""
        return {"reduction": self.reduction, "normalize": self.normalize, "backend": self.backend}


def weights_of(job: Job) -> Tensor:
    """Return weights of the losses of all rows, [2, N of all ranks]."""
    return torch.linspace(0.5, 1.5, 2 * sum(job.sizes), dtype=torch.float64).view(2, -1)


def on_a_rank(rank: int, group: Any, jobs: list[Job]) -> list[dict[str, Tensor]]:
    """Return for each job the loss of this rank and the gradients of its inputs."""
    found = []
    for job in jobs:
        begin = sum(job.sizes[:rank])
        own = slice(begin, begin + job.sizes[rank])
        z0, z1 = (z[own].clone().requires_grad_() for z in job.views())
        t = torch.tensor(job.temperature, dtype=torch.float64, requires_grad=True)
        loss = nt_xent_loss(z0, z1, t, group=group, exchange=job.exchange, **job.options())
        objective = loss
        if job.reduction == "none":
            objective = loss.double() @ weights_of(job)[:, own].flatten()
        objective.backward()
        found.append({"loss": loss.detach(), "z0": z0.grad, "z1": z1.grad, "t": t.grad})
    return found


def in_one_process(job: Job) -> dict[str, Tensor]:
    """Return the same of the union batch, by the reference in float64."""
    z0, z1 = (z.double().requires_grad_() for z in job.views())
    t = torch.tensor(job.temperature, dtype=torch.float64, requires_grad=True)
    loss = nt_xent_loss(z0, z1, t, **{**job.options(), "backend": "reference"})
    objective = loss
    if job.reduction == "none":
        objective = loss @ weights_of(job).flatten()
    objective.backward()
    return {"loss": loss.detach(), "z0": z0.grad, "z1": z1.grad, "t": t.grad}


def check(job: Job, found: list[dict[str, Tensor]], tolerance: float) -> None:
    """Fail unless losses and averaged gradients are those of one process."""
    truth, ranks = in_one_process(job), len(job.sizes)
    # DDP divides by the number of ranks. Of the sum over all rows there is one, shared by all.
    times = 1 if job.reduction == "none" else ranks
    for name in ("z0", "z1"):
        gradient = torch.cat([results[name] for results in found]).double() / times
        assert_close(gradient, truth[name], tolerance)
    if job.reduction == "none":
        both = [results["loss"].view(2, -1) for results in found]
        assert_close(torch.cat(both, 1).double(), truth["loss"].view(2, -1), tolerance)
        mean = sum(results["t"] for results in found) / ranks
        assert_close(mean * ranks, truth["t"], tolerance)
        return
    for results in found:
        assert torch.equal(results["loss"], found[0]["loss"])
        assert_close(results["loss"].double(), truth["loss"], tolerance)
        assert_close(results["t"], truth["t"], tolerance)


def assert_close(value: Tensor, truth: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(value, truth, rtol=tolerance, atol=tolerance * truth.abs().max())


SIZES = {
    1: [(5,)],
    2: [(4, 4), (7, 1)],
    3: [(4, 4, 4), (1, 9, 2)],
    4: [(3, 3, 3, 3), (5, 1, 4, 2), (1, 1, 1, 1)],
}


@pytest.mark.parametrize("ranks", SIZES)
def test_values_and_gradients_in_float64(ranks: int, run: Run) -> None:
    jobs = [
        Job(sizes, exchange, temperature, reduction, normalize, backend=backend)
        for sizes in SIZES[ranks]
        for exchange in EXCHANGES
        for temperature, normalize in ((0.3, True), (0.01, True), (2.0, False))
        for reduction in ("mean", "sum", "none")
        for backend in ("fused", "tiled")
    ]
    everything = run(on_a_rank, ranks, jobs)
    for index, job in enumerate(jobs):
        check(job, [of_rank[index] for of_rank in everything], 1e-10)


def test_less_precise_views_and_many_tiles(run: Run) -> None:
    jobs = [
        Job((150, 201), exchange, dtype=dtype)
        for exchange in EXCHANGES
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    ]
    everything = run(on_a_rank, 2, jobs)
    for index, job in enumerate(jobs):
        tolerance = 1e-4 if job.dtype == torch.float32 else 0.02
        check(job, [of_rank[index] for of_rank in everything], tolerance)


def twice(rank: int, group: Any, job: Job) -> bool:
    first, second = on_a_rank(rank, group, [job, job])
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_same_bits_from_run_to_run(exchange: str, run: Run) -> None:
    assert all(run(twice, 3, Job((40, 50, 33), exchange, dtype=torch.float32)))


class Model(nn.Module):
    """An encoder and a learned temperature."""

    def __init__(self, group: Any = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Linear(5, 4, dtype=torch.float64)
        self.criterion = NTXentLoss(
            nn.Parameter(torch.tensor(0.4, dtype=torch.float64)), group=group
        )

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        loss: Tensor = self.criterion(self.encoder(x0), self.encoder(x1))
        return loss


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x0, x1 = torch.randn(2, 9, 5, generator=generator, dtype=torch.float64)
    return x0, x1


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def with_ddp(rank: int, group: Any) -> list[Tensor]:
    model = nn.parallel.DistributedDataParallel(Model(group), process_group=group)
    own = slice(0, 4) if rank == 0 else slice(4, 9)
    with model.no_sync():  # accumulated, and averaged with the second
        model(*(x[own] for x in images())).backward()
    model(*(x[own] for x in images())).backward()
    return gradients(model)


def test_averaged_by_ddp_gradients_are_those_of_one_process(run: Run) -> None:
    model = Model()
    for _ in range(2):
        model(*images()).backward()
    for found in run(with_ddp, 2):
        for gradient, truth in zip(found, gradients(model), strict=True):
            assert_close(gradient, truth, 1e-10)


def by_lightlys_argument(rank: int, group: Any) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(rank))
    return NTXentLoss(gather_distributed=True)(z[0], z[1]), nt_xent_loss(z[0], z[1], group=group)


def test_gather_distributed_is_the_group_of_all_processes(run: Run) -> None:
    for value, expected in run(by_lightlys_argument, 4):
        assert torch.equal(value, expected)


def of_a_subgroup(rank: int, group: Any) -> Tensor | None:
    pair = dist.new_group([0, 2])  # called by all ranks, or their later groups do not match
    if rank not in (0, 2):
        return None
    z = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    return nt_xent_loss(z[0], z[1], group=pair)


def test_subgroups_and_meshes(run: Run) -> None:
    found = run(of_a_subgroup, 4)
    z = [
        torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
        for rank in (0, 2)
    ]
    expected = nt_xent_loss(*(torch.cat([a, b]) for a, b in zip(*z, strict=True)))
    assert found[1] is found[3] is None
    for value in (found[0], found[2]):
        torch.testing.assert_close(value, expected)


def on_a_mesh(rank: int, group: Any) -> list[Tensor]:
    from torch.distributed.device_mesh import init_device_mesh

    z = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(rank))
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("copy", "shard"))
    return [
        nt_xent_loss(z[0], z[1], group=mesh["shard"]),
        nt_xent_loss(z[0], z[1], group=(mesh, 1)),
        nt_xent_loss(z[0], z[1], group=mesh.get_group("shard")),
    ]


def test_a_mesh_and_a_dimension_of_a_mesh_are_groups(run: Run) -> None:
    for by_mesh, by_dimension, by_group in run(on_a_mesh, 4):
        assert torch.equal(by_mesh, by_group)
        assert torch.equal(by_dimension, by_group)


def with_an_error(rank: int, group: Any, case: str) -> None:
    z = torch.randn(2, 4, 3)
    options: dict[str, Any] = {"group": group}
    if rank == 1:
        changes: dict[str, dict[str, Any]] = {
            "loss": {},
            "D": {},
            "shape": {},
            "temperature": {"temperature": 0.7},
            "reduction": {"reduction": "sum"},
            "exchange": {"exchange": "ring"},
            "wrong temperature": {"temperature": -1.0},
            "dtype": {},
            "ids": {"positive_ids": torch.arange(4)},
            "ids of a ring": {"positive_ids": torch.arange(4), "exchange": "ring"},
            "no ids": {"ignore_ids": torch.randn(4)},
            "own temperatures": {"temperature": torch.full((4,), 0.5)},
            "gradient": {},
        }
        options |= changes[case]
    z0, z1 = z
    if rank == 1 and case == "D":
        z0, z1 = z0[:, :2], z1[:, :2]
    if rank == 1 and case == "shape":
        z1 = z1[:3]
    if rank == 1 and case == "dtype":
        z0, z1 = z0.double(), z1.double()
    if rank == 1 and case == "gradient":
        z0.requires_grad_()
    if rank == 1 and case == "loss":
        info_nce_loss(z0, z1, 0.5, group=group)
    nt_xent_loss(z0, z1, **options)


@pytest.mark.parametrize(
    ("case", "own", "others"),
    [
        ("D", "D must be the same on all ranks, got 3, 2", None),
        ("temperature", "temperature must be the same on all ranks, got 0.5, 0.7", None),
        ("reduction", "reduction must be the same on all ranks", None),
        ("exchange", "exchange must be the same on all ranks", None),
        ("dtype", "dtype must be the same on all ranks, got torch.float32, torch.float64", None),
        ("loss", "loss must be the same on all ranks, got nt_xent_loss, info_nce_loss", None),
        ("ids", "positive_ids given must be the same on all ranks, got 0, 1", None),
        ("ids of a ring", "exchange must be 'gather' with positive_ids", "rank 1: exchange must"),
        ("no ids", "ignore_ids must be a tensor of integers", "rank 1: ignore_ids must be a"),
        ("own temperatures", "a temperature for each row must be the same on all ranks", None),
        ("gradient", "requires_grad of the rows must be the same on all ranks, got 0, 1", None),
        ("shape", "z1 must have the shape of z0", "rank 1: z1 must have the shape of z0"),
        ("wrong temperature", "temperature must be positive", "rank 1: temperature must be pos"),
    ],
)
def test_an_error_reaches_every_rank(case: str, own: str, others: str | None, run: Run) -> None:
    first, second = run(with_an_error, 2, case)
    assert isinstance(first, ValueError)
    assert isinstance(second, TypeError if case == "no ids" else ValueError)
    assert own in str(second)
    assert (others or own) in str(first)
    assert others is not None or str(first) == str(second)


def with_too_few_rows(rank: int, group: Any) -> None:
    dcl_loss(torch.randn(1, 3), torch.randn(1, 3), group=group)


def test_rows_that_are_too_few_in_all(run: Run) -> None:
    (error,) = run(with_too_few_rows, 1)
    assert "the ranks must have at least 4 rows in all, got 2" in str(error)


TWICE: dict[str, Callable[..., Tensor]] = {
    "NT-Xent": nt_xent_loss,
    "InfoNCE": info_nce_loss,
    "SigLIP": lambda x, y, t, **options: siglip_loss(x, y, 3.0, t, **options),
    "SigLIP, scale": lambda x, y, t, **options: siglip_loss(x, y, t, -1.0, **options),
}


def differentiated_twice(rank: int, group: Any, loss: str, which: int) -> None:
    tensors = [torch.randn(4, 3), torch.randn(4, 3), torch.tensor(0.3)]
    x = tensors[which].requires_grad_()
    value = TWICE[loss](*tensors, group=group)
    (grad,) = torch.autograd.grad(value, x, create_graph=True)
    torch.autograd.grad(value + grad.pow(2).sum(), x)


@pytest.mark.parametrize("loss", TWICE)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["first", "second", "scalar"])
def test_second_derivatives_are_refused(which: int, loss: str, run: Run) -> None:
    for error in run(differentiated_twice, 2, loss, which):
        assert isinstance(error, NotImplementedError)
        assert "differentiable once" in str(error)


def until_a_rank_dies(rank: int, group: Any) -> Tensor:
    z = torch.randn(2, 4, 3)
    loss = nt_xent_loss(z[0], z[1], group=group)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(3):
        loss = loss + nt_xent_loss(z[0], z[1], group=group)
    return loss


def test_a_rank_that_dies_ends_the_others_with_an_error(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    try:
        first, dead, third = processes.run(until_a_rank_dies, 3)
    finally:
        processes.close()
    assert isinstance(dead, EOFError)
    assert isinstance(first, RuntimeError)
    assert isinstance(third, RuntimeError)


def test_a_group_needs_process_groups() -> None:
    z = torch.randn(2, 4, 3)
    with pytest.raises(ValueError, match=r"group must be None without .*init_process_group"):
        nt_xent_loss(z[0], z[1], group="world")
