"""A program of several commands. All three are asked for help, completed and run in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, NamedTuple

from data_tools.arguments import COMPLETION, check_command, parse, print_completion, usage


class Command(NamedTuple):
    """One command of a program. What it names, as ``module:name``, is imported when it is asked for."""

    about: str
    """A line of the program's usage."""

    flags: str
    """The typed function whose parameters are its flags, and which is called with them."""

    unread: str = ""
    """A function that is called with the arguments as they came instead, where there is more to them than flags."""


@dataclass(frozen=True)
class Program:
    """The commands of ``python -m MODULE``, which is installed as ``script``."""

    module: str
    script: str
    commands: Mapping[str, Command]

    @property
    def prog(self) -> str:
        """How it is called."""
        return f"python -m {self.module}"

    def run(self, arguments: Sequence[str]) -> int:
        """Answer or run the command that ``arguments`` ask for; return the exit status."""
        status = self.answer(arguments)
        return int(self.call(arguments) or 0) if status is None else status

    def answer(self, arguments: Sequence[str]) -> int | None:
        """Answer what concerns the program as a whole; return the exit status, or None where a command is named."""
        if not arguments or arguments[0] in ("-h", "--help"):
            print(usage(self.prog, self.script, {name: command.about for name, command in self.commands.items()}))
            return 0 if arguments else 2
        if arguments[0] == COMPLETION:
            print_completion({name: self.flags(name) for name in self.commands}, arguments, prog=self.script)
            return 0
        return None

    def flags(self, name: str) -> Callable[..., Any]:
        """What the flags of a command are read from."""
        found: Callable[..., Any] = resolve_name(self.commands[name].flags)
        return found

    def call(self, arguments: Sequence[str], **context: Any) -> Any:
        """Run the command that ``arguments`` begin with and return its result.

        ``context`` is for those that read their arguments themselves. Raises UsageError for a command there is not,
        and for arguments that do not fit it.
        """
        name, rest = arguments[0], list(arguments[1:])
        check_command(name, self.commands, prog=self.prog)
        command = self.commands[name]
        if command.unread:
            return resolve_name(command.unread)(rest, **context)
        return parse(self.flags(name), rest, prog=f"{self.prog} {name}")
