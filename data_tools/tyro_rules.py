"""Rules of ours for tyro: what it makes of some types, and how their docstrings are shown."""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tyro.constructors import (
        ConstructorRegistry,
        PrimitiveConstructorSpec,
        PrimitiveTypeInfo,
        StructConstructorSpec,
        StructFieldSpec,
        StructTypeInfo,
    )


def plain(docstring: str) -> str:
    """A docstring without the marks of code and the line breaks that its file has; paragraphs and ``Args`` stay."""
    joined = re.sub(r"(?<=\S)\n(?: {5,})?(?=\S)", " ", inspect.cleandoc(docstring))  # an argument stands 4 in
    return joined.replace("`", "")


def rules() -> ConstructorRegistry:
    """How tyro makes values: by itself, but no path is empty, and the help of dataclasses is ``plain``."""
    from tyro.constructors import ConstructorRegistry

    registry = ConstructorRegistry()
    registry.primitive_rule(_path_rule)
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
        plainly = tuple(replace(field, helptext=partial(_help, field)) for field in fields)
        return replace(spec, fields=plainly) if fields else None

    return registry


def _path_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    if info.type is not Path:
        return None
    from tyro.constructors import PrimitiveConstructorSpec

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda given: _path(given[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def _path(text: str) -> Path:
    if not text:
        raise ValueError("'' is no path")  # for Path that is the working folder, which is hardly what was meant
    return Path(text)


def _help(field: StructFieldSpec) -> str | None:
    text = field.helptext() if callable(field.helptext) else field.helptext
    if text is None and is_dataclass(field.type):
        text = field.type.__doc__
    return None if text is None else plain(text)
