"""Runs the tests on every version of torch that the package supports: `make compat`.

Each version has its own environment in build/compat, 5 GB, which is built once. The results
are kept there, and the table in docs/compatibility.md is written from all of them.

    python tests/compat.py            every version
    python tests/compat.py 2.8.0      one
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simclr_ext import _build_config
from simclr_ext._build_config import NoCuda

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "compat"
PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- made by `make compat` -->", "<!-- end -->"

SUITES = {
    "loss": ["reference", "losses", "accuracy", "determinism", "products", "tiled", "diagnostics"],
    "operators": ["ops", "selection", "torch_compat"],
    "build": ["build", "build_config"],
    "trainer": ["cli", "doctor", "options", "trainer"],
}
ARCHITECTURES = "8.0;9.0a"  # of the CUDA kernels, which are compiled and not run
_DESCRIBE = """
import json, platform, numpy, torch, torchvision
print(json.dumps({"Python": platform.python_version(), "numpy": numpy.__version__,
                  "torch": torch.__version__, "torchvision": torchvision.__version__}))
"""


@dataclass(frozen=True)
class Version:
    """A version of torch, and the versions with which it is tested.

    Args:
        torch: Version of torch.
        torchvision: The matching version of torchvision.
        python: Version of Python, if it is on the PATH; otherwise, the Python that runs this.
        numpy: Requirement on numpy.
    """

    torch: str
    torchvision: str
    python: str
    numpy: str = "numpy>=2"

    @property
    def home(self) -> Path:
        """The folder of its environment."""
        return FOLDER / self.torch

    @property
    def executable(self) -> str:
        """The environment's Python."""
        return str(self.home / "bin" / "python")


def pinned() -> Version:
    """Return the versions of constraints.txt."""
    pins = dict(re.findall(r"^(\w+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    return Version(pins["torch"], pins["torchvision"], "3.11")


VERSIONS = (
    Version("2.6.0", "0.21.0", "3.10", "numpy==1.26.*"),
    Version("2.8.0", "0.23.0", "3.12"),
    Version("2.11.0", "0.26.0", "3.13"),
    pinned(),
)


def main(names: Sequence[str]) -> int:
    """Test the versions of these names, all if there are none; return 1 if a test failed."""
    unknown = set(names) - {version.torch for version in VERSIONS}
    if unknown:
        sys.exit(f"the versions are {', '.join(v.torch for v in VERSIONS)}, got {unknown}")
    for version in VERSIONS:
        if not names or version.torch in names:
            set_up(version)
            result = (
                describe(version) | run_suites(version) | {"CUDA kernels": compile_cuda(version)}
            )
            (FOLDER / f"{version.torch}.json").write_text(json.dumps(result))
    rows = [
        json.loads(path.read_text())
        for path in (FOLDER / f"{version.torch}.json" for version in VERSIONS)
        if path.exists()
    ]
    write_table(rows)
    return int(any("failed" in cell for row in rows for cell in row.values()))


def set_up(version: Version) -> None:
    """Build the environment, unless it is there."""
    ready = version.home / ".ready"
    if not ready.exists():
        subprocess.run([interpreter(version), "-m", "venv", str(version.home)], check=True)
        torch = [f"torch=={version.torch}", f"torchvision=={version.torchvision}", version.numpy]
        pip(version, *torch, "setuptools>=77", "wheel", "pytest>=8")
        ready.touch()
    extras = "[trainer,safetensors]"
    pip(version, "--no-build-isolation", "-e", f"{ROOT}{extras}", version.numpy)


def interpreter(version: Version) -> str:
    """Return the requested Python, or the one that runs this."""
    path = shutil.which(f"python{version.python}")
    if path and subprocess.run([path, "-V"], capture_output=True, check=False).returncode == 0:
        return path
    print(f"no python{version.python}: torch {version.torch} is tested with {sys.executable}")
    return sys.executable


def pip(version: Version, *arguments: str) -> None:
    """Install into the environment; the package itself compiles at first use."""
    command = [version.executable, "-m", "pip", "install", "--quiet", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "SIMCLR_EXT_BUILD": "jit"})


def describe(version: Version) -> dict[str, str]:
    """Return the installed versions."""
    done = subprocess.run(
        [version.executable, "-c", _DESCRIBE], check=True, capture_output=True, text=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def run_suites(version: Version) -> dict[str, str]:
    """Return, for each suite, how many tests passed, and how many did not."""
    counts = {}
    for suite, names in SUITES.items():
        print(f"torch {version.torch}: {suite}", flush=True)
        paths = [p for name in names for p in (f"tests/test_{name}.py", f"tests/{name}")]
        report = FOLDER / f"{version.torch}-{suite}.xml"
        report.unlink(missing_ok=True)
        subprocess.run(
            [
                *(version.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *(f"--junitxml={report}", *(path for path in paths if (ROOT / path).exists())),
            ],
            cwd=ROOT,
            env={**os.environ, "TORCH_EXTENSIONS_DIR": str(version.home / "extensions")},
            check=False,
        )
        counts[suite] = count(report)
    return counts


def count(report: Path) -> str:
    """Return what pytest's report says, as in `10 passed, 1 failed, 2 skipped`."""
    (suite,) = ET.parse(report).getroot().iter("testsuite")
    total, failures, errors, skipped = (
        int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    numbers = {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}
    return ", ".join(f"{n:,} {what}" for what, n in numbers.items() if n or what == "passed")


def compile_cuda(version: Version) -> str:
    """Compile the CUDA kernels ahead of time for two architectures; return the outcome."""
    print(f"torch {version.torch}: CUDA kernels", flush=True)
    (torch_home,) = version.home.glob("lib/python*/site-packages/torch")
    cuda = _build_config.cuda_build(torch_home)
    if isinstance(cuda, NoCuda):
        return re.sub(r"\S*/nvcc", "nvcc", cuda.reason)  # without this machine's path
    command = [version.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    env = {"SIMCLR_EXT_BUILD": "aot", "SIMCLR_EXT_CUDA": "1", "TORCH_CUDA_ARCH_LIST": ARCHITECTURES}
    done = subprocess.run(
        [*command, "--wheel-dir", str(version.home / "wheels"), str(ROOT)],
        env={**os.environ, **env},
        check=False,
    )
    outcome = "compiled" if done.returncode == 0 else "failed"
    return f"{outcome} for {ARCHITECTURES}, nvcc {cuda.version}"


def write_table(rows: Sequence[dict[str, str]]) -> None:
    """Write the results between the marks of the page."""
    columns = ["torch", "torchvision", "Python", "numpy", *SUITES, "CUDA kernels"]
    lines = [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row[column] for column in columns)} |" for row in rows),
    ]
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text("\n".join([head + BEGIN, "", *lines, "", END]) + tail)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
