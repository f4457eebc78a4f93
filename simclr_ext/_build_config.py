"""Sources and flags of the compiled extension: one list for every way of building it.

``setup.py`` (ahead of time) and ``backends/loader.py`` (at first use) read it as Python,
``CMakeLists.txt`` as the JSON that this file prints when run. Standard library only: ``setup.py``
and CMake run it where the package, or torch, cannot be imported.

``SIMCLR_EXT_CUDA`` decides whether the CUDA kernels are compiled:
    unset  if torch was built for CUDA and there is an nvcc of the same major version
    1      compile them, or fail
    0      leave them out
``TORCH_CUDA_ARCH_LIST`` decides for which GPUs, as in "8.0;9.0a;12.0+PTX".
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Portable code: the instruction set is chosen at run time (csrc/cpu/simd), so no -march here.
# Contraction allows fused multiply-add for a * b + c; no other fast-math.
# -std is set here because torch's own flags have an older standard before 2.12.
COMPILE_ARGS = ["-std=c++20", "-O3", "-fopenmp", "-ffp-contract=fast"]
LINK_ARGS = ["-fopenmp"]

NVCC_ARGS = [
    "-O3",
    "-std=c++20",
    "--expt-relaxed-constexpr",
    "--threads=0",  # compile architectures in parallel, one thread per processor
    # torch defines these for the CUDA files that it compiles; CMake does not.
    "-U__CUDA_NO_HALF_OPERATORS__",
    "-U__CUDA_NO_HALF_CONVERSIONS__",
    "-U__CUDA_NO_HALF2_OPERATORS__",
    "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
]
# Machine code for these GPUs, and PTX for later ones, as far as nvcc supports them. Older GPUs use
# the tiled backend.
CUDA_ARCHITECTURES = (
    *("sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"),
    "compute_120",
)


# The compute capability of the oldest GPUs that the fused kernels run on.
MIN_CAPABILITY = (8, 0)


class BuildConfigError(RuntimeError):
    """An environment variable has an unknown value, or asks for something unavailable."""


@dataclass(frozen=True)
class CudaBuild:
    """How the CUDA kernels are compiled.

    Args:
        home: The toolkit's folder, with bin/nvcc, include/ and lib64/.
        version: Version of the toolkit, as in ``"13.0"``.
        architectures: What nvcc generates: ``"sm_90a"`` (machine code), ``"compute_120"`` (PTX).
        torch_cuda: Folders with the CUDA headers (include/) and libraries (lib/) that came with
            torch: the toolkit may lack those of cuSPARSE and others, which torch's own headers
            include.
    """

    home: Path
    version: str
    architectures: tuple[str, ...]
    torch_cuda: tuple[Path, ...]

    def compile_args(self) -> list[str]:
        """Return additional arguments of the C++ compiler."""
        return [
            # The built module reports these.
            f"-DSIMCLR_CUDA_VERSION={self.version}",
            f"-DSIMCLR_CUDA_ARCHITECTURES={','.join(self.architectures)}",
            *self.include_args(),
        ]

    def nvcc_args(self) -> list[str]:
        """Return the arguments of nvcc."""
        # With -gencode given, torch adds no architectures of its own.
        targets = [
            f"-gencode=arch={name.replace('sm_', 'compute_')},code={name}"
            for name in self.architectures
        ]
        # torch passes CC as -ccbin itself, and nvcc accepts only one host compiler.
        host = [] if "CC" in os.environ else [f"-ccbin={os.environ.get('CXX', 'g++')}"]
        return [*NVCC_ARGS, *targets, *host, *self.include_args()]

    def include_args(self) -> list[str]:
        """Return the include folders of CUDA."""
        # The toolkit's headers first: they match its nvcc.
        roots = (self.home, *self.torch_cuda)
        return [word for root in roots for word in ("-isystem", str(root / "include"))]

    def library_dirs(self) -> list[Path]:
        """Return the folders that may hold CUDA's libraries."""
        return [
            *(self.home / "lib64", self.home / "lib"),
            *(root / "lib" for root in self.torch_cuda),
        ]

    def link_args(self, folder: Path) -> list[str]:
        """Return where the linker finds the CUDA runtime, if not in the toolkit.

        Args:
            folder: Where to put a link to the library that came with torch, which has only a
                versioned name.
        """
        if any((self.home / lib / "libcudart.so").exists() for lib in ("lib64", "lib")):
            return []
        places = self.library_dirs()
        libraries = [path for place in places for path in sorted(place.glob("libcudart.so.*"))]
        if not libraries:
            raise BuildConfigError(
                f"no libcudart.so or libcudart.so.* in {', '.join(map(str, places))}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / "libcudart.so"
        link.unlink(missing_ok=True)
        link.symlink_to(libraries[0])
        return [f"-L{folder}"]


@dataclass(frozen=True)
class NoCuda:
    """Why the CUDA kernels are not compiled."""

    reason: str


def source_dir() -> Path:
    """Return the folder of the C++ sources, in an installed package or in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "csrc"
    return installed if installed.is_dir() else package.parent / "csrc"


def sources(cuda: CudaBuild | NoCuda) -> list[Path]:
    """Return every source file of the extension, in a fixed order."""
    return _files(cuda, ".cpp", ".cu")


def headers(cuda: CudaBuild | NoCuda) -> list[Path]:
    """Return every file that the sources include, in a fixed order."""
    return _files(cuda, ".h", ".inl", ".cuh")


def jax_sources() -> list[Path]:
    """Return the source files of XLA's handlers, which are a library of their own."""
    return sorted((source_dir() / "jax").glob("*.cpp"))


def _files(cuda: CudaBuild | NoCuda, *suffixes: str) -> list[Path]:
    folder = source_dir()
    left_out = {folder / "jax"}
    if isinstance(cuda, NoCuda):
        left_out.add(folder / "cuda")
    every = sorted(path for path in folder.rglob("*") if path.suffix in suffixes)
    return [path for path in every if left_out.isdisjoint(path.parents)]


def cuda_mode() -> str:
    """Return SIMCLR_EXT_CUDA: ``"auto"``, ``"1"`` or ``"0"``."""
    mode = os.environ.get("SIMCLR_EXT_CUDA", "auto")
    if mode not in ("auto", "0", "1"):
        raise BuildConfigError(f"SIMCLR_EXT_CUDA must be 0 or 1, or unset, got {mode!r}")
    return mode


def cuda_build(
    torch_home: Path, architectures: Sequence[str] = CUDA_ARCHITECTURES
) -> CudaBuild | NoCuda:
    """Decide whether and how the CUDA kernels are compiled. Needs no GPU.

    Args:
        torch_home: The folder of the torch package.
        architectures: Used if TORCH_CUDA_ARCH_LIST is not set.

    Raises:
        BuildConfigError: If SIMCLR_EXT_CUDA or TORCH_CUDA_ARCH_LIST has a value that is not
            allowed, or SIMCLR_EXT_CUDA is 1 and the kernels cannot be compiled.
    """
    mode = cuda_mode()
    if mode == "0":
        return NoCuda("SIMCLR_EXT_CUDA is 0")
    build = _find_cuda(torch_home, architectures)
    if mode == "1" and isinstance(build, NoCuda):
        raise BuildConfigError(f"SIMCLR_EXT_CUDA is 1, but {build.reason}")
    return build


def _find_cuda(torch_home: Path, architectures: Sequence[str]) -> CudaBuild | NoCuda:
    torch_version = re.search(
        r"^cuda\b.*= '([\d.]+)'$", (torch_home / "version.py").read_text(), re.MULTILINE
    )
    if torch_version is None:
        return NoCuda("torch was built without CUDA")
    home = os.environ.get("CUDA_HOME")
    nvcc = f"{home}/bin/nvcc" if home else "nvcc"
    path = shutil.which(nvcc)
    if path is None:
        where = "is not executable" if home else "is not on the PATH, and CUDA_HOME is not set"
        return NoCuda(f"there is no CUDA toolkit: {nvcc} {where}")
    version = re.search(r"release ([\d.]+)", _output(path, "--version"))
    # nvcc on the PATH may be a script that runs the toolkit's nvcc.
    top = re.search(r"^#\$ TOP=(.+)$", _output(path, "--dryrun", "-E", "-x", "cu", "-"), re.M)
    if version is None or top is None:
        return NoCuda(f"{path} does not print its version and its folder")
    if version[1].split(".")[0] != torch_version[1].split(".")[0]:
        return NoCuda(f"{path} is of CUDA {version[1]}, and torch of CUDA {torch_version[1]}")
    names = _architectures_from_environment() or _known(path, architectures)
    if not names:
        return NoCuda(f"{path} is of CUDA {version[1]}, which lacks {', '.join(architectures)}")
    return CudaBuild(
        home=Path(top[1]).resolve(),
        version=version[1],
        architectures=names,
        torch_cuda=_cuda_of_torch(torch_home.parent / "nvidia", torch_version[1].split(".")[0]),
    )


def _cuda_of_torch(wheels: Path, major: str) -> tuple[Path, ...]:
    together = wheels / f"cu{major}"
    if together.is_dir():
        return (together,)
    # Before CUDA 13 each wheel has a folder of its own.
    return tuple(sorted(folder.parent for folder in wheels.glob("*/include")))


def _known(nvcc: str, architectures: Sequence[str]) -> tuple[str, ...]:
    """Return those that nvcc supports; PTX that it does not becomes PTX of its newest one."""
    listed = _output(nvcc, "--list-gpu-code").split()
    names = [name for name in architectures if re.sub(r"\D+(\d+).*", r"sm_\1", name) in listed]
    if names and len(names) < len(architectures) and architectures[-1].startswith("compute_"):
        names.append(re.sub(r"\D+(\d+).*", r"compute_\1", names[-1]))
    return tuple(names)


def _architectures_from_environment() -> tuple[str, ...]:
    """Return the architectures of TORCH_CUDA_ARCH_LIST, () if it is not set."""
    names: list[str] = []
    for item in re.split(r"[;,\s]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip("; ")):
        match = re.fullmatch(r"(\d+)\.(\d[af]?)(\+PTX)?", item)
        if match:
            names.append(f"sm_{match[1]}{match[2]}")
            names += [f"compute_{match[1]}{match[2]}"] if match[3] else []
        elif item:
            raise BuildConfigError(
                f"TORCH_CUDA_ARCH_LIST must name architectures like 8.0;9.0a;12.0+PTX, got {item!r}"
            )
    return tuple(names)


def _output(*command: str) -> str:
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return result.stdout + result.stderr


def _for_cmake(torch_home: str) -> str:
    """Return the configuration as JSON, with lists as CMake has them: separated by semicolons."""
    cuda = cuda_build(Path(torch_home))
    config = {
        "sources": [str(source) for source in sources(cuda)],
        "compile_args": COMPILE_ARGS,
        "link_args": LINK_ARGS,
        "nvcc": [],
        "nvcc_args": [],
        "cuda_library_dirs": [],
    }
    if isinstance(cuda, CudaBuild):
        config["compile_args"] = [*COMPILE_ARGS, *cuda.compile_args()]
        config["nvcc"] = [str(cuda.home / "bin" / "nvcc")]
        config["nvcc_args"] = cuda.nvcc_args()
        config["cuda_library_dirs"] = [str(folder) for folder in cuda.library_dirs()]
    return json.dumps({key: ";".join(values) for key, values in config.items()})


if __name__ == "__main__":
    try:
        print(_for_cmake(sys.argv[1]))
    except BuildConfigError as error:
        sys.exit(str(error))
