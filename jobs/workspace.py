"""``python -m jobs report --wandb-workspace``: the dashboard of a sweep in W&B, made from code. Needs wandb-workspaces.

One saved view a sweep: which settings lead to which score, the curves of its members by setting, and their pictures.
"""

from __future__ import annotations

import uuid
from importlib import import_module
from typing import Any

from data_tools.console import CommandError, say
from jobs.folder import Plan, SweepFolder, read_member_settings
from jobs.sync import connect
from vqvae_dist.config_pixelcnn import PIXELCNN_METRICS
from vqvae_dist.config_vqvae import VQVAE_METRICS
from vqvae_dist.files import write_json
from vqvae_dist.json_files import read_json
from vqvae_dist.wandb_server import ServerError

CURVES = ("train/loss", "train/reconstruction", "validate/perplexity", "train/slices_per_second")
"""Drawn beside the metric that chooses; those of them that a stage does not log stay out of its workspace."""

PRIOR_CURVES = ("train/loss", "train/slices_per_second")

VALIDATED = {"train-vqvae": VQVAE_METRICS, "train-pixelcnn": PIXELCNN_METRICS}
"""What validations measure; those that stand with the curves are not drawn again."""

CODEBOOK = ("train/codes_used_epoch", "train/codes_dead", "train/quantization_error")
"""Whether the codes are used; only where a VQ-VAE is trained."""

PICTURES = {
    "train-vqvae": ["images/validate", "images/animation"],
    "train-pixelcnn": ["images/validate", "images/samples", "images/animation"],
}


def save_workspace(folder: SweepFolder) -> int:
    """Save the sweep's workspace at the W&B server, or bring the one saved before up to date; say where it is.

    Raises:
        CommandError: wandb-workspaces is not installed, or the server can't be used.
    """
    plan = folder.read_plan()
    settings = read_member_settings(folder, [plan.members[0].run_id])[plan.members[0].run_id]
    saved_file = folder.path / "wandb_workspace.json"
    saved = read_json(saved_file) if saved_file.is_file() else {}
    try:
        entity = str(settings.get("tracking.entity") or connect().default_entity())
    except ServerError as error:
        raise CommandError(f"W&B: {error}") from None
    workspace = build_workspace(plan, entity=entity, project=str(settings["tracking.project"]))
    view = as_view(workspace, plan)
    view.name, view.id = saved.get("name") or view_name(), saved.get("id", "")
    try:
        answer = library("workspaces.internal").upsert_view2(view)["upsertView"]["view"]
    except Exception as error:  # the client raises whatever its transport does
        raise CommandError(f"the workspace could not be saved: {error}") from None
    workspace._internal_name = answer["name"]
    write_json(saved_file, {"name": answer["name"], "id": answer["id"], "url": workspace.url})
    say(workspace.url)
    return 0


def library(part: str) -> Any:
    """A module of wandb-workspaces; by name, as it is an extra, and what it says of its own types is not all true."""
    try:
        return import_module(f"wandb_workspaces.{part}")
    except ImportError:
        raise CommandError("wandb-workspaces is not installed: pip install 'brain-vqvae-suite[workspace]'") from None


def build_workspace(plan: Plan, *, entity: str, project: str) -> Any:
    """The workspace of a sweep."""
    panels, ws = library("reports.v2"), library("workspaces")
    axes = swept_settings(plan)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Sweep {plan.name}",
        sections=[
            ws.Section(name="Which settings are best", is_open=True, panels=score_panels(panels, plan, axes)),
            ws.Section(name="Curves", is_open=True, panels=curve_panels(panels, plan, axes)),
            ws.Section(name="Validation", is_open=False, panels=validation_panels(panels, plan)),
            *codebook_section(panels, ws, plan),
            ws.Section(name="Pictures", is_open=True, panels=[panels.MediaBrowser(media_keys=PICTURES[plan.stage])]),
        ],
        settings=ws.WorkspaceSettings(x_axis="global_step"),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("group") == plan.name),
            order=[ws.Ordering(ws.Summary(best_key(plan)), ascending=not plan.selection.largest)],
        ),
        auto_generate_panels=False,
    )


def as_view(workspace: Any, plan: Plan) -> Any:
    """The workspace as it is sent.

    The library takes the first dot of a setting for a level (``optim.value.lr``). Our keys are flat, and their dots
    are part of the name (``optim.lr.value``).
    """
    view = workspace._to_model()
    text = view.spec.model_dump_json(by_alias=True)
    for key in swept_settings(plan):
        first, dot, rest = key.partition(".")
        text = text.replace(f'"config:{first}.value{dot}{rest}"', f'"config:{key}.value"')
    view.spec = type(view.spec).model_validate_json(text)
    return view


def view_name() -> str:
    """A new name as the server wants it."""
    return f"nw-{uuid.uuid4().hex[:11]}-v"


def score_panels(panels: Any, plan: Plan, axes: dict[str, bool]) -> list[Any]:
    """Best score against what the sweep varies."""
    best = panels.SummaryMetric(best_key(plan))
    columns = [panels.ParallelCoordinatesPlotColumn(metric=panels.Config(key), log=log) for key, log in axes.items()]
    score = panels.ParallelCoordinatesPlotColumn(metric=best, inverted=not plan.selection.largest)
    scatters = [
        panels.ScatterPlot(x=panels.Config(key), y=best, log_x=log, title=f"{best_key(plan)} by {key}")
        for key, log in axes.items()
    ]
    importance = panels.ParameterImportancePlot(with_respect_to=best_key(plan))
    return [panels.ParallelCoordinatesPlot(columns=[*columns, score]), importance, *scatters]


def curve_panels(panels: Any, plan: Plan, axes: dict[str, bool]) -> list[Any]:
    """Metrics over global steps: the one that chooses by each swept setting, and some more of each member."""
    metric = plan.selection.metric
    grouped = [
        panels.LinePlot(x="global_step", y=[metric], groupby=f"{key}.value", title=f"{metric} by {key}") for key in axes
    ]
    curves = CURVES if plan.stage == "train-vqvae" else PRIOR_CURVES
    return [*grouped, *(panels.LinePlot(x="global_step", y=[key], title=key) for key in curves)]


def validation_panels(panels: Any, plan: Plan) -> list[Any]:
    """What validations measured of each member."""
    keys = [f"validate/{name}" for name in VALIDATED[plan.stage]]
    return [panels.LinePlot(x="global_step", y=[key], title=key) for key in keys if key not in CURVES]


def codebook_section(panels: Any, ws: Any, plan: Plan) -> list[Any]:
    """How the codebook fares, where there is one."""
    if plan.stage != "train-vqvae":
        return []
    curves = [panels.LinePlot(x="global_step", y=[key], title=key) for key in CODEBOOK]
    return [ws.Section(name="Codebook", is_open=False, panels=curves)]


def swept_settings(plan: Plan) -> dict[str, bool]:
    """Settings that differ between members, as W&B has them, and whether they go on a logarithmic axis.

    A list is taken by its text (``optim.milestones_str``), which a plot can order.
    """
    values: dict[str, list[Any]] = {}
    for member in plan.members:
        for key, value in member.point.items():
            values.setdefault(key, []).append(value)
    keys = {f"{key}_str" if isinstance(found[0], list | tuple) else key: found for key, found in values.items()}
    return {key: _spans_decades(found) for key, found in keys.items()}


def _spans_decades(values: list[Any]) -> bool:
    numbers = [value for value in values if isinstance(value, int | float) and value > 0]
    return len(numbers) == len(values) and max(numbers) >= 10 * min(numbers)


def best_key(plan: Plan) -> str:
    """The summary value that the tracker keeps of the metric that chooses."""
    return f"best/{plan.selection.metric.removeprefix('validate/')}"
