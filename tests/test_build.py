"""The ways of building: compiled at first use, ahead of time, and what happens when they fail."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
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


def python(
    code: str, folder: Path, *, start_new_session: bool = False, **env: str
) -> subprocess.Popen[str]:
    """Run ``code`` with the package in ``folder``, not the one that is installed."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=start_new_session,
    )


def finish(process: subprocess.Popen[str], timeout: float = 600) -> tuple[str, str]:
    out, err = process.communicate(timeout=timeout)
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
def jit_cache(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that three processes filled, starting at once."""
    cache = tmp_path_factory.mktemp("a cache")
    processes = [python(USE, checkout, TORCH_EXTENSIONS_DIR=str(cache)) for _ in range(3)]
    results = [finish(process) for process in processes]
    assert all(out.startswith("at first use") for out, _ in results)
    said = "".join(err for _, err in results)
    assert said.count("compiling the kernels, once") == 1
    assert said.count("compiled in") == 1
    return cache


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
    pages = Path("simclr_ext/trainer/pages")
    assert {p.name for p in (site / pages).iterdir()} >= {"map.html", "map.css", "page.js"}
    # The same sources have the same hash, so there is no second compilation.
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


def test_what_a_killed_compilation_left_is_not_waited_for(checkout: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-c*) sleep 600;; esac\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    cache = tmp_path / "cache"
    env = {"TORCH_EXTENSIONS_DIR": str(cache), "CXX": str(compiler)}
    process = python(USE, checkout, start_new_session=True, **env)
    while not list(cache.glob("**/build.ninja")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    # The lock file of torch 2.13 and older exists, in the folder where the next compilation looks.
    (build_file,) = cache.glob("**/build.ninja")
    (build_file.parent / "lock").touch()
    compiler.write_text("#!/bin/sh\necho 'the compiler was called' >&2\nexit 1\n")
    out, _ = finish(python(FAIL, checkout, **env), timeout=120)
    assert "the compiler was called" in out
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_compiler_that_fails_at_all_is_quoted_each_time(checkout: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'the license has expired' >&2\nexit 1\n")
    compiler.chmod(0o755)
    env = {"TORCH_EXTENSIONS_DIR": str(tmp_path / "cache"), "CXX": str(compiler)}
    out, _ = finish(python(f"{FAIL}\n{FAIL}", checkout, **env))
    first, second = out.split("The compiled NT-Xent operators are unavailable.")[1:]
    assert "the license has expired" in first
    assert "the license has expired" in second


def test_cache_that_cannot_be_written_is_named(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = {"TORCH_EXTENSIONS_DIR": str(tmp_path / "file" / "cache")}
    out, _ = finish(python(FAIL, checkout, **env))
    assert f"Not a directory: '{tmp_path}/file/cache'" in out
    assert "set TORCH_EXTENSIONS_DIR to a folder that can be written" in out


def test_old_setuptools_is_named(checkout: Path, tmp_path: Path) -> None:
    stub = "__version__ = '66.1.1'\nfind_packages = setup = None\n"
    (tmp_path / "setuptools.py").write_text(stub)
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
