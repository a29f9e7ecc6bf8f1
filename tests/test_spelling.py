"""What the commands say of themselves: messages that can be pasted, and help for every argument."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from data_tools.cli import PROGRAM as DATA_TOOLS
from data_tools.cli import run
from data_tools.program import Program
from jobs.cli import PROGRAM as JOBS
from jobs.cli import main as jobs
from vqvae_dist.cli import PROGRAM as VQVAE_DIST
from vqvae_dist.cli import main as vqvae_dist

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_tools", "vqvae_dist", "jobs")
NAMES = "data_tools|vqvae_dist|jobs|data-tools|vqvae-dist|vqvae-jobs"
PROGRAMS = (DATA_TOOLS, VQVAE_DIST, JOBS)
COMMANDS = {name for program in PROGRAMS for name in program.commands}
COMMAND = re.compile(rf"(?<!python -m )\b(?:{NAMES}) (?:{'|'.join(COMMANDS)})\b")


def texts(file: Path) -> Iterator[str]:
    """The strings of a source but for docstrings; what an f-string puts in is ``…``."""
    tree = ast.parse(file.read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


@pytest.mark.parametrize("package", PACKAGES)
def test_commands_in_messages_can_be_pasted(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {(str(file), text) for file in files for text in texts(file) if COMMAND.search(text)}
    assert not wrong
    in_words = re.compile(rf"`(?:{NAMES}) [a-z]")  # in docstrings too: those of settings are shown by --help
    assert not [file for file in files if in_words.search(file.read_text())]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.module)
def test_every_flag_has_a_word_of_help(program: Program) -> None:
    for function in filter(inspect.isfunction, map(program.flags, program.commands)):
        told = re.findall(r"^ +(\w+): \S", function.__doc__ or "", re.MULTILINE)
        settings = {name for name, hint in get_type_hints(function).items() if is_dataclass(hint)}
        assert set(inspect.signature(function).parameters) - settings <= set(told), function


@pytest.mark.parametrize("program", [run, jobs, vqvae_dist], ids=lambda program: program.__module__)
def test_debug_is_in_the_help_of_each_program(program: Callable[[list[str]], Any]) -> None:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        program(["--help"])
    assert "--debug" in shown.getvalue()
