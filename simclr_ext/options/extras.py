"""The packages that the trainer needs, and the error if one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from simclr_ext.options.errors import MissingExtraError

# Import name to distribution name of the packages that the `trainer` extra installs.
EXTRA_PACKAGES = {
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "sklearn": "scikit-learn",
    "tensorboard": "tensorboard",
    "torchvision": "torchvision",
    "tqdm": "tqdm",
    "yaml": "pyyaml",
}


def require_trainer() -> None:
    """Raise MissingExtraError unless the `trainer` extra is installed."""
    missing = [name for module, name in EXTRA_PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise MissingExtraError(
            f"the trainer needs {', '.join(missing)}: pip install 'simclr-ext[trainer]'"
        )


def require(module: str, extra: str, purpose: str) -> None:
    """Raise MissingExtraError, with the pip command, unless a module of an extra is installed."""
    if find_spec(module) is None:
        raise MissingExtraError(f"{purpose} needs {module}: pip install 'simclr-ext[{extra}]'")
