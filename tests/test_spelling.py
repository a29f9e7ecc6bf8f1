"""What the commands say of themselves: messages that can be pasted, and help for every argument."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from data_tools.cli import COMMANDS as DATA_TOOLS
from data_tools.cli import run
from jobs import commands
from jobs.cli import COMMANDS as JOBS
from jobs.cli import main as jobs
from vqvae_dist.cli import COMMANDS as VQVAE_DIST
from vqvae_dist.cli import FUNCTIONS
from vqvae_dist.cli import main as vqvae_dist

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_tools", "vqvae_dist", "jobs")
NAMES = "data_tools|vqvae_dist|jobs|data-tools|vqvae-dist|vqvae-jobs"
COMMAND = re.compile(rf"(?<!python -m )\b(?:{NAMES}) (?:{'|'.join({*DATA_TOOLS, *VQVAE_DIST, *JOBS})})\b")


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


ALL = [resolve_name(place) for place in FUNCTIONS.values()] + [
    getattr(commands, name) for name in JOBS if name != "run"
]


@pytest.mark.parametrize("function", ALL, ids=lambda function: function.__name__)
def test_every_argument_has_a_word_of_help(function: Callable[..., Any]) -> None:
    told = re.findall(r"^ +(\w+): \S", function.__doc__ or "", re.MULTILINE)
    assert set(inspect.signature(function).parameters) <= set(told)


@pytest.mark.parametrize("program", [run, jobs, vqvae_dist], ids=lambda program: program.__module__)
def test_debug_is_in_the_help_of_each_program(program: Callable[[list[str]], Any]) -> None:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        program(["--help"])
    assert "--debug" in shown.getvalue()
