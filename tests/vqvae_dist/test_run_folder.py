from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from data_tools.console import CommandError
from tests.trainings import empty_config
from vqvae_dist.files import SEAL, write_sealed
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import SCHEMA, Attempt, Ownership, OwnershipLostError, RunFolder, parse_rows


def test_names_are_those_of_the_contract(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.checkpoint(500) == tmp_path / "checkpoints" / "step_00000500"
    assert run.image_file(500) == tmp_path / "images" / "step_00000500.png"
    names = (run.config_file, run.metrics_file, run.summary_file, run.owner_file, run.model)
    assert [path.name for path in names] == ["config.json", "metrics.jsonl", "summary.json", "owner.json", "model"]


def test_what_is_no_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"not a run folder \(no config.json\)"):
        RunFolder(tmp_path).read_config()


def test_another_schema_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config_file.write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(CommandError, match=f"schema {SCHEMA + 1}, this version reads {SCHEMA}"):
        run.read_config()


@pytest.mark.parametrize("spoilt", [{}, {SEAL: 3}, {SEAL: "0" * 64}, {"sha257": "0" * 64}, {SEAL: "", "a": math.nan}])
def test_settings_without_their_checksum_are_damaged(tmp_path: Path, spoilt: dict[str, Any]) -> None:
    run = RunFolder(tmp_path)
    values = empty_config()
    run.config_file.write_text(json.dumps({"schema": SCHEMA, **values, **spoilt}))
    with pytest.raises(CommandError, match=r"config\.json: damaged or edited"):
        run.read_config()
    write_sealed(run.config_file, {"schema": SCHEMA, **values})
    assert run.read_config() == {"schema": SCHEMA, **values}


def test_a_summary_without_its_checksum_is_damaged(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read_summary() is None
    run.summary_file.write_text(json.dumps({"state": "completed"}))
    with pytest.raises(CommandError, match=r"summary\.json: damaged or edited"):
        run.read_summary()
    write_sealed(run.summary_file, {"state": "completed"})
    assert run.read_summary() == {"state": "completed"}


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b""])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CommandError, match=r"a\.json: damaged"):
        read_json(tmp_path / "a.json")


def test_rows_cut_by_a_kill_are_left_out(tmp_path: Path) -> None:
    rows = [{"global_step": step} for step in range(3)]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    assert list(parse_rows(text[:-4])) == rows[:2]
    assert list(parse_rows(text[5:])) == rows[1:]
    assert RunFolder(tmp_path).read_metrics() == []


def test_the_newest_attempt_owns_the_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    first = Ownership(run, Attempt("1", 0))
    first.check()
    second = Ownership(run, Attempt("2", 1))
    second.check()
    with pytest.raises(OwnershipLostError, match="attempt 1 of job 2 owns this run now"):
        first.check()
