"""What ``--help`` prints: no line is longer than its terminal is wide."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

MAX_WIDTH = 120
"""Columns of a description on a terminal that has more."""


def help_text(target: Callable[..., Any], *, prog: str, options: Mapping[str, Any]) -> str:
    """What ``--help`` shows: tyro's text, with lines wrapped that it would let run over the edge.

    ``options`` are those of ``tyro.cli``. Colours and frames are such that stdout can show.
    """
    import tyro

    shown = _LikeStdout()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        tyro.cli(target, prog=prog, args=["--help"], **options)
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    return "\n".join(_wrapped(line, width) for line in shown.getvalue().rstrip().split("\n"))


class _LikeStdout(io.StringIO):
    """Text that is kept, made as for stdout."""

    def __init__(self) -> None:
        super().__init__()
        self._terminal = sys.stdout.isatty()
        self._encoding = sys.stdout.encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a variable
        """That of stdout."""
        return self._encoding

    def isatty(self) -> bool:
        """Whether stdout is a terminal."""
        return self._terminal


_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def _wrapped(line: str, width: int) -> str:
    """``line`` in lines of at most ``width``; frames are already."""
    if len(_COLOUR.sub("", line)) <= width:
        return line
    together = re.sub(r"\[[^\]]*\]", lambda flag: flag[0].replace(" ", "\xa0"), line)  # [--size INT]
    inset = "    " if "usage:" in line else ""
    lines = textwrap.wrap(together, width, subsequent_indent=inset, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\xa0", " ")
