"""The parser of one command: jsonargparse's, with tolerant spelling and a short help.

- `--batch-size` means `--batch_size`, and `--formats onnx,pt2` means `--formats [onnx,pt2]`.
- `--download` alone means `--download true`.
- For an unknown option, on the command line or in a file, the error suggests the nearest one.
- An empty file, or an empty section of a file, changes nothing.
- `--help` can show a few common options; `--help-all` and `--help-GROUP` show the rest.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader

from simclr_ext.options.errors import ConfigError
from simclr_ext.options.messages import nearest, not_among, reworded
from simclr_ext.options.read_yaml import RefusedYAMLError, carefully, read_yaml
from simclr_ext.options.serialize import flat

_OPTION = re.compile("--?[a-zA-Z]")  # a letter, so that negative numbers are values


class ProgramParser(ArgumentParser):
    """A parser of the command, whose options are for a `CommandParser`."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise ConfigError(not_among("command", value, action.choices))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ArgumentError, in our words if the command or what it needs is not given."""
        action: Any = self._subcommands_action
        commands = action.choices
        if message.startswith('expected "command"'):
            message = f"a command is needed: {', '.join(commands)}"
        missing = message.removeprefix("the following arguments are required: ")
        if missing != message:
            command, _, name = missing.partition(", ")[0].partition(".")
            message = commands[command].needed(name)
        super().error(message, ex)


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
        self._hints: dict[str, Any] = {}
        if config is not None:
            self.add_argument("--config", action="config", help="YAML file with any of the options")
            self.add_class_arguments(config, as_group=False, as_positional=True)
            self._hints.update(_hints(config))
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
    def _names(self) -> list[str]:
        """Names of the options, without their dashes, in the order of the help."""
        written = [name.lstrip("-") for name in self._option_string_actions]
        return [*written, *(action.dest for action in self._actions)]

    def add_option(self, name: str, hint: Any, **options: Any) -> None:
        """Add an option that is not a field of the dataclass, of a type."""
        self._hints[name] = hint
        self.add_argument(f"--{name}", type=hint, **options)

    def needed(self, name: str) -> str:
        """Return the answer to a command without an option that has no default."""
        (action,) = (action for action in self._actions if action.dest == name)
        meaning = " ".join((action.help or "").split()).partition(". ")[0].rstrip(".")
        written = "".join(action.option_strings) or name
        return f"{written} is needed: {meaning[:1].lower()}{meaning[1:]}"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ConfigError with jsonargparse's message in our words.

        Raises:
            ConfigError: Always.
        """
        surplus = message.removeprefix("unrecognized arguments: ")
        if surplus != message and "data" in self._names and "data" not in given_options(self.args):
            message += f"; did you mean --data {surplus}?"
        raise ConfigError(reworded(message, self._hints)) from ex

    def validate(self, *args: Any, **kwargs: Any) -> None:
        """Check the values of all options.

        Raises:
            ConfigError: A value is not of its option's type.
        """
        try:
            super().validate(*args, **kwargs)
        except TypeError as error:
            self.error(str(error), error)

    def _unknown(self, name: str, dashes: str = "") -> NoReturn:
        like = nearest(name, [known for known in self._names if known not in self._parts])
        page = "--help-all" if self._common else "--help"
        advice = f"{page} lists the options" if like is None else f"did you mean {dashes}{like}?"
        raise ConfigError(f"{name} is not an option; {advice}")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: Namespace | None = None, **kwargs: Any
    ) -> Namespace:
        """Parse arguments, with the spellings that this class allows."""
        return super().parse_args(list(self._spelled(args)), namespace, **kwargs)

    def _spelled(self, arguments: Iterable[str]) -> Iterator[str]:
        """Yield arguments in jsonargparse's spelling.

        Options have underscores and a value, lists brackets.

        Raises:
            ConfigError: An option is unknown.
        """
        option = ""  # whose value is the next argument
        for argument in arguments:
            if not _OPTION.match(argument):
                yield self._value(option, argument)
                option = ""
                continue
            if self._is(option, bool):
                yield "true"
            name, equals, value = argument.partition("=")
            option = name
            if name.startswith("--") and name not in self._option_string_actions:
                option = f"--{_underscored(name)}"
            if option not in self._option_string_actions:
                self._unknown(name, "--")
            if equals:
                yield f"{option}={self._value(option, value)}"
                option = ""
            else:
                yield option
        if self._is(option, bool):
            yield "true"

    def _value(self, option: str, value: str) -> str:
        """Return a value of an option in jsonargparse's spelling."""
        return f"[{value}]" if self._is(option, tuple) and not value.startswith("[") else value

    def _is(self, option: str, kind: type[Any]) -> bool:
        """Return whether the values of an option, with its dashes, are of a type."""
        hint = self._hints.get(option.removeprefix("--"))
        return kind in (hint, get_origin(hint))

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
            values = carefully(get_loader("yaml"), content)
            if isinstance(values, str):  # jsonargparse's loader reads "optim:" alone as a string
                values = read_yaml(content)
        except RefusedYAMLError as error:
            raise ConfigError(f"the file is not read: {error}") from None
        except yaml.YAMLError:
            values = content  # the parser itself reports it well
        values = {} if values is None else values
        if isinstance(values, dict):
            empty = {key for key in values if values[key] is None and key in self._parts}
            values = {key: value for key, value in values.items() if key not in empty}
            for key in self._parts:
                if not isinstance(values.get(key, {}), dict | str):  # a str is a file with them
                    raise ConfigError(f"{key} must have options below it, got {values[key]}")
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


def _hints(config: type[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options of a dataclass and their types."""
    for name, hint in get_type_hints(config).items():
        if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
            yield from _hints(hint, f"{prefix}{name}.")
        else:
            yield prefix + name, hint
