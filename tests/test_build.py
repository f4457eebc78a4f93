"""The ways of building: compiled at first use, ahead of time, and what happens when they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from simclr_ext import _backend, _build_config
from simclr_ext._build_config import BuildConfigError, CudaBuild, NoCuda

pytestmark = pytest.mark.build

ROOT = Path(__file__).resolve().parent.parent
TORCH_HOME = Path(torch.__file__).parent
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
        env={**os.environ, "SIMCLR_EXT_BUILD": mode, "SIMCLR_EXT_CUDA": "0"},
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


@pytest.fixture
def torch_of_cuda_13(tmp_path: Path) -> Path:
    home = tmp_path / "site" / "torch"
    home.mkdir(parents=True)
    (home / "version.py").write_text("__version__ = '2.14.1'\ncuda: Optional[str] = '13.0'\n")
    return home


@pytest.fixture
def toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a CUDA toolkit, whose nvcc only tells of itself."""
    home = tmp_path / "cuda"
    (home / "bin").mkdir(parents=True)
    nvcc = home / "bin" / "nvcc"
    nvcc.write_text(
        f"#!/bin/sh\necho 'Cuda compilation tools, release 13.1, V13.1.5'\necho '#$ TOP={home}'\n"
    )
    nvcc.chmod(0o755)
    for name in ("SIMCLR_EXT_CUDA", "TORCH_CUDA_ARCH_LIST", "CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_HOME", str(home))
    return home


def test_cuda_is_compiled_where_there_is_a_toolkit(torch_of_cuda_13: Path, toolkit: Path) -> None:
    cuda = _build_config.cuda_build(torch_of_cuda_13)
    assert cuda == CudaBuild(
        home=toolkit,
        version="13.1",
        architectures=_build_config.CUDA_ARCHITECTURES,
        torch_cuda=torch_of_cuda_13.parent / "nvidia" / "cu13",
    )
    arguments = cuda.nvcc_args()
    assert "-gencode=arch=compute_90a,code=sm_90a" in arguments
    assert "-gencode=arch=compute_120,code=compute_120" in arguments
    assert arguments.index(f"{toolkit}/include") < arguments.index(f"{cuda.torch_cuda}/include")


def test_cuda_toolkit_is_also_found_on_the_path(
    torch_of_cuda_13: Path, toolkit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_HOME")
    monkeypatch.setenv("PATH", f"{toolkit}/bin", prepend=os.pathsep)
    cuda = _build_config.cuda_build(torch_of_cuda_13)
    assert isinstance(cuda, CudaBuild)
    assert cuda.home == toolkit


@pytest.mark.parametrize(
    ("environment", "torch_cuda", "reason"),
    [
        ({"CUDA_HOME": "/no/cuda"}, "'13.0'", "there is no CUDA toolkit: /no/cuda/bin/nvcc"),
        ({}, "'12.8'", "nvcc is of CUDA 13.1, and torch of CUDA 12.8"),
        ({}, "None", "torch was built without CUDA"),
    ],
    ids=["no nvcc", "other major version", "torch for the CPU"],
)
def test_cuda_that_cannot_be_compiled_is_left_out_or_an_error(
    environment: Mapping[str, str],
    torch_cuda: str,
    reason: str,
    torch_of_cuda_13: Path,
    toolkit: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (torch_of_cuda_13 / "version.py").write_text(f"cuda: Optional[str] = {torch_cuda}\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cuda = _build_config.cuda_build(torch_of_cuda_13)
    assert isinstance(cuda, NoCuda)
    assert reason in cuda.reason
    monkeypatch.setenv("SIMCLR_EXT_CUDA", "1")
    with pytest.raises(BuildConfigError, match=f"SIMCLR_EXT_CUDA is 1, but .*{reason}"):
        _build_config.cuda_build(torch_of_cuda_13)


def test_cuda_can_be_left_out(
    torch_of_cuda_13: Path, toolkit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMCLR_EXT_CUDA", "0")
    assert _build_config.cuda_build(torch_of_cuda_13) == NoCuda("SIMCLR_EXT_CUDA is 0")
    monkeypatch.setenv("SIMCLR_EXT_CUDA", "yes")
    with pytest.raises(BuildConfigError, match=r"SIMCLR_EXT_CUDA must be 0 or 1, .* got 'yes'"):
        _build_config.cuda_build(torch_of_cuda_13)


def test_architectures_can_be_chosen(
    torch_of_cuda_13: Path, toolkit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0a 12.0+PTX")
    cuda = _build_config.cuda_build(torch_of_cuda_13)
    assert isinstance(cuda, CudaBuild)
    assert cuda.architectures == ("sm_80", "sm_90a", "sm_120", "compute_120")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;Ampere")
    with pytest.raises(BuildConfigError, match=r"8\.0;9\.0a;12\.0\+PTX, got 'Ampere'"):
        _build_config.cuda_build(torch_of_cuda_13)


def test_cuda_runtime_that_came_with_torch_is_linked_where_the_toolkit_has_none(
    torch_of_cuda_13: Path, toolkit: Path, tmp_path: Path
) -> None:
    cuda = _build_config.cuda_build(torch_of_cuda_13)
    assert isinstance(cuda, CudaBuild)
    with pytest.raises(BuildConfigError, match=r"no libcudart\.so in"):
        cuda.link_args(tmp_path)
    library = cuda.torch_cuda / "lib" / "libcudart.so.13"
    library.parent.mkdir(parents=True)
    library.touch()
    assert cuda.link_args(tmp_path / "link") == [f"-L{tmp_path / 'link'}"]
    assert (tmp_path / "link" / "libcudart.so").resolve() == library
    (toolkit / "lib64").mkdir()
    (toolkit / "lib64" / "libcudart.so").touch()
    assert cuda.link_args(tmp_path) == []


@pytest.mark.parametrize(
    ("gpus", "mode", "expected"),
    [
        ([], None, None),
        ([(7, 5)], None, None),
        ([], "1", _build_config.CUDA_ARCHITECTURES),
        ([(8, 6), (9, 0), (9, 0)], None, ("sm_86", "sm_90a")),
        ([(9, 0)], "0", None),
    ],
    ids=["no GPU", "old GPU", "no GPU, asked for", "two kinds of GPU", "left out"],
)
def test_first_use_compiles_for_the_gpus_at_hand(
    gpus: list[tuple[int, int]],
    mode: str | None,
    expected: tuple[str, ...] | None,
    torch_of_cuda_13: Path,
    toolkit: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_backend, "visible_capabilities", lambda: gpus)
    monkeypatch.setattr(torch, "__file__", str(torch_of_cuda_13 / "__init__.py"))
    if mode is not None:
        monkeypatch.setenv("SIMCLR_EXT_CUDA", mode)
    cuda = _backend.cuda_build()
    assert (cuda.architectures if isinstance(cuda, CudaBuild) else None) == expected
    folder = _backend.jit_folder(cuda)
    assert (folder == _backend.jit_folder(NoCuda("another reason"))) == (expected is None)


def test_sources(torch_of_cuda_13: Path, toolkit: Path) -> None:
    def listed(cuda: CudaBuild | NoCuda) -> set[Path]:
        return {*_build_config.sources(cuda), *_build_config.headers(cuda)}

    every = listed(_build_config.cuda_build(torch_of_cuda_13))
    assert every == {path for path in (ROOT / "csrc").rglob("*") if path.is_file()}
    kernels = {path for path in every if ROOT / "csrc" / "cuda" in path.parents}
    assert listed(NoCuda("not wanted")) == every - kernels
    assert any(path.suffix == ".cu" for path in kernels)


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


def test_nvcc_compiles_with_these_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIMCLR_EXT_CUDA", raising=False)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0")
    cuda = _build_config.cuda_build(TORCH_HOME)
    if isinstance(cuda, NoCuda):
        pytest.skip(cuda.reason)
    source = tmp_path / "twice.cu"
    source.write_text(
        "#include <c10/cuda/CUDAStream.h>\n"
        "__global__ void twice(float* x) { x[threadIdx.x] *= 2; }\n"
    )
    include = ["-isystem", str(TORCH_HOME / "include")]
    command = [str(cuda.home / "bin" / "nvcc"), *cuda.nvcc_args(), *include, "-c", str(source)]
    subprocess.run([*command, "-o", str(tmp_path / "twice.o")], check=True)
    assert (tmp_path / "twice.o").stat().st_size > 0
