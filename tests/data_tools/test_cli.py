import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools.cli import run
from data_tools.console import run_command
from tests.data_tools.slices import Save, brain


def tool(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "data_tools", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=120)


def status(*arguments: str | Path) -> int:
    return run_command(run, list(map(str, arguments)))


def test_from_phantoms_to_a_verified_file_with_the_documented_flags(tmp_path: Path) -> None:
    out = tmp_path / "p"
    assert tool("phantom", out, "--subjects", "6", "--slices", "2", "--size", "32", "--seed", "1").returncode == 0
    (tmp_path / "s.csv").write_text("*,x\n")
    done = tool(
        *("pack", "--output", tmp_path / "a.h5", "--axis", "auto", "--volume", "0", "--min-foreground", "0.02"),
        *("--subject-pattern", r"(case_\d+)", "--compression", "lz4", "--workers", "2", "--strict", "--overwrite"),
        *("--split-shares", "0.7", "0.2", "0.1", "--window", "0", "255", out),
    )
    assert done.returncode == 0, done.stderr
    assert "12 slices of 6 subjects" in done.stdout
    facts = json.loads(tool("info", tmp_path / "a.h5", "--json").stdout)
    assert facts["splits"] == {"train": 8, "validate": 2, "test": 2}
    assert facts["settings"]["split_shares"] == [0.7, 0.2, 0.1]
    assert facts["subject_rules"] == {"subject pattern": 6}
    assert tool("verify", tmp_path / "a.h5").returncode == 0
    assert tool("export", tmp_path / "a.h5", tmp_path / "e").returncode == 0
    assert len(list((tmp_path / "e").rglob("*.png"))) == 12


def test_help_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from data_tools.cli import run\n"
        "assert run(['--help']) == 0\n"
        "print(sorted({'torch', 'numpy', 'h5py', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"
    assert all(command in done.stdout for command in ("phantom", "pack", "info", "verify", "export"))


def test_no_command_shows_the_commands_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert status() == 2
    assert "usage: python -m data_tools COMMAND" in capsys.readouterr().out


def test_packing_imports_no_torch(save: Save, tmp_path: Path) -> None:
    folder = save("a.png", brain())
    code = (
        "import sys; from data_tools.cli import run\n"
        f"run(['pack', {str(folder)!r}, '--output', {str(tmp_path / 'a.h5')!r}, '--workers', '1'])\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pack"], "missing"),
        (["pack", "--output", "x.h5"], "nothing to pack"),
        (["pack", "nowhere", "--output", "x.h5"], "nowhere: no such file or folder"),
        (["pack", ".", "--output", "x.h5", "--window", "5", "5"], "LOW below HIGH"),
        (["pack", ".", "--output", "x.h5", "--window", "-1e39", "1e39"], "finite as 32-bit floats"),
        (["pack", ".", "--output", "x.h5", "--window", "1e9", "1000000001"], "different"),
        (["pack", ".", "--output", "x.h5", "--split-shares", "1", "1", "1"], "sum to 1"),
        (["pack", ".", "--output", "x.h5", "--min-foreground", "2"], "--min-foreground"),
        (["pack", ".", "--output", "x.h5", "--axis", "up"], "axial"),
        (["pack", ".", "--output", "x.h5", "--axis", "up"], "(see python -m data_tools pack --help)"),
        (["pack", ".", "--output", "x.h5", "--workers", "-1"], "(see python -m data_tools pack --help)"),
        (["pack", "", "--output", "x.h5"], "SRC... does not take ''"),
        (["pack", ".", "--output", ""], "--output takes a path, got ''"),
        (
            ["pack", ".", "--output", "x.h5", "--subjects", "none.csv"],
            "none.csv: No such file or directory; give a CSV",
        ),
        (["info", ""], "FILE: '' is no path"),
        (["info", "x.h5", "--json=1"], "--json takes no value, got '1'"),
        (["info", "x.h5", "--jsn"], "(see python -m data_tools info --help)"),
        (["info", "x.h5", "--jsn"], "unrecognized: --jsn; did you mean --json? (see"),
        (["info", "--jsn", "x.h5"], "unrecognized: --jsn; did you mean --json? (see"),
        (["export", "--foo", "x.h5", "out"], "unrecognized: --foo (see"),
        (["export", "x.h5", "--foo", "out"], "unrecognized: --foo (see"),
        (["pack", "--window", "0", "100", "nowhere", "--output", "x.h5"], "nowhere: no such file or folder"),
        (
            ["pack", "--window", "0", "b", ".", "--output", "x.h5"],
            "takes LOW HIGH, separated by spaces, got '0', 'b' (see",
        ),
        (["pack", ".", "--output", "x.h5", "--subject-pattern", "("], "regular expression"),
        (["pack", ".", "--output", "x.h5", "--workers", "-1"], "--workers"),
        (["pack", ".", "--output", "x.h5", "--workers", "100000"], "(8 a core), got 100000"),
        (["pack", ".", "--output", "."], "--output . is a folder"),
        (["pack", ".", "--output", "..", "--overwrite"], "--output .. is a folder"),
        (["phantom", "x", "--size", "3"], "--size is at least 16"),
        (["phantom", "x", "--size", "1000000000"], "--size is at most 4096"),
        (["packk"], "packk"),
        (["packk"], "allowed: "),
        (["packk"], "(see python -m data_tools --help)"),
    ],
)
def test_wrong_command_lines_exit_2_with_a_line(
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert expected in said
    assert len(said.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["info", "verify"])
def test_what_cannot_be_done_exits_1_with_a_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(command, tmp_path / "none.h5") == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["info", "verify"])
@pytest.mark.parametrize(("name", "content"), [("empty.h5", b""), ("text.h5", b"no data" * 100), ("none.h5", None)])
def test_what_is_no_packed_file_says_how_one_is_made(
    command: str, name: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert status(command, tmp_path / name) == 1
    assert "; make one with: python -m data_tools pack SRC --output FILE.h5\n" in capsys.readouterr().err


def test_unreadable_files_leave_the_status_0_unless_strict(save: Save, tmp_path: Path) -> None:
    folder = save("a.png", brain())
    (folder / "b.png").write_bytes(b"no image")
    assert status("pack", folder, "--output", tmp_path / "a.h5", "--workers", "1") == 0
    assert status("pack", folder, "--output", tmp_path / "b.h5", "--workers", "1", "--strict") == 1
    assert not (tmp_path / "b.h5").exists()
