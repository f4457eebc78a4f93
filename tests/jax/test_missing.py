"""Without JAX: the package is imported, and a call says what to install."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from simclr_ext.jax import nt_xent_loss


def test_a_call_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    z = np.eye(3)
    with pytest.raises(ImportError) as caught:
        nt_xent_loss(z, z)
    assert str(caught.value) == "simclr_ext.jax needs jax: pip install 'simclr-ext[jax]'"
