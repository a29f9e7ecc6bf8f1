"""The commands of ``python -m data_tools``: phantom, pack, info, verify, export.

Only what reads the command line is imported here; each command imports what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from data_tools.arguments import COMPLETION, check_command, parse, print_completion, usage
from data_tools.console import run_command
from data_tools.flags import Switch
from data_tools.settings import PackSettings, PhantomSettings

PackedFile = Annotated[Positional[Path], arg(metavar="FILE")]


@dataclass(frozen=True)
class Info:
    """Show what a packed file holds."""

    file: PackedFile
    """The packed file."""

    as_json: Annotated[Switch, arg(name="json")] = False
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


COMMANDS = {
    "phantom": "make brain-like slices to try things on",
    "pack": "pack slices and volumes into one HDF5 file",
    "info": "what a packed file holds",
    "verify": "check every slice of a packed file against its checksums",
    "export": "write the slices of a packed file as images",
}

ARGUMENTS: dict[str, Callable[..., object]] = {
    "phantom": PhantomSettings,
    "pack": PackSettings,
    "info": Info,
    "verify": Verify,
    "export": Export,
}


def run(arguments: list[str]) -> int:
    """Run the command that ``arguments`` ask for; return the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage("python -m data_tools", "data-tools", COMMANDS))
        return 0 if arguments else 2
    if arguments[0] == COMPLETION:
        print_completion(ARGUMENTS, arguments, prog="data-tools")
        return 0
    name, rest = arguments[0], arguments[1:]
    check_command(name, COMMANDS, prog="python -m data_tools")
    command = parse(ARGUMENTS[name], rest, prog=f"python -m data_tools {name}")
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
    return 0


def main() -> int:
    """Run from the command line; return the exit status."""
    return run_command(run)
