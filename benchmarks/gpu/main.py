"""The command line of `benchmarks/gpu_check.py`."""

from __future__ import annotations

import argparse
import importlib
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu import tools
from benchmarks.gpu.job import Context, Step
from benchmarks.gpu.plan import PLANS
from benchmarks.gpu.results import BAD, Results
from benchmarks.gpu.runner import Runner
from benchmarks.gpu.worker import work

RIGHT, WRONG, UNFINISHED = 0, 1, 3
FILE = "results.jsonl"
_DEVICE = "with several cards, CUDA_VISIBLE_DEVICES chooses the one"


def main(argv: list[str] | None = None) -> int:
    """Run the steps, one of them, or print the table.

    Returns:
        0: everything ran and passed; 1: something failed or was lost; 3: time ran out;
        ``--resume`` runs the rest.
    """
    args = _parser().parse_args(argv)
    if args.table is not None:
        from benchmarks.gpu.table import page

        print(page(Results(args.table).rows()), end="")
        return 0
    context = Context(args.device, args.out.resolve())
    results = Results(context.folder / FILE)
    plan = args.plan or ("small" if args.device == "cpu" else "full")
    steps = steps_of(plan)
    if args.worker is not None:
        return _work(steps, args.worker, context, results)
    if results.path.exists() and not args.resume:
        sys.exit(f"{results.path} exists already: --resume resumes it, --out names another")
    _stop_without(args.device)
    context.folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    Runner(plan, context, results, args.minutes).run(steps)
    return _report(steps, results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu_check.py",
        description="Checks and times the loss on an NVIDIA GPU, in a bare checkout.",
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="for all steps together")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help=_DEVICE)
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder of the results")
    parser.add_argument("--resume", action="store_true", help="resume the run in the folder")
    parser.add_argument(
        "--plan", help=f"{', '.join(PLANS)} or MODULE:NAME; by default full on CUDA"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="print a file's page for docs/")
    parser.add_argument("--worker", metavar="STEP", help=argparse.SUPPRESS)
    return parser


def steps_of(plan: str) -> tuple[Step, ...]:
    """Return the steps of a plan, by its name in PLANS or as MODULE:NAME."""
    if plan in PLANS:
        return PLANS[plan]
    module, _, name = plan.partition(":")
    steps: tuple[Step, ...] = getattr(importlib.import_module(module), name)
    return steps


def _work(steps: tuple[Step, ...], name: str, context: Context, results: Results) -> int:
    (step,) = (step for step in steps if step.name == name)
    tools.on_path("nvcc")
    library = results.library()
    if library is not None and context.on_gpu:
        from benchmarks.gpu.build import load

        load(library)
    return work(step, context, results)


def _stop_without(device: str) -> None:
    """Exit with one line if a requirement of all steps is missing; list those of single steps."""
    needed, wanted = tools.missing(device)
    if needed:
        sys.exit(f"gpu_check needs {', '.join(needed)}: not found")
    if wanted:
        print(f"not found, the steps that need it are left out: {', '.join(wanted)}", flush=True)
    if device != "cpu":
        code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
        if subprocess.run([sys.executable, "-c", code], check=False).returncode != 0:
            sys.exit(f"--device {device}: torch sees no CUDA device")


def _report(steps: tuple[Step, ...], results: Results) -> int:
    status = results.status_of_steps()
    rows = results.of_jobs()
    bad = [row for row in rows if row["status"] in BAD]
    for row in bad:
        print(f"{row['status']}: {row['step']}: {row['job']}")
    left = [step.name for step in steps if status.get(step.name, "cut") == "cut"]
    print(f"{len(rows)} results in {results.path}, {len(bad)} of them failed or lost")
    if left:
        print(f"not done: {', '.join(left)}; --resume runs the rest")
    if bad or "gave up" in status.values():
        return WRONG
    return UNFINISHED if left else RIGHT
