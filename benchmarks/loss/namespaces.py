"""Times the loss over two hosts that are really apart: network namespaces joined by a cable.

    sudo python -m benchmarks.loss.namespaces [--n 4096] [--out namespaces.csv]

Two ranks with one thread each, which share nothing but a pair of virtual interfaces (veth) with a
limit of bandwidth (tc tbf) and, where the kernel has netem, a delay. Needs root and Debian's
iproute2. Times are as in `processes.py`; bytes are what the interface of rank 0 has sent, with the
headers of TCP. Namespaces and interfaces are gone at the end.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks import RESULTS, processor, write_rows
from benchmarks.loss.processes import DIM, MAKERS, TEMPERATURE, check, own_views, slowest
from benchmarks.loss.tables import Table
from simclr_ext.bench.measure import forward_backward

HOSTS = ("simclr-a", "simclr-b")
CABLES = ("simclr-veth-a", "simclr-veth-b")
ADDRESSES = ("10.203.0.1", "10.203.0.2")
PORT = 29_517
# Megabits per second, 0 for no limit; and milliseconds in each direction.
LINKS = ((0, 0.0), (10_000, 0.0), (1_000, 0.0), (100, 0.0), (10_000, 1.0), (1_000, 10.0))
NAMES = ("simclr-ext, gather", "simclr-ext, ring", "lightly")
COLUMNS = ("machine", "torch", "n", "d", "mbit", "delay_ms", "loss", "ms", "sent_mib")
PATH = RESULTS / "namespaces.csv"


def main(argv: list[str] | None = None) -> int:
    """Measure each link; print and write rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=PATH)
    parser.add_argument("--rank", type=int, help="used by the script itself, in a namespace")
    args = parser.parse_args(argv)
    if args.rank is not None:
        return _rank(args.rank, args.n, args.rounds)
    obstacle = _obstacle()
    if obstacle:
        print(f"cannot make two hosts here: {obstacle}")
        return 1
    rows: list[dict[str, Any]] = []
    with _hosts():
        for mbit, delay in LINKS:
            refused = _shape(mbit, delay)
            if refused:
                print(f"{mbit} Mbit/s, {delay} ms: left out, tc says: {refused}")
                continue
            common = {"machine": processor(), "torch": torch.__version__, "n": args.n, "d": DIM}
            for found in _run(args.n, args.rounds):
                row = common | {"mbit": mbit, "delay_ms": delay} | found
                rows.append(row)
                print("{mbit} Mbit/s, {delay_ms} ms: {loss:20} {ms:8.1f} ms".format(**row), end="")
                print("  {sent_mib:6.1f} MiB sent".format(**row))
    write_rows(args.out, COLUMNS, rows)
    print(f"\n{table(args.out)}")
    return 0


def table(path: Path = PATH) -> str:
    """Return rows as a table: one row for each link, one column for each loss."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = list(dict.fromkeys(row["loss"] for row in rows))
    body = []
    for link in dict.fromkeys((row["mbit"], row["delay_ms"]) for row in rows):
        of_link = {row["loss"]: row for row in rows if (row["mbit"], row["delay_ms"]) == link}
        cells = [f"{float(of_link[name]['ms']):,.0f} ms" for name in names]
        body.append([_link(*link), *cells])
    first = {row["loss"]: row for row in rows[: len(names)]}
    body.append(
        ["sent by a rank", *(f"{float(first[name]['sent_mib']):.1f} MiB" for name in names)]
    )
    head = rows[0]
    title = f"N = {int(head['n']):,} in all, D = {head['d']}, two ranks on {head['machine']}:"
    return f"{title}\n\n{Table('', ['link', *names], body).grid()}"


def _link(mbit: str, delay: str) -> str:
    limit = f"{int(mbit):,} Mbit/s" if int(mbit) else "no limit"
    return f"{limit}, {float(delay):g} ms each way" if float(delay) else limit


def _obstacle() -> str:
    """Return why there can be no namespaces, or ""."""
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found; apt-get install iproute2"
    if os.geteuid() != 0:
        return "it takes root"
    probe = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True, check=False)
    return probe.stderr.strip()


@contextmanager
def _hosts() -> Iterator[None]:
    """Make two namespaces and the cable between them, and take them away."""
    try:
        for host in HOSTS:
            _command("ip", "netns", "add", host)
        first, second = CABLES
        _command("ip", "link", "add", first, "type", "veth", "peer", "name", second)
        for host, cable, address in zip(HOSTS, CABLES, ADDRESSES, strict=True):
            _command("ip", "link", "set", cable, "netns", host)
            _inside(host, "ip", "addr", "add", f"{address}/24", "dev", cable)
            for device in ("lo", cable):
                _inside(host, "ip", "link", "set", device, "up")
        yield
    finally:
        for host in HOSTS:  # takes its interface, and with it the other end, away
            subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)


def _shape(mbit: int, delay: float) -> str:
    """Limit both directions; return what tc said if it refused, or ""."""
    limit = ["tbf", "rate", f"{mbit}mbit", "burst", "512kb", "latency", "100ms"]
    for host, cable in zip(HOSTS, CABLES, strict=True):
        device = ["tc", "qdisc"]
        prefix = ["ip", "netns", "exec", host]
        clear = [*prefix, *device, "del", "dev", cable, "root"]
        subprocess.run(clear, capture_output=True, check=False)  # there may be none
        add = [*prefix, *device, "add", "dev", cable]
        parts = []
        if delay:
            parts.append([*add, "root", "handle", "1:", "netem", "delay", f"{delay}ms"])
        if mbit:
            parts.append([*add, *(["parent", "1:"] if delay else ["root"]), *limit])
        for part in parts:
            found = subprocess.run(part, capture_output=True, text=True, check=False)
            if found.returncode:
                return found.stderr.strip()
    return ""


def _run(n: int, rounds: int) -> list[dict[str, Any]]:
    """Run both ranks, each on its host; return what rank 0 found."""
    this = [sys.executable, "-m", "benchmarks.loss.namespaces"]
    this += ["--n", str(n), "--rounds", str(rounds)]
    processes = [
        subprocess.Popen(
            ["ip", "netns", "exec", host, *this, "--rank", str(rank)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank, host in enumerate(HOSTS)
    ]
    outputs = [process.communicate(timeout=1800)[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("a rank has failed; its error is above")
    found: list[dict[str, Any]] = json.loads(outputs[0].splitlines()[-1])
    return found


def _rank(rank: int, n: int, rounds: int) -> int:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = CABLES[rank]
    store = f"tcp://{ADDRESSES[0]}:{PORT}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    found = []
    for name in NAMES:
        try:
            loss = MAKERS[name]()
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        check(name, loss, rank, 2)
        call = functools.partial(forward_backward, loss, own_views(n, rank, 2), TEMPERATURE)
        found.append({"loss": name, **_measure(call, rounds, CABLES[rank])})
    dist.barrier()
    if rank == 0:
        print(json.dumps(found))
    dist.destroy_process_group()
    return 0


def _measure(call: Callable[[], object], rounds: int, cable: str) -> dict[str, float]:
    slowest(call)  # warms up
    counter = Path(f"/sys/class/net/{cable}/statistics/tx_bytes")
    before = int(counter.read_text())
    seconds = [slowest(call) for _ in range(rounds)]
    sent = (int(counter.read_text()) - before) / rounds
    return {"ms": 1e3 * statistics.median(seconds), "sent_mib": sent / 2**20}


def _command(*command: str) -> None:
    subprocess.run(command, check=True)


def _inside(host: str, *command: str) -> None:
    _command("ip", "netns", "exec", host, *command)


if __name__ == "__main__":
    raise SystemExit(main())
