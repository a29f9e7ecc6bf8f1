from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.console import CommandError, UsageError
from jobs import task
from jobs.config import Profile
from jobs.folder import Plan, SweepFolder
from jobs.ledger import Ledger
from jobs.place import Place
from jobs.signals import StopSignals
from jobs.status import read_status
from jobs.task import EndQuietlyError, Task, checkpoint_step, prepare_process, remove_stale_pickles, warn_of_crowding
from tests.jobs.sweep_files import finish_run, make_sweep
from tests.jobs.test_slurm_query import fake_program
from vqvae_dist.run_folder import Attempt, OwnershipLostError

HERE = Place("local", "4711", 0, 0)
ON_SLURM = Place("slurm", "7_0", 0, 0)


class Bench:
    """A sweep, one of whose members is run with a training that is faked."""

    def __init__(self, folder: SweepFolder, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.unit = plan.members[0].run_id
        self.signals = StopSignals()
        self.asked: list[tuple[list[str], Attempt]] = []

    def run(self, training: Callable[[], str] | Exception | str, *, place: Place = HERE, unit: str = "") -> int:
        def fake(arguments: list[str], attempt: Attempt) -> str:
            self.asked.append((arguments, attempt))
            if isinstance(training, Exception):
                raise training
            return training if isinstance(training, str) else training()

        unit = unit or self.unit
        return Task(self.folder, self.plan, unit, place).perform(fake, self.signals)

    def last_event(self) -> dict[str, Any]:
        event = Ledger(self.folder.events_file).read()[-1]
        del event["time"]
        return event

    def reach(self, step: int) -> None:
        """Leave a checkpoint."""
        checkpoints = self.folder.run(self.unit).checkpoints
        checkpoints.mkdir(parents=True, exist_ok=True)
        (checkpoints / "latest").write_text(f"step_{step:08d}\n")


@pytest.fixture
def bench(tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(task, "CRASH_SETTLES_S", 0.0)
    profile = Profile(executor="slurm", max_attempts_without_progress=2)
    return Bench(*make_sweep(tmp_path, packed, profile=profile))


def test_member_is_trained_with_its_settings_into_its_folder(bench: Bench) -> None:
    assert bench.run("completed") == 0
    ((arguments, attempt),) = bench.asked
    settings, output = bench.folder.member_settings(bench.unit), bench.folder.run(bench.unit).path
    assert arguments == ["train-vqvae", "--config", str(settings), "--output-dir", str(output)]
    assert attempt == Attempt("4711", 0)
    assert bench.last_event() == {
        **{"event": "ended", "unit": bench.unit, "job_id": "4711", "state": "completed", "reason": ""}
    }


def test_failure_on_its_settings_is_final_and_says_why(bench: Bench) -> None:
    assert bench.run(CommandError("step 3: loss is not finite"), place=ON_SLURM) == 1
    assert (bench.last_event()["state"], bench.last_event()["reason"]) == ("failed", "step 3: loss is not finite")


def test_crash_is_put_back_into_the_queue(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_program(tmp_path / "bin", "scontrol", f'echo "$@" >> {tmp_path}/scontrol')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    assert bench.run(RuntimeError("connection closed by peer"), place=ON_SLURM) == 1
    assert bench.last_event()["state"] == "crashed"
    assert (tmp_path / "scontrol").read_text() == "requeue 7_0\n"


def test_crash_that_another_process_has_explained_is_not_run_again(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path / "bin", "scontrol", f'echo "$@" >> {tmp_path}/scontrol')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")

    def training() -> str:
        bench.run(CommandError("a damaged slice"), place=Place("slurm", "7_0", 0, 1))
        raise RuntimeError("connection closed by peer")

    assert bench.run(training, place=ON_SLURM) == 1
    assert (bench.last_event()["state"], bench.last_event()["reason"]) == ("failed", "a damaged slice")
    assert not (tmp_path / "scontrol").exists()


@pytest.mark.parametrize(
    ("warned", "slurm_says", "requeued"), [(True, "RUNNING", 1), (False, "RUNNING", 1), (False, "CANCELLED", 0)]
)
def test_stopped_run_is_put_back_unless_it_is_ended_for_good(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: bool, slurm_says: str, requeued: int
) -> None:
    fake_program(tmp_path / "bin", "scontrol", f'echo "$@" >> {tmp_path}/scontrol')
    fake_program(tmp_path / "bin", "squeue", f"echo '7_0|{slurm_says}|None|trial'")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    bench.signals.warned = warned
    assert bench.run("stopped", place=ON_SLURM) == 0
    assert bench.last_event()["state"] == "stopped"
    assert (tmp_path / "scontrol").exists() == bool(requeued)


def test_run_stopped_here_asks_no_slurm(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("squeue", "sacct", "scontrol"):
        fake_program(tmp_path / "bin", name, f"touch {tmp_path}/asked")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    assert bench.run("stopped", place=HERE) == 0
    assert bench.last_event()["state"] == "stopped"
    assert not (tmp_path / "asked").exists()


def test_cancelled_run_that_was_warned_is_not_put_back(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path / "bin", "scontrol", f'echo "$@" >> {tmp_path}/scontrol')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    bench.signals.warned = True

    def training() -> str:
        Ledger(bench.folder.events_file).append("cancelled", unit=bench.unit, by="cancelled by me")
        return "stopped"

    assert bench.run(training, place=ON_SLURM) == 0
    assert not (tmp_path / "scontrol").exists()


def test_refused_requeue_is_told(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_program(tmp_path / "bin", "scontrol", "echo 'Requested operation is presently disabled' >&2; exit 1")
    fake_program(tmp_path / "bin", "squeue", "exit 0")
    fake_program(tmp_path / "bin", "sacct", "echo '7_0|COMPLETED|0:0|trial'")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    Ledger(bench.folder.events_file).append("submitted", unit=bench.unit, job_id="7_0", executor="slurm")
    bench.signals.warned = True
    bench.run("stopped", place=ON_SLURM)
    row = read_status(bench.folder, bench.plan)[0]
    assert row.state == "lost"
    assert row.reason == "requeue refused: Requested operation is presently disabled"


def test_starts_that_gain_nothing_are_limited(bench: Bench) -> None:
    for restart in range(2):
        assert bench.run(EndQuietlyError("killed"), place=Place("slurm", "7_0", restart, 0)) == 1
    assert bench.run("completed", place=Place("slurm", "7_0", 2, 0)) == 1
    assert bench.last_event()["state"] == "failed"
    assert bench.last_event()["reason"].startswith("2 starts in a row gained no training step")
    assert len(bench.asked) == 2


def test_starts_that_gain_steps_are_not_limited(bench: Bench) -> None:
    for restart in range(6):
        bench.reach(10 * restart)
        assert bench.run(EndQuietlyError("killed"), place=Place("slurm", "7_0", restart, 0)) == 1
    assert [attempt.number for _, attempt in bench.asked] == list(range(6))


def test_every_process_of_a_job_counts_the_same_attempt(bench: Bench) -> None:
    bench.run(EndQuietlyError("killed"), place=Place("slurm", "7_0", 0, 0))
    bench.run("completed", place=Place("slurm", "7_0", 1, 0))  # rank 0 has noted its start before rank 1 looks
    bench.run("completed", place=Place("slurm", "7_0", 1, 1))
    assert [attempt.number for _, attempt in bench.asked] == [0, 1, 1]


def test_only_the_main_process_notes_starts_ends_and_wrong_settings(bench: Bench) -> None:
    other = Place("slurm", "7_0", 0, 1)
    assert bench.run("completed", place=other) == 0
    assert bench.run(UsageError("unknown setting"), place=other) == 2
    assert Ledger(bench.folder.events_file).read() == []


def test_attempt_that_lost_its_run_folder_ends_without_a_trace(bench: Bench) -> None:
    assert bench.run(OwnershipLostError("a newer attempt owns it")) == 0
    assert bench.last_event()["event"] == "started"


def test_unit_cancelled_before_it_began_does_not_begin(bench: Bench) -> None:
    Ledger(bench.folder.events_file).append("cancelled", unit=bench.unit, by="me")
    assert bench.run("completed") == 0
    assert bench.asked == []


def test_stage_that_fails_is_noted_like_a_member(tmp_path: Path, packed: Path) -> None:
    rest = '[grid]\n"optim.lr" = [1e-3]\n[pipeline]\nthen = ["extract-codes"]'
    bench = Bench(*make_sweep(tmp_path, packed, rest))
    assert bench.run("completed", unit="extract-codes") == 1
    assert "no member is completed yet" in bench.last_event()["reason"]
    finish_run(bench.folder, bench.unit)
    assert bench.run("completed", unit="extract-codes") == 0
    assert bench.asked[0][0][0] == "extract-codes"


def test_newest_checkpoint_tells_the_step(bench: Bench) -> None:
    run = bench.folder.run(bench.unit)
    assert checkpoint_step(None) == checkpoint_step(run) == 0
    bench.reach(250)
    assert checkpoint_step(run) == 250


def test_threads_and_caches_are_set_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TMPDIR"):
        monkeypatch.setenv(name, "")  # so that it is restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("LOCAL_DISK", str(tmp_path))
    assert prepare_process(Profile(executor="slurm", cache_dir="$LOCAL_DISK/fast")) == 1
    cache = Path(os.environ["TMPDIR"])
    assert cache.is_dir()
    assert cache.parent == tmp_path / "fast"
    assert (os.environ["OMP_NUM_THREADS"], os.environ["TRITON_CACHE_DIR"]) == ("1", str(cache / "triton"))


@pytest.mark.parametrize(("workers", "threads", "warned"), [(0, 1, False), (1, 1, True), (4, 4, True), (3, 4, False)])
def test_readers_without_cpus_are_warned_of(
    capsys: pytest.CaptureFixture[str], workers: int, threads: int, warned: bool
) -> None:
    warn_of_crowding({"data.workers": workers}, threads)
    assert ("cpus_per_task" in capsys.readouterr().err) == warned


def test_half_written_pickle_of_an_earlier_kill_is_removed(bench: Bench) -> None:
    stale, other = (bench.folder.logs / f"{job}_submitted.pkl.save_tmp" for job in ("7_0", "7_1"))
    stale.touch()
    other.touch()
    remove_stale_pickles(bench.folder, ON_SLURM)
    assert (stale.exists(), other.exists()) == (False, True)
