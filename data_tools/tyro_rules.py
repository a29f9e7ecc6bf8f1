"""Rules of ours for tyro: what it makes of some types, and how their docstrings are shown."""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

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
    """How tyro makes values: by itself, with rules for paths, optional tuples and the help of dataclasses."""
    from tyro.constructors import ConstructorRegistry

    registry = ConstructorRegistry()
    registry.primitive_rule(_path_rule)
    registry.primitive_rule(_optional_tuple_rule)
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


def _optional_tuple_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """``tuple[float, float] | None`` takes two values; tyro would read None too, and so take all values that follow."""
    others = [one for one in get_args(info.type) if one is not NoneType]
    if get_origin(info.type) not in (Union, UnionType) or [get_origin(one) for one in others] != [tuple]:
        return None
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(others[0], info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec) or not isinstance(spec.nargs, int):
        return None
    return replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["None"] if value is None else spec.str_from_instance(value),
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
