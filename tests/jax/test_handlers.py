"""Compiling the handlers: the error if it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("jax", reason="needs jax: pip install 'simclr-ext[jax]'")

from simclr_ext import BackendUnavailableError
from simclr_ext.jax import handlers


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-c++")
    with pytest.raises(BackendUnavailableError) as caught:
        handlers._load()
    assert "no C++ compiler: 'no-such-c++' is not on the PATH" in str(caught.value)
    assert "apt-get install g++" in str(caught.value)


def test_compiled_handlers_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers.register()
    monkeypatch.setenv("CXX", "no-such-c++")
    assert handlers._load().simclr_ext_nt_xent_forward
