"""Compiles the C++ library for 64-bit Arm, and runs its unit tests in an emulator: make test-arm.

Needs Debian's g++-aarch64-linux-gnu and qemu-user, and PyPI's wheels of torch for Arm, half a
gigabyte, which are kept in build/arm.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARM = ROOT / "build" / "arm"
TESTS = ("schedule", "half", "simd", "ops")
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
LIBRARIES = Path("/usr/aarch64-linux-gnu")  # of the compiler's Debian package
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_25_aarch64", "manylinux_2_28_aarch64")
# torch asks for the processor's model, and the emulator would show it that of the machine.
PROCESSOR = """processor\t: {}
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""


def main() -> None:
    """Build and run all tests; end with an error if one fails."""
    missing = [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]
    if missing:
        raise SystemExit(
            f"{' and '.join(missing)} not found: apt-get install g++-aarch64-linux-gnu qemu-user"
        )
    home = _torch()
    _build(home)
    failed = [test for test in TESTS if not _passes(test, home)]
    if failed:
        raise SystemExit(f"failed on Arm: {', '.join(failed)}")
    print(f"passed on Arm: {', '.join(TESTS)}")


def _torch() -> Path:
    """Return the folder with torch for Arm and with the CUDA libraries that it is linked to."""
    home = ARM / "torch"
    if home.exists():
        return home
    version = metadata.version("torch").partition("+")[0]
    wheels = ARM / "wheels"
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    linked = ["nvidia-cuda-runtime>=13,<14", "nvidia-cuda-cupti>=13,<14"]
    subprocess.run([*pip, "--dest", wheels, *platforms, f"torch=={version}", *linked], check=True)
    unpacked = ARM / "unpacked"
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(unpacked)
    return unpacked.rename(home)


def _library_path(home: Path) -> str:
    return f"{home}/torch/lib:{home}/nvidia/cu13/lib"


def _build(home: Path) -> None:
    found = f"-Wl,-rpath-link,{_library_path(home)}"
    options = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_CXX_COMPILER": COMPILER,
        "CMAKE_SHARED_LINKER_FLAGS": found,
        "CMAKE_EXE_LINKER_FLAGS": found,
        "Torch_DIR": home / "torch" / "share" / "cmake" / "Torch",
        "Python_EXECUTABLE": sys.executable,
        "SIMCLR_CUTE": ROOT / ".venv" / "cute",
    }
    cmake, build = Path(sys.executable).with_name("cmake"), ARM / "cmake"
    defined = [f"-D{name}={value}" for name, value in options.items()]
    subprocess.run([cmake, "-S", ROOT, "-B", build, *defined], check=True)
    targets = [f"test_{test}" for test in TESTS]
    subprocess.run([cmake, "--build", build, "--parallel", "2", "--target", *targets], check=True)


def _passes(test: str, home: Path) -> bool:
    command = [EMULATOR, "-L", _root(), "-E", f"LD_LIBRARY_PATH={_library_path(home)}"]
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    run = subprocess.run([*command, ARM / "cmake" / f"test_{test}"], env=environment, check=False)
    return run.returncode == 0


def _root() -> Path:
    """Return a folder in which the emulated program finds its system's files."""
    root = ARM / "root"
    (root / "proc").mkdir(parents=True, exist_ok=True)
    processors = range(os.cpu_count() or 1)
    (root / "proc" / "cpuinfo").write_text("".join(PROCESSOR.format(i) for i in processors))
    if not (root / "lib").exists():
        (root / "lib").symlink_to(LIBRARIES / "lib")
    return root


if __name__ == "__main__":
    main()
