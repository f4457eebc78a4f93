"""XLA's handlers of the operators: compiled at first use, and made known to JAX."""

from __future__ import annotations

import ctypes
from pathlib import Path

import jax
import jaxlib

from simclr_ext import _build_config
from simclr_ext._build_config import NoCuda
from simclr_ext._errors import BackendUnavailableError
from simclr_ext.backends import first_use, loader
from simclr_ext.backends.first_use import Library
from simclr_ext.backends.once import once

FORWARD = "simclr_ext_nt_xent_forward"
BACKWARD = "simclr_ext_nt_xent_backward"
LOSS_AND_GRADIENTS = "simclr_ext_nt_xent_loss_and_gradients"


@once
def register() -> None:
    """Load the operators and their handlers, once per process.

    Raises:
        BackendUnavailableError: If one of the two libraries is not there and cannot be compiled.
    """
    loader.load()  # the handlers find the operators by their names
    library = _load()
    for name in (FORWARD, BACKWARD, LOSS_AND_GRADIENTS):
        handler = jax.ffi.pycapsule(getattr(library, name))
        jax.ffi.register_ffi_target(name, handler, platform="cpu")


def _load() -> ctypes.CDLL:
    cuda = NoCuda("the handlers run on the CPU")
    library = Library(
        "simclr_ext_jax",
        "the handlers for JAX",
        sources=tuple(_build_config.jax_sources()),
        headers=tuple(_build_config.headers(cuda)),
        includes=(_build_config.source_dir(), Path(jax.ffi.include_dir())),
        cuda=cuda,
        versions=(jaxlib.__version__,),  # whose headers are XLA's
    )
    try:
        return first_use.load(library, lambda file: ctypes.CDLL(str(file)))
    except (RuntimeError, ImportError) as error:
        raise BackendUnavailableError(
            "The handlers through which JAX calls the NT-Xent operators are unavailable.\n"
            f"compiling at first use: {error}\n{first_use.NEEDS}"
        ) from error
