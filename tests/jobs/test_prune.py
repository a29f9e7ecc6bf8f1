from __future__ import annotations

from pathlib import Path

import pytest

from jobs.collect import choose_best, write_best
from jobs.folder import Plan, SweepFolder
from jobs.prune import prune_sweep, size_text
from tests.jobs.sweep_files import finish_run, make_sweep


@pytest.fixture
def sweep(tmp_path: Path, packed: Path) -> tuple[SweepFolder, Plan]:
    """Four members with checkpoints: three completed, one stopped."""
    folder, plan = make_sweep(tmp_path, packed)
    for number, member in enumerate(plan.members):
        finish_run(folder, member.run_id, value=0.5 + number / 10, state="stopped" if number == 3 else "completed")
        checkpoint = folder.run(member.run_id).checkpoint(40)
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"x" * 1000)
    (folder.run(plan.members[0].run_id).path / ".staging-1-x").write_bytes(b"half")
    (folder.logs / "7_0_submitted.pkl").write_bytes(b"pickle")
    (folder.logs / "7_0_0_log.out").write_bytes(b"what it printed")
    return folder, plan


def checkpoints(sweep: tuple[SweepFolder, Plan]) -> list[bool]:
    folder, plan = sweep
    return [folder.run(member.run_id).checkpoints.is_dir() for member in plan.members]


def test_checkpoints_of_completed_members_go_but_never_the_best_nor_of_one_that_may_go_on(
    sweep: tuple[SweepFolder, Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, plan = sweep
    assert prune_sweep(folder, dry_run=False) == 0
    assert checkpoints(sweep) == [False, False, True, True]
    assert all(folder.run(member.run_id).model.is_dir() for member in plan.members)
    assert not list(folder.path.rglob(".staging-*"))
    assert [path.name for path in folder.logs.iterdir()] == ["7_0_0_log.out"]
    assert "2.0 kB" in capsys.readouterr().out.splitlines()[-1]


def test_earlier_choice_is_kept_too(sweep: tuple[SweepFolder, Plan]) -> None:
    folder, plan = sweep
    best = choose_best(folder, plan)
    write_best(folder, best | {"choice": plan.members[0].run_id})
    prune_sweep(folder, dry_run=False)
    assert checkpoints(sweep) == [True, False, True, True]


def test_dry_run_deletes_nothing_and_says_the_same(
    sweep: tuple[SweepFolder, Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = sweep
    prune_sweep(folder, dry_run=True)
    dry = capsys.readouterr().out
    assert checkpoints(sweep) == [True, True, True, True]
    prune_sweep(folder, dry_run=False)
    assert capsys.readouterr().out == dry.replace("would delete", "deleted")


@pytest.mark.parametrize(("size", "text"), [(999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e12, "3.0 TB")])
def test_sizes_are_readable(size: float, text: str) -> None:
    assert size_text(size) == text
