"""Compiles the extension for the GPU of this machine, without ninja or an installation.

    python -m benchmarks.gpu.build      compiles, and prints seconds and registers

SIMCLR_EXT_CUDA and TORCH_CUDA_ARCH_LIST work as in simclr_ext/_build_config.py. Objects are in
build/gpu_check/, in a folder named by a hash of their inputs: an interrupted build resumes there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import ROOT
from benchmarks.gpu.job import Context, Job, Jobs, Row
from simclr_ext import _build_config
from simclr_ext._build_config import CudaBuild, NoCuda

FOLDER = ROOT / "build" / "gpu_check"
LIMIT = 300.0
_MODULE = "simclr_ext._C"  # the module that simclr_ext/backends/loader.py tries first
# These take longest, so they begin first.
_SLOW = ("kernels_tf32x3", "kernels_tf32", "kernels_bf16", "kernels_fp16", "kernels_avx512")


class BuildError(RuntimeError):
    """A compiler or the linker failed; contains its output."""


def jobs(context: Context) -> Jobs:
    """Yield the one job of the step."""

    def on_gpu() -> Row:
        from simclr_ext.backends import loader

        cuda = loader.cuda_build()
        if isinstance(cuda, NoCuda):
            raise BuildError(f"no CUDA kernels: {cuda.reason}")
        return build(cuda, log=lambda line: print(line, flush=True))

    def on_cpu() -> Row:
        from simclr_ext.backends import loader

        module = loader.load()
        return {"library": str(module.__file__), "built": loader.how_built(module)}

    yield Job("extension", on_gpu if context.on_gpu else on_cpu, LIMIT)


def load(library: Path) -> None:
    """Load the library as the module that an installation would have."""
    spec = importlib.util.spec_from_file_location(_MODULE, library)
    if spec is None or spec.loader is None:
        raise ImportError(f"{library} is no extension module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_MODULE] = module


@dataclass(frozen=True)
class Unit:
    """A source file, the command that compiles it, and where its object goes."""

    source: Path
    command: Sequence[str]
    target: Path

    def compile(self) -> tuple[str, float]:
        """Return the compiler's output and its seconds; returns at once if the object exists."""
        log = self.target.with_suffix(".log")
        if self.target.exists():
            return log.read_text(), 0.0
        start = time.perf_counter()
        part = self.target.with_suffix(".part.o")
        said = _run([*self.command, "-c", str(self.source), "-o", str(part)])
        log.write_text(said)
        part.replace(self.target)  # atomically: complete or absent
        return said, time.perf_counter() - start


def build(cuda: CudaBuild | NoCuda, folder: Path = FOLDER, log: object = None) -> Row:
    """Compile and link what does not exist yet.

    Args:
        cuda: Whether and how the CUDA kernels are compiled.
        folder: Where to create a folder per version of the sources.
        log: Called with a line for each file, if given.

    Returns:
        The library, the seconds of each file and in total, and registers and spills by kernel.

    Raises:
        BuildError: If a file does not compile, or they do not link.
    """
    start = time.perf_counter()
    folder = folder / _digest(cuda)
    folder.mkdir(parents=True, exist_ok=True)
    units = [_unit(source, cuda, folder) for source in _build_config.sources(cuda)]
    units.sort(key=lambda unit: _SLOW.index(unit.source.stem) if unit.source.stem in _SLOW else 9)
    workers = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(Unit.compile, units))
    library = folder / "_C.so"
    if not library.exists():
        part = folder / "_C.part.so"
        _run(_link_command([unit.target for unit in units], cuda, folder, part))
        part.replace(library)
    seconds = {
        unit.source.name: round(took, 1) for unit, (_, took) in zip(units, found, strict=True)
    }
    if callable(log):
        for name, took in seconds.items():
            log(f"{took:6.1f} s  {name}")
    return {
        "library": str(library),
        "architectures": list(cuda.architectures) if isinstance(cuda, CudaBuild) else [],
        "build_seconds": round(time.perf_counter() - start, 1),
        "processors": workers,
        "files": seconds,
        "kernels": [kernel for said, _ in found for kernel in registers(said)],
    }


def _unit(source: Path, cuda: CudaBuild | NoCuda, folder: Path) -> Unit:
    torch_include = Path(torch.__file__).parent / "include"
    includes = (
        torch_include,
        torch_include / "torch/csrc/api/include",
        sysconfig.get_path("include"),
    )
    shared = ["-std=c++20", "-I", str(_build_config.source_dir())]
    shared += [word for path in includes for word in ("-isystem", str(path))]
    shared += ["-DTORCH_EXTENSION_NAME=_C", "-DTORCH_API_INCLUDE_EXTENSION_H"]
    shared += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"]
    if source.suffix == ".cu":
        if not isinstance(cuda, CudaBuild):
            raise BuildError(f"{source.name} needs nvcc")
        command = [str(cuda.home / "bin" / "nvcc"), *shared, *cuda.nvcc_args()]
        command += ["-Xcompiler=-fPIC", "-lineinfo", "-Xptxas=-v"]
    else:
        command = [os.environ.get("CXX", "g++"), *shared, "-fPIC", *_build_config.COMPILE_ARGS]
        command += cuda.compile_args() if isinstance(cuda, CudaBuild) else []
    name = "-".join(source.relative_to(_build_config.source_dir()).with_suffix("").parts)
    return Unit(source, command, folder / f"{name}.o")


def _link_command(
    objects: list[Path], cuda: CudaBuild | NoCuda, folder: Path, target: Path
) -> list[str]:
    libraries = ["c10", "torch_cpu", "torch", "torch_python"]
    command = [os.environ.get("CXX", "g++"), "-shared", *map(str, objects), "-o", str(target)]
    command += [f"-L{Path(torch.__file__).parent / 'lib'}"]
    if isinstance(cuda, CudaBuild):
        libraries += ["c10_cuda", "torch_cuda", "cudart"]
        command += [f"-L{cuda.home / lib}" for lib in ("lib64", "lib")] + cuda.link_args(folder)
    return [*command, *(f"-l{name}" for name in libraries), *_build_config.LINK_ARGS]


def _digest(cuda: CudaBuild | NoCuda) -> str:
    """Return a hash of everything that the objects depend on."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in [*_build_config.sources(cuda), *_build_config.headers(cuda)]:
        digest.update(path.read_bytes())
    for part in (*_build_config.COMPILE_ARGS, torch.__version__, sys.implementation.cache_tag):
        digest.update(part.encode())
    if isinstance(cuda, CudaBuild):
        for part in (*cuda.compile_args(), *cuda.nvcc_args()):
            digest.update(part.encode())
    return digest.hexdigest()[:12]


def _run(command: Sequence[str]) -> str:
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode != 0:
        words = "\n".join(result.stdout.splitlines()[:40])
        raise BuildError(f"{' '.join(command)}\nended with {result.returncode}:\n{words}")
    return result.stdout


def registers(said: str) -> list[Row]:
    """Return name, registers and spilled bytes of each kernel, from the output of ptxas."""
    entries = re.findall(
        r"Compiling entry function '(\S+)' for '(\S+)'.*?\n(.*?)(?=Compiling entry|\Z)",
        said,
        re.DOTALL,
    )
    found = []
    for mangled, architecture, resources in entries:
        used = re.search(r"Used (\d+) registers", resources)
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", resources)))
        found.append(
            {
                "kernel": _readable(mangled),
                "architecture": architecture,
                "registers": int(used[1]) if used else None,
                "spilled_bytes": spilled,
            }
        )
    return found


def _readable(mangled: str) -> str:
    """Return "forward_kernel Bf16 128 4 2 64 1" for the mangled name of an instance."""
    name = re.search(r"\d([a-z_]+_kernel)", mangled)
    element = re.search(r"\d((?:Bf16|Fp16|Tf32(?:x3)?))(?=E)", mangled)
    numbers = re.findall(r"L[ib](\d+)E", mangled)
    words = [name[1] if name else mangled, *([element[1]] if element else []), *numbers]
    return " ".join(words)


if __name__ == "__main__":
    from simclr_ext.backends import loader

    result = build(loader.cuda_build(), log=print)
    for kernel in result["kernels"]:
        print(*kernel.values())
    print(f"{result['build_seconds']} s on {result['processors']} processors: {result['library']}")
