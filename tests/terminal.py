"""Commands on a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence


class Terminal(io.StringIO):
    """What stands for stderr or stdout on a terminal, in this process."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def left_on_screen(text: str) -> list[str]:
    """The lines with words on a terminal after it has shown ``text``, without colours."""
    lines, row = [""], 0
    for part in re.split(r"(\r|\n|\x1b\[[\d;?]*[a-zA-Z])", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part != "\r" and not part.startswith("\x1b"):
            lines[row] += part
    return [line for line in lines if line]


def on_a_terminal(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit status of ``python -m ARGUMENTS`` with stdout and stderr on a terminal, and all that it shows."""
    above, below = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, stdout=below, stderr=below, env={**clean, **(environment or {})}) as shown:
        os.close(below)
        text = b""
        with contextlib.suppress(OSError):  # how a terminal ends
            while part := os.read(above, 4096):
                text += part
    os.close(above)
    return shown.returncode, text.decode("utf-8", "replace")
