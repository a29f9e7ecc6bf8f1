from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data_tools.console import CommandError, UsageError
from jobs.config import Profile
from jobs.dry_run import describe, show
from jobs.folder import SweepFolder, make_plan, to_toml, write_sweep
from jobs.ledger import Ledger
from jobs.status import read_status
from jobs.submit import Proposal, begin, due_stages, propose
from tests.jobs.sweep_files import GRID, finish_run, write_sweep_file
from tests.jobs.test_launch import SLURM, programs  # noqa: F401  (a fixture)
from tests.jobs.test_slurm_query import fake_program
from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import compose, toml_layer

LOCAL = Profile(executor="local", array_parallelism=1)
STAGES = '[pipeline]\nthen = ["extract-codes", "evaluate", "report"]\n'


def look(folder: Path, data: Path, rest: str = GRID, *, profile: Profile = LOCAL) -> Proposal:
    return propose(write_sweep_file(folder, data, rest), profile=profile, root=folder / "runs")


def record(proposal: Proposal) -> None:
    """What submitting leaves, without running anything."""
    write_sweep(proposal.folder, proposal.sweep, proposal.plan)


def test_submitting_twice_adds_nothing_and_an_edit_only_what_is_new(tmp_path: Path, packed: Path) -> None:
    first = look(tmp_path, packed)
    assert len(first.missing) == 4
    record(first)
    for unit in first.missing:
        finish_run(first.folder, unit)
    assert look(tmp_path, packed).missing == ()
    edited = look(tmp_path, packed, GRID.replace("1e-3]", "1e-3, 1e-4]"))
    assert [unit.split("_")[0] for unit in edited.missing] == ["lr1e-4", "lr1e-4"]


def test_members_that_are_no_longer_named_stay_and_do_not_compete(tmp_path: Path, packed: Path) -> None:
    first = look(tmp_path, packed)
    record(first)
    edited = look(tmp_path, packed, GRID.replace("[1e-2, 1e-3]", "[1e-3]"))
    record(edited)
    assert [member.dropped for member in edited.plan.members] == [False, False, True, True]
    rows = read_status(edited.folder, edited.folder.read_plan())
    assert [row.reason for row in rows] == ["", "", *["(not in the sweep file any more)"] * 2]
    again = look(tmp_path, packed)
    assert [member.dropped for member in again.plan.members] == [False] * 4


def test_failed_and_cancelled_members_wait_for_retry(tmp_path: Path, packed: Path) -> None:
    first = look(tmp_path, packed)
    record(first)
    ledger = Ledger(first.folder.events_file)
    failed, cancelled, lost, fresh = first.missing
    for unit in (failed, lost):
        ledger.append("submitted", unit=unit, job_id="1", executor="local", process=None)
    ledger.append("ended", unit=failed, job_id="1", state="failed", reason="not finite")
    ledger.append("cancelled", unit=cancelled, by="me")
    assert look(tmp_path, packed).missing == (lost, fresh)


def test_stages_are_due_until_completed_and_again_when_members_change(tmp_path: Path, packed: Path) -> None:
    first = look(tmp_path, packed, GRID + STAGES)
    assert first.stages == ("extract-codes", "evaluate", "report")
    record(first)
    ledger = Ledger(first.folder.events_file)
    for unit in first.missing:
        finish_run(first.folder, unit)
    ledger.append("submitted", unit="extract-codes", job_id="1", executor="local")
    ledger.append("ended", unit="extract-codes", job_id="1", state="completed", reason="")
    rows = read_status(first.folder, first.plan)
    assert due_stages(first.plan, rows, changed=False) == ("evaluate", "report")
    assert look(tmp_path, packed, GRID + STAGES).stages == ("evaluate", "report")
    more = GRID.replace("1e-3]", "1e-3, 1e-4]")
    assert look(tmp_path, packed, more + STAGES).stages == ("extract-codes", "evaluate", "report")


def test_other_stage_under_the_same_name_is_refused(tmp_path: Path, packed: Path, codes: Path) -> None:
    record(look(tmp_path, packed))
    file = write_sweep_file(tmp_path, codes, "", head='stage = "train-pixelcnn"')
    file.write_text(file.read_text().replace('base = "smoke"', ""))
    with pytest.raises(UsageError, match="is a sweep of train-vqvae, not train-pixelcnn"):
        propose(file, profile=LOCAL, root=tmp_path / "runs")


def test_sweep_folder_holds_the_file_as_it_was_and_settings_that_read_back(tmp_path: Path, packed: Path) -> None:
    proposal = look(tmp_path, packed)
    record(proposal)
    assert proposal.folder.sweep_file.read_bytes() == proposal.sweep.source.read_bytes()
    assert proposal.folder.read_plan() == proposal.plan
    for member in proposal.sweep.members:
        read = compose(VQVAEConfig, toml_layer(proposal.folder.member_settings(member.run_id)))
        assert read == member.config


def test_settings_survive_toml() -> None:
    settings = {"data.path": 'C:\\a "b"\nü😀', "optim.lr": 1e-05, "optim.milestones": [1000, 0.5], "tf32": True}
    import tomllib

    assert tomllib.loads(to_toml(settings)) == settings


def test_dry_run_shows_members_and_cost_and_writes_nothing(tmp_path: Path, packed: Path) -> None:
    proposal = look(tmp_path, packed, GRID + STAGES)
    lines = list(describe(proposal))
    assert sum("to run" in line for line in lines) == 4
    assert "stages after them: extract-codes, evaluate, report" in lines
    assert any(line.startswith("cost: unknown") for line in lines)
    assert not proposal.folder.path.exists()
    record(proposal)
    finish_run(proposal.folder, proposal.missing[0])  # 25 slices/s; three of 40 steps x 8 slices are left
    (cost,) = [line for line in describe(look(tmp_path, packed, GRID + STAGES)) if line.startswith("cost")]
    assert "about 0.0107 process-hours; the longest member 13 s (measured 25 slices/s a member, median of 1)" in cost


def test_dry_run_counts_one_member_and_one_process(tmp_path: Path, packed: Path) -> None:
    lines = list(describe(look(tmp_path, packed, "")))
    assert lines[0].startswith("trial: 1 member of train-vqvae, in ")
    assert ", 1 process each, " in lines[-1]


class Counted(str):
    """A run id that counts how often it is compared."""

    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return str.__eq__(self, str(other))


def test_work_of_a_dry_run_grows_with_the_members_and_not_with_their_square(tmp_path: Path, packed: Path) -> None:
    proposal = look(tmp_path, packed, f"[grid]\nseed = {list(range(60))}\n")
    counted = replace(proposal, missing=tuple(map(Counted, proposal.missing)))
    Counted.comparisons = 0
    assert sum("  to run  " in line for line in describe(counted)) == 60
    assert Counted.comparisons <= 3 * 60


def test_dry_run_shows_the_sbatch_text_that_is_then_submitted(
    tmp_path: Path,
    packed: Path,
    programs: Path,  # noqa: F811  # the fixture that is imported
) -> None:
    from jobs.cluster import submit_to_slurm

    proposal = look(tmp_path, packed, GRID + STAGES, profile=SLURM)
    shown = "\n".join(describe(proposal))
    assert not proposal.folder.path.exists()
    record(proposal)
    submit_to_slurm(proposal.folder, proposal.plan, proposal.missing, proposal.stages)
    for number in range(10, 15):  # two parts of the array, three stages
        submitted = (tmp_path / f"sbatch.{number}").read_text()
        lines = [line for line in submitted.splitlines() if not line.startswith(("#SBATCH --comment", "#SBATCH --dep"))]
        assert all(line in shown for line in lines)
    assert "--dependency=afterany:10:11" in (tmp_path / "sbatch.12").read_text()
    assert "--dependency=afterok:12" in (tmp_path / "sbatch.13").read_text()
    assert "--dependency=afterany:13" in (tmp_path / "sbatch.14").read_text()


def test_dry_run_shows_what_can_be_known_where_there_is_no_slurm(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    proposal = look(tmp_path, packed, GRID + STAGES, profile=SLURM)
    show(proposal)
    said = capsys.readouterr()
    assert said.out.count("#!/bin/bash") == 4
    for line in ("#SBATCH --array=0-3%3", "#SBATCH --partition=gpu", "#SBATCH --dependency=afterany:ARRAY"):
        assert line in said.out.splitlines()
    assert said.err.count("\n") == 1
    assert said.err.startswith("warning: Slurm doesn't answer (scontrol: not found")
    assert "Not known here: MaxArraySize" in said.err
    with pytest.raises(CommandError, match="srun: not found"):
        begin(proposal, wait=False)
    assert not proposal.folder.path.exists()


def test_nothing_is_written_where_slurm_is_there_and_does_not_answer(
    tmp_path: Path,
    packed: Path,
    programs: Path,  # noqa: F811  # the fixture that is imported
) -> None:
    fake_program(programs, "scontrol", "echo slurm_load_ctl_conf error >&2; exit 1")
    proposal = look(tmp_path, packed, GRID, profile=SLURM)
    with pytest.raises(CommandError, match=r"Slurm doesn't answer \(slurm_load_ctl_conf error\)"):
        begin(proposal, wait=False)
    assert not proposal.folder.path.exists()


def test_new_members_replace_the_chain_that_waits_for_the_old_ones(
    tmp_path: Path,
    packed: Path,
    programs: Path,  # noqa: F811  # the fixture that is imported
) -> None:
    from jobs.cluster import submit_to_slurm

    first = look(tmp_path, packed, '[grid]\n"optim.lr" = [1e-2]\n' + STAGES, profile=SLURM)
    record(first)
    submit_to_slurm(first.folder, first.plan, first.missing, first.stages)
    (tmp_path / "squeue").write_text(
        "10|RUNNING|None|trial\n" + "".join(f"{n}|PENDING|Dependency|trial-stage\n" for n in (11, 12, 13))
    )
    edited = look(tmp_path, packed, '[grid]\n"optim.lr" = [1e-2, 1e-3]\n' + STAGES, profile=SLURM)
    assert len(edited.missing) == 1
    record(edited)
    with (tmp_path / "squeue").open("a") as file:
        file.write("14|PENDING|Priority|trial\n")  # what the next submission will be called
    submit_to_slurm(edited.folder, edited.plan, edited.missing, edited.stages)
    assert (tmp_path / "scancel").read_text() == "11 12 13\n"
    assert "--dependency=afterany:10:14" in (tmp_path / "sbatch.15").read_text()


def test_plan_of_an_edited_sweep_keeps_the_order_of_the_file(tmp_path: Path, packed: Path) -> None:
    first = look(tmp_path, packed)
    edited = look(tmp_path, packed, GRID.replace("[1e-2, 1e-3]", "[1e-4, 1e-2]"))
    plan = make_plan(edited.sweep, LOCAL, first.plan)
    assert [member.run_id.split("_")[0] for member in plan.members] == [
        *("lr1e-4", "lr1e-4", "lr1e-2", "lr1e-2"),
        *("lr1e-3", "lr1e-3"),
    ]
    assert SweepFolder(tmp_path).run("x").path == tmp_path / "runs" / "x"
