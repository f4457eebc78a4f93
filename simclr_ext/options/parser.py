"""The parser of one command: jsonargparse's, with tolerant spelling and a short help.

- `--batch-size` means `--batch_size`, and `--formats onnx,pt2` means `--formats [onnx,pt2]`.
- For an unknown option, on the command line or in a file, the error suggests the nearest one.
- An empty file, or an empty section of a file, changes nothing.
- `--help` can show a few common options; `--help-all` and `--help-GROUP` show the rest.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader

from simclr_ext.options.errors import ConfigError
from simclr_ext.options.read_yaml import check_aliases, read_yaml
from simclr_ext.options.serialize import flat

_OPTION = re.compile("--?[a-zA-Z]")  # a letter, so that negative numbers are values


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is closest to a misspelled one; None: none is close.

    The name may lack its group:

        >>> nearest("warmup", ["epochs", "optim.warmup_epochs"])
        'optim.warmup_epochs'
    """
    names = sorted(known)
    whole = {name.rpartition(".")[2]: name for name in names} | {name: name for name in names}
    found = difflib.get_close_matches(name.replace("-", "_"), whole, n=1)
    return whole[found[0]] if found else None


class CommandParser(ArgumentParser):
    """A parser whose options are the fields of a dataclass, also read from a configuration file.

    Args:
        name: The command.
        description: What it does, in a sentence.
        config: The dataclass; fields without a default are positional arguments. None: no options.
        common: Names of the options that `--help` shows; empty: all.
    """

    def __init__(
        self,
        name: str,
        description: str,
        config: type[Any] | None = None,
        common: Sequence[str] = (),
    ) -> None:
        super().__init__(description=description, exit_on_error=False, allow_abbrev=False)
        self._common = common
        self._page = "common" if common else "all"
        self._lists: set[str] = set()
        if config is not None:
            self.add_argument("--config", action="config", help="YAML file with any of the options")
            self.add_class_arguments(config, as_group=False, as_positional=True)
            self._lists.update(_lists(config))
        if common:
            self.add_argument("--help-all", action=_Help, help="Show every option")
            for key, group in self._parts.items():
                text = f"Show {len(group._group_actions) - 1} options: {group.title}"
                self.add_argument(f"--help-{key}", action=_Help, help=text)
        positional = [f" {action.dest}" for action in self._actions if not action.option_strings]
        self.usage = f"simclr-ext {name} [options]{''.join(positional)}"

    @property
    def _parts(self) -> dict[str, argparse._ArgumentGroup]:
        """The groups of options, one for each field that is a dataclass."""
        return dict(self.groups or {})

    @property
    def _names(self) -> set[str]:
        """Names of the options, without their dashes."""
        written = {name.lstrip("-") for name in self._option_string_actions}
        return written | {action.dest for action in self._actions}

    def _unknown(self, name: str, dashes: str = "") -> NoReturn:
        like = nearest(name.lstrip("-"), self._names)
        page = "--help-all" if self._common else "--help"
        advice = f"{page} lists the options" if like is None else f"did you mean {dashes}{like}?"
        raise ConfigError(f"{name} is not an option; {advice}")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: Namespace | None = None, **kwargs: Any
    ) -> Namespace:
        """Parse arguments, with the spellings that this class allows."""
        return super().parse_args(list(self._spelled(args)), namespace, **kwargs)

    def _spelled(self, arguments: Iterable[str]) -> Iterator[str]:
        """Yield arguments in jsonargparse's spelling: options with underscores, lists in brackets.

        Raises:
            ConfigError: An option is unknown.
        """
        option = ""  # whose value is the next argument
        for argument in arguments:
            if not _OPTION.match(argument):
                yield _bracketed(argument) if option in self._lists else argument
                option = ""
                continue
            name, equals, value = argument.partition("=")
            option = name
            if name.startswith("--") and name not in self._option_string_actions:
                option = f"--{_underscored(name)}"
            if option not in self._option_string_actions:
                self._unknown(name, "--")
            if equals:
                yield f"{option}={_bracketed(value) if option in self._lists else value}"
                option = ""
            else:
                yield option

    def parse_path(self, cfg_path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a configuration file.

        Raises:
            ConfigError: It is not text, or an option is unknown.
        """
        try:
            parsed: Namespace = super().parse_path(cfg_path, *args, **kwargs)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{cfg_path}: not readable ({error})") from error
        return parsed

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:
        """Parse the text of a configuration file; empty sections are ignored.

        Raises:
            ConfigError: An option is unknown.
        """
        try:
            values = get_loader("yaml")(content)
            if isinstance(values, str):  # jsonargparse's loader reads "optim:" alone as a string
                values = yaml.safe_load(content)
        except RecursionError:
            raise ConfigError("the file has too many brackets in each other") from None
        except yaml.YAMLError:
            values = content  # the parser itself reports it well
        try:
            check_aliases(values)
        except yaml.YAMLError as error:
            raise ConfigError(f"the file is not read: {error}") from None
        values = {} if values is None else values
        if isinstance(values, dict):
            empty = {key for key in values if values[key] is None and key in self._parts}
            values = {key: value for key, value in values.items() if key not in empty}
            for key, _ in flat(values):
                if key not in self._names:
                    self._unknown(key)
            content = yaml.safe_dump(values)
        parsed: Namespace = super().parse_string(content, *args, **kwargs)
        return parsed

    def format_help(self, *args: Any) -> str:
        """Return the help: the common options, all, or those of a group."""
        groups = self._action_groups
        shown: Any = [
            SimpleNamespace(title=title, description=None, _group_actions=actions)
            for title, actions in self._sections()
        ]
        self._action_groups = shown
        try:
            text: str = super().format_help(*args)
        finally:
            self._action_groups = groups
        return text

    def _sections(self) -> Iterator[tuple[str, list[argparse.Action]]]:
        """Yield what the help shows: titles, and the options below them."""
        if self._page == "common":
            by_name = {action.dest: action for action in self._actions}
            yield "common options", [by_name[name] for name in self._common]
            yield "help", [a for a in self._actions if isinstance(a, argparse._HelpAction)]
            return
        groups = self._action_groups if self._page == "all" else [self._parts[self._page]]
        for group in groups:
            yield group.title or "", list(group._group_actions)


class _Help(argparse._HelpAction):
    """Shows a page of the help: all options, or those of a group."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        parser._page = self.option_strings[0].removeprefix("--help-")  # type: ignore[attr-defined]
        super().__call__(parser, namespace, values, option_string)


def given_options(arguments: Iterable[str]) -> dict[str, str | None]:
    """Return the options among a command's arguments, which may be invalid, and their values.

    Values are returned as written; None: the option has none.

    >>> given_options(["train", "--batch-size", "9", "--seed=3", "--help"])
    {'batch_size': '9', 'seed': '3', 'help': None}
    """
    found: dict[str, str | None] = {}
    option = None  # whose value is the next argument
    for argument in arguments:
        if _OPTION.match(argument):
            name, equals, value = argument.partition("=")
            option = _underscored(name)
            found[option] = value if equals else None
            option = None if equals else option
        elif option is not None:
            found[option], option = argument, None
    return found


def text_in(file: str | None, option: str) -> str | None:
    """Return the text of an option in a configuration file.

    None: it has none, or the file is unreadable, which the parser reports later.
    """
    try:
        values = read_yaml(Path(file).read_text(encoding="utf-8")) if file else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    text = values.get(option) if isinstance(values, dict) else None
    return text if isinstance(text, str) else None


def _underscored(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


def _lists(config: type[Any], prefix: str = "--") -> Iterator[str]:
    """Yield the options of a dataclass whose values are tuples."""
    for name, hint in get_type_hints(config).items():
        if get_origin(hint) is tuple:
            yield prefix + name
        elif isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
            yield from _lists(hint, f"{prefix}{name}.")


def _bracketed(value: str) -> str:
    return value if value.startswith("[") else f"[{value}]"
