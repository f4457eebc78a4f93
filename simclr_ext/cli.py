"""The command line: `simclr-ext COMMAND`, one line of `COMMANDS` each.

A command is a dataclass, which defines options, types and help, and a function that takes it, whose
result is printed. The dataclass must be importable without the trainer's extra; the function
imports what it needs when it runs.
"""

from __future__ import annotations

import operator
import os
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from simclr_ext import BackendUnavailableError, __version__
from simclr_ext.bench import BenchConfig, run_bench
from simclr_ext.options.errors import ConfigError, JobError, PeerError, TrainingInterrupted
from simclr_ext.options.parser import CommandParser, ProgramParser, given_options, text_in
from simclr_ext.options.printable import printable
from simclr_ext.options.serialize import to_plain
from simclr_ext.studies import STUDIES, StudyConfig, run_study
from simclr_ext.trainer import (
    DEMO,
    PRESETS,
    Callback,
    CheckConfig,
    EmbedConfig,
    EvalConfig,
    ExportConfig,
    FinetuneConfig,
    NeighborsConfig,
    PagesConfig,
    TrainConfig,
    UserError,
    check_data,
    draw_pages,
    embed_images,
    evaluate_checkpoint,
    export_encoder,
    find_neighbors,
    finetune_checkpoint,
    resume,
    train,
)
from simclr_ext.trainer.config import CHANGEABLE


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: Its name.
        help: One sentence.
        config: The dataclass of its options; fields without a default are positional arguments.
        run: The function that takes the dataclass. str() of its result is printed, and the result's
            `exit_code`, if it has one, is the program's. The result of one that takes a TrainConfig
            is printed by a callback instead, before the last picture is drawn.
        defaults: Values of the options, if not the dataclass's own.
        common: The options that `--help` shows; empty: all.
    """

    name: str
    help: str
    config: type[Any]
    run: Callable[..., object]
    defaults: Any = None
    common: tuple[str, ...] = ()


_BENCH = "Time the backends, eager PyTorch and torch.compile for a shape; recommend one."
_EVAL = "Evaluate a checkpoint's frozen features: k-NN and linear probes, any data set."
_CHECK = "List broken and duplicate images; the exit code is 1 if there are any."
_FINETUNE = "Fine-tune a checkpoint's encoder with few labels or with all."
_EXPORT = "Write the encoder for other programs, and check the written files."
_NEIGHBORS = "Find the images most similar to given images: a table and a page."
_PAGES = "Draw maps of the representations, and a page of nearest neighbors."
_STUDY = f"Run a study of the paper and report on it: {', '.join(STUDIES)}."
_TRAIN = "Train SimCLR on images, and evaluate it."
_DEMO = "Train on scikit-learn's digits, offline."
_COMMON = ("data", "out", "epochs", "batch_size", "image_size", "device")
_COMMON_TRAIN = ("preset", "config", "resume", *_COMMON, "model.encoder")
COMMANDS = (
    Command("train", _TRAIN, TrainConfig, train, common=_COMMON_TRAIN),
    Command("demo", _DEMO, TrainConfig, train, DEMO, common=_COMMON),
    Command("check", _CHECK, CheckConfig, check_data),
    Command("eval", _EVAL, EvalConfig, evaluate_checkpoint),
    Command("finetune", _FINETUNE, FinetuneConfig, finetune_checkpoint),
    Command("embed", "Write the representations of all images.", EmbedConfig, embed_images),
    Command("export", _EXPORT, ExportConfig, export_encoder),
    Command("neighbors", _NEIGHBORS, NeighborsConfig, find_neighbors),
    Command("pages", _PAGES, PagesConfig, draw_pages),
    Command("study", _STUDY, StudyConfig, run_study),
    Command("bench", _BENCH, BenchConfig, run_bench),
)
_PRESET = "Recipe to start from; the file and the other options override it"
_RESUME = f"Resume the run in this folder; only {', '.join(CHANGEABLE)} may be changed"
_REWARM = "With --resume and --epochs: reach the new curve of the learning rate in this many epochs"
_NO_DATA = (
    "train needs --data, --preset, --config or --resume; simclr-ext demo trains on scikit-learn's "
    "digits"
)
_DOCTOR = "Report what is installed and which backend computes the loss."


def build_parser(preset: str | None = None) -> ArgumentParser:
    """Return the parser of the whole command line.

    Args:
        preset: The recipe whose values are the defaults of `train`; None: the dataclass's own.
    """
    set_parsing_settings(add_print_completion_argument=True)
    parser = ProgramParser(
        prog="simclr-ext",
        description="SimCLR's NT-Xent loss, and a trainer built on it.",
        version=__version__,
        exit_on_error=False,
        allow_abbrev=False,
    )
    commands = parser.add_subcommands(dest="command", metavar="command")
    for command in COMMANDS:
        if command.name == "train":
            command = replace(command, defaults=PRESETS.get(preset or ""))
        commands.add_subcommand(command.name, _command_parser(command), help=command.help)
    commands.add_subcommand("doctor", CommandParser("doctor", _DOCTOR), help=_DOCTOR)
    return parser


def _command_parser(command: Command) -> ArgumentParser:
    parser = CommandParser(command.name, command.help, command.config, command.common)
    if command.name == "train":
        parser.add_option("preset", Literal[tuple(PRESETS)], help=_PRESET)
        parser.add_option("resume", str, metavar="FOLDER", help=_RESUME)
        parser.add_option("rewarm", float | None, metavar="EPOCHS", help=_REWARM)
    if command.defaults is not None:
        parser.set_defaults(to_plain(command.defaults))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after the program's name; None: the process's.

    Returns:
        Exit code: 0; 2 after a message on stderr about an error that the user can fix; 128 plus the
        signal's number after an interrupt. `doctor` has its own, `study` returns 1 if a part of it
        failed, and `check` if anything is wrong.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    given = given_options(arguments)  # the parser itself depends on two of them
    parser = build_parser(given.get("preset") or text_in(given.get("config"), "preset"))
    reports = _first_process()  # what all processes of a job find, such as a wrong option
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            args = parser.parse_args(arguments)
            if args.command == "doctor":
                return _doctor()
            run = _prepared(args.command, parser.instantiate(args)[args.command], given)
            reports = True
            result = run()
        return getattr(result, "exit_code", 0)
    except PeerError:
        _end_together()
    except (ArgumentError, UserError) as error:
        if reports:
            text = printable(" ".join(str(error).split()))
            _tell(f"error: {text}")
        if not isinstance(error, JobError):
            _end_together()
    except OSError as error:  # such as a full disk, or a folder that was removed
        reason = " ".join(str(error.strerror or error).split())
        text = printable(f"{error.filename or 'a file'}: {reason}")
        _tell(f"error: {text}")
    except BackendUnavailableError as error:  # more than one line: the compiler's output
        _tell(f"error: {error}")
    except TrainingInterrupted as interruption:
        if _first_process():
            _tell(f"interrupted: {printable(str(interruption))}")
        _end_together()
        return 128 + interruption.signal
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    return 2


def _first_process() -> bool:
    """Return whether this is the only process, or the first one of torchrun's."""
    return os.environ.get("RANK", "0") == "0"


def _end_together() -> None:
    """Wait for the other processes of torchrun, if there are any, which have the same error."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from simclr_ext.trainer import torchrun

        torchrun.end_together()


def _tell(text: str) -> None:
    """Write to stderr by one call, so that lines of other processes do not fall into it."""
    sys.stderr.write(f"simclr-ext: {text}\n")


def _prepared(name: str, parsed: Namespace, given: Collection[str]) -> Callable[[], object]:
    """Return the function that runs a command and shows its result, with checked options."""
    (command,) = (command for command in COMMANDS if command.name == name)
    options = dict(vars(parsed))
    for option in ("config", "preset"):  # the parser has put their values into the other options
        options.pop(option, None)
    folder = options.pop("resume", None)
    if folder is not None:
        changes = {
            name.rpartition(".")[2]: operator.attrgetter(name)(parsed)
            for name in _resume_changes(given)
        }
        return partial(resume, folder, **changes, callbacks=[_Show()])
    if options.pop("rewarm", None) is not None:
        raise ConfigError("--rewarm is an option of a resumed run: it needs --resume FOLDER")
    config = command.config(**options)
    if name == "train" and not {"data", "preset", "config"} & set(given):
        raise ConfigError(_NO_DATA)  # and not an hour of digits that nobody asked for
    if isinstance(config, TrainConfig):
        return partial(command.run, config, callbacks=[_Show()])
    return lambda: _show(command.run(config))


def _show(result: object) -> object:
    print(printable(str(result)), flush=True)
    return result


class _Show(Callback):
    """Prints the result of a training."""

    def on_result(self, training: object, result: object) -> None:
        _show(result)


def _resume_changes(given: Collection[str]) -> list[str]:
    """Return the options given with `--resume`; ConfigError if one is not allowed there."""
    allowed = (*CHANGEABLE, "rewarm")
    if others := [name for name in given if name not in ("resume", *allowed)]:
        raise ConfigError(
            f"--resume keeps the run's own configuration; allowed with it are --"
            f"{', --'.join(allowed)}, got --{', --'.join(others)}"
        )
    return [name for name in allowed if name in given]


def _show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    _tell(f"warning: {printable(str(message))}")


def _doctor() -> int:
    from simclr_ext.doctor import main as doctor

    return doctor()
