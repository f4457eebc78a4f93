"""The whole of gpu_check on the CPU, and the build in a checkout where little is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import ROOT
from benchmarks.gpu.plan import FULL, SMALL
from benchmarks.gpu.results import Results
from benchmarks.gpu.table import page
from simclr_ext.backends import loader

# Runs in a folder that is not the checkout, where nothing that pip would bring can be imported.
BARE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("filelock", "ninja", "jsonargparse"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
from benchmarks.gpu import build, check, operators, own, staged
from benchmarks.gpu.cases import Case
from benchmarks.gpu.precision import FLOAT32
from simclr_ext.backends import loader
from simclr_ext._build_config import NoCuda
first, again = (build.build(NoCuda("a test"), Path("build").resolve()) for _ in range(2))
assert first["library"] == again["library"]
assert any(first["files"].values()) and not any(again["files"].values())
library = Path(first["library"])
build.load(library)
assert loader.load().__file__ == str(library), loader.load()
assert loader.how_built(loader.load()) == "ahead of time"
case = Case("fused", FLOAT32, 33, 24)
assert check.check(case, torch.device("cpu"))["status"] == "ok"
assert staged.check(case, torch.device("cpu"))["status"] == "ok"
assert own.measure(FLOAT32, 20, 8, torch.device("cpu"), 2)["tflops"]
"""

# Takes the objects of the kernels that were compiled at first use, which have the same flags, and
# compiles the rest: the module, which has a name of its own, and what is not there.
COMPILER = """#!/bin/sh
for word; do
    case "$word" in */csrc/*.cpp) object="$COMPILED/$(basename "$word" .cpp).o" ;; esac
done
case "$object" in
    "" | */module.o | */dispatch.o) ;;
    *) [ -f "$object" ] && exec cp "$object" "$word" ;;
esac
exec c++ "$@"
"""


@pytest.mark.build  # loads what it compiles at first use, and takes half a minute
def test_every_step_runs_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--device", "cpu"]
    command += ["--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    results = Results(tmp_path / "out" / "results.jsonl")
    assert results.status_of_steps() == {
        step.name: "skipped" if step.needs_gpu else "done" for step in SMALL
    }
    jobs = results.of_jobs()
    assert {row["status"] for row in jobs} == {"ok", "skipped"}
    assert [row["job"] for row in jobs if row["status"] == "skipped"] == ["Liger"]
    text = page(results.rows())
    assert "| float32 | 40 | 16 |" in text
    assert "| graphs | skipped: it needs a CUDA device, not cpu |" in text


def test_the_full_plan_is_well_formed() -> None:
    names = [step.name for step in FULL]
    assert len(set(names)) == len(names)
    assert names[:2] == ["build", "environment"]
    for step in FULL:
        assert (ROOT / f"{step.jobs.replace('.', '/')}.py").exists()
        assert 0 < step.limit <= 300


@pytest.mark.build
def test_it_builds_in_a_bare_checkout(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {
        "CXX": str(compiler),
        "COMPILED": str(Path(loader.load().__file__ or "").parent),
    }
    result = subprocess.run(
        [sys.executable, "-c", BARE, str(ROOT)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.build
def test_a_compiler_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu import build
    from simclr_ext._build_config import NoCuda

    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho planted words\nexit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(build.BuildError, match="ended with 3:\nplanted words"):
        build.build(NoCuda("a test"), tmp_path)
