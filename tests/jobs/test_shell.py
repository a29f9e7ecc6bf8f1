"""Names, paths and settings that look like commands stay what they are: in job scripts, here, in the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_tools.console import CommandError, UsageError
from jobs.config import Profile, read_strictly
from jobs.executors import array_executors, sbatch_text
from jobs.report import write_report
from tests.jobs.sweep_files import make_sweep, write_sweep_file
from tests.jobs.test_launch import SLURM
from tests.jobs.test_report import Page, finished
from tests.jobs.test_slurm_query import fake_program
from vqvae_dist.files import write_sealed
from vqvae_dist.run_folder import read_sealed

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "; touch canary",
    "$(touch canary)",
    "`touch canary`",
    "' && touch canary '",
    '" | touch canary "',
    "\\",
    "# x",
]
RECORDER = f'exec {sys.executable} -c \'import json, sys; json.dump(sys.argv[1:], open("srun.json", "w"))\' "$@"'


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run scripts in, with a ``srun`` that writes down what it was given."""
    fake_program(tmp_path / "bin", "srun", RECORDER)
    fake_program(tmp_path / "bin", "scontrol", "echo 'MaxArraySize            = 300'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def script(folder: Path, data: Path, profile: Profile) -> tuple[str, Path]:
    sweep, plan = make_sweep(folder, data, profile=profile)
    _, executor = next(array_executors(sweep, plan, 3, code=folder / "code"))
    return sbatch_text(executor, 3), sweep.logs


def run_script(text: str, work: Path) -> list[str]:
    """Run a job's script as Slurm would; return what it asks srun for."""
    (work / "job.sh").write_text(text)
    subprocess.run(["bash", "job.sh"], cwd=work, check=True, timeout=60, capture_output=True)
    asked: list[str] = json.loads((work / "srun.json").read_text())
    return asked


@pytest.mark.parametrize("nasty", COMMANDS)
def test_a_job_script_takes_paths_and_settings_as_they_are(
    nasty: str, tmp_path: Path, packed: Path, work: Path
) -> None:
    root = tmp_path / nasty.replace("/", "-")
    root.mkdir()
    options: dict[str, Any] = dict.fromkeys(("partition", "account", "qos"), nasty)
    profile = replace(
        SLURM, **options, env={"A": f"{nasty}\nsecond line"}, sbatch={"exclude": nasty}, setup=("export B=$A",)
    )
    text, logs = script(root, packed, profile)
    asked = run_script(text, work)
    assert asked[-4:] == ["-u", "-m", "jobs.enter", str(logs)]
    assert f"{logs}/%A_%a_%t_log.out" in asked
    assert not list(tmp_path.rglob("canary"))


@pytest.mark.parametrize(
    "values",
    [
        {"partition": "gpu\ntouch canary"},
        {"account": "a\rtouch canary"},
        {"qos": "\x1b[31m"},
        {"sbatch": {"exclude": "n1\ntouch canary\n"}},
        {"sbatch": {"exclude=n1\ntouch canary\n#": "x"}},
        {"sbatch": {"--exclude": "x"}},
        {"env": {"A=1; touch canary; B": "x"}},
        {"env": {"": "x"}},
        {"env": {"A": "x\0y"}},
    ],
)
def test_a_profile_that_would_end_its_line_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^profile\.toml: \S+ must be "):
        read_strictly(Profile, {"executor": "slurm", **values}, "profile.toml")


def test_a_path_that_would_end_its_line_is_refused(tmp_path: Path, packed: Path, work: Path) -> None:
    (tmp_path / "a\ntouch canary").mkdir()
    with pytest.raises(CommandError, match=r"a path with line breaks"):
        script(tmp_path / "a\ntouch canary", packed, SLURM)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20) | st.sampled_from(COMMANDS)
FUZZ = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(texts=st.lists(TEXT, min_size=4, max_size=4))
def test_whatever_a_profile_takes_is_one_word_of_the_script(
    texts: list[str], tmp_path: Path, packed: Path, work: Path
) -> None:
    partition, account, exclude, value = texts
    values = {"partition": partition, "account": account, "sbatch": {"exclude": exclude}, "env": {"A": value}}
    try:
        profile = read_strictly(Profile, {"executor": "slurm", **values}, "profile.toml")
    except UsageError:
        return
    text, _ = script(tmp_path, packed, replace(profile, setup=("env -0 > environment",)))
    at = text.index("env -0 > environment")  # the profile's setup comes first: move it behind the exports
    moved = text[:at] + text[at + 20 :].replace("\n# command", "\nenv -0 > environment\n# command", 1)
    run_script(moved, work)
    exported = (work / "environment").read_bytes().split(b"\0")
    assert f"A={value}".encode() in exported
    assert not list(tmp_path.rglob("canary"))


@pytest.mark.slow
def test_a_sweep_runs_here_in_a_folder_named_like_a_command(tmp_path: Path, packed: Path) -> None:
    root = tmp_path / "a b; touch canary $(touch canary) ' && touch canary `touch canary`"
    root.mkdir()
    rest = '"schedule.validate_every" = 2\n"tracking.mode" = "disabled"\n"tracking.tags" = ["$(touch canary)"]\n'
    file = write_sweep_file(root, packed, rest, steps=2)
    command = [sys.executable, "-m", "jobs", "submit", str(file), "--root", str(root / "runs"), "--profile", "local"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 completed" in done.stdout
    assert not list(tmp_path.rglob("canary"))


NASTY = (
    "</pre></style></title><script>alert(1)</script>"
    '<img src="http://example.org/x" onerror=alert(1)>"\'><a href="javascript:x">'
)


def test_nothing_that_a_sweep_says_becomes_markup_or_a_request(tmp_path: Path, packed: Path) -> None:
    folder, plan = finished(tmp_path, packed)
    nasty = tuple(
        replace(member, label=NASTY, point={**member.point, "optim.lr": NASTY, NASTY: NASTY}) for member in plan.members
    )
    folder.write_plan(replace(plan, members=nasty))
    best = json.loads(folder.best_file.read_text())
    folder.best_file.write_text(json.dumps({**best, "label": NASTY, "metric": NASTY}))
    for member in nasty:
        run = folder.run(member.run_id)
        summary = read_sealed(run.summary_file)
        write_sealed(run.summary_file, {**summary, "state": "failed", "reason": NASTY, "final": {NASTY: 1.0}})
        config: dict[str, Any] = dict.fromkeys(("stage", "run_id", "fingerprint", "data_digest"), NASTY)
        config |= {"schema": 1, "generation": 0, "settings": {"tags": [NASTY]}, "resolved": {NASTY: 1}, "attempts": []}
        write_sealed(run.config_file, config)
    target = folder.pipeline(best["choice"])
    score = {"mean": NASTY, "ci95": [NASTY, NASTY]}
    evaluation = {"split": NASTY, "slices": NASTY, "subjects": NASTY, NASTY: score, "codebook": {NASTY: NASTY}}
    (target.evaluation / "metrics.json").write_text(json.dumps(evaluation))
    target.prior.mkdir()
    said = {"state": NASTY, "step": 3, "best": {"metric": NASTY, "value": 1.0}}
    write_sealed(target.prior / "summary.json", said)
    write_report(folder, folder.read_plan())
    content = folder.report_html.read_text()
    page = Page(content)
    assert {tag for tag, *_ in page.attributes} <= {"html", "meta", "p", "div", "td", "img", "figure", "details"}
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "href"]
    assert not [value for _, name, value in page.attributes if name == "src" and not value.startswith("data:")]
    policy = [value for _, name, value in page.attributes if name == "content" and "default-src" in value]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "<script" not in content
    assert sum(NASTY in text for text in page.texts) >= 10, "it is shown, as text"
