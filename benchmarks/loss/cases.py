"""What is measured: shapes, precisions and threads, and the plans that list them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from simclr_ext.bench.machine import PASSES, Pass
from simclr_ext.bench.measure import forward, forward_backward

PASS_CALLS: dict[Pass, Callable[..., None]] = dict(
    zip(PASSES, (forward, forward_backward), strict=True)
)


@dataclass(frozen=True)
class Case:
    """One shape, and how it is computed.

    Attributes:
        n: N, pairs of the batch.
        d: D, size of an embedding.
        dtype: Dtype of the views, its name in torch.
        threads: CPU threads of torch.
        temperature: T.
        what: The passes that are timed.
        memory: Whether the memory of each implementation is measured too.
    """

    n: int
    d: int = 128
    dtype: str = "float32"
    threads: int = 2
    temperature: float = 0.5
    what: tuple[Pass, ...] = ("forward + backward",)
    memory: bool = False


@dataclass(frozen=True)
class Plan:
    """Which cases are run, and for how long.

    Attributes:
        name: For people.
        sizes: N of the main series, D = 128.
        memory_from: The smallest N at which memory is measured too.
        memory_beside: Whether it is in the series over D, dtype and temperature as well.
        both: N of that series whose forward pass is timed alone as well.
        dims: D of a series at N = `side`, and at N = `small`.
        side: N of the series over D, dtype, temperature and threads.
        small: A smaller N for D.
        dtypes: Further dtypes.
        temperatures: Further temperatures.
        single: N that are timed with one thread too.
        seconds: About how long the rounds of one case take; three rounds at least.
        longest: Seconds; an implementation that would take longer for one call is skipped.
    """

    name: str
    sizes: tuple[int, ...]
    memory_from: int
    memory_beside: bool
    both: tuple[int, ...]
    dims: tuple[int, ...]
    side: int
    small: tuple[int, ...]
    dtypes: tuple[str, ...]
    temperatures: tuple[float, ...]
    single: tuple[int, ...]
    seconds: float
    longest: float

    def cases(self, threads: int) -> Iterator[Case]:
        """Yield the cases for a number of threads, small ones first within each series."""
        for n in self.sizes:
            what = PASSES if n in self.both else PASSES[1:]
            yield Case(n, threads=threads, what=what, memory=n >= self.memory_from)
        for n in (*self.small, self.side):
            for d in self.dims:
                yield Case(n, d, threads=threads, memory=self._memory_beside(n))
        side = Case(self.side, threads=threads, memory=self._memory_beside(self.side))
        for dtype in self.dtypes:
            yield replace(side, dtype=dtype)
        for temperature in self.temperatures:
            yield replace(side, temperature=temperature)
        if threads > 1:
            for n in self.single:
                yield Case(n, threads=1)

    def _memory_beside(self, n: int) -> bool:
        return self.memory_beside and n >= self.memory_from


QUICK = Plan(
    "quick",
    sizes=(16, 32, 64, 128, 256, 1024, 4096, 8192),
    memory_from=1024,
    memory_beside=False,
    both=(1024,),
    dims=(32, 512, 2048),
    side=1024,
    small=(),
    dtypes=("bfloat16",),
    temperatures=(0.01,),
    single=(1024,),
    seconds=8,
    longest=4,
)
FULL = Plan(
    "full",
    sizes=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536),
    memory_from=512,
    memory_beside=True,
    both=(64, 256, 1024, 4096),
    dims=(32, 64, 256, 512, 1024, 2048),
    side=2048,
    small=(16, 256),
    dtypes=("float64", "bfloat16", "float16"),
    temperatures=(0.01, 0.05, 0.1),
    single=(16, 256, 2048, 4096),
    seconds=10,
    longest=30,
)
# With --peers 'simclr-ext in JAX,optax,jax': a trainer in JAX has no other losses in its process.
JAX = Plan(
    "jax",
    sizes=(16, 64, 256, 1024, 4096),
    memory_from=1024,
    memory_beside=False,
    both=(),
    dims=(),
    side=256,
    small=(),
    dtypes=("float64",),
    temperatures=(),
    single=(),
    seconds=8,
    longest=4,
)
PLANS = {plan.name: plan for plan in (QUICK, FULL, JAX)}
