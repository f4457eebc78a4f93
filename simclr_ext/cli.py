"""The command line: `simclr-ext COMMAND`, one line of `COMMANDS` each.

A command is a dataclass, which gives options, types and help, and a function of it, whose result is
printed. The dataclass must be importable without the trainer's extra; the function imports what it
needs when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from simclr_ext import BackendUnavailableError, __version__
from simclr_ext.trainer import DEMO, TrainConfig, TrainerError, to_plain, train
from simclr_ext.trainer.commands import evaluate_checkpoint, finetune_checkpoint
from simclr_ext.trainer.config.evaluate import EvalConfig, FinetuneConfig


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: Its name.
        help: One sentence.
        config: The dataclass of its options; fields without a default are positional arguments.
        run: The function of that dataclass; str() of the result is printed.
        defaults: Values of the options, if not the dataclass's own.
    """

    name: str
    help: str
    config: type[Any]
    run: Callable[[Any], object]
    defaults: Any = None


_EVAL = "Evaluate a checkpoint's frozen features: k-NN and linear probes, any data set."
_FINETUNE = "Fine-tune a checkpoint's encoder with few labels or all."
COMMANDS = (
    Command("train", "Train SimCLR by the paper's recipe, and evaluate it.", TrainConfig, train),
    Command("demo", "Train on scikit-learn's digits, in two minutes.", TrainConfig, train, DEMO),
    Command("eval", _EVAL, EvalConfig, evaluate_checkpoint),
    Command("finetune", _FINETUNE, FinetuneConfig, finetune_checkpoint),
)
_DOCTOR = "Report what is installed and which backend computes the loss."


def build_parser() -> ArgumentParser:
    """Return the parser of the whole command line."""
    parser = ArgumentParser(
        prog="simclr-ext",
        description="SimCLR's NT-Xent loss, and a trainer built on it.",
        version=__version__,
        exit_on_error=False,
    )
    commands = parser.add_subcommands(dest="command", metavar="command")
    for command in COMMANDS:
        commands.add_subcommand(command.name, _command_parser(command), help=command.help)
    doctor_parser = ArgumentParser(description=_DOCTOR, exit_on_error=False)
    commands.add_subcommand("doctor", doctor_parser, help=_DOCTOR)
    return parser


def _command_parser(command: Command) -> ArgumentParser:
    parser = ArgumentParser(description=command.help, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the options")
    parser.add_class_arguments(command.config, as_group=False, as_positional=True)
    if command.defaults is not None:
        parser.set_defaults(to_plain(command.defaults))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after the program's name; None: the process's.

    Returns:
        Exit code: 0, 2 after a message on stderr about what the user can put right, or 130 after an
        interrupt; `doctor` has its own.
    """
    parser = build_parser()
    try:
        args = parser.parse_args(None if argv is None else list(argv))
        if args.command == "doctor":
            return _doctor()
        (command,) = (command for command in COMMANDS if command.name == args.command)
        options = dict(vars(parser.instantiate(args)[command.name]))
        del options["config"]  # the files' paths; what they say is in the other options
        print(command.run(command.config(**options)))
        return 0
    except (ArgumentError, TrainerError) as error:
        print(f"simclr-ext: error: {' '.join(str(error).split())}", file=sys.stderr)
    except BackendUnavailableError as error:  # with the compiler's own lines
        print(f"simclr-ext: error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("simclr-ext: interrupted", file=sys.stderr)
        return 130
    return 2


def _doctor() -> int:
    from simclr_ext.doctor import main as doctor

    return doctor()
