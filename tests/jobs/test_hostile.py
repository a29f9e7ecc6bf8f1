"""A sweep's files, damaged or edited in any way: every command answers with its work or with one clear line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.cli import main
from jobs.config import Profile
from jobs.stages import run_stage
from tests.damaged_json import VALUES, changed, damaged
from tests.jobs.sweep_files import finish_run, make_sweep, write_sweep_file
from vqvae_dist.files import SEAL, seal_of, write_sealed
from vqvae_dist.json_files import BAD_TEXT

FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
COMMANDS = (["status"], ["status", "--json"], ["best"], ["prune", "--dry-run"], ["logs"])
CONFIG = {"schema": 1, "stage": "train-vqvae", "run_id": "a", "fingerprint": "f", "data_digest": "d", "generation": 0}
CONFIG |= {"settings": {"optim": {"lr": 1.0}}, "resolved": {"milestones": [1]}, "attempts": [{"code": "c"}]}
EVENTS: list[dict[str, Any]] = [
    {"event": "submitting", "nonce": "n", "units": 1},
    {"event": "submitted", "unit": "UNIT", "job_id": "12", "executor": "local", "process": {"pid": 1}, "gpus": [0]},
    {"event": "started", "unit": "UNIT", "job_id": "12", "restart": 0, "step": 0},
    {"event": "ended", "unit": "UNIT", "job_id": "12", "state": "failed", "reason": "because"},
    {"event": "cancelled", "unit": "UNIT", "by": "somebody"},
    {"event": "reopened", "unit": "UNIT", "reason": "again"},
]


class Bench:
    """A sweep with two completed members and a choice."""

    def __init__(self, folder: Path, data: Path) -> None:
        grid = '[grid]\n"optim.lr" = [1e-2, 1e-3]\n[pipeline]\nthen = ["report"]\n'
        self.folder, self.plan = make_sweep(folder, data, grid)
        for member in self.plan.members:
            finish_run(self.folder, member.run_id)
        run_stage(self.folder, self.plan, self.plan.pipeline[0], run=lambda _: "completed")
        self.first = self.folder.run(self.plan.members[0].run_id)
        write_sealed(self.first.config_file, CONFIG)
        self.kept = {path: path.read_bytes() for path in self.folder.path.rglob("*") if path.is_file()}

    def restore(self) -> None:
        for path in self.folder.path.rglob("*"):
            if path.is_file() and path not in self.kept:
                path.unlink()
        for path, content in self.kept.items():
            path.write_bytes(content)


@pytest.fixture
def bench(tmp_path: Path, packed: Path) -> Bench:
    return Bench(tmp_path, packed)


def answers_clearly(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command: its status is one of those promised, and what it says names no exception of ours."""
    status = main(arguments)
    said = capsys.readouterr()
    assert status in (0, 1, 2)
    assert "Traceback" not in said.err
    assert "--debug shows where" not in said.err, said.err
    if status:
        assert said.err.startswith("error: ") or said.out or arguments[0] == "status", said
        assert len(said.err.splitlines()) <= 3


def check_all(bench: Bench, capsys: pytest.CaptureFixture[str], *, report: bool = True) -> None:
    before = set(bench.folder.path.parent.parent.iterdir())
    for command in COMMANDS:
        answers_clearly([command[0], str(bench.folder.path), *command[1:]], capsys)
    if report:
        answers_clearly(["report", str(bench.folder.path)], capsys)
    assert set(bench.folder.path.parent.parent.iterdir()) == before, "something was written outside the sweep"


@pytest.mark.parametrize("name", ["plan.json", "best.json"])
@FUZZ
@given(data=st.data())
def test_a_damaged_file_of_a_sweep(
    name: str, data: st.DataObject, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.restore()
    path = bench.folder.path / name
    path.write_bytes(data.draw(damaged(json.loads(path.read_text()))))
    check_all(bench, capsys, report=data.draw(st.integers(0, 3)) == 0)


@pytest.mark.parametrize("name", ["summary.json", "config.json", "metrics.jsonl"])
@FUZZ
@given(data=st.data())
def test_a_damaged_file_of_a_run(
    name: str, data: st.DataObject, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.restore()
    path = bench.first.path / name
    text = path.read_text()
    lines = [line.encode() for line in (text.splitlines() if name.endswith("l") else [text])]
    bad = data.draw(damaged(json.loads(lines[-1])))
    if name != "metrics.jsonl" and data.draw(st.booleans()):
        bad = sealed_again(bad)
    lines[data.draw(st.integers(0, len(lines) - 1))] = bad
    path.write_bytes(b"\n".join(lines) + b"\n")
    check_all(bench, capsys, report=data.draw(st.integers(0, 3)) == 0)


def sealed_again(content: bytes) -> bytes:
    """Damaged JSON with a checksum that fits it, as somebody who edits a file would have to make; else as it is."""
    try:
        value = json.loads(content)
        return json.dumps({**value, SEAL: seal_of({key: part for key, part in value.items() if key != SEAL})}).encode()
    except (*BAD_TEXT, TypeError):  # not an object, or one with NaN
        return content


@FUZZ
@given(data=st.data())
def test_damaged_lines_of_events(data: st.DataObject, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.restore()
    unit = bench.plan.members[0].run_id
    events = [{**event, "unit": unit} if "unit" in event else event for event in EVENTS]
    chosen = data.draw(st.lists(st.sampled_from(events), min_size=1, max_size=5))
    bad = [data.draw(st.one_of(damaged(event), st.just(json.dumps(event).encode()))) for event in chosen]
    bench.folder.events_file.write_bytes(b"\n".join(bad) + b"\n")
    check_all(bench, capsys, report=False)


def test_a_plan_or_a_choice_cannot_lead_out_of_the_sweep(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    outside = bench.folder.path.parent / "outside"
    (outside / "checkpoints").mkdir(parents=True)
    shutil.copy(bench.first.summary_file, outside)
    plan = json.loads(bench.folder.plan_file.read_text())
    plan["members"][0]["run_id"] = "../../outside"
    bench.folder.plan_file.write_text(json.dumps(plan))
    assert main(["prune", str(bench.folder.path)]) == 2
    assert "run_id must be a name of a folder, got '../../outside'" in capsys.readouterr().err
    assert (outside / "checkpoints").is_dir()
    bench.restore()
    best = json.loads(bench.folder.best_file.read_text())
    bench.folder.best_file.write_text(json.dumps(best | {"choice": "../../outside"}))
    assert main(["report", str(bench.folder.path)]) == 1
    assert "choice is not a name of a run" in capsys.readouterr().err


@FUZZ
@given(values=st.dictionaries(st.sampled_from([*Profile.__dataclass_fields__, "other"]), VALUES, max_size=4))
def test_profiles_of_wrong_types(values: dict[str, Any], tmp_path: Path, packed: Path, capsys: Any) -> None:
    sweep = write_sweep_file(tmp_path, packed, "")
    profile = tmp_path / "profile.toml"
    profile.write_text("".join(f"{key} = {text}\n" for key, value in values.items() if (text := toml(value))))
    answers_clearly(
        ["submit", str(sweep), "--profile", str(profile), "--root", str(tmp_path / "r"), "--dry-run"], capsys
    )


SWEEP: dict[str, Any] = {
    "name": "trial",
    "base": "smoke",
    "stage": "train-vqvae",
    "set": {"schedule.steps": 40, "tracking.tags": ["a"]},
    "grid": {"optim.lr": [1e-2, 1e-3], "optim.milestones": [[10], [20, 30]]},
    "zip": {"seed": [1, 2]},
    "points": [{"model.hidden": 8}],
    "pipeline": {"select": "", "then": ["extract-codes", "train-pixelcnn", "report"], "extract-codes": {"views": 1}},
}


@FUZZ
@given(data=st.data())
def test_sweep_files_of_wrong_types(data: st.DataObject, tmp_path: Path, packed: Path, capsys: Any) -> None:
    values = data.draw(changed(SWEEP))
    if isinstance(values.get("set"), dict):
        values["set"].setdefault("data.path", str(packed))
    sweep = tmp_path / "sweep.toml"
    sweep.write_text("".join(f"{key} = {text}\n" for key, value in values.items() if (text := toml(value))))
    answers_clearly(["submit", str(sweep), "--root", str(tmp_path / "runs"), "--dry-run"], capsys)
    assert not (tmp_path / "runs").exists(), "a dry run writes nothing"


def toml(value: Any) -> str:
    """A JSON value as TOML; empty for what TOML has not."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {t}" for k, v in value.items() if (t := toml(v))) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(text for part in value if (text := toml(part))) + "]"
    if isinstance(value, float):
        return "nan" if value != value else repr(value).replace("inf", "inf")
    return json.dumps(value, ensure_ascii=True) if not isinstance(value, int) or isinstance(value, bool) else str(value)


@pytest.mark.parametrize("content", [b"\xff", b"a = " + b"[" * 50_000, b"a = " + b"9" * 6000, b"a = ", b"\0"])
def test_files_that_are_no_toml_exit_2_and_are_named(content: bytes, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "sweep.toml").write_bytes(content)
    assert main(["submit", str(tmp_path / "sweep.toml"), "--root", str(tmp_path), "--dry-run"]) == 2
    assert f"{tmp_path / 'sweep.toml'}: not valid TOML" in capsys.readouterr().err
