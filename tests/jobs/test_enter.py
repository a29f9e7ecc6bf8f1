"""A job loads its own pickle and no other."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import cloudpickle
import pytest
from submitit.core.utils import DelayedSubmission

from data_tools.console import CommandError
from jobs.enter import check_own, load_own
from jobs.launch import submit_local
from jobs.machine import Share
from jobs.task import run_unit
from tests.canary import Canary
from tests.jobs.sweep_files import make_sweep


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir(mode=0o755)
    return tmp_path / "logs"


def submitted(folder: Path, *arguments: object) -> Path:
    """What submitit writes for a job."""
    file = folder / "12_submitted.pkl"
    file.write_bytes(cloudpickle.dumps(DelayedSubmission(run_unit, *arguments)))
    return file


def test_what_we_submit_is_loaded(folder: Path) -> None:
    loaded = load_own(submitted(folder, "/sweep", "unit"))
    assert (loaded.function, loaded.args) == (run_unit, ("/sweep", "unit"))


def test_a_pickle_that_names_anything_else_is_refused_unexecuted(folder: Path) -> None:
    canary = Canary(folder / "canary")
    for planted in (canary, DelayedSubmission(run_unit, canary), DelayedSubmission(os.system, "true")):
        (folder / "12_submitted.pkl").write_bytes(cloudpickle.dumps(planted))
        with pytest.raises(CommandError, match="which no job needs; it is not loaded"):
            load_own(folder / "12_submitted.pkl")
    assert not canary.path.exists()
    pickle.loads(cloudpickle.dumps(canary))
    assert canary.path.exists(), "the trap itself works"


def test_a_folder_or_pickle_that_others_can_write_is_refused(folder: Path) -> None:
    file = submitted(folder)
    for path in (folder, file):
        path.chmod(0o777)
        with pytest.raises(CommandError, match=f"{path}: anybody may write to it"):
            load_own(file)
        path.chmod(0o755)
    load_own(file)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_folder_or_pickle_of_somebody_else_is_refused(folder: Path) -> None:
    file = submitted(folder)
    for path in (folder, file):
        os.chown(path, 65534, -1)
        with pytest.raises(CommandError, match=f"{path}: belongs to another user"):
            load_own(file)
        os.chown(path, 0, -1)
    load_own(file)


def test_nothing_is_submitted_into_a_folder_that_others_can_write(tmp_path: Path, packed: Path) -> None:
    sweep, plan = make_sweep(tmp_path, packed)
    sweep.logs.chmod(0o777)
    with pytest.raises(CommandError, match="anybody may write to it"):
        submit_local(sweep, plan, plan.members[0].run_id, Share(gpus=(), processes=1, threads=1), code=tmp_path)
    assert list(sweep.logs.iterdir()) == []
    check_own(sweep.path)
