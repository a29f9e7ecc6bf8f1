"""``--help``: docstrings as a terminal shows them, and no line longer than it is wide."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

MAX_WIDTH = 120
"""Columns of a description on a terminal that has more."""


def plain(docstring: str) -> str:
    """A docstring without the marks of code and the line breaks that its file has; paragraphs and ``Args`` stay."""
    joined = re.sub(r"(?<=\S)\n(?: {5,})?(?=\S)", " ", inspect.cleandoc(docstring))  # an argument stands 4 in
    return joined.replace("`", "")


def plain_helped() -> ConstructorRegistry:
    """For tyro: its own rules, but the help of a dataclass's fields is ``plain``."""
    from tyro.constructors import ConstructorRegistry

    registry = ConstructorRegistry()
    asking = False

    @registry.struct_rule
    def _(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal asking
        if asking or not is_dataclass(info.type):
            return None
        asking = True  # of all rules but this one
        try:
            spec: Any = ConstructorRegistry.get_struct_spec(info)
        finally:
            asking = False
        fields: tuple[StructFieldSpec, ...] = getattr(spec, "fields", ())
        return (
            replace(spec, fields=tuple(replace(one, helptext=partial(_help, one)) for one in fields))
            if fields
            else None
        )

    return registry


def _help(field: StructFieldSpec) -> str | None:
    text = field.helptext() if callable(field.helptext) else field.helptext
    if text is None and is_dataclass(field.type):
        text = field.type.__doc__
    return None if text is None else plain(text)


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
    def encoding(self) -> str:  # type: ignore[override]
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
