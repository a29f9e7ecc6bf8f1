"""Packing whatever lies in a folder: the rest is packed, each file is named with its reason, memory stays bounded."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from data_tools import decode
from data_tools.choices import Axis
from data_tools.readers import dicom as dicom_reader
from data_tools.readers.formats import FORMATS
from data_tools.readers.slice import Volume
from data_tools.slicefile import SliceReader
from tests.data_tools.dicoms import at, values
from tests.data_tools.hostile_files import HOSTILE
from tests.data_tools.readers.test_nifti import nifti
from tests.data_tools.slices import Pack, Save, brain

MEMORY_OF_REFUSALS = 400 << 20
"""docs/data_format.md: what refusing files such as these may take beyond packing good ones, bytes."""

MEMORY_A_BYTE = 6
"""docs/data_format.md: memory for each byte that a volume unpacks to, at most."""

PACK = """
import sys
from data_tools.cli import main
status = main()
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("peak", peak)
sys.exit(status)
"""


class Done(NamedTuple):
    status: int
    errors: str
    peak: int
    """Bytes of memory at the highest."""


def packing(folder: Path, output: Path, *options: str) -> Done:
    """Run ``data_tools pack`` in a process of its own."""
    command = [sys.executable, "-c", PACK, "pack", str(folder), "--output", str(output), "--workers", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    peak = int(done.stdout.split()[-1]) * 1024 if "peak" in done.stdout else 0
    return Done(done.returncode, done.stderr, peak)


def lines_of(said: str) -> dict[str, str]:
    """The reason for each file, by path."""
    return dict(line.split(": ", 1) for line in said.splitlines())


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The memory of packing one small slice."""
    folder = tmp_path_factory.mktemp("usual")
    (folder / "in").mkdir()
    for name, data in (("a.nii", nifti(brain(dtype="uint16"))), ("a.dcm", at(0, values()))):
        (folder / "in" / name).write_bytes(data)
    return packing(folder / "in", folder / "out.h5").peak


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "in"
    folder.mkdir()
    for name, (data, _) in HOSTILE.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def packed_with_one_good(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    folder = tmp_path_factory.mktemp("with_good")
    shutil.copytree(hostile, folder / "in")
    (folder / "in" / "good.nii").write_bytes(nifti(brain(dtype="uint16")))
    return packing(folder / "in", folder / "out.h5"), folder / "out.h5"


def test_the_rest_is_packed_and_the_exit_status_is_0(packed_with_one_good: tuple[Done, Path]) -> None:
    done, output = packed_with_one_good
    assert done.status == 0
    assert "Traceback" not in done.errors
    with SliceReader(output) as reader:
        assert [reader.source(n).path for n in range(reader.source_count)] == ["good.nii"]


@pytest.mark.parametrize("name", HOSTILE)
def test_each_file_is_named_with_its_reason(name: str, packed_with_one_good: tuple[Done, Path]) -> None:
    said = lines_of(packed_with_one_good[0].errors)
    assert re.search(HOSTILE[name][1], said[name]), said[name]


def test_memory_stays_below_the_stated_bound(packed_with_one_good: tuple[Done, Path], usual: int) -> None:
    assert usual > 0
    assert packed_with_one_good[0].peak < usual + MEMORY_OF_REFUSALS


def test_with_nothing_else_the_exit_status_is_1_and_nothing_is_written(hostile: Path, tmp_path: Path) -> None:
    small = tmp_path / "in"
    small.mkdir()
    for name in ("cut.png", "claims.nii", "no_pixels.dcm"):
        shutil.copy(hostile / name, small)
    done = packing(small, tmp_path / "out" / "out.h5")
    assert done.status == 1
    assert len(done.errors.splitlines()) == 4
    assert done.errors.splitlines()[-1] == f"error: {small}: no slice that can be packed (3 files skipped)"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("scaled", [False, True])
def test_a_volume_takes_no_more_than_six_times_its_size(scaled: bool, tmp_path: Path, usual: int) -> None:
    (tmp_path / "in").mkdir()
    voxels = np.random.default_rng(0).integers(1, 4000, (512, 512, 256)).astype(np.int16)
    header: dict[str, Any] = {"scl_slope": 0.5, "scl_inter": 3.0} if scaled else {}
    (tmp_path / "in" / "a.nii").write_bytes(nifti(voxels, **header))
    done = packing(tmp_path / "in", tmp_path / "out.h5")
    assert done.status == 0
    assert done.peak < usual + (MEMORY_A_BYTE + 1) * voxels.nbytes  # and the file itself


def test_a_worker_is_held_to_the_stated_memory() -> None:
    code = (
        "import resource; from data_tools.decode import MAX_WORKER_BYTES, memory_limited\n"
        "before = resource.getrlimit(resource.RLIMIT_DATA)\n"
        "with memory_limited():\n"
        "    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == MAX_WORKER_BYTES\n"
        "    try: bytearray(MAX_WORKER_BYTES + 1)\n"
        "    except MemoryError: print('refused')\n"
        "assert resource.getrlimit(resource.RLIMIT_DATA) == before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "refused\n"


def test_what_a_library_runs_out_of_memory_for_is_named(
    save: Save, pack_here: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(data: bytes, axis: Axis, volume: int) -> Volume:
        if b"tEXtgreedy" in data:
            bytearray(decode.MAX_WORKER_BYTES + 1)
        return image.read(data, axis, volume)

    image = FORMATS["image"]
    monkeypatch.setitem(FORMATS, "image", image._replace(read=greedy))
    folder = save("good.png", brain())
    good = (folder / "good.png").read_bytes()
    (folder / "greedy.png").write_bytes(good + b"tEXtgreedy")
    with pack_here(folder) as reader:
        assert reader.source_count == 1
    assert "greedy.png: MemoryError" in capsys.readouterr().err


def test_files_of_one_series_count_together(tmp_path: Path, pack_here: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(at(number, values(number)))
    size = len(at(0, values()))
    monkeypatch.setattr(decode, "MAX_FILE_BYTES", 2 * size + size // 2)
    with pack_here(tmp_path / "in") as reader:
        assert reader.source_count == 2


def test_a_series_in_too_many_directions_is_named(
    tmp_path: Path, save: Save, pack_here: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dicom_reader, "MAX_PLANES", 3)
    folder = save("good.png", brain())
    for number in range(5):
        turned = at(0, values(number), ImageOrientationPatient=[1, number, 0, 0, 1, number])
        (folder / f"{number}.dcm").write_bytes(turned)
    with pack_here(folder) as reader:
        assert reader.source_count == 1
    assert capsys.readouterr().err.count("in more than 3 directions") == 5


def test_a_file_that_changes_while_it_is_read_is_named(
    save: Save, pack_here: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save("good.png", brain())
    for name in ("grows.png", "shrinks.png", "is_touched.png"):
        shutil.copy(folder / "good.png", folder / name)
    fstat, seen = os.fstat, set[int]()

    def fstat_and_change(descriptor: int) -> os.stat_result:
        """What a writer does between our first look at the file and the last."""
        found = fstat(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.parent == folder and found.st_ino not in seen:
            seen.add(found.st_ino)
            if path.name == "grows.png":
                with path.open("ab") as file:
                    file.write(b"more")
            elif path.name == "shrinks.png":
                os.truncate(path, 20)
            elif path.name == "is_touched.png":
                os.utime(path, ns=(found.st_mtime_ns + 1, found.st_mtime_ns + 1))
        return found

    monkeypatch.setattr(os, "fstat", fstat_and_change)
    with pack_here(folder) as reader:
        assert reader.source_count == 1
    said = lines_of(capsys.readouterr().err)
    for name in ("grows.png", "shrinks.png", "is_touched.png"):
        assert said[name] == "it changed while it was read"


PACK_UNPRIVILEGED = """
import os, sys
from data_tools.cli import main, run
run(["pack", "loads_all_modules", "--output", "first.h5", "--workers", "1"])  # which another user may not read
if os.getuid() == 0:  # root reads everything
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print("-" * 9, file=sys.stderr, flush=True)
sys.exit(main())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can enter and write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)
        (Path(name) / "in" / "closed").chmod(0o700)


def test_unreadable_folders_and_files_are_named(open_folder: Path, save: Save) -> None:
    for name in ("in", "loads_all_modules"):
        shutil.copytree(save("good.png", brain()), open_folder / name)
    for path in ("closed", "no_list"):
        (open_folder / "in" / path).mkdir()
        shutil.copy(open_folder / "in" / "good.png", open_folder / "in" / path / "other.png")
    shutil.copy(open_folder / "in" / "good.png", open_folder / "in" / "closed.png")
    (open_folder / "in" / "closed").chmod(0)
    (open_folder / "in" / "closed.png").chmod(0)
    (open_folder / "in" / "no_list").chmod(0o111)
    command = [sys.executable, "-c", PACK_UNPRIVILEGED, "pack", "in", "--output", "out.h5", "--workers", "1"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")
    }  # it can't note
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=open_folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    said = lines_of(done.stderr.partition("-" * 9 + "\n")[2])
    assert {name: said[name] for name in ("closed", "closed.png", "no_list")} == dict.fromkeys(
        ("closed", "closed.png", "no_list"), "Permission denied"
    )
