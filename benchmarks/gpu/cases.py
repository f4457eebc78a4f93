"""The cases in which the loss is checked, their views, and their error budgets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.precision import PRECISIONS, Precision
from benchmarks.gpu.sizes import Table
from simclr_ext.testing import error_budget

LARGEST_SHARED_SCALE = 96  # kLargestSharedScale of csrc/cuda/params.h

NAMES = ("loss", "grad_z0", "grad_z1", "grad_temperature")


@dataclass(frozen=True)
class Case:
    """One pair of views [N, D] and the arguments of its loss.

    Attributes:
        backend: "fused" or "tiled".
        precision: Of the views.
        n: N.
        d: D.
        temperature: T, rounded to float32.
        normalize: Whether similarities are cosines.
        kind: "related": random views; "strided": views that are not contiguous; "zero row": the
            first row is 0; "large": too many pairs for a dense reference.
    """

    backend: str
    precision: Precision
    n: int
    d: int
    temperature: float = 0.5
    normalize: bool = True
    kind: str = "related"

    @property
    def key(self) -> str:
        """Name the case in the results."""
        words = [self.backend, self.precision.name, f"N={self.n}", f"D={self.d}"]
        words += [f"T={self.temperature:g}"]
        words += [] if self.normalize else ["dot products"]
        words += [] if self.kind == "related" else [self.kind]
        return " ".join(words)

    @property
    def eps(self) -> float:
        """The norm that shorter rows are divided by: by default the loss's own default."""
        if self.kind == "zero row":
            return 1e-3
        return torch.finfo(torch.float16).tiny if self.precision.dtype == torch.float16 else 1e-12

    @property
    def held(self) -> float:
        """The temperature as rounded to float32."""
        return torch.tensor(self.temperature, dtype=torch.float32).item()

    @property
    def configuration(self) -> str:
        """Name the kernels' configuration that the case uses."""
        width = next((c for c in (32, 64, 128, 256) if self.d <= c), "wide")
        shared = self.normalize and math.log2(math.e) / self.temperature <= LARGEST_SHARED_SCALE
        return f"{self.precision.name}, D class {width}, {'shared' if shared else 'own'} shift"

    def views(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return views as similar as those of a half-trained encoder, with rows of many norms."""
        generator = torch.Generator().manual_seed(self.n * 1000 + self.d)
        z0 = torch.randn(self.n, self.d, generator=generator)
        z1 = z0 + 0.8 * torch.randn(self.n, self.d, generator=generator)
        z0 = z0 * torch.rand(self.n, 1, generator=generator).add(0.2)
        if self.kind == "zero row":
            z0[0] = 0
        z0, z1 = (z.to(device, self.precision.dtype) for z in (z0, z1))
        if self.kind == "strided":
            z0 = z0.t().contiguous().t()
            z1 = torch.stack([z1, z1], dim=2)[:, :, 0]
        return z0, z1


def budget(
    case: Case, name: str, views: tuple[Tensor, Tensor], exact: Tensor, eager: Tensor
) -> float:
    """Return the largest allowed norm of a quantity's error: see `error_budget`.

    Args:
        case: What is computed.
        name: The quantity, of `NAMES`, "lse" or "positive".
        views: z0 and z1, [N, D].
        exact: The quantity in float64.
        eager: The same by the dense computation in float32.
    """
    precision = case.precision
    return error_budget(
        name,
        exact,
        eager,
        torch.cat(views),
        case.temperature,
        rounding=precision.result if name.startswith("grad") else precision.product,
        logit_rounding=precision.product,
        least=precision.least,
        normalize=case.normalize,
        eps=case.eps,
        single_pair=case.n == 1,
    )


def fused(
    precisions: Iterable[str],
    dims: Iterable[int],
    sizes: Iterable[int],
    temperatures: Iterable[float],
) -> Iterator[Case]:
    """Yield a case of the fused kernels for each combination: precision, T, D, N."""
    for name, temperature, d, n in itertools.product(precisions, temperatures, dims, sizes):
        yield Case("fused", PRECISIONS[name], n, d, temperature)


def of_table(table: Table, backend: str, precision: str) -> Iterator[Case]:
    """Yield the cases of a backend in a precision, quick ones first."""
    stored = PRECISIONS[precision]
    for kind in ("strided", "zero row"):
        yield Case(backend, stored, 50, 14, kind=kind)
    for temperature in table.temperatures:
        for n in (5, 101):
            yield Case(backend, stored, n, 24, temperature)
    for n, d, temperature in ((3, 12, 0.5), (90, 12, 2.0), (210, 40, 1.0)):
        yield Case(backend, stored, n, d, temperature, normalize=False)
    for d in table.dims:
        for n in table.sizes:
            yield Case(backend, stored, n, d)
    if table.large is not None:
        yield Case(backend, stored, *table.large, kind="large")
