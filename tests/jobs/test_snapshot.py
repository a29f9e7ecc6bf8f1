from __future__ import annotations

import json
import shutil
from pathlib import Path

from jobs.snapshot import DONE, PACKAGES, snapshot_path, take_snapshot
from tests.jobs.sweep_files import make_sweep
from vqvae_dist.code_version import code_version


def test_snapshot_is_whole_and_made_once_for_each_version(tmp_path: Path, packed: Path) -> None:
    folder, _ = make_sweep(tmp_path, packed)
    code = take_snapshot(folder)
    assert {path.name for path in code.iterdir()} == {*PACKAGES, DONE}
    assert (code / "vqvae_dist" / "presets" / "smoke.toml").is_file()
    assert json.loads((code / DONE).read_text())["commit"] == code_version()
    before = (code / DONE).stat().st_mtime_ns
    assert take_snapshot(folder) == code == snapshot_path(folder)
    assert (code / DONE).stat().st_mtime_ns == before


def test_snapshot_cut_by_a_kill_is_made_anew(tmp_path: Path, packed: Path) -> None:
    folder, _ = make_sweep(tmp_path, packed)
    code = take_snapshot(folder)
    (code / DONE).unlink()
    shutil.rmtree(code / "jobs")
    assert take_snapshot(folder) == code
    assert (code / "jobs" / "task.py").is_file()
