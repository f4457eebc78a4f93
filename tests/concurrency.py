"""Programs with threads and processes that call the loss at the same time.

Each ends with an error if a result differs, and with a traceback of all threads if it hangs.
tests/test_concurrency.py runs each in a process of its own: ``python -m tests.concurrency NAME``.
"""

from __future__ import annotations

import faulthandler
import multiprocessing as mp
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from simclr_ext import nt_xent_loss
from simclr_ext.backends import ops
from tests.accuracy import loss_and_grads

SECONDS = 120  # after which a program has hung
SIZES = (20, 300)  # one tile, and a schedule of eight blocks for several threads
BACKENDS = ("fused", "tiled")


def run(n: int, backend: str) -> list[Tensor]:
    """Return the loss and the gradients of views that are always the same."""
    z0, z1 = torch.randn(2, n, 24, generator=torch.Generator().manual_seed(n))
    return loss_and_grads((z0, z1), 0.2, backend=backend)


def expect_equal(found: list[Tensor], expected: list[Tensor], backend: str) -> None:
    """Fail unless these are the same: bit for bit if fused, whose sums have one order."""
    for value, other in zip(found, expected, strict=True):
        if backend == "fused":
            assert torch.equal(value, other)
        else:
            torch.testing.assert_close(value, other)


def at_once(count: int, function: Callable[[], Any]) -> list[Any]:
    """Return the results of a function on several threads that begin at the same time."""
    barrier = threading.Barrier(count)

    def call(_: int) -> Any:
        barrier.wait()
        return function()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def first_use() -> None:
    """Threads that are the first to use the operators."""
    results = at_once(8, lambda: run(20, "fused"))
    for result in results:
        expect_equal(result, results[0], "fused")


def threads() -> None:
    """Threads that call forward and backward while another changes torch's number of threads."""
    torch.set_num_threads(1)
    expected = {(n, backend): run(n, backend) for n in SIZES for backend in BACKENDS}
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            for count in (1, 4, 2, 3):
                torch.set_num_threads(count)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for (n, backend), other in expected.items():
            for _ in range(5):
                for found in at_once(4, lambda n=n, backend=backend: run(n, backend)):
                    expect_equal(found, other, backend)
    finally:
        done.set()
        changing.join()


class _Nested(torch.autograd.Function):
    """x, with a backward that runs another backward, so many levels deep."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, backend: str, depth: int) -> Tensor:
        ctx.backend, ctx.depth = backend, depth
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            if ctx.depth == 0:
                return grad * run(SIZES[1], ctx.backend)[0].sum(), None, None
            inner = x.detach().requires_grad_()
            _Nested.apply(inner, ctx.backend, ctx.depth - 1).backward()
            return inner.grad, None, None


def autograd() -> None:
    """Backward passes on other threads than the forward pass, and on threads of autograd's own.

    Autograd moves a backward pass within 60 others to a thread of its pool.
    """
    n = SIZES[1]
    for backend in BACKENDS:
        expected = run(n, backend)
        z0, z1 = torch.randn(2, n, 24, generator=torch.Generator().manual_seed(n))
        leaves = [z0.requires_grad_(), z1.requires_grad_(), torch.tensor(0.2, requires_grad=True)]
        weights = torch.linspace(0.5, 1.5, 2 * n)
        with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as other:
            options = {"reduction": "none", "backend": backend}
            loss = pool.submit(nt_xent_loss, *leaves, **options).result()
            other.submit((loss @ weights / len(loss)).backward).result()
        found = [loss.detach(), *(leaf.grad for leaf in leaves)]
        expect_equal(found, expected, backend)
        x = torch.ones((), requires_grad=True)
        at_once(2, lambda backend=backend, x=x: _Nested.apply(x, backend, 70).backward())
        torch.testing.assert_close(x.grad, 2 * expected[0].sum())


def _check_in_child(expected: dict[tuple[int, str], list[Tensor]]) -> None:
    for (n, backend), other in expected.items():
        expect_equal(run(n, backend), other, backend)


def in_fork(function: Callable[[], None]) -> None:
    """Call a function in a forked child; fail if it does."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status


def fork() -> None:
    """Forked children of a process that has used its threads: libgomp would wait for these."""
    torch.set_num_threads(2)
    expected = {(n, backend): run(n, backend) for n in SIZES for backend in BACKENDS}

    def with_one_thread() -> None:
        torch.set_num_threads(1)
        _check_in_child(expected)

    def with_the_number_of_the_parent() -> None:
        z = torch.ones(300, 4)
        with pytest.raises(RuntimeError, match="was forked from one that had used torch's threads"):
            nt_xent_loss(z, z)
        new = ThreadPoolExecutor(1)  # has no threads that it could have lost
        new.submit(run, SIZES[1], "fused").result()

    in_fork(with_one_thread)
    in_fork(with_the_number_of_the_parent)
    _check_in_child(expected)


def fork_before_use() -> None:
    """Forked children of a process that has loaded the kernels, and used no threads."""
    ops.register()
    torch.set_num_threads(2)
    in_fork(lambda: run(SIZES[1], "fused") and None)
    run(SIZES[1], "fused")


def spawn() -> None:
    """Processes that a process spawns after it has used its threads."""
    expected = {(n, backend): run(n, backend) for n in SIZES for backend in BACKENDS}
    with mp.get_context("spawn").Pool(2) as pool:
        pool.map(_check_in_child, [expected] * 2)


class _Losses(Dataset[list[Tensor]]):
    """Losses that the processes of a DataLoader compute."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> list[Tensor]:
        return run(SIZES[index % 2], BACKENDS[index // 2 % 2])


def loader() -> None:
    """The processes of a DataLoader, forked from one that has used its threads."""
    torch.set_num_threads(2)
    expected = list(map(_Losses().__getitem__, range(4)))
    losses: DataLoader[list[Tensor]] = DataLoader(
        _Losses(), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    for _ in range(2):
        for index, found in enumerate(losses):
            expect_equal(found, expected[index % 4], BACKENDS[index // 2 % 2])


PROGRAMS = {
    program.__name__: program
    for program in (first_use, threads, autograd, fork, fork_before_use, spawn, loader)
}

if __name__ == "__main__":
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    PROGRAMS[sys.argv[1]]()
    # Without Python's own end, during which a thread of autograd's pool may still let go of objects
    # of Python: torch 2.14 then aborts the process, also without this package.
    sys.stderr.flush()
    os._exit(0)
