"""The command line: `simclr-ext demo`, `simclr-ext train`, `simclr-ext doctor`.

Options, types and help come from the dataclasses of `simclr_ext.trainer.config`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from simclr_ext import BackendUnavailableError, __version__
from simclr_ext.trainer import DEMO, TrainConfig, TrainerError, train

_DEMO = "Train on scikit-learn's digits, in two minutes: `train` with other defaults."
_TRAIN = "Train SimCLR by the paper's recipe and evaluate the encoder."
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
    commands.add_subcommand("demo", _train_parser(_DEMO, DEMO), help=_DEMO)
    commands.add_subcommand("train", _train_parser(_TRAIN, TrainConfig()), help=_TRAIN)
    doctor_parser = ArgumentParser(description=_DOCTOR, exit_on_error=False)
    commands.add_subcommand("doctor", doctor_parser, help=_DOCTOR)
    return parser


def _train_parser(summary: str, defaults: TrainConfig) -> ArgumentParser:
    parser = ArgumentParser(description=summary, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the options")
    parser.add_class_arguments(TrainConfig, as_group=False)
    parser.set_defaults(defaults.to_dict())
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
        return _train(parser.instantiate(args)[args.command])
    except (ArgumentError, TrainerError) as error:
        print(f"simclr-ext: error: {' '.join(str(error).split())}", file=sys.stderr)
    except BackendUnavailableError as error:  # with the compiler's own lines
        print(f"simclr-ext: error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("simclr-ext: interrupted", file=sys.stderr)
        return 130
    return 2


def _train(options: Namespace) -> int:
    fields = dict(vars(options))
    del fields["config"]  # the files' paths; what they say is in the other fields
    result = train(TrainConfig(**fields))
    print(f"{result.table}\n\nrun folder: {result.folder}")
    return 0


def _doctor() -> int:
    from simclr_ext.doctor import main as doctor

    return doctor()
