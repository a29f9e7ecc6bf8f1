from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.cancel import cancel_units
from jobs.collect import choose_best, write_best
from jobs.folder import Plan, SweepFolder, find_sweep
from jobs.ledger import Event, Ledger, read_histories
from jobs.processes import ProcessName
from jobs.progress import read_progress
from jobs.slurm_query import JobState
from jobs.status import GONE, UNSEEN, Status, judge, read_status
from jobs.submit import reopen
from jobs.tables import status_json, status_table
from tests.jobs.sweep_files import GRID, finish_run, make_sweep
from vqvae_dist.files import write_sealed

SUBMITTED: Event = {"event": "submitted", "unit": "a", "job_id": "7_0", "executor": "slurm"}
HERE: Event = {**SUBMITTED, "executor": "local"}
STARTED: Event = {"event": "started", "unit": "a", "job_id": "7_0", "restart": 0, "step": 0}


def ended(state: str, reason: str = "") -> Event:
    return {"event": "ended", "unit": "a", "job_id": "7_0", "state": state, "reason": reason}


CANCELLED: Event = {"event": "cancelled", "unit": "a", "by": "cancelled by me"}


@pytest.mark.parametrize(
    ("events", "run", "job", "expected"),
    [
        ([], "", GONE, ("pending", "")),
        ([SUBMITTED], "", JobState("PENDING", "Priority"), ("pending", "Priority")),
        ([SUBMITTED, STARTED], "running", JobState("RUNNING"), ("running", "")),
        ([SUBMITTED, STARTED], "stopped", JobState("PENDING", "BeginTime"), ("requeued", "BeginTime")),
        # Completed is what says so itself, and runs no more.
        ([SUBMITTED, STARTED], "completed", JobState("RUNNING"), ("running", "")),
        ([SUBMITTED, STARTED], "completed", JobState("COMPLETING"), ("completed", "")),
        ([SUBMITTED, STARTED, ended("completed")], "completed", JobState("COMPLETED"), ("completed", "")),
        ([SUBMITTED, STARTED, ended("completed")], "completed", GONE, ("completed", "")),
        ([SUBMITTED, STARTED], "running", JobState("COMPLETED"), ("lost", "COMPLETED")),
        # What the cluster did to it.
        ([SUBMITTED, STARTED], "running", JobState("NODE_FAIL"), ("lost", "NODE_FAIL")),
        (
            [SUBMITTED, STARTED],
            "running",
            JobState("OUT_OF_MEMORY", "exit 0:125"),
            ("lost", "OUT_OF_MEMORY exit 0:125"),
        ),
        ([SUBMITTED, STARTED], "running", JobState("CANCELLED", "by 1001"), ("cancelled", "by 1001")),
        ([SUBMITTED, STARTED], "running", GONE, ("lost", "its job ended without a word")),
        ([SUBMITTED], "", JobState("CANCELLED", "by 0"), ("cancelled", "by 0")),
        (
            [SUBMITTED, STARTED, ended("stopped", "requeue refused: no")],
            "stopped",
            JobState("COMPLETED"),
            ("lost", "requeue refused: no"),
        ),
        # What it did itself.
        (
            [SUBMITTED, STARTED, ended("failed", "loss is not finite")],
            "failed",
            JobState("FAILED"),
            ("failed", "loss is not finite"),
        ),
        ([SUBMITTED, STARTED, ended("crashed", "RuntimeError")], "running", GONE, ("lost", "RuntimeError")),
        # What the user did.
        ([SUBMITTED, STARTED, CANCELLED, ended("stopped")], "stopped", GONE, ("cancelled", "cancelled by me")),
        ([CANCELLED], "", GONE, ("cancelled", "cancelled by me")),
        ([HERE, STARTED, ended("stopped", "stopped on request")], "stopped", GONE, ("pending", "stopped on request")),
        # Nobody to ask.
        ([SUBMITTED, STARTED], "running", UNSEEN, ("running", "its cluster or machine does not answer")),
        ([SUBMITTED, STARTED], "completed", UNSEEN, ("completed", "")),
        ([SUBMITTED], "", UNSEEN, ("pending", "its cluster or machine does not answer")),
        # Run again.
        ([SUBMITTED, STARTED, ended("failed"), {"event": "reopened", "unit": "a"}], "failed", GONE, ("pending", "")),
    ],
)
def test_state_is_judged(events: list[Event], run: str, job: JobState, expected: tuple[str, str]) -> None:
    histories = read_histories(events)
    assert judge(histories.get("a") or read_histories([CANCELLED | {"event": "none"}])["a"], run, job) == expected


def test_progress_comes_from_the_summary_and_the_end_of_the_metrics(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    run = folder.run(plan.members[0].run_id)
    assert read_progress(run).step is None
    finish_run(folder, plan.members[0].run_id, state="running")
    with run.metrics_file.open("a") as file:
        file.write(json.dumps({"global_step": 45, "train/loss": 0.125}) + "\n" + '{"global_step": 50, "train')
    progress = read_progress(run)
    assert (progress.step, progress.loss, progress.slices_per_second) == (45, 0.125, 25.0)


def test_long_metrics_are_read_from_their_end(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    run = folder.run(plan.members[0].run_id)
    run.path.mkdir(parents=True)
    run.metrics_file.write_text(
        "".join(json.dumps({"global_step": n, "train/loss": n / 2}) + "\n" for n in range(9000))
    )
    assert run.metrics_file.stat().st_size > 2 << 16
    assert (read_progress(run).step, read_progress(run).loss) == (8999, 4499.5)


def test_status_has_the_keys_other_scripts_read(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    first = plan.members[0].run_id
    finish_run(folder, first)
    Ledger(folder.events_file).append("cancelled", unit=plan.members[1].run_id, by="cancelled by me")
    rows = status_json(read_status(folder, plan))
    assert [row["state"] for row in rows] == ["completed", "cancelled", "pending", "pending"]
    expected = {
        "run_id": first,
        "stage": "train-vqvae",
        "name": "lr 0.01 · milestones 10",
        "state": "completed",
        "step": 40,
        "steps": 40,
        "best": {"metric": "validate/ssim_foreground", "value": 0.5, "step": 40},
        "slices_per_second": 25.0,
        "job_id": None,
        "attempts": 0,
        "reason": "",
    }
    assert {key: rows[0][key] for key in expected} == expected


def test_damaged_summary_hides_one_run_and_not_the_sweep(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    for member in plan.members:
        finish_run(folder, member.run_id)
    folder.run(plan.members[0].run_id).summary_file.write_text("{")
    states = [row.state for row in read_status(folder, plan)]
    assert states == ["pending", "completed", "completed", "completed"]


def test_running_process_is_running_and_an_ended_one_is_lost(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    ledger, unit = Ledger(folder.events_file), plan.members[0].run_id
    process = subprocess.Popen(["sleep", "60"])
    name = ProcessName.of(process.pid).as_json()
    ledger.append("submitted", unit=unit, job_id=str(process.pid), executor="local", process=name)
    assert read_status(folder, plan)[0].state == "running"
    process.kill()
    process.wait()
    assert read_status(folder, plan)[0].state == "lost"
    ledger.append("submitted", unit=unit, job_id="1", executor="local", process=name | {"host": "another"})
    assert read_status(folder, plan)[0].reason == "its cluster or machine does not answer"


def test_a_prior_that_is_to_be_trained_anew_is_not_completed_by_the_old_one(tmp_path: Path, packed: Path) -> None:
    pipeline = '[pipeline]\nthen = ["extract-codes", "train-pixelcnn"]\n"train-pixelcnn"."schedule.steps" = 40\n'
    folder, plan = make_sweep(tmp_path, packed, GRID + pipeline)
    finish_run(folder, plan.members[0].run_id)
    write_best(folder, choose_best(folder, plan))
    prior = folder.pipeline(plan.members[0].run_id).prior
    prior.mkdir(parents=True)
    summary = {"state": "completed", "step": 40, "steps": 40, "seconds": 8.0, "slices_per_second": 20.0, "best": None}
    write_sealed(prior / "summary.json", summary)
    ledger, about = Ledger(folder.events_file), {"unit": "train-pixelcnn", "job_id": "7"}
    process = ProcessName.of(os.getpid()).as_json()

    def row() -> Status:
        return read_status(folder, plan)[-1]

    ledger.append("submitted", executor="local", process={**process, "started": -1}, **about)
    ledger.append("started", restart=0, step=0, **about)
    assert row().state == "lost"
    ledger.append("ended", state="completed", reason="", **about)
    assert (row().state, row().step, row().eta_s) == ("completed", 40, None)
    ledger.append("reopened", unit="train-pixelcnn", reason="members or settings changed")
    assert row().state == "pending"
    ledger.append("submitted", executor="local", process=process, **about)
    write_sealed(prior / "summary.json", {**summary, "state": "running", "step": 30})
    assert (row().state, row().eta_s) == ("running", 10 * 8 / 20.0)


PIPELINE = '[pipeline]\nthen = ["extract-codes", "train-pixelcnn", "generate", "evaluate", "report"]\n'


def stages_of(folder: SweepFolder, plan: Plan) -> dict[str, tuple[str, str]]:
    rows = read_status(folder, plan)[len(plan.members) :]
    return {row.unit: (row.state, row.reason) for row in rows}


def test_planned_stages_are_pending_until_they_begin(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed, GRID + PIPELINE)
    assert stages_of(folder, plan) == {
        "extract-codes": ("pending", "waits for the members"),
        "train-pixelcnn": ("pending", "waits for extract-codes"),
        "generate": ("pending", "waits for train-pixelcnn"),
        "evaluate": ("pending", "waits for generate"),
        "report": ("pending", "waits for evaluate"),
    }
    ledger = Ledger(folder.events_file)
    for member in plan.members:
        ledger.append("cancelled", unit=member.run_id, by="me")
    assert stages_of(folder, plan)["extract-codes"] == ("pending", "waits for a completed member")
    finish_run(folder, plan.members[0].run_id)
    assert stages_of(folder, plan)["extract-codes"] == ("pending", "next")
    assert status_table(read_status(folder, plan)).endswith("5 pending, 1 completed, 3 cancelled")


def test_pipeline_that_was_interrupted_is_not_all_completed(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed, GRID + PIPELINE)
    for member in plan.members:
        finish_run(folder, member.run_id)
    ledger = Ledger(folder.events_file)
    for number, unit in enumerate(("extract-codes", "train-pixelcnn", "generate")):
        ledger.append("submitted", unit=unit, job_id=str(number), executor="local")
        ledger.append("started", unit=unit, job_id=str(number), restart=0, step=0)
        ledger.append("ended", unit=unit, job_id=str(number), state="completed", reason="")
    assert stages_of(folder, plan)["evaluate"] == ("pending", "next")
    ledger.append("ended", unit="generate", job_id="2", state="stopped", reason="stopped on request")
    assert list(stages_of(folder, plan).items())[2:] == [
        ("generate", ("pending", "stopped on request")),
        ("evaluate", ("pending", "waits for generate")),
        ("report", ("pending", "waits for evaluate")),
    ]
    fewer = replace(plan, pipeline=plan.pipeline[:2])  # the file no longer names the others
    assert set(stages_of(folder, fewer)) == {"extract-codes", "train-pixelcnn"}
    assert stages_of(folder, replace(plan, pipeline=())) == {}


def test_stages_that_wait_are_cancelled_with_the_sweep_and_taken_up_again(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed, GRID + PIPELINE)
    assert cancel_units(folder, [], by="me") == 0
    assert {row.state for row in read_status(folder, plan)} == {"cancelled"}
    reopen(folder, [stage.name for stage in plan.pipeline], reason="retry")
    assert {state for state, _ in stages_of(folder, plan).values()} == {"pending"}


def test_table_is_one_line_a_row_and_counts(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    finish_run(folder, plan.members[0].run_id)
    lines = status_table(read_status(folder, plan)).splitlines()
    assert lines[0].split() == ["RUN", "STATE", "STEP", "LOSS", "BEST", "SLICES/S", "ETA", "TRY"]
    assert lines[1].split() == [plan.members[0].run_id, "completed", "40/40", "0.2", "0.5000", "25.0"]
    assert lines[-1] == "3 pending, 1 completed"


def test_sweep_is_found_by_name_and_by_folder(tmp_path: Path, packed: Path) -> None:
    folder, _ = make_sweep(tmp_path, packed)
    assert find_sweep("trial", tmp_path / "runs").path == folder.path
    assert find_sweep(str(folder.path), tmp_path / "elsewhere").path == folder.path


@pytest.mark.parametrize("command", ["status", "logs", "cancel", "best", "prune", "report"])
def test_following_a_sweep_imports_no_torch(tmp_path: Path, packed: Path, command: str) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    finish_run(folder, plan.members[0].run_id)
    code = (
        "import sys; from jobs.cli import main; "
        f"status = main([{command!r}, {str(folder.path)!r}]); "
        "assert status == 0, status; assert not {'torch', 'accelerate', 'wandb'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_help_of_status_needs_nothing_that_reads_data() -> None:
    code = (
        "import contextlib, sys; from jobs.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['status', '--help'])\n"
        "print(sorted({'torch', 'numpy', 'h5py'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
    assert "--json" in done.stdout
