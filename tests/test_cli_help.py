"""The command line's help, version and completion."""

import subprocess
from pathlib import Path

import pytest

import simclr_ext
from simclr_ext import cli
from simclr_ext.studies import STUDIES


def test_help_shows_the_values_of_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--preset", "imagenet-r50", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "{imagenet-r50,cifar10-r50,cifar10-r18,cpu-small}" in text
    assert "the loss sees 2N views. (type: int, default: 4096)" in text


def test_help_comes_from_the_dataclasses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--augment.blur_probability" not in text
    expected = "N, images per step, of all processes together; the loss sees 2N views. (type: int, "
    assert f"{expected}default: 256)" in text


@pytest.mark.parametrize("command", ["train", "demo"])
def test_help_starts_with_at_most_ten_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def options(page: str) -> list[str]:
        with pytest.raises(SystemExit):
            cli.main([command, page])
        lines = capsys.readouterr().out.splitlines()
        return [line.split()[0] for line in lines if line.startswith("  -")]

    pages = ["--help-all", "--help-images", "--help-augment"]
    pages += ["--help-model", "--help-optim", "--help-monitor"]
    common = options("--help")
    assert len(common) - len(["-h", *pages]) <= 10
    assert common[-6:] == pages
    found = options("--help-all")
    assert set(common) <= set(found)
    for page in pages[1:]:
        assert set(options(page)) < set(found)


def test_completion_is_printed_for_bash(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as stop:
        cli.main(["--print_completion", "shtab-bash"])
    assert stop.value.code == 0
    path = tmp_path / "completion.bash"
    path.write_text(capsys.readouterr().out)
    program = (
        f"source {path}; COMP_WORDS=(simclr-ext train --epo); COMP_CWORD=2; "
        "$(complete -p simclr-ext | sed 's/.*-F \\([^ ]*\\).*/\\1/'); echo ${COMPREPLY[*]}"
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "--epochs\n"


def test_help_lists_the_studies(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["study", "--help"])
    text = "".join(capsys.readouterr().out.split())  # lines may be broken within a name
    assert f"reportonit:{','.join(STUDIES)}." in text


def test_help_says_what_each_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "train Train SimCLR on images, and evaluate it." in text
    assert "check List broken and duplicate images; the exit code is 1 if there are any." in text
    assert "Find the images most similar to given images: a table and a page." in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert (stop.value.code, capsys.readouterr().out.split()[-1]) == (0, simclr_ext.__version__)
