"""Sources and flags, and when the CUDA kernels are compiled: what every way of building reads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from simclr_ext import _build_config
from simclr_ext._build_config import BuildConfigError, CudaBuild, NoCuda
from simclr_ext.backends import loader

ROOT = Path(__file__).resolve().parent.parent
TORCH_HOME = Path(torch.__file__).parent


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
        f"""#!/bin/sh
            case "$*" in
                --list-gpu-code) echo sm_80 sm_86 sm_89 sm_90 sm_100 sm_120;;
                *) echo 'Cuda compilation tools, release 13.1, V13.1.5'; echo '#$ TOP={home}';;
            esac
        """
    )
    nvcc.chmod(0o755)
    for name in ("SIMCLR_EXT_CUDA", "TORCH_CUDA_ARCH_LIST", "CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_HOME", str(home))
    return home


def test_cuda_is_compiled_where_there_is_a_toolkit(torch_of_cuda_13: Path, toolkit: Path) -> None:
    cuda_of_torch = torch_of_cuda_13.parent / "nvidia" / "cu13"
    cuda_of_torch.mkdir(parents=True)
    cuda = _build_config.cuda_build(torch_of_cuda_13)
    assert cuda == CudaBuild(
        home=toolkit,
        version="13.1",
        architectures=_build_config.CUDA_ARCHITECTURES,
        torch_cuda=(cuda_of_torch,),
    )
    arguments = cuda.nvcc_args()
    assert "-gencode=arch=compute_90a,code=sm_90a" in arguments
    assert "-gencode=arch=compute_120,code=compute_120" in arguments
    assert arguments.index(f"{toolkit}/include") < arguments.index(f"{cuda_of_torch}/include")


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


def test_architectures_that_nvcc_does_not_know_are_left_out(
    torch_of_cuda_13: Path, toolkit: Path
) -> None:
    nvcc = toolkit / "bin" / "nvcc"
    nvcc.write_text(nvcc.read_text().replace(" sm_100 sm_120", ""))
    cuda = _build_config.cuda_build(torch_of_cuda_13)
    assert isinstance(cuda, CudaBuild)
    assert cuda.architectures == ("sm_80", "sm_86", "sm_89", "sm_90a", "compute_90")
    assert _build_config.cuda_build(torch_of_cuda_13, ["sm_120"]) == NoCuda(
        f"{nvcc} is of CUDA 13.1, which lacks sm_120"
    )


def test_each_wheel_of_cuda_12_has_a_folder(tmp_path: Path, toolkit: Path) -> None:
    home = tmp_path / "site" / "torch"
    home.mkdir(parents=True)
    (home / "version.py").write_text("cuda: Optional[str] = '12.4'\n")
    nvcc = toolkit / "bin" / "nvcc"
    nvcc.write_text(nvcc.read_text().replace("13.1", "12.4"))
    wheels = [home.parent / "nvidia" / name for name in ("cublas", "cuda_runtime")]
    for wheel in wheels:
        (wheel / "include").mkdir(parents=True)
    runtime = wheels[1] / "lib" / "libcudart.so.12"
    runtime.parent.mkdir()
    runtime.touch()
    cuda = _build_config.cuda_build(home)
    assert isinstance(cuda, CudaBuild)
    assert cuda.torch_cuda == tuple(wheels)
    assert f"{wheels[0]}/include" in cuda.compile_args()
    cuda.link_args(tmp_path / "link")
    assert (tmp_path / "link" / "libcudart.so").resolve() == runtime


def test_cuda_runtime_that_came_with_torch_is_linked_where_the_toolkit_has_none(
    torch_of_cuda_13: Path, toolkit: Path, tmp_path: Path
) -> None:
    library = torch_of_cuda_13.parent / "nvidia" / "cu13" / "lib" / "libcudart.so.13"
    library.parent.mkdir(parents=True)
    cuda = _build_config.cuda_build(torch_of_cuda_13)
    assert isinstance(cuda, CudaBuild)
    with pytest.raises(BuildConfigError, match=r"no libcudart\.so or libcudart\.so\.\* in"):
        cuda.link_args(tmp_path)
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
    monkeypatch.setattr(loader, "visible_capabilities", lambda: gpus)
    monkeypatch.setattr(torch, "__file__", str(torch_of_cuda_13 / "__init__.py"))
    if mode is not None:
        monkeypatch.setenv("SIMCLR_EXT_CUDA", mode)
    cuda = loader.cuda_build()
    assert (cuda.architectures if isinstance(cuda, CudaBuild) else None) == expected
    folder = loader._library(cuda).folder()
    assert (folder == loader._library(NoCuda("another reason")).folder()) == (expected is None)


def test_sources(torch_of_cuda_13: Path, toolkit: Path) -> None:
    def listed(cuda: CudaBuild | NoCuda) -> set[Path]:
        return {*_build_config.sources(cuda), *_build_config.headers(cuda)}

    every = listed(_build_config.cuda_build(torch_of_cuda_13))
    handlers = set(_build_config.jax_sources())
    assert every | handlers == {path for path in (ROOT / "csrc").rglob("*") if path.is_file()}
    assert every.isdisjoint(handlers)
    kernels = {path for path in every if ROOT / "csrc" / "cuda" in path.parents}
    assert listed(NoCuda("not wanted")) == every - kernels
    assert any(path.suffix == ".cu" for path in kernels)


@pytest.mark.build
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
