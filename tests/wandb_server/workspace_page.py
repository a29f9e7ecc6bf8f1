"""Draws a saved workspace with the runs that arrived, as one page: what of W&B's own page can be seen without it.

It shows that each panel names things that are there, and what they look like together. W&B draws its panels itself.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from tests.wandb_server.store import StoredRun

Panel = dict[str, Any]

PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body{{font:15px sans-serif;margin:12px;color:#222}} section{{display:flex;flex-wrap:wrap;gap:12px}}
figure{{margin:0;border:1px solid #ddd;border-radius:6px;padding:8px;max-width:100%;box-sizing:border-box}}
img{{max-width:100%}} figcaption{{font-size:13px;color:#555}}</style>
<h1>{title}</h1><p>{count} runs, drawn by a test server from the saved workspace and the rows it received.</p>{body}"""


def workspace_page(view: dict[str, Any], runs: Iterable[StoredRun]) -> str:
    """The page of a view as ``UpsertView2`` brought it.

    Raises:
        KeyError: a panel names a setting or a summary value that a run of the workspace lacks.
        LookupError: it holds no run, or a panel names a metric or a picture that no run logged.
        ValueError: a panel or a rule is of a kind that is not known here.
    """
    section = json.loads(view["spec"])["section"]
    (run_set,) = section["runSets"]
    rules = run_set["filters"]["filters"]
    shown = sorted_runs([run for run in runs if all(follows(run, rule) for rule in rules)], run_set["sort"]["keys"])
    if not shown:
        raise LookupError("the workspace holds no run")
    body = ""
    for part in section["panelBankConfig"]["sections"]:
        drawn = [PANELS[panel["viewType"]](panel["config"], shown) for panel in part["panels"]]
        figures = "".join(f"<figure>{content}</figure>" for content in drawn)
        body += f"<h2>{html.escape(part['name'])}</h2><section>{figures}</section>"
    return PAGE.format(title=html.escape(view["displayName"]), count=len(shown), body=body)


def follows(run: StoredRun, rule: dict[str, Any]) -> bool:
    """Whether a run passes a filter of a run set."""
    if (rule["op"], rule["key"]) != ("=", {"section": "run", "name": "group"}):
        raise ValueError(f"a rule of the workspace is not known here: {rule}")
    return bool(run.group == rule["value"])


def sorted_runs(runs: Sequence[StoredRun], keys: Sequence[dict[str, Any]]) -> list[StoredRun]:
    """Runs in the order of a run set, which names summary values."""
    ordered = list(runs)
    for key in reversed(keys):
        ordered.sort(key=lambda run: run.summary[key["key"]["name"]], reverse=not key["ascending"])
    return ordered


def value_of(run: StoredRun, accessor: str) -> Any:
    """What ``config:NAME.value`` or ``summary:NAME`` means for a run."""
    kind, _, name = accessor.partition(":")
    return run.value(name.removesuffix(".value")) if kind == "config" else run.summary[name]


def parallel_coordinates(config: Panel, runs: list[StoredRun]) -> str:
    """A line a run through all columns, coloured by the last."""
    columns = config["columns"]
    lines = np.array([positions([value_of(run, column["accessor"]) for run in runs], column) for column in columns])

    def draw(axes: Axes) -> None:
        for line in lines.T:
            axes.plot(line, color=plt.get_cmap("viridis")(line[-1]))
        axes.set_xticks(range(len(columns)), [column["accessor"].partition(":")[2] for column in columns], fontsize=7)
        axes.set_yticks([])

    return picture(draw, "Parallel coordinates", width=8)


def positions(values: list[Any], column: dict[str, Any]) -> np.ndarray:
    """Values of a column between 0 and 1; texts by their order."""
    if isinstance(values[0], str):
        names = sorted(set(values))
        values = [names.index(value) for value in values]
    numbers = np.log(values) if column.get("log") else np.array(values, float)
    spread = np.ptp(numbers) or 1.0
    places = (numbers - numbers.min()) / spread
    return np.asarray(1 - places if column.get("inverted") else places)


def importance(config: Panel, runs: list[StoredRun]) -> str:
    """W&B works out the importance itself; what it needs is the target in every run."""
    values = [run.summary[config["targetKey"]] for run in runs]
    return f"<figcaption>Parameter importance for {config['targetKey']}: {len(values)} runs have it</figcaption>"


def scatter(config: Panel, runs: list[StoredRun]) -> str:
    """A point a run."""
    points = [[value_of(run, config[axis]) for run in runs] for axis in ("xAxis", "yAxis")]

    def draw(axes: Axes) -> None:
        axes.scatter(points[0], points[1])
        if config.get("xAxisLogScale"):
            axes.set_xscale("log")

    return picture(draw, config["chartTitle"])


def curves(config: Panel, runs: list[StoredRun]) -> str:
    """A line a run, or the mean of each group of runs."""
    groups: dict[str, list[dict[int, float]]] = {}
    for run in runs:
        name = str(value_of(run, f"config:{config['groupBy']}")) if config.get("groupBy") else run.display_name
        groups.setdefault(name, []).extend(run.column(metric) for metric in config["metrics"])
    if not any(column for columns in groups.values() for column in columns):
        raise LookupError(f"no run logged {config['metrics']}")

    def draw(axes: Axes) -> None:
        for name, columns in groups.items():
            steps = sorted(set.intersection(*map(set, columns)))
            axes.plot(steps, [np.mean([column[step] for column in columns]) for step in steps], label=name)
        axes.set_xlabel(config["xAxis"])
        axes.legend(fontsize=6)

    return picture(draw, config["chartTitle"])


def media(config: Panel, runs: list[StoredRun]) -> str:
    """The newest picture of each key, of each run that has one."""
    shown = ""
    for key in config["mediaKeys"]:
        found = [(run, column[max(column)]["path"]) for run in runs if (column := run.column(key))]
        if not found:
            raise LookupError(f"no run logged {key}")
        for run, path in found:
            kind = Image.MIME[Image.open(io.BytesIO(run.files[path])).format or ""]
            caption = f"<figcaption>{key} of {html.escape(run.display_name)}</figcaption>"
            shown += f"<img src='{data_uri(run.files[path], kind)}'>{caption}"
    return shown


def picture(draw: Callable[[Axes], None], title: str, *, width: float = 4) -> str:
    """A small plot."""
    figure, axes = plt.subplots(figsize=(width, 2.8), layout="constrained")
    draw(axes)
    axes.set_title(title, fontsize=8)
    axes.tick_params(labelsize=7)
    content = io.BytesIO()
    figure.savefig(content, dpi=100)
    plt.close(figure)
    return f"<img alt='{html.escape(title)}' src='{data_uri(content.getvalue(), 'image/png')}'>"


def data_uri(content: bytes, kind: str) -> str:
    """A file as a part of the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


PANELS: dict[str, Callable[[Panel, list[StoredRun]], str]] = {
    "Parallel Coordinates Plot": parallel_coordinates,
    "Parameter Importance": importance,
    "Scatter Plot": scatter,
    "Run History Line Plot": curves,
    "Media Browser": media,
}
"""By the name that the specification has for a kind of panel."""
