"""How a command talks: its arguments, its errors, its exit status and its progress.

Exit status: 0 the command did its work, 1 it could not, 2 it was asked wrongly, 130 Ctrl-C.
Everything that takes long to import (tyro, rich) is imported where it is used.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

LOG_SECONDS = 10.0
"""How often ``progress`` writes a line where there is no terminal."""

_live_console: Console | None = None
"""The terminal a progress bar is drawn on at the moment; lines must go around the bar."""


class CommandError(Exception):
    """The command could not do its work. The text is one or two lines for the user; exit status 1."""

    status = 1


class UsageError(CommandError):
    """The command was asked wrongly: a bad flag, key or value; exit status 2."""

    status = 2


def warn(message: str) -> None:
    """Print one plain, unwrapped line on stderr; text from outside is never parsed as markup."""
    note(f"warning: {message}")


def note(line: str) -> None:
    """Print ``line`` on stderr as it is: unwrapped, around a progress bar if one is drawn."""
    line = printable(line)
    if _live_console is not None:
        _live_console.out(line, highlight=False)
    else:
        print(line, file=sys.stderr, flush=True)


def say(message: str) -> None:
    """Print one plain line on stdout at once."""
    print(printable(message), flush=True)


def printable(text: str) -> str:
    """Return ``text`` with what a terminal would obey, or a stream could not encode, as escapes."""
    return "\n".join(map(one_line, text.split("\n")))


def one_line(text: str) -> str:
    """Return ``text`` as ``printable`` does, its line breaks too: file names may hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def run_command(command: Callable[[list[str]], int | None], arguments: Sequence[str] | None = None) -> int:
    """Run ``command(arguments)`` and turn what it raises into a message and an exit status.

    ``--debug`` anywhere before a ``--`` shows tracebacks instead of messages.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    if debug:
        arguments.remove("--debug")
    try:
        return command(arguments) or 0
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `... | head` closed our stdout: nobody reads on
        sys.stderr.close()
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        note(f"error: {describe(error)}")
        return error.status if isinstance(error, CommandError) else 1


def describe(error: BaseException) -> str:
    """Return what went wrong in words for a user, without a traceback."""
    if isinstance(error, CommandError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error} (--debug shows where)"


def progress(items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
    """Yield ``items`` and show how far it is on stderr: a bar on a terminal, a line every 10 s in a log."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        yield from _with_bar(items, total, label)
    else:
        yield from _with_lines(items, total, label)


def _with_bar(items: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    global _live_console
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as bar:
        _live_console = console
        try:
            yield from bar.track(items, total=total, description=label)
        finally:
            _live_console = None


def _with_lines(items: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= LOG_SECONDS:
            last = now
            note(_progress_line(label, done, total, now - start))
        yield item


def _progress_line(label: str, done: int, total: int | None, seconds: float) -> str:
    rate = done / seconds
    if not total:
        return f"{label}: {done}, {rate:.1f}/s"
    left = f", {(total - done) / rate:.0f} s left" if rate else ""
    return f"{label}: {done}/{total} ({done / total:.0%}), {rate:.1f}/s{left}"


@overload
def parse(command: Callable[..., T], arguments: Sequence[str], *, prog: str, default: T | None = None) -> T: ...


@overload
def parse(command: Any, arguments: Sequence[str], *, prog: str, default: Any = None) -> Any: ...


def parse(command: Any, arguments: Sequence[str], *, prog: str, default: Any = None) -> Any:
    """Read ``arguments`` into a typed command with tyro.

    ``command`` is a dataclass, a union of dataclasses (subcommands) or a function; a function is called with
    what was read, and its result returned. ``default`` is an instance whose values stand where no flag is given.
    ``--help`` prints tyro's help and ends the program with status 0.

    Raises UsageError, in one or two plain lines, for anything tyro or a field's own check refuses.
    """
    import tyro

    is_function = inspect.isroutine(command)
    target = _bound_later(command) if is_function else command
    options = {} if default is None else {"default": default}
    if any(argument in ("-h", "--help") for argument in arguments):
        return tyro.cli(target, args=arguments, prog=prog, **options)
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
        raise UsageError(_plain_complaint(complaint.getvalue(), prog)) from None
    except ValueError as error:
        raise UsageError(f"{error} (see {prog} --help)") from None
    return parsed() if is_function else parsed


COMPLETION = "--tyro-print-completion"
SHELLS = ("bash", "zsh", "tcsh")


def print_completion(commands: Mapping[str, Callable[..., Any]], arguments: Sequence[str], *, prog: str) -> None:
    """Print what a shell needs to complete the commands and flags of ``prog``: ``--tyro-print-completion SHELL``.

    UsageError for a shell that tyro does not know.
    """
    if len(arguments) != 2 or arguments[1] not in SHELLS:
        raise UsageError(f"{COMPLETION} takes one of {', '.join(SHELLS)}; got {' '.join(arguments[1:]) or 'nothing'}")
    from tyro.extras import subcommand_cli_from_dict

    with contextlib.suppress(SystemExit):  # tyro prints, and ends the program
        subcommand_cli_from_dict(dict(commands), prog=prog, args=list(arguments))


def _bound_later(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    """Return ``function`` with the same signature, but giving the call to make instead of making it."""

    @functools.wraps(function)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], Any]:
        return functools.partial(function, *args, **kwargs)

    return bind


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


def _plain_complaint(text: str, prog: str) -> str:
    """Turn tyro's framed message (title, message, hints and footer, between rules) into one line."""
    sections: list[list[str]] = [[]]
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.strip("-"):
            sections[-1].append(line)
        else:
            sections.append([])
    message = " ".join((sections[1:2] or sections)[0])
    message = re.sub(r"^Missing from .*?: (.*?) \(required\)", r"missing \1", message)
    message = message.replace("(required)", "").strip()
    message = re.sub(r"^Error parsing (?:(--\S+: )|[^:]*: )", r"\1", message)
    message = re.sub(r"\.? Got errors:.*", "", message)  # a line for every member of an `X | None`
    message = message.replace("Unrecognized options", "unrecognized", 1)
    hints = "".join(_hint(*section) for section in sections[2:] if section)
    return f"{message.removesuffix('.')}{hints} (see {prog} --help)"


def _hint(header: str, *lines: str) -> str:
    """Say shortly what a section of tyro's hints is about; nothing where it holds no flag."""
    if header.startswith("Available subcommands: "):
        return f"; allowed: {header.partition(': ')[2]}"
    if not lines:
        return ""
    if header.startswith("Unrecognized options"):
        return f"; unrecognized: {' '.join(lines)}"
    if header.startswith(("Perhaps you meant", "Arguments similar")):
        return f"; nearest: {lines[0]}"
    if header.startswith("Argument helptext"):
        return f"; allowed: {lines[0]}"
    return ""
