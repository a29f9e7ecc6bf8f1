"""``python -m data_tools COMMAND``: pack slices into one file, and look after it."""

from __future__ import annotations

from data_tools.console import run_command
from data_tools.program import Command, Program

PROGRAM = Program(
    "data_tools",
    "data-tools",
    {
        "phantom": Command("make brain-like slices to try things on", "data_tools.commands:phantom"),
        "pack": Command("pack slices and volumes into one HDF5 file", "data_tools.commands:pack"),
        "info": Command("what a packed file holds", "data_tools.commands:info"),
        "verify": Command("check every slice of a packed file against its checksums", "data_tools.commands:verify"),
        "export": Command("write the slices of a packed file as images", "data_tools.commands:export"),
    },
)


def run(arguments: list[str]) -> int:
    """Run the command that ``arguments`` ask for; return the exit status."""
    return PROGRAM.run(arguments)


def main() -> int:
    """Run from the command line; return the exit status."""
    return run_command(run)
