"""constraints.txt pins all that development installs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("tomllib is of Python 3.11", allow_module_level=True)
import tomllib

ROOT = Path(__file__).parents[1]
EXTRAS = ("cli", "trainer", "onnx", "parquet", "safetensors", "bench", "dev")  # as in the Makefile


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pin = re.compile(r"([\w.-]+)==([\w.+]+)( ; python_full_version >= \"3.11.5\")?$")
    found = [pin.match(line) for line in lines]
    assert [x for x, name in zip(lines, found, strict=True) if not name and x[0] != "#"] == []
    return {normal(name[1]): name[2] for name in found if name}


def test_every_requirement_of_development_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"]]
    for extra in EXTRAS:
        required += project["optional-dependencies"][extra]
    names = {normal(re.match(r"[\w.-]+", text)[0]) for text in required} - {"simclr-ext"}
    assert names - set(pins()) == set()
    exact = dict(text.split("==") for text in required if "==" in text)
    assert {name: pins()[normal(name)] for name in exact} == exact


def test_what_the_makefile_installs_by_name_is_pinned() -> None:
    wanted = {"torch", "torchvision", "setuptools", "wheel"}
    assert wanted | {"nvidia-cutlass", "nvidia-cuda-cccl", "nvidia-cuda-crt"} <= set(pins())
