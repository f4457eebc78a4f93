from __future__ import annotations

import pytest
import torch

from simclr_ext import BackendUnavailableError, _backend, doctor


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main() == 0
    report = capsys.readouterr().out
    assert torch.__version__ in report
    assert _backend.load().active_isa() in report
    assert report.endswith("All is well.\n")


def test_wrong_kernels_are_noticed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "self_test", lambda: {"loss": 1e-3})
    assert doctor.main() == 1
    assert "wrong results" in capsys.readouterr().out


def test_missing_kernels_are_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable() -> None:
        raise BackendUnavailableError("no C++ compiler; apt-get install g++")

    monkeypatch.setattr(_backend, "load", unavailable)
    assert doctor.main() == 1
    assert "apt-get install g++" in capsys.readouterr().out


def test_self_test_compares_the_two_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(doctor.self_test().values()) < 1e-6
    real = doctor.simclr_ext.nt_xent_loss
    monkeypatch.setattr(
        doctor.simclr_ext,
        "nt_xent_loss",
        lambda *args, backend: real(*args, backend=backend) * (1.01 if backend == "fused" else 1),
    )
    assert min(doctor.self_test().values()) == pytest.approx(0.01, rel=1e-3)
