from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_tools.console import UsageError
from tests.small_disk import on_small_disk
from vqvae_dist.hdf5_files import new_hdf5
from vqvae_dist.inference.output import claim, staged_results

NAMES = ("pictures", "table.csv", "record.json")


def write(folder: Path, text: str, *, pictures: int) -> None:
    (folder / "pictures").mkdir(exist_ok=True)
    for number in range(pictures):
        (folder / "pictures" / f"{number:02}.png").write_text(text)
    for name in NAMES[1:]:
        (folder / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_results_take_the_places_of_earlier_ones_and_nothing_else(tmp_path: Path) -> None:
    with staged_results(tmp_path, NAMES, overwrite=False) as staged:
        write(staged, "old", pictures=5)
        assert not [name for name in NAMES if (tmp_path / name).exists()]
    (tmp_path / "pictures" / "notes.png").write_text("mine")
    with pytest.raises(UsageError, match=r"record\.json exists; give another --output, or --overwrite"):
        staged_results(tmp_path, NAMES, overwrite=False).__enter__()
    with staged_results(tmp_path, NAMES, overwrite=True) as staged:
        write(staged, "new", pictures=2)
    expected = dict.fromkeys(("pictures/00.png", "pictures/01.png", "table.csv", "record.json"), "new")
    assert contents(tmp_path) == {**expected, "pictures/notes.png": "mine"}


def test_an_error_changes_nothing(tmp_path: Path) -> None:
    with staged_results(tmp_path, NAMES, overwrite=False) as staged:
        write(staged, "old", pictures=1)
    before = contents(tmp_path)
    with pytest.raises(ZeroDivisionError), staged_results(tmp_path, NAMES, overwrite=True) as staged:
        write(staged, "new", pictures=3 // 0)
    assert contents(tmp_path) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from vqvae_dist.inference.output import staged_results
with staged_results(Path(sys.argv[1]), ["record.json"], overwrite=False) as staged:
    (staged / "record.json").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_left_is_removed_by_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False, timeout=60)
    assert len(list(tmp_path.glob(".staging-*/results/record.json"))) == 1
    with staged_results(tmp_path, ["record.json"], overwrite=False) as staged:
        (staged / "record.json").write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"record.json"}


def test_what_is_read_is_never_overwritten(tmp_path: Path) -> None:
    data = tmp_path / "table.csv"
    data.write_text("the only copy")
    (tmp_path / "link.csv").symlink_to(data)
    for path in (data, tmp_path / "link.csv"):
        with pytest.raises(UsageError, match=f"{path.name} is what this command reads; give another --output"):
            claim([path], overwrite=True, inputs=[data])


FILL = """
import sys
from pathlib import Path
import numpy as np
from vqvae_dist.hdf5_files import new_hdf5
try:
    with new_hdf5(Path(sys.argv[1]), libver=("v110", "v110")) as (file, check):
        for number in range(64):
            file.create_dataset(str(number), data=np.zeros(1 << 16, "u1"), chunks=(1 << 12,), fletcher32=True)
            file.flush()
            print(number, flush=True)
            check()
except OSError as error:
    sys.exit(f"{error.filename}: {error.strerror}")
"""


def test_a_full_disk_is_named_at_once_and_ends_no_process(tmp_path: Path) -> None:
    with on_small_disk(tmp_path, "1m") as disk:
        command = [sys.executable, "-c", FILL, str(disk / "a.h5")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, f"{disk / 'a.h5'}: No space left on device\n")
    assert 4 < len(done.stdout.split()) < 32, "it ends where the disk is full, not after everything was tried"


def test_a_new_file_reads_back(tmp_path: Path) -> None:
    with new_hdf5(tmp_path / "a.h5") as (file, _):
        file["numbers"] = np.arange(9)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["numbers"][:].tolist() == list(range(9))
