"""Peak memory of one implementation in its own process, where out of memory is a result.

    python -m benchmarks.loss.memory PEER N D DTYPE THREADS TEMPERATURE LIMIT

Prints, as JSON, a status, and in MiB beyond inputs and gradients: the peak of resident memory, and
the peak of torch's allocator. The process may allocate LIMIT bytes more than it has when the
libraries are loaded; beyond that, allocations fail.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import ROOT
from benchmarks.loss import peers
from benchmarks.loss.cases import Case
from simclr_ext.bench.measure import forward_backward, views
from simclr_ext.bench.memory import OUT_OF_MEMORY, attempt, is_out_of_memory, limited, peak

MIB = 2**20
Usage = dict[str, object]


def usage(peer: str, case: Case, limit: int, timeout: float = 300) -> Usage:
    """Measure forward + backward of one implementation in a new process.

    Args:
        peer: Its name.
        case: The shape.
        limit: Bytes that it may allocate.
        timeout: Seconds after which it is killed.

    Returns:
        "status", and unless that is a failure "rss_mib", and for peers in torch "allocated_mib".
    """
    values = (case.n, case.d, case.dtype, case.threads, case.temperature, limit)
    command = [sys.executable, "-m", "benchmarks.loss.memory", peer, *map(str, values)]
    # Compilers run in their own processes, whose memory would not be counted.
    environ = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=environ,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return {"status": f"failed: no result within {timeout:.0f} s"}
    if done.returncode == 0:
        result: Usage = json.loads(done.stdout.splitlines()[-1])
        return result
    # A library ended the process instead of raising.
    last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    failure = RuntimeError(done.stderr)
    return {"status": OUT_OF_MEMORY if is_out_of_memory(failure) else f"failed: {last}"}


def main(argv: list[str]) -> None:
    """Measure in this process and print the result."""
    name, *words, temperature, limit = argv
    n, d, threads = int(words[0]), int(words[1]), int(words[3])
    dtype: torch.dtype = getattr(torch, words[2])
    torch.set_num_threads(threads)
    found, _ = peers.find(peer for peer in peers.PEERS if peer.name == name)
    peer, loss = found[name]

    def call(inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        forward_backward(loss, inputs, float(temperature))

    call(views(64, d, dtype))  # loads libraries, starts threads
    inputs = views(n, d, dtype)
    step = functools.partial(call, inputs)
    gradients = sum(z.nbytes for z in inputs)
    result: Usage = {}
    with limited(int(limit)):
        if peer.compiles:
            result["status"] = attempt(step)  # so that the compiler's memory does not count
            gc.collect()
            time.sleep(1)  # XLA frees memory in its own threads
        if result.setdefault("status", "ok") == "ok":
            result["status"] = attempt(
                lambda: result.update(_peaks(step, inputs, gradients, peer.in_torch))
            )
    print(json.dumps(result))


def _peaks(
    step: Callable[[], object], inputs: tuple[torch.Tensor, ...], gradients: int, in_torch: bool
) -> dict[str, float]:
    measures: dict[str, Callable[[Callable[[], object]], int]] = {"rss_mib": peak}
    if in_torch:
        measures["allocated_mib"] = allocator_peak
    found = {}
    for name, measure in measures.items():
        for z in inputs:
            z.grad = None
        found[name] = max(0, measure(step) - gradients) / MIB
    return found


def allocator_peak(call: Callable[[], object]) -> int:
    """Return the most bytes that torch's CPU allocator held at once in a call, beyond the start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as prof:
        call()
    assert prof.profiler is not None
    held = most = 0
    for event in prof.profiler.kineto_results.events():  # in the order of time
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


if __name__ == "__main__":
    main(sys.argv[1:])
