from __future__ import annotations

import math
import re
from types import SimpleNamespace

import pytest
import torch

from simclr_ext import BackendUnavailableError, doctor
from simclr_ext.backends import loader


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main() == 0
    report = capsys.readouterr().out
    assert torch.__version__ in report
    assert loader.load().active_isa() in report
    assert "CUDA kernels " in report
    assert "fused, since there are fused kernels for device cpu" in report
    assert "self-test      fused: loss" in report
    assert "self-test      tiled: loss" in report
    assert report.endswith("All is well.\n")


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (
            {"cuda_architectures": ["sm_80", "sm_90a"], "cuda_version": "13.0"},
            "for sm_80, sm_90a, by CUDA 13.0",
        ),
        ({"cuda_architectures": []}, "none; to have them, reinstall .* SIMCLR_EXT_CUDA=1"),
        (
            {"cuda_architectures": [], "__name__": "simclr_ext_jit"},
            "none: SIMCLR_EXT_CUDA is 0",
        ),
    ],
    ids=["compiled", "left out ahead of time", "left out at first use"],
)
def test_cuda_kernels(
    module: dict[str, object], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMCLR_EXT_CUDA", "0")
    monkeypatch.setattr(loader, "visible_capabilities", lambda: [(9, 0)])
    row = doctor._cuda_kernels(SimpleNamespace(**{"__name__": "simclr_ext._C", **module}))
    assert re.match(expected, row)


@pytest.mark.parametrize("error", [1.01, math.nan])
def test_wrong_kernels_are_noticed(
    error: float, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "self_test", lambda *args: {"loss": error, "gradient": 0.0})
    assert doctor.main() == 1
    assert "The loss is wrong here" in capsys.readouterr().out


def test_nan_of_one_device_is_noticed_beside_others_that_are_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = iter([0.1, math.nan])
    monkeypatch.setattr(doctor, "_gpus", lambda: [torch.device("cuda")])
    monkeypatch.setattr(doctor, "self_test_row", lambda device: next(errors))
    assert doctor.main() == 1


def test_missing_kernels_are_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable() -> None:
        raise BackendUnavailableError("no C++ compiler; apt-get install g++")

    monkeypatch.setattr(loader, "load", unavailable)
    assert doctor.main() == 1
    assert "apt-get install g++" in capsys.readouterr().out


def test_self_test_compares_the_two_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in ("fused", "tiled"):
        assert max(doctor.self_test(backend).values()) <= 1
    real = doctor.simclr_ext.nt_xent_loss
    monkeypatch.setattr(
        doctor.simclr_ext,
        "nt_xent_loss",
        lambda *args, backend, **options: (
            real(*args, backend=backend, **options) * (1.0001 if backend == "fused" else 1)
        ),
    )
    assert min(doctor.self_test().values()) > 1
