"""The command line: options, configuration files, errors of one line."""

import dataclasses
import errno
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import simclr_ext
from simclr_ext import cli
from simclr_ext.trainer import DEMO, PRESETS, Callback, MissingExtraError, TrainConfig


@dataclasses.dataclass(frozen=True)
class Embed:
    """Options of a command.

    Attributes:
        run: Run folder.
        size: Images at a time.
    """

    run: str
    size: int = 3


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Configurations that the command line would train."""
    configs: list[TrainConfig] = []

    def train(config: TrainConfig) -> str:
        configs.append(config)
        return "what training found"

    replace_functions(monkeypatch, train)
    return configs


def replace_functions(
    monkeypatch: pytest.MonkeyPatch, function: Callable[[TrainConfig], object]
) -> None:
    def run(config: TrainConfig, callbacks: Sequence[Callback] = ()) -> object:
        result = function(config)
        for callback in callbacks:
            callback.on_result(None, result)
        return result

    commands = tuple(dataclasses.replace(command, run=run) for command in cli.COMMANDS)
    monkeypatch.setattr(cli, "COMMANDS", commands)


def test_defaults(trained: list[TrainConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo"]) == 0
    capsys.readouterr()
    assert cli.main(["train", "--data", "digits"]) == 0
    assert trained == [DEMO, TrainConfig()]
    assert capsys.readouterr().out == "what training found\n"


def test_options_reach_nested_fields(trained: list[TrainConfig]) -> None:
    options = "--epochs 7 --optim.warmup_epochs 2 --augment.blur_probability 0 --image_size null"
    arguments = ["train", "--data=digits", *options.split(), "--model.blocks", "[2, 3]"]
    assert cli.main(arguments) == 0
    (config,) = trained
    assert (config.epochs, config.optim.warmup_epochs, config.model.blocks) == (7, 2, (2, 3))
    assert (config.augment.blur_probability, config.image_size) == (0, None)


def test_a_switch_needs_no_value(trained: list[TrainConfig]) -> None:
    assert cli.main(["train", "--download", "--data", "digits", "--compile"]) == 0
    assert trained == [TrainConfig(download=True, compile=True)]


def test_options_override_the_configuration_file(
    trained: list[TrainConfig], tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("epochs: 20\nseed: 3\naugment:\n  crop_area: [0.2, 0.9]\n")
    assert cli.main(["train", "--config", str(path), "--epochs", "30"]) == 0
    (config,) = trained
    assert (config.epochs, config.seed, config.augment.crop_area) == (30, 3, (0.2, 0.9))


def test_a_runs_own_configuration_file_is_accepted(
    trained: list[TrainConfig], tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml")
    config = TrainConfig(epochs=12).resolve(3, 32, 32).options
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert cli.main(["train", "--config", str(path)]) == 0
    assert trained == [config]


def test_preset_then_file_then_options(trained: list[TrainConfig], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("epochs: 20\nseed: 3\n")
    arguments = ["train", "--config", str(path), "--seed", "4", "--preset", "cifar10-r18"]
    assert cli.main(arguments) == 0
    assert cli.main(["train", "--preset=cifar10-r18"]) == 0
    preset = PRESETS["cifar10-r18"]
    assert trained == [dataclasses.replace(preset, epochs=20, seed=4), preset]


def test_an_empty_configuration_file_is_an_empty_configuration(
    trained: list[TrainConfig], tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# all as it is\n")
    assert cli.main(["train", "--config", str(path)]) == 0
    path.write_text("preset:\naugment:\n")
    assert cli.main(["train", "--config", str(path)]) == 0
    assert trained == [TrainConfig(), TrainConfig()]


def test_what_may_change_beside_resume_is_spelled_as_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed: list[dict[str, object]] = []

    def resume(folder: str, *, callbacks: object, **changes: object) -> None:
        resumed.append({"folder": folder, **changes})

    monkeypatch.setattr(cli, "resume", resume)
    monkeypatch.setattr(cli, "CHANGEABLE", ("epochs", "threads", "batch_size"))
    for argument in ("--batch-size=8", "--batch_size=8", "--batch-size 8", "--batch_size 8"):
        arguments = f"train --epochs=9 --resume=run-of-may {argument} --threads 2"
        assert cli.main(arguments.split()) == 0
        expected = {"folder": "run-of-may", "epochs": 9, "batch_size": 8, "threads": 2}
        assert resumed.pop() == expected
    for argument in ("--image-size=8", "--image_size 8"):
        assert cli.main(["train", "--resume", "run", "--epochs", "9", *argument.split()]) == 2
        assert "--batch_size, --rewarm, got --image_size\n" in capsys.readouterr().err
    assert resumed == []


def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: TrainConfig) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/events")

    replace_functions(monkeypatch, fail)
    assert cli.main(["train", "--data", "digits"]) == 2
    assert capsys.readouterr().err == "simclr-ext: error: runs/a/events: No space left on device\n"


def test_a_file_may_name_a_preset(trained: list[TrainConfig], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("preset: cifar10-r18\nepochs: 20\n")
    assert cli.main(["train", "--config", str(path)]) == 0
    assert cli.main(["train", f"--config={path}", "--preset", "cpu-small", "--seed", "4"]) == 0
    first, second = PRESETS["cifar10-r18"], PRESETS["cpu-small"]
    assert trained == [
        dataclasses.replace(first, epochs=20), dataclasses.replace(second, epochs=20, seed=4)
    ]  # fmt: skip
    path.write_text("preset: cifar10-r18\noptim:\nmodel:\n  # encoder: small\n")
    assert cli.main(["train", f"--config={path}"]) == 0
    assert trained[2:] == [first]


def test_a_file_with_a_misspelled_preset(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("preset: cifar10-r81\n")
    assert cli.main(["train", "--config", str(path)]) == 2
    assert "got cifar10-r81; did you mean cifar10-r18?" in capsys.readouterr().err


def test_warnings_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_functions(monkeypatch, lambda config: warnings.warn("it collapses", stacklevel=1))
    cli.main(["demo"])
    assert capsys.readouterr().err == "simclr-ext: warning: it collapses\n"


def test_a_field_without_default_is_a_positional_argument(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = cli.Command("inspect", "Embed.", Embed, lambda config: (config.run, config.size))
    monkeypatch.setattr(cli, "COMMANDS", (*cli.COMMANDS, command))
    assert cli.main(["inspect", "runs/x", "--size", "5"]) == 0
    assert capsys.readouterr().out == "('runs/x', 5)\n"
    assert cli.main(["inspect"]) == 2
    assert capsys.readouterr().err == "simclr-ext: error: run is needed: run folder\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a command is needed: train, demo, check"),
        (["fly"], "fly is not a command; there are train, demo, check"),
        (["trian"], "trian is not a command; did you mean train?"),
        (["train"], "train needs --data, --preset, --config or --resume; simclr-ext demo trains"),
        (["train", "--nope", "3"], "--nope is not an option; --help-all lists the options"),
        (["train", "--epoch", "3"], "--epoch is not an option; did you mean --epochs?"),
        (["train", "--batch-size", "1"], "batch_size must be at least 2, got 1"),
        (["export", "gone", "--formats", "safetensors"], "gone: no such run folder or checkpoint"),
        (["export", "gone", "--formats", "onnx,onnx"], "formats must be one or more, each once"),
        (["train", "--epochs", "many"], "epochs must be an integer, got many"),
        (["train", "--seed", "null"], "seed must be an integer, got None"),
        (["train", "--precision", "bf"], "fp16, got bf; did you mean bf16?"),
        (["train", "--augment.flip", "1"], "did you mean --augment.flip_probability?"),
        (["train", "--augment.blur", "1"], "did you mean --augment.blur_probability?"),
        (["train", "--lr", "1"], "did you mean --optim.learning_rate?"),
        (["train", "--amp"], "did you mean --precision?"),
        (["train", "photos"], "unrecognized arguments: photos; did you mean --data photos?"),
        (["train", "--data", "photos", "more"], "unrecognized arguments: more\n"),
        (["bench", "photos"], "unrecognized arguments: photos\n"),
        (["train", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["train", "--augment.blur_probability", "3"], "augment.blur_probability must be"),
        (["train", "--optim.scaling", "cubic"], "cubic"),
        (["train", "--config", "gone.yaml"], "gone.yaml"),
        (["train", "--data", "gone.npz"], "gone.npz: no such file"),
        (["train", "--data", "mnist"], "data must be"),
        (["train", "--data", "digits", "--out", "."], "exists and is not empty"),
        (["train", "--preset", "cpu-smal"], "got cpu-smal; did you mean cpu-small?"),
        (["train", "--preset"], "--preset needs a value"),
        (["train", "--resume", "."], "not a run that can be resumed"),
        (["train", "--resume", ".", "--seed", "3"], "--resume keeps the run's own"),
        (["study"], "study is needed: its name"),
        (["eval"], "checkpoint is needed: a run folder, of which checkpoint.pt is read, or a"),
        (["eval", "gone"], "gone: no such run folder or checkpoint"),
        (["neighbors", "run"], "--queries is needed: the images to find neighbors for"),
        (["study", "alchemy"], "study must be one of augmentations, batch-epochs, "),
        (["study", "losses", "--data", "gone.npz"], "gone.npz: no such file"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line_and_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("simclr-ext: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_broken_configuration_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("epochs: [1, 2\n")
    assert cli.main(["train", "--config", str(path)]) == 2
    path.write_text("epohcs: 3\n")
    assert cli.main(["train", "--config", str(path)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("simclr-ext: error: ")
    assert "epohcs is not an option; did you mean epochs?" in second


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MissingExtraError("a\nb"), 2, "simclr-ext: error: a b\n"),
        # What the compiler said keeps its lines.
        (simclr_ext.BackendUnavailableError("a\nb"), 2, "simclr-ext: error: a\nb\n"),
        (KeyboardInterrupt(), 130, "simclr-ext: interrupted\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stops_a_run_is_told_without_a_traceback(
    error: BaseException,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train(config: TrainConfig) -> None:
        raise error

    replace_functions(monkeypatch, train)
    assert cli.main(["demo"]) == code
    assert capsys.readouterr().err == message


def test_doctor_returns_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    doctor = types.ModuleType("simclr_ext.doctor")
    doctor.main = lambda: 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "simclr_ext.doctor", doctor)
    monkeypatch.setattr(simclr_ext, "doctor", doctor, raising=False)
    assert cli.main(["doctor"]) == 5


def test_the_command_line_needs_nothing_of_the_extra() -> None:
    """With the extra's packages blocked, parsing works and training says what is missing."""
    program = (
        "import sys\n"
        "for name in ('torchvision', 'sklearn', 'matplotlib', 'tensorboard', 'tqdm'):\n"
        "    sys.modules[name] = None\n"
        "from simclr_ext.cli import build_parser, main\n"
        "build_parser().parse_args(['doctor'])\n"
        "sys.exit(main(['demo']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    names = "matplotlib, scikit-learn, tensorboard, torchvision, tqdm"
    expected = f"simclr-ext: error: the trainer needs {names}: pip install 'simclr-ext[trainer]'\n"
    assert done.stderr == expected


@pytest.mark.parametrize(
    ("command", "code", "out", "err"),
    [
        ("doctor", 0, "All is well.", ""),
        ("bench", 2, "", "pip install 'simclr-ext[trainer]', or 'simclr-ext[cli]' for bench alone"),
    ],
)
def test_loss_and_doctor_need_no_extra(command: str, code: int, out: str, err: str) -> None:
    program = (
        "import sys\n"
        "for name in ('jsonargparse', 'numpy', 'yaml', 'torchvision'):\n"
        "    sys.modules[name] = None\n"
        "import torch\n"
        "from simclr_ext import nt_xent_loss\n"
        "nt_xent_loss(*torch.randn(2, 3, 4, requires_grad=True)).backward()\n"
        f"sys.argv[1:] = [{command!r}]\n"
        "from simclr_ext.__main__ import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stdout.rstrip().endswith(out)
    assert done.stderr.rstrip().endswith(err)


def test_module_is_the_same_program() -> None:
    command = [sys.executable, "-m", "simclr_ext", "train", "--epochs", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "simclr-ext: error: epochs must be at least 1, got 0\n"
