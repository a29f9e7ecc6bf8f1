"""Commands in messages can be pasted: one spelling, that of ``python -m``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_tools.cli import COMMANDS as DATA_TOOLS
from jobs.cli import COMMANDS as JOBS
from vqvae_dist.cli import COMMANDS as VQVAE_DIST

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
