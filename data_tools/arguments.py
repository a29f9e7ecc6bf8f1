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

from data_tools.complaints import in_words
from data_tools.console import UsageError
from data_tools.help_texts import help_text
from data_tools.hints import did_you_mean
from data_tools.tyro_rules import plain, rules

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
    options: dict[str, Any] = {"registry": rules()} | ({} if default is None else {"default": default})
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
        text = in_words(complaint.getvalue(), arguments, functools.partial(_flags, target, options))
        raise UsageError(f"{text} (see {prog} --help)") from None
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
        subcommand_cli_from_dict(targets, prog=prog, args=list(arguments), registry=rules())


def _bound_later(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    """Return ``function`` with the same signature and plain help, but giving the call to make instead of making it."""

    def bind(*args: Any, **kwargs: Any) -> Callable[[], Any]:
        return functools.partial(function, *args, **kwargs)

    bind.__doc__ = plain(function.__doc__ or "")
    bind.__annotations__ = get_type_hints(function, include_extras=True)
    bind.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # what inspect.signature reads
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
    """The flags that ``--help`` lists, short ones too."""
    with _environment(COLUMNS="80", TERM="dumb"):
        text = help_text(target, prog="", options=options)
    listed = re.findall(r"^\W{0,4}((?:-\w, )?--[a-z][\w.-]*)", text, flags=re.MULTILINE)
    return [flag for names in listed for flag in names.split(", ")]
