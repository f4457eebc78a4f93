"""Captures steps of the loss in CUDA graphs: replays must give the bits of plain calls."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from benchmarks.gpu.job import Context, Job, Jobs, Row
from benchmarks.gpu.own import TEMPERATURE
from simclr_ext import NTXentLoss, nt_xent_loss
from simclr_ext.bench.measure import views


def jobs(context: Context, n: int, d: int) -> Jobs:
    """Yield a job for each way of capturing."""
    yield Job("torch.cuda.graph", functools.partial(captured, context, n, d), 60)
    run = functools.partial(captured, context, n, d, learned=True)
    yield Job("torch.cuda.graph, temperature on the GPU", run, 60)
    for name in ("float", "parameter on the CPU", "parameter on the GPU"):
        run = functools.partial(compiled, context, n, d, name)
        yield Job(f"torch.compile reduce-overhead, temperature: {name}", run, 90)


def captured(context: Context, n: int, d: int, learned: bool = False) -> Row:
    """Replay a captured forward and backward pass on new views.

    A learned temperature then is one for which each row has a shift of its own.
    """
    z0, z1 = views(n, d, torch.bfloat16, context.device)
    inputs = [z0, z1]
    if learned:
        inputs.append(torch.tensor(TEMPERATURE, device=context.device, requires_grad=True))
    temperature = inputs[2] if learned else TEMPERATURE

    def step() -> tuple[Tensor, ...]:
        loss = nt_xent_loss(z0, z1, temperature, backend="fused")
        return (loss, *torch.autograd.grad(loss, inputs))

    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed = step()
    with torch.no_grad():
        z0.copy_(torch.randn_like(z0))
        if learned:
            inputs[2].fill_(0.02)
    for _ in range(2):  # what a step leaves behind must not change the next one
        graph.replay()
    torch.cuda.synchronize()
    return _compare(replayed, step())


def compiled(context: Context, n: int, d: int, temperature: str) -> Row:
    """Train three steps with a compiled module and with a plain one."""
    where = {"float": None, "parameter on the CPU": "cpu"}.get(temperature, context.device)
    found = []
    for wrap in (lambda m: m, lambda m: torch.compile(m, mode="reduce-overhead", fullgraph=True)):
        t: float | torch.nn.Parameter = TEMPERATURE
        if where is not None:
            t = torch.nn.Parameter(torch.tensor(TEMPERATURE, device=where))
        loss_of = NTXentLoss(t, backend="fused")
        module = wrap(loss_of)
        for turn in range(3):  # warms up, captures, replays
            z0, z1 = views(n, d, torch.bfloat16, context.device)
            loss = module(z0 * (turn + 1), z1)
            grads = torch.autograd.grad(loss, (z0, z1, *loss_of.parameters()))
        found.append(tuple(value.detach().clone() for value in (loss, *grads)))
    return _compare(*found)


def _compare(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> Row:
    names = ("loss", "grad_z0", "grad_z1", "grad_temperature")[: len(found)]
    errors = {
        name: ((a.double() - b.double()).norm() / b.double().norm()).item()
        for name, a, b in zip(names, found, expected, strict=True)
    }
    row: Row = {"relative_errors": errors}
    # Inductor may round the surrounding operations differently; our kernels do not.
    if not all(error <= 1e-2 for error in errors.values()):  # NaN fails
        return row | {"status": "failed", "error": f"replay differs: {errors}"}
    return row | {"same_bits": all(error == 0 for error in errors.values())}
