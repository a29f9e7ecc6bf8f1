"""Completion of commands and settings, asked of a real bash as it asks when Tab is pressed."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = {"data-tools": "data_tools", "vqvae-dist": "vqvae_dist", "vqvae-jobs": "jobs"}


@functools.cache
def script_of(prog: str) -> str:
    """The script for bash of a program."""
    command = [sys.executable, "-m", MODULES[prog], "--tyro-print-completion", "bash"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def completed(folder: Path, prog: str, *words: str) -> set[str]:
    """What Tab offers after ``prog`` and ``words``, the last of which is unfinished."""
    script = folder / f"{prog}.bash"
    script.write_text(script_of(prog))
    found = re.search(rf"^complete .*-F (\S+) {prog}$", script.read_text(), re.MULTILINE)
    assert found, "the script registers no function for the program"
    line = " ".join(f"'{word}'" for word in (prog, *words))
    program = (
        f"source '{script}'; COMP_WORDS=({line}); COMP_CWORD={len(words)}; {found[1]}; printf '%s\\n' ${{COMPREPLY[@]}}"
    )
    return set(subprocess.run(["bash", "-c", program], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
@pytest.mark.parametrize(
    ("prog", "words", "offered"),
    [
        ("data-tools", [""], {"phantom", "pack", "info", "verify", "export"}),
        ("data-tools", ["pack", "--work"], {"--workers"}),
        ("vqvae-dist", ["train-"], {"train-vqvae", "train-pixelcnn"}),
        ("vqvae-dist", ["train-vqvae", "--optim.l"], {"--optim.lr"}),
        ("vqvae-dist", ["rerun", "--out"], {"--output-dir"}),
        ("vqvae-jobs", ["s"], {"submit", "status", "sync"}),
        ("vqvae-jobs", ["ru"], {"run"}),
    ],
)
def test_tab_offers_commands_and_settings(tmp_path: Path, prog: str, words: list[str], offered: set[str]) -> None:
    assert offered <= completed(tmp_path, prog, *words)


def test_a_shell_that_is_not_known_is_an_error_of_one_line() -> None:
    command = [sys.executable, "-m", "jobs", "--tyro-print-completion", "fish"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --tyro-print-completion takes one of bash, zsh; got fish\n"
