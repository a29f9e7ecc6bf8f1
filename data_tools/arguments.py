"""Arguments of a command, read by tyro, which is imported where it is used: that takes long."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

from data_tools.console import UsageError
from data_tools.help_texts import help_text, plain, plain_helped
from data_tools.hints import did_you_mean, nearest

T = TypeVar("T")


def parse(command: Callable[..., T], arguments: Sequence[str], *, prog: str, default: T | None = None) -> T:
    """Read ``arguments`` into a typed command with tyro.

    ``command`` is a dataclass or a function; a function is called with what was read, and its result returned.
    ``default`` is an instance whose values stand where no flag is given.
    ``--help`` prints tyro's help and ends the program with status 0.

    Raises UsageError, in one or two plain lines, for anything tyro or a field's own check refuses.
    """
    import tyro

    is_function = inspect.isroutine(command)
    target: Any = _bound_later(command) if is_function else command
    options: dict[str, Any] = {"registry": plain_helped()} | ({} if default is None else {"default": default})
    if any(argument in ("-h", "--help") for argument in arguments):
        with _environment(**_without_colour()):
            print(help_text(target, prog=prog, options=options))
        sys.exit(0)
    complaint = io.StringIO()
    try:
        # Wide, so that no path is broken over lines; no terminal, so that the frame is plain dashes.
        with (
            _environment(COLUMNS="10000"),
            contextlib.redirect_stderr(complaint),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            parsed = tyro.cli(target, args=arguments, prog=prog, **options)
    except SystemExit:
        text = _plain_complaint(complaint.getvalue())
        raise UsageError(f"{text}{_meant(text, target, options)} (see {prog} --help)") from None
    except ValueError as error:
        raise UsageError(f"{error} (see {prog} --help)") from None
    result: T = parsed() if is_function else parsed
    return result


def usage(prog: str, script: str, commands: Mapping[str, str]) -> str:
    """What a program without a command prints: its commands, and what it takes beside them."""
    beside = {
        "COMMAND --help": "the flags of a command",
        "--version": "the version",
        "--debug": "anywhere: tracebacks instead of messages",
        f"{COMPLETION} {'|'.join(SHELLS)}": f"a script to complete commands and flags of {script}",
        "NO_COLOR=1": "in the environment: no colours",
    }
    return "\n".join([f"usage: {prog} COMMAND ... (or {script})", "", *_table(commands), "", *_table(beside)])


def _table(rows: Mapping[str, str]) -> list[str]:
    """Names beside what they are, in lines of at most 80; a long name stands above."""
    width = max(len(name) for name in rows if len(name) < 20)
    lines = []
    for name, text in rows.items():
        first, *more = textwrap.wrap(text, 76 - width, break_on_hyphens=False)
        lines += [f"  {name:{width}}  {first}"] if len(name) <= width else [f"  {name}", f"  {'':{width}}  {first}"]
        lines += [f"  {'':{width}}  {line}" for line in more]
    return lines


def check_command(name: str, commands: Iterable[str], *, prog: str) -> None:
    """UsageError for a command that there is not."""
    known = list(commands)
    if name not in known:
        near = did_you_mean(name, known)
        raise UsageError(f"no command {name!r}{near}; allowed: {', '.join(known)} (see {prog} --help)")


COMPLETION = "--tyro-print-completion"
SHELLS = ("bash", "zsh")


def print_completion(commands: Mapping[str, Callable[..., Any]], arguments: Sequence[str], *, prog: str) -> None:
    """Print what a shell needs to complete the commands and flags of ``prog``: ``--tyro-print-completion SHELL``.

    UsageError for a shell that tyro does not know.
    """
    if len(arguments) != 2 or arguments[1] not in SHELLS:
        raise UsageError(f"{COMPLETION} takes one of {', '.join(SHELLS)}; got {' '.join(arguments[1:]) or 'nothing'}")
    from tyro.extras import subcommand_cli_from_dict

    targets = {name: _bound_later(one) if inspect.isroutine(one) else one for name, one in commands.items()}
    with contextlib.suppress(SystemExit):  # tyro prints, and ends the program
        subcommand_cli_from_dict(targets, prog=prog, args=list(arguments), registry=plain_helped())


def _bound_later(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    """Return ``function`` with the same signature and plain help, but giving the call to make instead of making it."""

    def bind(*args: Any, **kwargs: Any) -> Callable[[], Any]:
        return functools.partial(function, *args, **kwargs)

    bind.__doc__ = plain(function.__doc__ or "")
    bind.__annotations__ = get_type_hints(function, include_extras=True)
    bind.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return bind


def _without_colour() -> dict[str, str]:
    """What keeps tyro from colours where NO_COLOR (https://no-color.org) asks for that: it knows only of TERM."""
    return {"TERM": "dumb"} if os.environ.get("NO_COLOR") else {}


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _flags(target: Any, options: Mapping[str, Any]) -> list[str]:
    """The flags that ``--help`` lists."""
    with _environment(COLUMNS="80", TERM="dumb"):
        text = help_text(target, prog="", options=options)
    return re.findall(r"^\W{0,4}(?:-\w, )?(--[a-z][\w.-]*)", text, flags=re.MULTILINE)


def _meant(text: str, target: Any, options: Mapping[str, Any]) -> str:
    """``; did you mean X?`` for the flags of a complaint that there are not; tyro knows of no names but its own."""
    unknown = re.findall(r"(?<=[ ,])--[^\s,;=]+", text.partition("unrecognized:")[2])
    flags = _flags(target, options) if unknown else []
    near = dict.fromkeys(filter(None, (nearest(flag, flags) for flag in unknown)))
    return f"; did you mean {', '.join(near)}?" if near else ""


def _plain_complaint(text: str) -> str:
    """Turn tyro's framed message (title, message, hints and footer, between rules) into one line."""
    sections: list[list[str]] = [[]]
    for line in filter(str.strip, text.splitlines()):
        if line.strip(" -"):
            sections[-1].append(line)
        else:
            sections.append([])
    body = (sections[1:2] or sections)[0]
    message = _missing(body[1:]) if _MISSING.match(body[0]) else " ".join(map(str.strip, body))
    message = re.sub(r"^Error parsing (?:(--\S+: )|[^:]*: )", r"\1", message)
    message = re.sub(r"\.? Got errors:.*", "", message)  # a line for every member of an `X | None`
    message = message.replace("Unrecognized options", "unrecognized", 1)
    hints = "".join(_hint(*map(str.strip, section)) for section in sections[2:] if section)
    text = f"{message.removesuffix('.')}{hints}"
    for pattern, words in _PLAIN.items():
        text = re.sub(pattern, words, text)
    return text


_PLAIN = {
    r"invalid literal for int\(\) with base \d+: ('.*?')": r"\1 is no whole number",
    r"could not convert string to float: ('.*?')": r"\1 is no number",
    r"no type matching .* could be instantiated from \[(.*?)\]": r"\1 does not fit",
    r"\{None\}\|\{?([^{}]*)\}?": r"\1",
    r"Could not find valid parse for arguments: \[(.*?)\]": r"\1 does not fit; values are separated by spaces",
}
"""What Python and tyro say of a value, and what it means for who typed it."""


_MISSING = re.compile(r"\s*Missing from .*:")


def _missing(lines: Sequence[str]) -> str:
    """Name the arguments that tyro lists; their help texts stand farther in."""
    inset = min(len(line) - len(line.lstrip()) for line in lines)
    names = [line.split()[0] for line in lines if line[inset] != " "]
    return f"missing {', '.join(names)}"


def _hint(header: str, *lines: str) -> str:
    """Say shortly what a section of tyro's hints is about; nothing where it holds no flag."""
    if not lines:
        return ""
    if header.startswith("Unrecognized options"):
        return f"; unrecognized: {' '.join(lines)}"
    if header.startswith("Argument helptext"):
        return f"; allowed: {lines[0]}"
    return ""
