"""Reports how nvcc compiles the fused CUDA kernels: needs a CUDA toolkit, and no GPU.

    python -m benchmarks.gpu.sass_report [--out benchmarks/results/sass.csv] [--arch sm_80 ...]

Per kernel and architecture: registers, spilled bytes, shared memory, blocks that fit on a
multiprocessor, and the instructions of the main loop, the one with the tensor cores' work,
for a tile without positives. Prints a Markdown table, and fails if a kernel spills, one without a
main loop too, or touches local memory in its main loop.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.model.instructions import SASS, SHOWN_DIMS, bytes_per_element
from benchmarks.gpu.sass import main_loop
from simclr_ext import _build_config

# Shared memory of a multiprocessor in KiB, from the CUDA programming guide, table of compute
# capabilities; 1 KiB per block is reserved.
SHARED_KIB = {"sm_80": 164, "sm_86": 100, "sm_89": 100, "sm_90a": 228, "sm_100": 228, "sm_120": 100}
REGISTERS = 65536  # of a multiprocessor, on all of them
KERNEL = re.compile(
    r"\d((?:stats_|sigmoid_)?(?:forward|backward))_kernelINS0_6ConfigINS0_\d(\w+?)E"
    r"Li(\d+)ELi(\d+)ELi(\d+)ELi(\d+)ELb([01])EEE((?:Lb[01]E)*)E"
)


@dataclass(frozen=True)
class Kernel:
    """One kernel on one architecture; instructions are those of a warp in one turn of its loop."""

    arch: str
    kernel: str
    precision: str
    dim: int
    shared_shift: bool
    labels: bool
    keeps_rows: bool  # in registers
    warps: int
    rows: int
    columns: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    blocks: int
    tensor: int  # HMMA
    copies: int  # LDGSTS: 16 bytes per lane, asynchronously
    matrices: int  # LDSM
    loads: int  # LDS
    shuffles: int  # SHFL
    exponentials: int  # MUFU.EX2
    local: int  # LDL, STL
    floats: int  # FFMA, FMUL, FADD
    others: int


def main() -> int:
    """Compile, disassemble, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--arch", nargs="+", default=list(SHARED_KIB), choices=list(SHARED_KIB))
    args = parser.parse_args()
    cuda = _build_config.cuda_build(Path(torch.__file__).parent)
    if isinstance(cuda, _build_config.NoCuda):
        sys.exit(f"sass_report needs a CUDA toolkit: {cuda.reason}")
    rows: list[Kernel] = []
    faults: list[str] = []  # of kernels that have no row
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted((_build_config.source_dir() / "cuda").glob("kernels_*.cu")):
            for arch in args.arch:
                found, spills = report(cuda, source, arch, Path(folder) / f"{source.stem}.cubin")
                rows += found
                faults += spills
    print(table(rows))
    if args.out is not None:
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Kernel)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    faults += [f"spills: {row}" for row in rows if row.spilled_bytes > 0 or row.local > 0]
    for fault in faults:
        print(fault, file=sys.stderr)
    return len(faults)


def report(
    cuda: _build_config.CudaBuild, source: Path, arch: str, cubin: Path
) -> tuple[list[Kernel], list[str]]:
    """Return the kernels with a main loop of a source file, and which of the others spill."""
    include = Path(torch.__file__).parent / "include"
    virtual = arch.replace("sm_", "compute_")
    log = run(
        [
            *(str(cuda.home / "bin" / "nvcc"), "-cubin", str(source), "-o", str(cubin)),
            *(
                "-std=c++20",
                "-O3",
                "--expt-relaxed-constexpr",
                f"-gencode=arch={virtual},code={arch}",
                "-Xptxas=-v",
            ),
            *("-I", str(source.parents[1]), "-isystem", str(include)),
            *("-isystem", str(include / "torch/csrc/api/include")),
            *cuda.include_args(),
        ]
    )
    listing = run([disassembler(cuda), "-sass", str(cubin)])
    bodies = dict(re.findall(r"Function : (\S+)\n(.*?)(?=Function : |\Z)", listing, re.DOTALL))
    rows, spills = [], []
    for name, resources in re.findall(
        r"Compiling entry function '(\S+)'.*?\n(.*?)(?=Compiling entry function|\Z)", log, re.DOTALL
    ):
        match = KERNEL.search(name)
        if match is not None:
            rows.append(describe(match, resources, bodies[name], arch))
        elif spilled_bytes(resources) > 0:
            spills.append(f"{name} spills on {arch}: {resources}")
    return rows, spills


def spilled_bytes(resources: str) -> int:
    """Return what ptxas' log says a kernel stores and loads of its registers, in bytes."""
    return sum(map(int, re.findall(r"(\d+) bytes spill", resources)))


def describe(match: re.Match[str], resources: str, body: str, arch: str) -> Kernel:
    """Return a kernel's row from its mangled name, ptxas' log and its listing."""
    kernel, precision = match[1], match[2]
    flags = [flag == "1" for flag in re.findall(r"Lb([01])E", match[8])]
    shared_shift = kernel in ("forward", "backward") and flags[0]
    labels = kernel in ("forward", "backward") and flags[1]
    dim, warps, row_tiles, columns = (int(match[group]) for group in (3, 4, 5, 6))
    registers = int(re.search(r"Used (\d+) registers", resources)[1])  # type: ignore[index]
    rows = 16 * warps * row_tiles
    row_bytes = dim * bytes_per_element(precision)
    # As in csrc/cuda/config.cuh.
    stages = 2 * (columns * row_bytes + 12 * columns)
    keeps_rows = match[7] == "1"
    tiles = max(rows * row_bytes, stages) if keeps_rows else rows * row_bytes + stages
    shared = tiles + 8 * warps * columns
    per_warp = -(-registers * 32 // 256) * 256
    blocks = min(REGISTERS // (per_warp * warps), SHARED_KIB[arch] * 1024 // (shared + 1024))
    loop = main_loop(body, rows // warps * columns // 32)
    named = {
        "tensor": "HMMA",
        "copies": "LDGSTS",
        "matrices": "LDSM",
        "loads": "LDS",
        "shuffles": "SHFL",
        "exponentials": "MUFU.EX2",
    }
    counts = {field: loop[opcode] for field, opcode in named.items()}
    counts["local"] = loop["LDL"] + loop["STL"]
    counts["floats"] = loop["FFMA"] + loop["FMUL"] + loop["FADD"]
    return Kernel(
        arch, kernel, precision, dim, shared_shift, labels, keeps_rows, warps, rows, columns,
        registers, spilled_bytes(resources), shared, blocks, **counts,
        others=loop.total() - sum(counts.values()),
    )  # fmt: skip


def disassembler(cuda: _build_config.CudaBuild) -> str:
    """Return the path of cuobjdump, from the toolkit or from torch's triton."""
    candidates = [cuda.home / "bin" / "cuobjdump"]
    triton = importlib.util.find_spec("triton")
    if triton is not None and triton.origin is not None:
        candidates.append(Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump")
    for path in candidates:
        if path.exists() and shutil.which("nvdisasm", path=str(path.parent)):
            return str(path)
    sys.exit(f"sass_report needs cuobjdump and nvdisasm; none in {[str(p) for p in candidates]}")


def run(command: list[str]) -> str:
    """Run a command and return all that it prints; end with that if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(result.stdout + result.stderr)
    return result.stdout + result.stderr


def shown(path: Path = SASS) -> list[Kernel]:
    """Return the rows of a CSV file that are shown in the docs."""
    with path.open(newline="") as file:
        rows = [
            Kernel(**{k: _parsed(k, v) for k, v in row.items()}) for row in csv.DictReader(file)
        ]
    return [
        row
        for row in rows
        if row.arch == "sm_80" and row.shared_shift and row.dim in SHOWN_DIMS.get(row.precision, ())
    ]


def _parsed(column: str, text: str) -> Any:
    if column in ("arch", "kernel", "precision"):
        return text
    return text == "True" if column in ("shared_shift", "labels", "keeps_rows") else int(text)


def table(rows: list[Kernel]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| architecture | kernel | precision | D | shift | registers | spills | shared, KiB | "
        "blocks | HMMA | LDSM | LDGSTS | LDS | SHFL | EX2 | EX2 per element | FP32 | other |",
        "|---|---|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        elements = row.rows // row.warps * row.columns // 32
        shift = "shared" if row.shared_shift else "labels" if row.labels else "own"
        cells = [
            row.arch, row.kernel, row.precision, row.dim, shift,
            row.registers, row.spilled_bytes, f"{row.shared_bytes / 1024:.0f}", row.blocks,
            row.tensor, row.matrices, row.copies, row.loads, row.shuffles, row.exponentials,
            f"{row.exponentials / elements:.2f}", row.floats, row.others,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
