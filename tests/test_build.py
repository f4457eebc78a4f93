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
from simclr_ext import _backend, doctor
assert max(doctor.self_test().values()) < 1e-6
print(_backend.how_built(_backend.load()), "|", simclr_ext.__file__)
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
    """Return a copy of what is shipped, free of build products."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def jit_cache(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that three processes filled, starting at once."""
    cache = tmp_path_factory.mktemp("cache")
    processes = [python(USE, checkout, TORCH_EXTENSIONS_DIR=str(cache)) for _ in range(3)]
    results = [finish(process) for process in processes]
    assert all(out.startswith("at first use") for out, _ in results)
    said = "".join(err for _, err in results)
    assert said.count("compiling the kernels, once") == 1
    assert said.count("compiled in") == 1
    return cache


def wheel(checkout: Path, folder: Path, mode: str) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", str(folder), str(checkout)],
        env={**os.environ, "SIMCLR_EXT_BUILD": mode},
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_compiled_at_first_use_is_found_by_the_next_process(
    checkout: Path, jit_cache: Path
) -> None:
    _, err = finish(python(USE, checkout, TORCH_EXTENSIONS_DIR=str(jit_cache), CXX="/no/compiler"))
    assert "compiling" not in err


def test_pure_wheel_carries_the_sources(checkout: Path, jit_cache: Path, tmp_path: Path) -> None:
    built = wheel(checkout, tmp_path, "jit")
    assert built.name.endswith("py3-none-any.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(built).extractall(site)
    shipped = {p.relative_to(checkout / "csrc") for p in (checkout / "csrc").rglob("*.*")}
    packed = {p.relative_to(site / "simclr_ext/csrc") for p in site.glob("simclr_ext/csrc/**/*.*")}
    assert packed == shipped
    # The same sources: the same hash, hence no second compilation.
    out, err = finish(python(USE, site, TORCH_EXTENSIONS_DIR=str(jit_cache)))
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
    checkout: Path, jit_cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkout / "simclr_ext", tmp_path / "simclr_ext")
    shutil.copytree(checkout / "csrc", tmp_path / "csrc")
    (tmp_path / "simclr_ext/_C.so").write_text("not a library")
    out, err = finish(python(USE, tmp_path, TORCH_EXTENSIONS_DIR=str(jit_cache)))
    assert out.startswith("at first use")
    assert "UserWarning: The prebuilt simclr_ext._C does not load" in err


FAIL = """
import simclr_ext._backend as backend
try:
    backend.load()
except backend.BackendUnavailableError as error:
    print(error)
"""


def test_no_compiler(checkout: Path, tmp_path: Path) -> None:
    out, _ = finish(python(FAIL, checkout, TORCH_EXTENSIONS_DIR=str(tmp_path), CXX="no-such-c++"))
    assert "prebuilt: not built ahead of time" in out
    assert "no C++ compiler: 'no-such-c++' is not on the PATH" in out
    assert "apt-get install g++" in out
    assert "backend='tiled'" in out


def test_error_shows_what_the_compiler_said(checkout: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *-c*) echo "fatal error: Python.h: no such file" >&2; exit 1;; '
        'esac\nexec c++ "$@"\n'
    )
    compiler.chmod(0o755)
    env = {"TORCH_EXTENSIONS_DIR": str(tmp_path / "cache"), "CXX": str(compiler)}
    out, _ = finish(python(FAIL, checkout, **env))
    assert "fatal error: Python.h: no such file" in out
    assert "python3-dev" in out


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
