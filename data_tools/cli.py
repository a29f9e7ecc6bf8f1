"""The commands of ``python -m data_tools``: phantom, pack, info, verify, export.

Only what reads the command line is imported here; each command imports what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg, subcommand

from data_tools.arguments import COMPLETION, HELP, check_command, parse, print_completion
from data_tools.console import run_command
from data_tools.settings import PackSettings, PhantomSettings

PackedFile = Annotated[Positional[Path], arg(metavar="FILE")]


@dataclass(frozen=True)
class Info:
    """Show what a packed file holds."""

    file: PackedFile
    """The packed file."""

    as_json: Annotated[bool, arg(name="json")] = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Verify:
    """Check every slice of a packed file against its checksums."""

    file: PackedFile
    """The packed file."""


@dataclass(frozen=True)
class Export:
    """Write the slices of a packed file as images: PNG for 8 and 16 bits without sign, TIFF for the rest."""

    file: PackedFile
    """The packed file."""

    out_dir: Annotated[Positional[Path], arg(metavar="OUT_DIR")]
    """A folder that is new or empty."""


COMMANDS = {"phantom": PhantomSettings, "pack": PackSettings, "info": Info, "verify": Verify, "export": Export}

AnyCommand: Any = reduce(or_, (Annotated[kind, subcommand(name)] for name, kind in COMMANDS.items()))
"""For tyro; what ``--help`` and a wrong command are answered from."""


def run(arguments: list[str]) -> None:
    """Run the command that ``arguments`` ask for."""
    if arguments[:1] == [COMPLETION]:
        print_completion(COMMANDS, arguments, prog="data-tools")
        return
    if arguments and arguments[0] in COMMANDS:  # read by itself, so that an error points to this command's help
        command = parse(COMMANDS[arguments[0]], arguments[1:], prog=f"python -m data_tools {arguments[0]}")
    else:
        if arguments and not arguments[0].startswith("-"):
            check_command(arguments[0], COMMANDS, prog="python -m data_tools")
        command = parse(AnyCommand, arguments, prog="python -m data_tools", about=HELP)
    if isinstance(command, PhantomSettings):
        from data_tools.phantom import phantom

        phantom(command)
    elif isinstance(command, PackSettings):
        from data_tools.pack import pack

        pack(command)
    elif isinstance(command, Info):
        from data_tools.info import info

        info(command.file, as_json=command.as_json)
    elif isinstance(command, Verify):
        from data_tools.verify import verify

        verify(command.file)
    elif isinstance(command, Export):
        from data_tools.export import export

        export(command.file, command.out_dir)


def main() -> int:
    """Run from the command line; return the exit status."""
    return run_command(run)
