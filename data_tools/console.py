"""How a command talks: its errors, its exit status and its progress.

Exit status: 0 the command did its work, 1 it could not, 2 it was asked wrongly, 130 Ctrl-C.
What takes long to import (rich) is imported where it is used.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

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
    """Print one plain line on stdout at once, around a progress bar if one is drawn on the same terminal."""
    if _live_console is not None and sys.stdout.isatty():
        _live_console.out(printable(message), highlight=False)
    else:
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

    ``--debug`` anywhere before a ``--`` shows tracebacks instead of messages; ``--version`` alone tells the version.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    if debug:
        arguments.remove("--debug")
    try:
        if arguments == ["--version"]:
            say(installed_version())
            return 0
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


def installed_version() -> str:
    """Name and version of this suite, as it was installed."""
    from importlib.metadata import PackageNotFoundError, version

    name = "brain-vqvae-suite"
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name}, not installed: run from its folder"


def describe(error: BaseException) -> str:
    """Return what went wrong in words for a user, without a traceback."""
    if isinstance(error, CommandError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if is_out_of_memory(error):
        return f"not enough memory for this ({first_line(error)}); a smaller batch, size, count or model needs less"
    return f"{type(error).__name__}: {first_line(error)} (--debug shows where)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch has a class of its own for GPUs and none for the CPU."""
    torchs_own = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or torchs_own


def first_line(said: BaseException | str) -> str:
    """The first line that says something; an error without words is called by its kind."""
    lines = (line.strip() for line in str(said).splitlines())
    return next(filter(None, lines), type(said).__name__ if isinstance(said, BaseException) else "")


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 slice``, ``2 slices``; ``plural`` where that is more than an s behind."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def progress(items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
    """Yield ``items`` and show how far it is on stderr: a bar on a terminal, a line every 10 s in a log."""
    if not _draws_bars():
        yield from _with_lines(items, total, label)
        return
    with progress_bar(total=total, label=label) as moved_to:
        for done, item in enumerate(items, 1):
            yield item
            moved_to(done)


def _draws_bars() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def progress_bar(*, total: int | None, label: str, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Draw a bar on stderr where that is a terminal, nothing elsewhere; what is given moves it to so many done."""
    if not _draws_bars():
        yield lambda now: None
        return
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    with _drawn(MofNCompleteColumn(), TimeRemainingColumn()) as bars:
        task = bars.add_task(label, total=total, completed=done)
        yield lambda now: bars.update(task, completed=now)


class Bar(NamedTuple):
    """How far one of several things is that go on at a time."""

    share: float
    """Of 1."""
    said: str
    """Behind the bar."""


def draws_many_bars() -> bool:
    """Whether ``many_bars`` has a terminal that lines on stdout come to as well; elsewhere lines say it all."""
    return _draws_bars() and sys.stdout.isatty()


@contextmanager
def many_bars() -> Iterator[Callable[[Mapping[str, Bar]], None]]:
    """Draw bars below the lines of a terminal, nothing elsewhere; what is given are they, by their labels."""
    if not draws_many_bars():
        yield lambda shown: None
        return
    from rich.progress import TaskID, TextColumn

    with _drawn(TextColumn("{task.fields[said]}", markup=False), width=20) as bars:
        tasks: dict[str, TaskID] = {}

        def show(shown: Mapping[str, Bar]) -> None:
            for label in tasks.keys() - shown.keys():
                bars.remove_task(tasks.pop(label))
            for label, bar in shown.items():
                if label not in tasks:
                    tasks[label] = bars.add_task(label, total=1.0, said="")
                bars.update(tasks[label], completed=bar.share, said=bar.said)

        yield show


@contextmanager
def _drawn(*behind: ProgressColumn, width: int = 40) -> Iterator[Progress]:
    """Draw on stderr; lines go around it, and at the end they alone stay."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    global _live_console
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(width), *behind)
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False, transient=True) as bars:
        _live_console = console
        try:
            yield bars
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
