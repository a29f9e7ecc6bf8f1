"""Results whose command is killed while they take their places."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools.console import CommandError, UsageError
from vqvae_dist.inference.output import staged_results

NAMES = ("pictures", "table.csv", "record.json")

KILLED_AT_EACH_STEP = """
import os, sys
from pathlib import Path
from vqvae_dist.inference.output import staged_results

NAMES = ("pictures", "table.csv", "record.json")

def make(folder, text, pictures, names, step=None):
    steps = 0
    def count(event, arguments):
        nonlocal steps
        if step is not None and armed and event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "open"):
            steps += 1
            if steps == step:
                os._exit(9)  # before it is done
    armed = False
    sys.addaudithook(count)
    with staged_results(folder, NAMES, overwrite=text == "new, over the old") as staged:
        (staged / "pictures").mkdir()
        for number in range(pictures):
            (staged / "pictures" / f"{number:02}.png").write_text(text)
        for name in names:
            (staged / name).write_text(text)
        armed = True

root, text = Path(sys.argv[1]), sys.argv[2]
for step in range(1, 1000):
    folder = root / f"{step:03}"
    if text == "new, over the old":
        make(folder, "old", 4, NAMES[1:])
    child = os.fork()
    if not child:
        make(folder, text, 2, NAMES[2:], step)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def contents(folder: Path) -> dict[str, str]:
    """What lies under final names."""
    files = (path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder): path for path in files}
    return {str(name): path.read_text() for name, path in named.items() if not name.parts[0].startswith(".staging-")}


def whole(text: str, pictures: int, names: tuple[str, ...]) -> dict[str, str]:
    return dict.fromkeys([*(f"pictures/{number:02}.png" for number in range(pictures)), *names], text)


def write(folder: Path, files: dict[str, str], *, overwrite: bool) -> None:
    with staged_results(folder, NAMES, overwrite=overwrite) as staged:
        (staged / "pictures").mkdir()
        for name, text in files.items():
            (staged / name).write_text(text)


@pytest.mark.parametrize("text", ["new", "new, over the old"])
def test_a_kill_at_any_step_leaves_one_whole_result_after_the_next_call(text: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_AT_EACH_STEP, str(tmp_path), text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    before = {} if text == "new" else whole("old", 4, NAMES[1:])
    after = whole(text, 2, NAMES[2:])
    seen = []
    for folder in sorted(tmp_path.iterdir()):
        failed = shutil.copytree(folder, folder.with_name(f"{folder.name}-failed"))
        try:
            with staged_results(failed, NAMES, overwrite=text != "new"):
                raise ZeroDivisionError
        except (ZeroDivisionError, UsageError):
            pass
        assert contents(failed) in (before, after), "never parts of two results, nor of one"
        seen.append((contents(folder) == before, contents(folder) == after))
        again(folder, text, is_whole=contents(folder) == after)
        assert contents(folder) == after
        assert not list(folder.glob(".staging-*"))
    assert {(True, False), (False, False), (False, True)} <= set(seen), "kills before, amid and after the move"


def again(folder: Path, text: str, *, is_whole: bool) -> None:
    """The command that was killed, once more; a first result that is whole under its names already is refused."""
    made_before = text == "new" and is_whole and not list(folder.glob(".staging-whole.*"))
    if made_before:
        with pytest.raises(UsageError, match=r"record\.json exists"):
            write(folder, {}, overwrite=False)
        shutil.rmtree(next(folder.glob(".staging-*"), folder / "none"), ignore_errors=True)
    else:
        write(folder, whole(text, 2, NAMES[2:]), overwrite=text != "new")


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, *, overwrite: bool) -> None:
    """Leave a set of which only the first picture is in its place."""
    replace, moved = Path.replace, []

    def stopping(self: Path, target: Path) -> Path:
        if self.parent.parent.name == "results" or self.parent.name == "results":
            moved.append(self)
            if len(moved) == 2:
                raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stopping)
    with pytest.raises(KeyboardInterrupt):
        write(folder, whole("first", 2, NAMES[1:]), overwrite=overwrite)
    monkeypatch.undo()
    assert contents(folder) == {"pictures/00.png": "first"}


def test_another_command_in_the_folder_finishes_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, monkeypatch, overwrite=False)
    with pytest.raises(UsageError, match=r"table\.csv exists"):
        staged_results(tmp_path, ["table.csv"], overwrite=False).__enter__()
    assert contents(tmp_path) == whole("first", 2, NAMES[1:])
    assert capsys.readouterr().err == f"{tmp_path / 'record.json'}: finished what a stopped command had left to do\n"


def test_what_was_put_over_an_earlier_result_is_replaced_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path, monkeypatch, overwrite=True)
    with pytest.raises(UsageError, match=r"record\.json exists"):
        staged_results(tmp_path, NAMES, overwrite=False).__enter__()
    assert contents(tmp_path) == whole("first", 2, NAMES[1:])


def test_a_set_whose_command_lives_is_left_to_it(tmp_path: Path) -> None:
    with staged_results(tmp_path, ["a.json"], overwrite=False) as staged:
        (staged / "a.json").write_text("a")
        living = staged.parent.rename(tmp_path / ".staging-whole.living")
        with staged_results(tmp_path, ["b.json"], overwrite=False) as other:
            (other / "b.json").write_text("b")
        assert contents(tmp_path) == {"b.json": "b"}
        living.rename(staged.parent)
    assert contents(tmp_path) == {"a.json": "a", "b.json": "b"}


@pytest.mark.parametrize("names", ['["../a.json"]', '[".."]', '[""]', "[]", "[1]", '"a"', "{"])
def test_names_that_lead_elsewhere_are_damage(tmp_path: Path, names: str) -> None:
    left = tmp_path / "out" / ".staging-whole.x"
    (left / "results").mkdir(parents=True)
    (left / "names.json").write_text(f'{{"names": {names}}}')
    (tmp_path / "a.json").write_text("mine")
    with pytest.raises(CommandError, match=r"names\.json: damaged"):
        staged_results(tmp_path / "out", ["b.json"], overwrite=True).__enter__()
    assert (tmp_path / "a.json").read_text() == "mine"


def test_a_folder_in_the_place_of_a_file_is_named_before_anything_changes(tmp_path: Path) -> None:
    (tmp_path / "table.csv").mkdir()
    (tmp_path / "record.json").write_text("old")
    with pytest.raises(UsageError, match=r"table\.csv: a folder is in the way of this file"):
        write(tmp_path, whole("new", 0, NAMES[1:]), overwrite=True)
    assert contents(tmp_path) == {"record.json": "old"}
    assert not list(tmp_path.glob(".staging-*"))


def test_no_name_clashes_with_those_of_the_staging_folder(tmp_path: Path) -> None:
    names = ["lock", "lock.png", "names.json"]  # as of generate --output lock.png, or names.png
    with staged_results(tmp_path, names, overwrite=False) as staged:
        (staged / "lock").mkdir()
        for name in ("lock/00.png", *names[1:]):
            (staged / name).write_text("mine")
    assert contents(tmp_path) == dict.fromkeys(("lock/00.png", *names[1:]), "mine")
