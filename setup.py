"""Builds the wheel, with the kernels compiled ahead of time where torch is at hand.

SIMCLR_EXT_BUILD says what happens:
    auto  (default) compile if torch can be imported, else carry only the sources
    aot   compile, or fail
    jit   carry only the sources: the kernels are compiled at first use

An isolated build has no torch to compile against (see pyproject.toml), so `pip install .` makes a
pure wheel, and `pip install --no-build-isolation .` one with compiled kernels.
"""

import importlib.util
import os
import runpy
import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
config = runpy.run_path(str(ROOT / "simclr_ext" / "_build_config.py"))


def compile_ahead() -> bool:
    """Return whether to compile now, as SIMCLR_EXT_BUILD and the environment say."""
    mode = os.environ.get("SIMCLR_EXT_BUILD", "auto")
    if mode not in ("auto", "aot", "jit"):
        sys.exit(f"SIMCLR_EXT_BUILD must be auto, aot or jit, got {mode!r}")
    has_torch = importlib.util.find_spec("torch") is not None
    if mode == "aot" and not has_torch:
        sys.exit("SIMCLR_EXT_BUILD=aot needs torch; install it and use --no-build-isolation")
    ahead = mode != "jit" and has_torch
    print(f"simclr-ext: kernels compiled {'ahead of time' if ahead else 'at first use'}")
    return ahead


def extension_arguments() -> dict[str, object]:
    """Return what setup() needs to compile the extension."""
    if not compile_ahead():
        return {}
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    extension = CppExtension(
        "simclr_ext._C",
        [str(source.relative_to(ROOT)) for source in config["sources"]()],
        include_dirs=[str(config["source_dir"]())],
        depends=[str(header) for header in config["headers"]()],
        extra_compile_args=config["COMPILE_ARGS"],
        extra_link_args=config["LINK_ARGS"],
    )
    return {"ext_modules": [extension], "cmdclass": {"build_ext": BuildExtension}}


setup(
    # csrc/ travels inside the package, for compiling at first use.
    packages=[*find_packages(include=["simclr_ext*"]), "simclr_ext.csrc"],
    package_dir={"simclr_ext.csrc": "csrc"},
    package_data={
        "simclr_ext": ["py.typed"],
        "simclr_ext.csrc": ["**/*.cpp", "**/*.h", "**/*.inl"],
    },
    **extension_arguments(),
)
