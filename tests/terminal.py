"""Commands on a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence


class Terminal(io.StringIO):
    """What stands for stderr or stdout on a terminal, in this process."""

    def isatty(self) -> bool:
        """It is one."""
        return True


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
