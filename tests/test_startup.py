"""Imports at startup: torch takes seconds, so help and errors do not import it."""

import subprocess
import sys

import pytest

import simclr_ext


def python(program: str) -> str:
    """Return what a program prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "--version",
        "train --help",
        "train",
        "train --nope 3",
        "train --epochs 0",
        "demo --help",
        "eval --help",
        "eval",
        "finetune --help",
        "embed --help",
        "export runs/x --formats pdf",
        "pages --help",
        "study alchemy",
        "bench --help",
        "bench --n 0",
        "fly",
    ],
)
def test_help_and_errors_do_not_import_torch(arguments: str) -> None:
    program = (
        "import contextlib, sys\n"
        "from simclr_ext.__main__ import main\n"
        f"sys.argv[1:] = {arguments.split()!r}\n"
        "with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "print([name for name in ('torch', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    assert python(program) == "[]\n"


def test_in_a_log_others_draw_no_bars() -> None:
    program = (
        "import contextlib, io, sys\n"
        "from simclr_ext.__main__ import main\n"
        "sys.argv[1:] = ['--version']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "from tqdm import tqdm\n"
        "assert list(tqdm(range(3))) == [0, 1, 2]"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_names_of_the_package_are_there() -> None:
    assert set(simclr_ext.__all__) <= set(dir(simclr_ext))
    for name in simclr_ext.__all__:
        assert getattr(simclr_ext, name) is not None
    assert simclr_ext.nt_xent_loss.__module__ == "simclr_ext.losses.nt_xent"
    with pytest.raises(AttributeError, match="no attribute 'nt_xent'"):
        _ = simclr_ext.nt_xent


def test_the_loss_is_first_asked_for_while_dynamo_traces() -> None:
    program = (
        "import torch, simclr_ext\n"
        "assert 'simclr_ext.losses' not in __import__('sys').modules\n"
        "def loss(z0, z1):\n"
        "    return simclr_ext.nt_xent_loss(z0, z1, backend='tiled')\n"
        "z = torch.randn(2, 8, 4)\n"
        "compiled = torch.compile(loss, fullgraph=True, backend='eager')\n"
        "print(torch.equal(compiled(*z), loss(*z)))"
    )
    assert python(program) == "True\n"
