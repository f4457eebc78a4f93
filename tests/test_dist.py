"""What is published, sources and the wheel without compiled kernels: contents, and equal bytes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import simclr_ext

pytest.importorskip("build", reason="needs build, of the extra dev")

ROOT = Path(__file__).parents[1]
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
FOLDERS = ("simclr_ext", "csrc", "tests")
NAME = f"simclr_ext-{simclr_ext.__version__}"
PACKAGED = {".py", ".typed", ".html", ".css", ".js"}


def copy(folder: Path) -> Path:
    """Return a copy of the repository as editors and Python leave it, with files of this moment."""
    junk = shutil.ignore_patterns("__pycache__", "*.so")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=junk, copy_function=shutil.copyfile)
    for name in FILES:
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("simclr_ext", "csrc", "tests"):
        (folder / name / "__pycache__").mkdir()
        for stray in ("__pycache__/x.cpython-311.pyc", "notes.txt", "loss.py~", "x.orig"):
            (folder / name / stray).write_text("stray")
    (folder / ".venv").mkdir()
    (folder / "notes.txt").write_text("stray")
    return folder


def build(source: Path, out: Path, time: str) -> Path:
    """Build both into a folder, and return it."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source],
        env={**os.environ, "SIMCLR_EXT_BUILD": "jit", "SOURCE_DATE_EPOCH": time},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return what two builds made, of copies in folders with other names."""
    first, second = (copy(tmp_path_factory.mktemp(name)) for name in ("a", "another folder"))
    return build(first, first / "dist", "1700000000"), build(second, second / "out", "1700000000")


def test_two_builds_make_the_same_bytes(built: tuple[Path, Path]) -> None:
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in built]
    assert set(contents[0]) == {f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl"}
    for name, bytes_ in contents[0].items():
        assert contents[1][name] == bytes_, name


def sources() -> set[str]:
    """Return the files of the repository that are needed."""
    every = (path for name in ("simclr_ext", "csrc") for path in (ROOT / name).rglob("*"))
    kept = (path for path in every if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in kept if path.suffix != ".so"}


def test_the_wheel_has_what_is_needed_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0] / f"{NAME}-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"{NAME}.dist-info/METADATA").decode()
    inside = {re.sub("^csrc/", "simclr_ext/csrc/", name) for name in sources()}
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    assert names == inside | {f"{NAME}.dist-info/{name}" for name in about}
    assert "License-Expression: Apache-2.0" in metadata


def test_the_sources_have_what_a_build_needs_and_nothing_else(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0] / f"{NAME}.tar.gz") as archive:
        members = archive.getmembers()
    about = {"PKG-INFO", "SOURCES.txt", "dependency_links.txt", "entry_points.txt"}
    about |= {"requires.txt", "top_level.txt"}
    made = {"PKG-INFO", "setup.cfg", *(f"simclr_ext.egg-info/{name}" for name in about)}
    names = {m.name.removeprefix(f"{NAME}/") for m in members if m.isfile()}
    assert names == sources() | set(FILES) | made
    assert {(m.uid, m.gid, m.uname, m.gname, int(m.mtime)) for m in members} == {
        (0, 0, "", "", 1700000000)
    }
