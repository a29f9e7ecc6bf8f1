from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Profile
from jobs.folder import Plan, PlannedMember, SweepFolder, to_toml
from jobs.wandb_files import find_attempts
from jobs.wandb_merge import history_row, merge_rows
from jobs.workspace import as_view, build_workspace, swept_settings
from tests.browser import find_browser, look_at
from tests.jobs.sweep_files import write_sweep_file
from tests.trainings import settings_of
from tests.wandb_server import WandbServer
from tests.wandb_server.client import REPOSITORY, clean_environment
from tests.wandb_server.store import StoredRun
from tests.wandb_server.workspace_page import workspace_page
from vqvae_dist.config_io import flatten
from vqvae_dist.config_pixelcnn import PIXELCNN_METRICS
from vqvae_dist.config_vqvae import VQVAE_METRICS

pytest.importorskip("wandb_workspaces", reason="needs the extra: pip install wandb-workspaces")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb_workspaces")


def make_plan(stage: str = "train-vqvae", select: str = "max validate/ssim_foreground") -> Plan:
    points = [
        {"optim.lr": lr, "optim.milestones": milestones, "model.quantizer.kind": kind}
        for lr, milestones, kind in [(1e-2, [10, 90], "ema"), (1e-4, [60, 120], "gradient")]
    ]
    members = tuple(
        PlannedMember(run_id=f"run{number}", label="", point=point, steps=50, batch_size=8)
        for number, point in enumerate(points)
    )
    return Plan(
        name="lr-milestones",
        stage=stage,
        select=select,
        data_path="brain.h5",
        members=members,
        pipeline=(),
        profile=Profile(executor="local"),
    )


def spec_of(plan: Plan) -> dict[str, Any]:
    view = as_view(build_workspace(plan, entity="lab", project="brain"), plan)
    spec: dict[str, Any] = json.loads(view.spec.model_dump_json(by_alias=True))
    return spec


def panels_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for section in spec["section"]["panelBankConfig"]["sections"] for panel in section["panels"]]


def names_in(spec: dict[str, Any]) -> tuple[set[str], set[str], set[str]]:
    """Settings, summary values and metrics that a workspace names."""
    settings, summary, metrics = set(), set(), set()
    for panel in panels_of(spec):
        config = panel["config"]
        accessors = [column["accessor"] for column in config.get("columns") or []]
        accessors += [config.get(axis) for axis in ("xAxis", "yAxis") if ":" in (config.get(axis) or "")]
        settings |= {name.removeprefix("config:") for name in accessors if name.startswith("config:")}
        summary |= {name.removeprefix("summary:") for name in accessors if name.startswith("summary:")}
        summary |= {config["targetKey"]} if "targetKey" in config else set()
        settings |= {config["groupBy"]} if config.get("groupBy") else set()
        metrics |= {*(config.get("metrics") or []), *(config.get("mediaKeys") or [])}
    summary |= {entry["key"]["name"] for entry in spec["section"]["runSets"][0]["sort"]["keys"]}
    return {name.removesuffix(".value") for name in settings}, summary, metrics


@pytest.mark.slow
def test_every_key_in_the_workspace_is_one_that_a_training_logs(packed: Path, tmp_path: Path) -> None:
    run, settings = tmp_path / "run", tmp_path / "run.toml"
    changes = {"tracking.mode": "offline", "schedule.steps": 8, "schedule.validate_every": 4, "schedule.image_every": 4}
    settings.write_text(to_toml(flatten(settings_of("train-vqvae", packed, run, changes))))
    command = [sys.executable, "-m", "vqvae_dist", "train-vqvae", "--config", str(settings)]
    subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), check=True, capture_output=True)
    (attempts,) = find_attempts(run / "wandb").values()
    (attempt,) = attempts
    logged = {path[0] for row in merge_rows(attempts, []).values() for path in row}
    summary = {item.key or item.nested_key[0] for record in attempt.records for item in record.summary.update}
    assert attempt.run is not None
    config = {item.key for item in attempt.run.config.update}
    settings_named, summary_named, metrics_named = names_in(spec_of(make_plan()))
    assert settings_named <= config
    assert summary_named <= summary
    assert metrics_named <= logged
    assert any(history_row(record) for record in attempt.records)


def test_workspace_shows_scores_curves_and_pictures_of_this_sweep_alone() -> None:
    spec = spec_of(make_plan())
    kinds = [panel["viewType"] for panel in panels_of(spec)]
    assert kinds[:2] == ["Parallel Coordinates Plot", "Parameter Importance"]
    assert "Media Browser" in kinds
    columns = [column["accessor"] for column in panels_of(spec)[0]["config"]["columns"]]
    assert columns == [
        "config:optim.lr.value",
        "config:optim.milestones_str.value",
        "config:model.quantizer.kind.value",
        "summary:best/ssim_foreground",
    ]
    (run_set,) = spec["section"]["runSets"]
    (rule,) = run_set["filters"]["filters"]
    assert (rule["key"]["name"], rule["value"]) == ("group", "lr-milestones")
    assert run_set["sort"]["keys"][0]["ascending"] is False
    assert spec["section"]["settings"]["xAxis"] == "global_step"


def test_lowest_comes_first_where_low_is_good() -> None:
    spec = spec_of(make_plan("train-pixelcnn", "min validate/bits_per_code"))
    assert spec["section"]["runSets"][0]["sort"]["keys"][0]["ascending"] is True
    assert not [name for name in names_in(spec)[2] if "perplexity" in name]


def test_all_that_a_validation_measures_is_drawn() -> None:
    for plan, measured in (
        (make_plan(), VQVAE_METRICS),
        (make_plan("train-pixelcnn", "min validate/bits_per_code"), PIXELCNN_METRICS),
    ):
        assert {f"validate/{name}" for name in measured} <= names_in(spec_of(plan))[2]


def test_settings_that_span_decades_get_a_logarithmic_axis() -> None:
    assert swept_settings(make_plan()) == {
        "optim.lr": True,
        "optim.milestones_str": False,
        "model.quantizer.kind": False,
    }


@pytest.mark.slow
def test_saving_again_replaces_the_workspace(server: WandbServer, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "sweep")
    folder.member_settings("").parent.mkdir(parents=True)
    folder.write_plan(make_plan())
    folder.member_settings("run0").write_text(to_toml({"tracking.project": "brain", "tracking.entity": ""}))
    program = (
        "import sys; from pathlib import Path; from jobs.folder import SweepFolder; "
        "from jobs.workspace import save_workspace; save_workspace(SweepFolder(Path(sys.argv[1])))"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder.path)],
            cwd=REPOSITORY,
            env=clean_environment() | server.environment(tmp_path),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert f"{server.url}/lab/brain?nw=" in done.stdout
    first, second = server.views
    assert (first["entityName"], first["projectName"], first["displayName"]) == ("lab", "brain", "Sweep lr-milestones")
    assert (second["name"], second["id"]) == (first["name"], "Vmlldzox")


SWEEP = """
"tracking.mode" = "online"
"schedule.image_every" = 10
"schedule.validate_every" = 10
[grid]
"optim.lr" = [1e-2, 1e-3]
"optim.milestones" = [[10], [10, 15]]
"""


@pytest.mark.slow
def test_every_panel_of_a_real_sweep_has_something_to_draw(server: WandbServer, packed: Path, tmp_path: Path) -> None:
    """Four trainings send their rows and pictures, the workspace is saved, and a browser opens the two together."""
    sweep = write_sweep_file(tmp_path, packed, SWEEP, steps=20)
    environment = clean_environment() | server.environment(tmp_path) | {"PYTHONPATH": str(REPOSITORY)}
    for words in (["submit", str(sweep), "--profile", "local"], ["report", "trial", "--wandb-workspace"]):
        command = [sys.executable, "-m", "jobs", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert len(server.runs) == 4
    page = tmp_path / "workspace.html"
    page.write_text(workspace_page(server.views[-1], server.runs.values()))
    if find_browser() is None:
        pytest.skip("no Chromium on this machine to look at the page; all its panels were drawn")
    look = look_at(page, width=1200)
    assert (look.width, look.hosts, look.complaints) == (1200, [], [])


def test_a_panel_without_data_is_noticed() -> None:
    view = {"displayName": "x", "spec": json.dumps(spec_of(make_plan()))}
    with pytest.raises(LookupError, match="no run"):
        workspace_page(view, [])
    run = StoredRun("a", "brain", group="lr-milestones", summary={"best/ssim_foreground": 0.5})
    with pytest.raises(KeyError, match=r"optim\.lr"):
        workspace_page(view, [run])
    run.config = {key: {"value": 0.1} for key in swept_settings(make_plan())}
    with pytest.raises(LookupError, match="validate/ssim_foreground"):
        workspace_page(view, [run])
