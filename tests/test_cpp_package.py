"""The C++ library as installed: a program finds it with CMake, and computes what Python does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

import simclr_ext
from simclr_ext import nt_xent_loss
from tests.tools import CMAKE, ROOT, built

pytestmark = pytest.mark.build
EXAMPLE = ROOT / "examples" / "cpp"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which the library was installed, with a space in its name."""
    prefix = tmp_path_factory.mktemp("a prefix")
    command = [CMAKE, "--install", built("simclr_ext"), "--prefix", prefix]
    subprocess.run(command, check=True, capture_output=True)
    return prefix


def configure(
    source: Path, build: Path, prefix: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    command = [CMAKE, "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refusal(*arguments: Path | str) -> str:
    """Return what CMake says, in one line, where configuring must fail."""
    source, build, prefix, *options = arguments
    done = configure(Path(source), Path(build), Path(prefix), *map(str, options))
    assert done.returncode != 0
    return " ".join(done.stderr.split())


def embeddings(frequency: float) -> Tensor:
    """Return the views of the example."""
    angles = frequency * torch.arange(3200, dtype=torch.float64)
    return angles.sin().view(100, 32).float().double().requires_grad_()


def test_the_example_prints_what_the_reference_computes(installed: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    done = configure(EXAMPLE, build, installed)
    assert done.returncode == 0, done.stderr
    subprocess.run([CMAKE, "--build", build], check=True, capture_output=True)
    program = subprocess.run([build / "example"], capture_output=True, text=True, check=False)
    assert program.returncode == 0, program.stderr

    z0, z1 = embeddings(0.7), embeddings(1.1)
    t = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    loss = nt_xent_loss(z0, z1, t, backend="reference")
    grad_z0, grad_z1, grad_t = torch.autograd.grad(loss, (z0, z1, t))
    *lines, refused = program.stdout.splitlines()
    printed = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert printed == {
        "loss": pytest.approx(loss.item(), rel=1e-6),
        "gradient of z0": pytest.approx(grad_z0.norm().item(), rel=1e-6),
        "gradient of z1": pytest.approx(grad_z1.norm().item(), rel=1e-6),
        "gradient of the temperature": pytest.approx(grad_t.item(), rel=1e-6),
    }
    assert refused == "refused: z1 must have the shape of z0, [100, 32], got [99, 32]"


def test_another_version_is_refused(installed: Path, tmp_path: Path) -> None:
    text = (EXAMPLE / "CMakeLists.txt").read_text()
    (tmp_path / "CMakeLists.txt").write_text(
        re.sub(r"simclr_ext 0\.\d+ ", "simclr_ext 99.0 ", text)
    )
    shutil.copy(EXAMPLE / "main.cpp", tmp_path)
    said = refusal(tmp_path, tmp_path / "build", installed)
    assert 'compatible with requested version "99.0"' in said
    assert f"version: {simclr_ext.__version__}" in said


def test_a_libtorch_that_is_not_there_is_named(installed: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    option = f"-DTorch_DIR={nowhere}/share/cmake/Torch"
    said = refusal(EXAMPLE, tmp_path / "build", installed, option)
    assert f"there is no libtorch in {nowhere}; set Torch_DIR" in said


def test_a_libtorch_of_another_version_is_refused(installed: Path, tmp_path: Path) -> None:
    home = tmp_path / "other"
    files = home / "share" / "cmake" / "Torch"
    files.mkdir(parents=True)
    (files / "TorchConfigVersion.cmake").write_text('set(PACKAGE_VERSION "1.2.3")\n')
    (files / "TorchConfig.cmake").touch()
    (home / "lib").mkdir()
    for name in ("torch_cpu", "c10"):
        (home / "lib" / f"lib{name}.so").touch()
    said = refusal(EXAMPLE, tmp_path / "build", installed, f"-DTorch_DIR={files}")
    version = torch.__version__.partition("+")[0]
    assert f"compiled against libtorch {version}, and the one in {home} is 1.2.3" in said
