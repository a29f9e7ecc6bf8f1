import io
import sys
from dataclasses import dataclass, field
from typing import Literal

import pytest

from data_tools import console
from data_tools.console import CommandError, UsageError, parse, progress, run_command, warn


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-3
    """Learning rate."""
    milestones: tuple[int | float, ...] = (0.65, 0.9)

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"optim.lr must be positive, got {self.lr}")


@dataclass(frozen=True)
class Settings:
    path: str
    optim: Optim = field(default_factory=Optim)
    mode: Literal["auto", "off"] = "auto"
    window: tuple[float, float] | None = None


def complaint(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(Settings, arguments, prog="tool")
    text = str(caught.value)
    assert len(text.splitlines()) <= 2
    assert "╭" not in text
    return text


def test_nested_values_and_lists_are_read_by_dotted_names() -> None:
    found = parse(Settings, ["--path", "x", "--optim.milestones", "1000", "0.5", "--optim.lr", "2e-3"], prog="tool")
    assert found == Settings("x", Optim(2e-3, (1000, 0.5)))
    assert [type(number) for number in found.optim.milestones] == [int, float]


def test_a_default_instance_stands_where_no_flag_is_given() -> None:
    default = Settings("x", Optim(lr=0.5))
    assert parse(Settings, ["--mode", "off"], prog="tool", default=default) == Settings("x", Optim(0.5), "off")


def test_a_negative_value_is_a_value() -> None:
    assert parse(Settings, ["--path", "x", "--window", "-5", "10"], prog="tool").window == (-5, 10)


def test_a_function_is_called_with_what_was_read() -> None:
    def add(a: int, *, b: int = 1) -> int:
        return a + b

    assert parse(add, ["--a", "2", "--b", "3"], prog="tool") == 5


def test_an_error_inside_a_function_is_not_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(a: int) -> None:
        print("said")
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside") as caught:
        parse(fail, ["--a", "2"], prog="tool")
    assert not isinstance(caught.value, UsageError)
    assert capsys.readouterr().out == "said\n"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["missing --path", "tool --help"]),
        (["--path", "x", "--optm.lr", "3"], ["--optm.lr", "nearest: --optim.lr"]),
        (["--path", "x", "--optim.lr", "abc"], ["--optim.lr", "'abc'", "FLOAT"]),
        (["--path", "x", "--optim.lr", "-1"], ["optim.lr must be positive, got -1.0"]),
        (["--path", "x", "--mode", "of"], ["'of'", "--mode", "auto", "off"]),
        (["--path", "x", "--window", "1"], ["--window", "FLOAT FLOAT"]),
        (["--path", "x", "--optim.milestones", "1", "a"], ["--optim.milestones", "'a'"]),
        (["--paht", "x"], ["missing --path", "--paht"]),
        (["--path", "x", "stray"], ["stray"]),
        (["--path", "x", "--mode", "y" * 300], ["y" * 300]),
    ],
)
def test_a_wrong_command_line_is_answered_plainly(arguments: list[str], parts: list[str]) -> None:
    text = complaint(*arguments)
    for part in parts:
        assert part in text


def test_help_is_printed_and_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Settings, ["--help"], prog="tool")
    assert caught.value.code == 0
    assert "--optim.lr" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (CommandError("no"), 1, "error: no"),
        (UsageError("how"), 2, "error: how"),
        (FileNotFoundError(2, "No such file", "x"), 1, "error: x: No such file"),
        (ZeroDivisionError("zero"), 1, "error: ZeroDivisionError: zero (--debug shows where)"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
    ],
)
def test_errors_become_a_line_and_a_status(
    error: BaseException, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise error

    assert run_command(fail, []) == status
    assert capsys.readouterr().err == text + "\n"


def test_debug_shows_the_traceback_and_is_not_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def fail(arguments: list[str]) -> int:
        seen.extend(arguments)
        raise CommandError("no")

    run_command(fail, ["a", "--debug"])
    assert seen == ["a"]
    assert "Traceback" in capsys.readouterr().err


def test_messages_hold_no_escape_sequences_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    warn("[bold]\x1b[31m" + "x" * 300 + "\udcff")
    text = capsys.readouterr().err
    assert text == "warning: [bold]\\x1b[31m" + "x" * 300 + "\\udcff\n"


def test_progress_is_a_plain_line_now_and_then_in_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LOG_SECONDS", 0.0)
    assert list(progress(range(3), total=3, label="work")) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert lines[2].startswith("work: 2/3 (67%), ")


def test_progress_is_silent_when_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), total=None, label="work")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_stay_whole_around_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    line = "a [red]line[/red] that is longer than the terminal is wide, by far"
    for _ in progress(range(2), total=2, label="work"):
        console.note(line)
    assert terminal.getvalue().count(line) == 2
    assert "2/2" in terminal.getvalue()


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    list(progress(range(2), total=2, label="work"))
    assert "\x1b[3" not in terminal.getvalue()
