"""What pydantic finds wrong in settings, as one line for a user: the source, the key, the value, what is allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from data_tools.hints import did_you_mean

Given = tuple[str, Mapping[str, Any]]
"""Where settings came from, and they by their dotted keys."""


def explain(error: ValidationError, defaults: Mapping[str, Any], given: Sequence[Given]) -> str:
    """The first problem in one line; ``defaults`` are all settings there are, ``given`` the layers, last wins."""
    problems = error.errors(include_url=False)
    first, key = problems[0], _setting(problems[0], defaults)
    source, values = next((layer for layer in reversed(given) if _holds(layer, key)), given[-1])
    if first["type"] == "unexpected_keyword_argument":
        known = _tables(defaults) if isinstance(first["input"], dict) else list(defaults)
        hint = did_you_mean(key, known) or f"; allowed: {', '.join(_beside(key, defaults))}"
        return f"{source}: unknown setting {key}, given {json.dumps(first['input'])}{hint}"
    if first["type"] == "value_error":  # our own checks name the setting themselves
        text = str(first["ctx"]["error"])
        return f"{' with '.join(sources(text, given)) or source}: {text}"
    if isinstance(defaults.get(key), tuple):  # whatever is wrong in a list, the list is shown
        example = json.dumps(defaults[key] or ("this", "that"))
        return f"{source}: {key} must be a list like {example}, got {json.dumps(values.get(key))}"
    # Where a whole number or any number is taken, pydantic complains twice; the last says what is enough.
    last = [problem for problem in problems if _setting(problem, defaults) == key][-1]
    return f"{source}: {key} must be {in_words(last)}, got {json.dumps(first['input'])}{near_choice(last)}"


def sources(text: str, given: Sequence[Given]) -> list[str]:
    """Where the settings came from that the text of a check names, that of its first word first."""
    keys = [text.split()[0], *re.findall(r"\w+(?:\.\w+)+", text)]
    found = (next((layer[0] for layer in reversed(given) if _holds(layer, key)), "") for key in keys)
    return list(dict.fromkeys(filter(None, found)))


def in_words(problem: Any) -> str:
    """What pydantic would take, as said to a user: ``a whole number``, ``'none' or 'layer'``."""
    return _IN_WORDS.get(problem["type"]) or str(problem["msg"]).removeprefix("Input should be ")


def near_choice(problem: Any) -> str:
    """``; did you mean X?`` where a text is near one of those that pydantic would take."""
    if problem["type"] != "literal_error" or not isinstance(problem["input"], str):
        return ""
    return did_you_mean(problem["input"], re.findall(r"'([^']*)'", problem["ctx"]["expected"]))


_IN_WORDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text in quotes",
    "dataclass_type": "a table of settings",
    "dict_type": "a table of settings",
    "list_type": "a list",
    "tuple_type": "a list",
}


def _setting(problem: Any, known: Iterable[str]) -> str:
    """The dotted name of what a problem is about, without what pydantic adds (item numbers, union branches)."""
    key = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("function-", "constrained-")))
    return next((name for name in known if key == name or key.startswith(f"{name}.")), key)


def _tables(known: Iterable[str]) -> list[str]:
    """The tables that hold settings: ``model``, ``model.quantizer``."""
    parts = [name.split(".") for name in known]
    return list({".".join(part[:depth]): None for part in parts for depth in range(1, len(part))})


def _beside(key: str, known: Iterable[str]) -> list[str]:
    """The settings of the table that a key would be in; else what there is at the top, tables by their names."""
    table, top = key.rpartition(".")[0], dict.fromkeys(name.partition(".")[0] for name in known)
    return [name for name in known if table and name.rpartition(".")[0] == table] or [*top]


def _holds(layer: Given, key: str) -> bool:
    return any(name == key or name.startswith(f"{key}.") for name in layer[1])
