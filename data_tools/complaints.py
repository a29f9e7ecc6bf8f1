"""What tyro complains of, as one line: what was given, what is allowed.

Its complaints come as framed text alone, which is read here; see "Decisions" in docs/architecture.md.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Sequence

from data_tools.hints import did_you_mean, nearest


def in_words(text: str, arguments: Sequence[str], flags: Callable[[], Sequence[str]]) -> str:
    """Say what ``text`` does: a title, what is wrong and hints, between rules, on a screen so wide that nothing wraps.

    ``arguments`` are what was given, ``flags`` all that there are.
    """
    sections: list[list[str]] = [[]]
    for line in filter(str.strip, text.splitlines()):
        if line.strip(" -"):
            sections[-1].append(line)
        else:
            sections.append([])
    body = (sections[1:2] or sections)[0]
    message = " ".join(map(str.strip, body))
    hints = {section[0].strip(): section[1:] for section in sections[2:] if section}
    unrecognized = [line.strip() for line in hints.get("Unrecognized options:", [])]
    if message.startswith("Missing from "):
        beside = f"; {_unrecognized(unrecognized, arguments, flags)}" if unrecognized else ""
        return f"missing {', '.join(_names(body[1:]))}{beside}"
    if found := re.match(r"Unrecognized options: (.*)", message):
        return _unrecognized(found[1].split(", "), arguments, flags)
    if found := re.match(r"Missing value for argument '(\S+)'\. Expected (\d+) values", message):
        if not found[1].startswith("-"):  # a positional, before which tyro stops at any flag it does not know
            unknown = _unknown(arguments, flags())
            missing = f"missing {found[1].upper().replace('-', '_')}"
            return _unrecognized(unknown, arguments, flags) if unknown else missing
        wanted = "a value" if found[2] == "1" else f"{found[2]} values"
        return f"{found[1]} takes {wanted}, got {_given(found[1], arguments)}"
    if found := re.match(r"invalid choice '(.*)' for argument '(\S+)'\. Expected one of \((.*)\)", message):
        choices = re.findall(r"'([^']+)'", found[3])
        return f"{found[2]} must be one of {', '.join(choices)}, got {found[1]!r}{did_you_mean(found[1], choices)}"
    if not (found := re.match(r"Error parsing (\S+): (.*)", message)):
        return message
    name, said = found.groups()
    usage = hints.get("Argument helptext:")
    if usage is None:  # a check of ours, which says itself what it is about
        return said
    if name.startswith("-"):
        metavar = usage[0].strip().partition(" ")[2]
        count = None if "..." in metavar else len(metavar.split())  # what follows may be a positional
        return f"{name} takes {_kind(metavar)}, got {_given(name, arguments, count)}"
    unfit = re.fullmatch(r"Could not find valid parse for arguments: \[(.*)\]", said)
    return f"{name} does not take {unfit[1]}" if unfit else f"{name}: {said}"


def _names(lines: Sequence[str]) -> list[str]:
    """The arguments that are listed; their help texts stand farther in."""
    inset = min(len(line) - len(line.lstrip()) for line in lines)
    return [line.split()[0] for line in lines if line[inset] != " "]


def _unknown(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """What of ``arguments`` looks like a flag, before a ``--``, and is none of ``flags``."""
    looked_at = itertools.takewhile(lambda word: word != "--", arguments)
    return [word for word in looked_at if (flag := _flag(word)) and flag.replace("_", "-") not in flags]


def _flag(word: str) -> str:
    """The flag that ``word`` is or begins with; nothing where it is a value, as a negative number is."""
    return word.partition("=")[0] if re.match(r"-+[^\W\d_]", word) else ""


def _unrecognized(words: Sequence[str], arguments: Sequence[str], flags: Callable[[], Sequence[str]]) -> str:
    unknown = [flag for flag in map(_flag, words) if flag]
    switch = "" if unknown else _switch(words[0], arguments)
    if switch:
        return f"{switch} takes no value, got {words[0]!r}"
    near = dict.fromkeys(filter(None, (nearest(flag, flags()) for flag in unknown)))
    meant = f"; did you mean {', '.join(near)}?" if near else ""
    return f"unrecognized: {shlex.join(words)}{meant}"


def _switch(value: str, arguments: Sequence[str]) -> str:
    """The flag that ``value``, which belongs to none, was given to; nothing where it stands alone."""
    if value not in arguments:
        return next((flag.partition("=")[0] for flag in arguments if flag.endswith(f"={value}")), "")
    last = len(arguments) - 1 - list(reversed(arguments)).index(value)
    before = arguments[last - 1] if last else ""
    return before if before.startswith("--") and "=" not in before else ""


def _given(flag: str, arguments: Sequence[str], count: int | None = None) -> str:
    """The values that were last given to ``flag``, which takes ``count`` or any number."""
    values: list[str] = []
    name = ""
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            name = name.replace("_", "-")
            values = ([value] if equals else []) if name == flag else values
        elif name == flag:
            values.append(argument)
    return ", ".join(map(repr, values[:count])) or "nothing"


_KINDS = {"INT": "a whole number", "FLOAT": "a number", "INT|FLOAT": "a number", "PATH": "a path"}


def _kind(metavar: str) -> str:
    """What a flag takes, in words where there are some."""
    metavar = re.sub(r"\{None\}\|\{?([^{}]*)\}?", r"\1", metavar)
    return _KINDS.get(metavar) or (f"{metavar}, separated by spaces" if " " in metavar else metavar)
