import io
import subprocess
import sys

import pytest

from data_tools import console
from data_tools.console import CommandError, UsageError, counted, progress, run_command, warn
from tests.terminal import Terminal


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (CommandError("no"), 1, "error: no"),
        (UsageError("how"), 2, "error: how"),
        (FileNotFoundError(2, "No such file", "x"), 1, "error: x: No such file"),
        (ZeroDivisionError("zero"), 1, "error: ZeroDivisionError: zero (--debug shows where)"),
        (RuntimeError("\nbuild\nfailed"), 1, "error: RuntimeError: build (--debug shows where)"),
        (AssertionError(), 1, "error: AssertionError: AssertionError (--debug shows where)"),
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


@pytest.mark.parametrize(
    "error",
    [MemoryError("so much"), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: so much")],
)
def test_too_little_memory_is_said_in_words(error: BaseException) -> None:
    said = console.describe(error)
    assert said.startswith("not enough memory for this (")
    assert said.endswith("so much); a smaller batch, size, count or model needs less")


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


@pytest.mark.parametrize(
    ("term", "stdout", "drawn"), [("xterm", True, True), ("dumb", True, False), ("xterm", False, False)]
)
def test_many_bars_are_drawn_where_lines_come_to_the_same_terminal(
    monkeypatch: pytest.MonkeyPatch, term: str, stdout: bool, drawn: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal if stdout else io.StringIO())
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", "1")
    with console.many_bars() as show:
        show({"all": console.Bar(0.5, "1/2"), "[b]one[/b]": console.Bar(0.25, "step 1")})
        show({"all": console.Bar(0.5, "1/2")})
    assert ("all " in terminal.getvalue()) == drawn
    assert ("[b]one[/b]" in terminal.getvalue()) == drawn
    assert "\x1b[3" not in terminal.getvalue()


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    list(progress(range(2), total=2, label="work"))
    assert "\x1b[3" not in terminal.getvalue()


@pytest.mark.parametrize("program", ["data_tools", "vqvae_dist", "jobs"])
def test_each_program_tells_its_version(program: str) -> None:
    command = [sys.executable, "-m", program, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("brain-vqvae-suite")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("slice",), "0 slices"),
        (1, ("slice",), "1 slice"),
        (2, ("slice",), "2 slices"),
        (1, ("process", "processes"), "1 process"),
        (2, ("process", "processes"), "2 processes"),
    ],
)
def test_what_is_counted_has_the_right_number(count: int, words: tuple[str, ...], said: str) -> None:
    assert counted(count, *words) == said
