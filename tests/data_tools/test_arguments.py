from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from tyro.conf import Positional, arg

from data_tools.arguments import parse
from data_tools.console import UsageError
from data_tools.flags import Switch, empty_means
from tests.terminal import on_a_terminal


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
    count: int = 1
    pair: tuple[float, float] = (0.0, 1.0)
    folder: Path = Path("here")
    on: Switch = False


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


def look(
    name: Annotated[Positional[str], arg(metavar="NAME")],
    more: Annotated[Positional[tuple[str, ...]], arg(metavar="[MORE...]")] = (),
    /,
    *,
    follow: Annotated[Switch, arg(aliases=["-f"])] = False,
    dry_run: Switch = False,
    span: tuple[int, int] | None = None,
) -> tuple[str, tuple[str, ...], tuple[int, int] | None]:
    """Look."""
    return name, more, span


@pytest.mark.parametrize("span", [["--span", "0", "-1"], ["--span=0", "-1"]])
def test_a_pair_that_may_be_none_takes_two_values_and_no_positional(span: list[str]) -> None:
    assert parse(look, [*span, "a", "b"], prog="tool") == ("a", ("b",), (0, -1))
    assert parse(look, ["a", *span, "--follow"], prog="tool") == ("a", (), (0, -1))
    assert parse(look, ["a", "b"], prog="tool") == ("a", ("b",), None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--folow", "a"], "unrecognized: --folow; did you mean --follow?"),
        (["--dry_rum=yes", "a", "b"], "unrecognized: --dry_rum=yes; did you mean --dry-run?"),
        (["--dry_run", "-f", "--zebra", "a"], "unrecognized: --zebra"),
        (["--follow", "-g", "a"], "unrecognized: -g"),
        (["--folow", "--dry", "a"], "unrecognized: --folow --dry; did you mean --follow, --dry-run?"),
        (["--folow", "--", "--zebra"], "unrecognized: --folow; did you mean --follow?"),
        (["--folow"], "unrecognized: --folow; did you mean --follow?"),
        (["a", "--follow", "-g"], "unrecognized: -g"),
        (["--span", "0", "--folow", "a"], "--span takes 2 values, got '0'"),
        (["--span", "0", "b", "a"], "--span takes INT INT, separated by spaces, got '0', 'b'"),
        (["--follow"], "missing NAME"),
    ],
)
def test_a_wrong_flag_before_a_positional_is_what_is_wrong(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(look, arguments, prog="tool")
    assert str(caught.value) == f"{said} (see tool --help)"


def test_a_positional_that_lacks_a_value_is_missing() -> None:
    def draw(the_range: Annotated[Positional[tuple[int, int]], arg(metavar="THE_RANGE")], /) -> None:
        """Draw."""

    with pytest.raises(UsageError, match=r"^missing THE_RANGE \(see"):
        parse(draw, ["1"], prog="tool")


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
        ([], ["missing --path (see tool --help)"]),
        (["--path", "x", "--optm.lr", "3"], ["--optm.lr 3; did you mean --optim.lr?"]),
        (["--path", "x", "--optim.learning-rate", "3"], ["--optim.learning-rate 3; did you mean --optim.lr?"]),
        (["--path", "x", "--mod", "off", "--zebra", "3", "--lr=3"], ["3 --lr=3; did you mean --mode, --optim.lr?"]),
        (["--path", "x", "--zebra", "3"], ["unrecognized: --zebra 3 (see tool --help)"]),
        (["--path", "x", "--optim.lr", "abc"], ["--optim.lr takes a number, got 'abc' (see tool --help)"]),
        (["--path", "x", "--optim.lr="], ["--optim.lr takes a number, got '' (see"]),
        (["--path", "x", "--optim.lr"], ["--optim.lr takes a value, got nothing (see"]),
        (["--path", "x", "--count", "1e3"], ["--count takes a whole number, got '1e3' (see"]),
        (["--path", "x", "--pair", "0.9"], ["--pair takes 2 values, got '0.9' (see"]),
        (["--path", "x", "--folder", ""], ["--folder takes a path, got '' (see"]),
        (["--path", "x", "--on", "true"], ["--on takes no value, got 'true' (see"]),
        (["--path", "x", "--on=yes"], ["--on takes no value, got 'yes' (see"]),
        (["--path", "x", "--count", "1", "1"], ["unrecognized: 1 (see"]),
        (["--path", "x", "a b"], ["unrecognized: 'a b' (see"]),
        (["--path", "x", "--optim.lr", "-1"], ["optim.lr must be positive, got -1.0"]),
        (["--path", "x", "--mode", "of"], ["--mode must be one of auto, off, got 'of'; did you mean off? (see"]),
        (["--path", "x", "--window", "1"], ["--window takes 2 values, got '1' (see"]),
        (["--path", "x", "--window", "1", "a"], ["--window takes FLOAT FLOAT, separated by spaces, got '1', 'a' (see"]),
        (
            ["--path", "x", "--optim.milestones", "1", "a"],
            ["--optim.milestones takes [INT|FLOAT [INT|FLOAT ...]], separated by", "got '1', 'a'"],
        ),
        (["--path", "x", "--optim.milestones", "[1,2]"], ["separated by spaces, got '[1,2]' (see"]),
        (["--paht", "x"], ["missing --path; unrecognized: --paht x; did you mean --path? (see"]),
        (["--path", "x", "stray"], ["stray"]),
        (["--path", "x", "--mode", "y" * 300], ["y" * 300]),
    ],
)
def test_a_wrong_command_line_is_answered_plainly(arguments: list[str], parts: list[str]) -> None:
    text = complaint(*arguments)
    for part in parts:
        assert part in text


def test_everything_that_is_missing_is_named_without_its_help() -> None:
    def copy(source: Annotated[Positional[str], arg(metavar="FROM")], /, *, to: str, mode: Literal["a", "b"]) -> None:
        """Copy.

        Args:
            source: what
            to: where; --lists of words
            mode: how
        """

    with pytest.raises(UsageError) as caught:
        parse(copy, [], prog="tool")
    assert str(caught.value) == "missing FROM, --to, --mode (see tool --help)"


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_help_on_a_terminal_has_colours_unless_no_color_is_set(environment: dict[str, str], coloured: bool) -> None:
    status, text = on_a_terminal(["data_tools", "info", "--help"], environment)
    assert status == 0
    assert "packed file" in text
    assert ("\x1b[" in text) == coloured


def test_help_is_printed_and_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Settings, ["--help"], prog="tool")
    assert caught.value.code == 0
    assert "--optim.lr" in capsys.readouterr().out


def test_help_says_what_an_empty_default_means_and_lists_a_switch_once(capsys: pytest.CaptureFixture[str]) -> None:
    Names = Annotated[Positional[tuple[str, ...]], empty_means("all", metavar="[NAME...]")]

    def look(
        names: Names = (),
        /,
        *,
        follow: Annotated[Switch, arg(aliases=["-f"])] = False,
        profile: Annotated[str, empty_means("as before")] = "",
        group: Annotated[str, empty_means("none")] = "lab",
    ) -> bool:
        """Look."""
        return follow

    with pytest.raises(SystemExit):
        parse(look, ["--help"], prog="tool")
    shown = capsys.readouterr().out
    assert [line.strip(" │|") for line in shown.splitlines() if "(default" in line or "--follow" in line] == [
        "[NAME...]      names (default: all)",
        "-f, --follow",
        "--profile STR  (default: as before)",
        "--group STR    (default: lab)",
    ]
    assert parse(look, ["-f"], prog="tool")
    assert not parse(look, [], prog="tool")
