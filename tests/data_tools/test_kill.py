"""Packing that is killed, or cannot write, leaves no bad file and can be done again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_tools.console import CommandError
from data_tools.phantom import phantom
from data_tools.settings import PhantomSettings
from data_tools.staging import staged
from tests.data_tools.slices import Pack, Save, brain
from tests.kills.packing import soak, start

PACK = "import sys; from data_tools.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    phantom(PhantomSettings(folder / "in", subjects=20, slices=5, size=64))
    return folder / "in"


def children_of(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_kill_at_any_moment_leaves_no_bad_file_and_packing_again_gives_the_same_bytes(
    pictures: Path, tmp_path: Path
) -> None:
    result = soak(pictures, tmp_path / "out", kills=8, seed=0)
    assert result["bad"] == []


def test_workers_end_when_the_packing_process_is_killed(pictures: Path, tmp_path: Path) -> None:
    process = start(pictures, "--output", tmp_path / "out.h5", "--workers", "2")
    deadline = time.monotonic() + 30
    workers: list[int] = []
    while len(workers) < 3 and process.poll() is None and time.monotonic() < deadline:
        workers = children_of(process.pid)  # two workers and multiprocessing's own helper
    process.kill()
    process.wait()
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers
    assert not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers)


def test_a_staging_folder_in_use_is_left_alone_and_a_dead_one_removed(tmp_path: Path) -> None:
    output = tmp_path / "a[1].h5"
    dead = [tmp_path / f".staging-a[1].h5-{name}" for name in ("dead", "unborn")]
    for folder in dead:
        folder.mkdir()
    (dead[0] / "lock").touch()
    with staged(output) as one:
        assert [path.name for path in tmp_path.iterdir()] == [one.name]
        with staged(output) as other:
            assert one.exists()
            assert one != other
        assert one.exists()
    assert list(tmp_path.iterdir()) == []


def test_an_output_inside_the_packed_folder_is_no_input(save: Save, pack_here: Pack) -> None:
    folder = save("a.png", brain())
    (folder / ".staging-x").mkdir()
    (folder / ".staging-x" / "b.png").write_bytes((folder / "a.png").read_bytes())
    with pack_here(folder) as reader:
        assert reader.source_count == 1


def test_a_full_disk_is_an_error_that_leaves_what_was_there(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out.h5").write_text("old")
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from data_tools.cli import main; sys.exit(main())"
    )
    command = [
        sys.executable,
        "-c",
        limited,
        "pack",
        str(pictures),
        "--output",
        str(tmp_path / "out.h5"),
        "--overwrite",
    ]
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "out.h5: could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
    assert (tmp_path / "out.h5").read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error(pictures: Path, tmp_path: Path, pack_here: Pack) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CommandError, match="Permission denied"):
        pack_here(pictures)


def test_a_file_that_changes_while_it_is_read_is_named(
    save: Save, pack_here: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("a.png", brain())
    folder = save("b.png", brain(seed=1))
    real = os.fstat
    seen: list[int] = []

    def fstat(number: int) -> os.stat_result:
        found = real(number)
        seen.append(number)
        if len(seen) == 1:
            os.utime(number, ns=(0, 0))  # someone writes between the first look and the second
        return found

    monkeypatch.setattr("data_tools.decode.os.fstat", fstat)
    with pack_here(folder) as reader:
        assert reader.source_count == 1
        assert "it changed while it was read" in reader.path.with_suffix(".report.json").read_text()


def test_ctrl_c_ends_with_130_and_leaves_nothing(pictures: Path, tmp_path: Path) -> None:
    process = start(pictures, "--output", tmp_path / "out.h5", "--workers", "2")
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".staging-*/slices.h5")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert list(tmp_path.iterdir()) == []
