"""The ways of building: compiled at first use, ahead of time, and what happens when they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.build

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = [
    "csrc",
    "simclr_ext",
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
]

USE = """
import torch, simclr_ext
from simclr_ext import doctor
from simclr_ext.backends import loader
assert max(doctor.self_test().values()) <= 1
print(loader.how_built(loader.load()), "|", simclr_ext.__file__)
"""


def python(code: str, folder: Path, **env: str) -> subprocess.Popen[str]:
    """Run ``code`` with the package in ``folder``, not the one that is installed."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out.strip(), err


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what is shipped, free of build products and of git, in a hostile folder."""
    folder = tmp_path_factory.mktemp("a checkout, it's (here)")
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def compiled(checkout: Path) -> str:
    """Compile the copy at first use, unless other tests have: it is the same kernels' folder."""
    out, _ = finish(python(USE, checkout))
    return out


def wheel(checkout: Path, folder: Path, mode: str) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(checkout)],
        env={**os.environ, "SIMCLR_EXT_BUILD": mode, "SIMCLR_EXT_CUDA": "0"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "would be ignored" not in done.stdout + done.stderr  # setuptools, of undeclared folders
    (built,) = folder.glob("*.whl")
    return built


def test_pure_wheel_carries_the_sources(checkout: Path, compiled: str, tmp_path: Path) -> None:
    built = wheel(checkout, tmp_path, "jit")
    assert built.name.endswith("py3-none-any.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(built).extractall(site)
    # The same sources have the same hash, so there is no second compilation.
    assert compiled == f"at first use | {checkout}/simclr_ext/__init__.py"
    out, err = finish(python(USE, site, CXX="/no/compiler"))
    assert out == f"at first use | {site}/simclr_ext/__init__.py"
    assert "compiling" not in err


def test_wheel_ahead_of_time_needs_no_compiler(checkout: Path, tmp_path: Path) -> None:
    built = wheel(checkout, tmp_path, "aot")
    site = tmp_path / "site"
    zipfile.ZipFile(built).extractall(site)
    out, err = finish(python(USE, site, CXX="/no/compiler", TORCH_EXTENSIONS_DIR=str(tmp_path)))
    assert out == f"ahead of time | {site}/simclr_ext/__init__.py"
    assert err == ""


def test_prebuilt_module_that_does_not_load_is_reported_and_compiled_again(
    checkout: Path, compiled: str, tmp_path: Path
) -> None:
    shutil.copytree(checkout / "simclr_ext", tmp_path / "simclr_ext")
    shutil.copytree(checkout / "csrc", tmp_path / "csrc")
    (tmp_path / "simclr_ext/_C.so").write_text("not a library")
    out, err = finish(python(USE, tmp_path))
    assert out.startswith("at first use")
    assert "UserWarning: The prebuilt simclr_ext._C does not load" in err


FAIL = """
import simclr_ext
import simclr_ext.backends.loader as backend
try:
    backend.load()
except simclr_ext.BackendUnavailableError as error:
    print(error)
    kept = error  # as pytest and notebooks do: with the frames of the compilation
"""


def test_no_compiler(checkout: Path, tmp_path: Path) -> None:
    out, _ = finish(python(FAIL, checkout, TORCH_EXTENSIONS_DIR=str(tmp_path), CXX="no-such-c++"))
    assert "prebuilt: not built ahead of time" in out
    assert "no C++ compiler: 'no-such-c++' is not on the PATH" in out
    assert "apt-get install g++" in out
    assert "backend='tiled'" in out


def test_old_setuptools_is_named(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "setuptools" / "command").mkdir(parents=True)
    stub = "__version__ = '66.1.1'\nfind_packages = setup = None\n"
    (tmp_path / "setuptools" / "__init__.py").write_text(stub)
    (tmp_path / "setuptools" / "command" / "sdist.py").write_text("sdist = object\n")
    result = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == "simclr-ext needs setuptools 77 or newer to build, got 66.1.1\n"


def test_build_mode_is_checked(checkout: Path) -> None:
    result = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=checkout,
        env={**os.environ, "SIMCLR_EXT_BUILD": "fast"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "SIMCLR_EXT_BUILD must be auto, aot or jit, got 'fast'" in result.stderr


def test_cuda_asked_for_without_a_toolkit_fails_at_first_use(
    checkout: Path, tmp_path: Path
) -> None:
    env = {"SIMCLR_EXT_CUDA": "1", "CUDA_HOME": "/no/cuda", "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    out, _ = finish(python(FAIL, checkout, **env))
    assert "SIMCLR_EXT_CUDA is 1, but " in out
    assert "SIMCLR_EXT_CUDA=0 leaves out" in out


def test_cuda_asked_for_without_a_toolkit_fails_ahead_of_time(checkout: Path) -> None:
    result = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=checkout,
        env={**os.environ, "SIMCLR_EXT_CUDA": "1", "CUDA_HOME": "/no/cuda"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "SIMCLR_EXT_CUDA is 1, but " in result.stderr
