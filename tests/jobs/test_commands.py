from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.cli import main
from jobs.ledger import Ledger
from tests.jobs.sweep_files import finish_run, make_sweep
from vqvae_dist.cli import main as train


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, ""),
        (["--help"], 0, ""),
        (["statsu", "x"], 2, "no command 'statsu'"),
        (["status", "nothing"], 2, "no sweep 'nothing' under"),
        (["status", "trial", "--jsn"], 2, "unrecognized: --jsn; did you mean --json?"),
        (["status", "--jsn", "trial"], 2, "unrecognized: --jsn; did you mean --json?"),
        (["status", "--roots", "empty", "trial"], 2, "unrecognized: --roots; did you mean --root?"),
        (["status", "--json"], 2, "missing SWEEP (see"),
        (["submit", "--dryrun", "sweep.toml"], 2, "unrecognized: --dryrun; did you mean --dry-run?"),
        (["logs", "--folow", "trial"], 2, "unrecognized: --folow; did you mean --follow?"),
        (["submit", "nothing.toml"], 2, "nothing.toml: No such file or directory; give a TOML file"),
        (["submit", "."], 2, ".: a folder; give a TOML file"),
        (["submit", "sweep"], 2, "sweep: No such file or directory; did you mean sweep.toml?"),
        (["status", "empty"], 2, "empty is not the folder of a sweep (no plan.json), nor under runs; there are trial"),
        (["status", ""], 2, "no sweep '' under runs"),
        (["status", "trial", "--root", "empty"], 2, "there are none yet; python -m jobs submit SWEEP.toml makes one"),
        (["logs", "trial", "--lines", "-3"], 2, "--lines must be 0 (all) or more, got -3"),
        (["submit", "x.toml", "--detach", "--wait"], 2, "give one of them"),
        (["run"], 2, ""),
        (["run", "--", "--help"], 0, ""),
        (["run", "--"], 2, "no command after --"),
        (["logs", "trial", "nobody"], 2, "no member or stage 'nobody'"),
        (["logs", "trial", "lr"], 2, "could be"),
        (["logs", "trial", "--follow"], 2, "name it (`python -m jobs status /"),
        (["best", "trial"], 1, "no member is completed yet"),
    ],
)
def test_commands_answer_in_words_and_with_a_status(
    tmp_path: Path,
    packed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    make_sweep(tmp_path, packed)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("stage", "made_by"), [("train-vqvae", "data_tools pack"), ("train-pixelcnn", "vqvae_dist extract-codes")]
)
@pytest.mark.parametrize(
    ("data", "what"), [("none.h5", "no such file"), ("text.h5", "(Unable to "), ("folder", "folder: ")]
)
def test_data_that_is_not_there_ends_with_the_status_of_a_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, made_by: str, data: str, what: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.h5").write_text("no data")
    sweep, path = tmp_path / "a.toml", tmp_path / data
    sweep.write_text(f'name = "a"\nstage = "{stage}"\n[set]\n"data.path" = "{data}"\n[grid]\n"optim.lr" = [1e-3]\n')
    assert main(["submit", str(sweep), "--dry-run"]) == 1
    said = capsys.readouterr().err
    assert f"{path}: " in said
    assert what in said
    assert f"python -m {made_by}" in said
    assert train([stage, "--data.path", str(path), "--output-dir", str(tmp_path / "run")]) == 1


def test_json_of_the_commands_can_be_read(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    finish_run(folder, plan.members[0].run_id)
    monkeypatch.chdir(tmp_path)
    for command in ("status", "best", "report"):
        assert main([command, "trial", "--json"]) == 0
        json.loads(capsys.readouterr().out)


def test_logs_show_the_end_of_each_and_one_whole(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    unit = plan.members[0].run_id
    Ledger(folder.events_file).append("submitted", unit=unit, job_id="77", executor="local", process=None)
    of_submitit = "submitit INFO (2026-01-01 00:00:00,000) - Loading pickle: x.pkl\n"
    said = "".join(f"line {n}\x1b[31m\n" for n in range(9))
    folder.log_file("77").write_text(f"{of_submitit}{said}submitit WARNING (x) - Caught a signal\n{of_submitit}end")
    monkeypatch.chdir(tmp_path)
    assert main(["logs", "trial"]) == 0
    shown = capsys.readouterr().out
    assert "line 6" in shown
    assert "line 5" not in shown
    assert "submitit INFO" not in shown
    for flags in ([], ["--follow"], ["--follow", "--lines", "20"]):
        assert main(["logs", "trial", unit, *flags]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("line 0")
        assert shown.endswith("- Caught a signal\nend")
        assert "\x1b" not in shown
    assert main(["logs", "trial", unit, "--rank", "3"]) == 1


def test_a_profile_that_cannot_submit_here_changes_nothing(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = make_sweep(tmp_path, packed)
    (tmp_path / "cluster.toml").write_text('executor = "slurm"\n')
    before = folder.plan_file.read_bytes()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["retry", "trial", "--profile", "cluster.toml"]) == 0
    assert "nothing to retry" in capsys.readouterr().out
    Ledger(folder.events_file).append("cancelled", unit=folder.read_plan().members[0].run_id, by="somebody")
    for command in (
        ["retry", "trial", folder.read_plan().members[0].run_id, "--profile", "cluster.toml"],
        ["submit", "sweep.toml", "--profile", "cluster.toml"],
        ["submit", "sweep.toml", "--profile", "cluster.toml", "--root", "elsewhere"],
    ):
        assert main(command) == 1
        assert "srun: not found; is Slurm on this machine? (--profile local runs here)" in capsys.readouterr().err
    assert folder.plan_file.read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()
