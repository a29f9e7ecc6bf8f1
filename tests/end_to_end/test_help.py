"""``--help`` of every command, as it stands on terminals of two widths."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest

import data_tools.cli
import jobs.cli
import vqvae_dist.cli
from tests.terminal import on_a_terminal

PROGRAMS = {"data_tools": data_tools.cli, "vqvae_dist": vqvae_dist.cli, "jobs": jobs.cli}
ASKED = [(name, command) for name, module in PROGRAMS.items() for command in ["", *module.PROGRAM.commands]]
HELP_ALONE = re.compile(r"^[│|](?P<inset> {5,})(?P<said>\S.*?) *[│|]$")
"""A line of a frame that goes on with the help of the flag above it."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[str, str, int], str]:
    """``--help`` of a command of a program on so many columns."""

    def ask(program: str, command: str, columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("sys.argv", [program, *command.split(), "--help"])
        try:
            status = PROGRAMS[program].main()
        except SystemExit as ended:
            status = ended.code
        said = capfd.readouterr()
        assert (status, said.err) == (0, "")
        return said.out

    return ask


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(("program", "command"), ASKED)
def test_help_fits_its_terminal_and_has_no_marks_of_code(
    asked: Callable[[str, str, int], str], program: str, command: str, columns: int
) -> None:
    lines = asked(program, command, columns).splitlines()
    assert lines[0].startswith("usage: ")
    assert max(map(len, lines)) <= columns
    assert not [line for line in lines if "``" in line]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(("program", "command"), ASKED)
def test_help_goes_to_the_edge_before_it_goes_on_below(
    asked: Callable[[str, str, int], str], program: str, command: str, columns: int
) -> None:
    lines = asked(program, command, columns).splitlines()
    edge = max(map(len, lines)) - 2  # of the frame, and a space before it
    for line, below in pairwise(map(HELP_ALONE.match, lines)):
        if line and below and line["inset"] == below["inset"]:
            first, *_ = below["said"].split()
            listed = line["said"].endswith(".") and first.endswith(":")  # one of several, as the presets are
            assert listed or line.end("said") + 1 + len(first) > edge, line["said"]


def test_a_description_of_several_lines_is_one_paragraph(asked: Callable[[str, str, int], str]) -> None:
    assert "error maps in the same order, and the\nfolder GROUP/ single" in asked("vqvae_dist", "reconstruct", 80)


def test_help_on_a_terminal_has_colours_and_no_longer_lines() -> None:
    environment = {"COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    status, text = on_a_terminal(["vqvae_dist", "likelihood-map", "--help"], environment)
    assert status == 0
    assert "\x1b[1m" in text
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in text.splitlines()) <= 80
