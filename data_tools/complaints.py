"""What tyro complains of, as one line: what was given, what is allowed.

Its complaints come as framed text alone, which is read here; see "Decisions" in docs/architecture.md.
"""

from __future__ import annotations

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
        return f"{name} takes {_kind(usage[0].strip())}, got {_given(name, arguments)}"
    unfit = re.fullmatch(r"Could not find valid parse for arguments: \[(.*)\]", said)
    return f"{name} does not take {unfit[1]}" if unfit else f"{name}: {said}"


def _names(lines: Sequence[str]) -> list[str]:
    """The arguments that are listed; their help texts stand farther in."""
    inset = min(len(line) - len(line.lstrip()) for line in lines)
    return [line.split()[0] for line in lines if line[inset] != " "]


def _unrecognized(words: Sequence[str], arguments: Sequence[str], flags: Callable[[], Sequence[str]]) -> str:
    unknown = [word.partition("=")[0] for word in words if word.startswith("--")]
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


def _given(flag: str, arguments: Sequence[str]) -> str:
    """The values that were last given to ``flag``."""
    values: list[str] = []
    name = ""
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            name = name.replace("_", "-")
            values = ([value] if equals else []) if name == flag else values
        elif name == flag:
            values.append(argument)
    return ", ".join(map(repr, values)) or "nothing"


_KINDS = {"INT": "a whole number", "FLOAT": "a number", "INT|FLOAT": "a number", "PATH": "a path"}


def _kind(usage: str) -> str:
    """What ``--flag METAVAR`` takes, in words where there are some."""
    metavar = re.sub(r"\{None\}\|\{?([^{}]*)\}?", r"\1", usage.partition(" ")[2])
    return _KINDS.get(metavar) or (f"{metavar}, separated by spaces" if " " in metavar else metavar)
