"""The report of a sweep: report.html, which needs nothing but itself, and report.csv with a row for each member."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from data_tools.console import counted
from jobs import html
from jobs.collect import Result, read_results
from jobs.curves import draw_curves
from jobs.folder import Plan, SweepFolder
from jobs.pipeline import is_current
from jobs.setting_text import value_text
from jobs.status import Status, read_status
from jobs.tables import count_states, duration_text
from vqvae_dist.files import write_file
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import RunFolder

MAX_CURVES = 60
"""More members than this, and only the best are drawn."""


def write_report(folder: SweepFolder, plan: Plan) -> None:
    """Write report.html and report.csv from what the runs have left so far."""
    rows, results = read_status(folder, plan), read_results(folder, plan)
    write_file(folder.report_csv, report_csv(rows, results).encode())
    write_file(folder.report_html, report_html(folder, plan, rows, results).encode())


def report_json(folder: SweepFolder, plan: Plan) -> dict[str, Any]:
    """The report's figures."""
    return {
        "name": plan.name,
        "stage": plan.stage,
        "metric": plan.select,
        "best": folder.read_choice(),
        "members": table_rows(read_status(folder, plan), read_results(folder, plan)),
        "evaluation": _evaluation(folder),
    }


def table_rows(rows: Sequence[Status], results: Sequence[Result]) -> list[dict[str, Any]]:
    """For each member: its state, what was varied, and what came out."""
    status = {row.unit: row for row in rows}
    table = []
    for result in results:
        row, summary = status[result.member.run_id], result.progress
        final = {f"final/{key}": value for key, value in (summary.final or {}).items()}
        outcome = {"state": row.state, "step": row.step, "steps": row.steps, "best": result.value}
        rest = {"best_step": result.step, "seconds": summary.seconds, "slices_per_second": row.slices_per_second}
        table.append({"run_id": row.run_id, **result.member.point, **outcome, **rest, **final, "reason": row.reason})
    return table


def report_csv(rows: Sequence[Status], results: Sequence[Result]) -> str:
    """The table of the members; a column for whatever any of them has."""
    table = table_rows(rows, results)
    columns = list(dict.fromkeys(key for row in table for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in table:
        writer.writerow([_csv_cell(row.get(column)) for column in columns])
    return text.getvalue()


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    text = value_text(value)
    # A spreadsheet takes a text that begins so for a formula.
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") else text


def report_html(folder: SweepFolder, plan: Plan, rows: Sequence[Status], results: Sequence[Result]) -> str:
    """The whole page."""
    members = [row for row in rows if row.stage == plan.stage]
    summary = html.paragraph(
        f"{counted(len(members), 'member')} of {plan.stage}: {count_states(members)}. Chosen by {plan.select}."
    )
    return html.page(
        f"Sweep {plan.name}",
        [
            summary,
            html.section("Best", _best(folder)),
            html.section(plan.selection.metric, *_value_tables(folder, plan, results)),
            html.section("Curves", *_curves(plan, results)),
            html.section("Reconstructions", *_reconstructions(folder)),
            html.section("Samples", *_samples(folder, plan)),
            html.section("Evaluation on held-out slices", *_evaluation_tables(folder, plan)),
            html.section("Prior", *_prior(folder)),
            html.section("Members", _member_table(rows, results)),
            html.section("Settings and environment", *_settings(folder, results)),
        ],
    )


def _best(folder: SweepFolder) -> str:
    choice = folder.read_choice()
    if choice is None:
        return html.paragraph("No member has been chosen yet.", kind="note")
    best = read_json(folder.best_file)
    return html.paragraph(
        f"{best['label'] or choice}: {best['metric']} = {best['value']:.4f} at step {best['step']} ({choice})"
    )


def _value_tables(folder: SweepFolder, plan: Plan, results: Sequence[Result]) -> Iterator[str]:
    """The selection metric over the two settings varied first (lr and milestones before others); a table for each
    combination of the rest.
    """
    keys = sorted(
        dict.fromkeys(key for result in results for key in result.member.point),
        key=lambda key: {"optim.lr": 0, "optim.milestones": 1}.get(key, 2),
    )
    down, across, rest = (keys[:1] or [""])[0], (keys[1:2] or [""])[0], keys[2:]
    groups: dict[str, list[Result]] = {}
    for result in results:
        title = ", ".join(f"{key} {_point_text(result, key)}" for key in rest)
        groups.setdefault(title, []).append(result)
    for title, group in groups.items():
        if title:
            yield html.paragraph(title)
        yield _value_table(group, down, across, choice=folder.read_choice(), largest=plan.selection.largest)


def _value_table(group: Sequence[Result], down: str, across: str, *, choice: str | None, largest: bool) -> str:
    values = [result.value for result in group if result.value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    cells: dict[tuple[str, str], html.Markup] = {}
    for result in group:
        share = None
        if result.value is not None:
            share = (result.value - low) / (high - low) if high > low else 1.0
            share = share if largest else 1 - share
        text = f"{result.value:.4f}" if result.value is not None else result.progress.state or "-"
        place = (_point_text(result, down), _point_text(result, across))
        cells[place] = html.value_cell(text, share, best=result.member.run_id == choice, hint=result.member.run_id)
    lines = list(dict.fromkeys(place[0] for place in cells))
    columns = list(dict.fromkeys(place[1] for place in cells))
    head = [f"{down} \\ {across}" if across else down, *columns]
    return html.table(head, [[line, *(cells.get((line, column), "") for column in columns)] for line in lines])


def _point_text(result: Result, key: str) -> str:
    return value_text(result.member.point[key]) if key in result.member.point else ""


def _curves(plan: Plan, results: Sequence[Result]) -> Iterator[str]:
    sign = -1 if plan.selection.largest else 1
    ranked = sorted(results, key=lambda result: (result.value is None, sign * (result.value or 0)))
    shown = {result.member.run_id for result in ranked[:MAX_CURVES]}
    drawn = [result for result in results if result.member.run_id in shown]
    if len(drawn) < len(results):
        yield html.paragraph(f"The best {len(drawn)} of {len(results)} members.", kind="note")
    for metric, logarithmic in ((plan.selection.metric, False), ("train/loss", True)):
        content = draw_curves(drawn, metric, logarithmic=logarithmic)
        if content:
            yield html.image(content, "png", metric, pixels=False)


def _reconstructions(folder: SweepFolder) -> Iterator[str]:
    choice = folder.read_choice()
    pictures = sorted(folder.run(choice).images.glob("step_*.png")) if choice else []
    if pictures:
        yield html.picture(pictures[-1], f"Originals above reconstructions, {choice}, {pictures[-1].stem}", pixels=True)


def _earlier(folder: SweepFolder, plan: Plan, stage: str) -> str:
    """A remark where what a stage left is not of the present models and options."""
    choice = folder.read_choice()
    if choice and is_current(plan.pipeline, stage, folder.pipeline(choice), folder.run(choice).path):
        return ""
    return " (of earlier weights or options: the stage has not run since)"


def _samples(folder: SweepFolder, plan: Plan) -> Iterator[str]:
    choice = folder.read_choice()
    file = folder.pipeline(choice).picture if choice else None
    if file is None:
        return
    lossless = file.with_suffix(".png")
    shown = lossless if lossless.is_file() else file
    if shown.is_file():
        caption = f"Brains drawn from the PixelCNN prior{_earlier(folder, plan, 'generate')}"
        yield html.picture(shown, caption, pixels=True)


def _evaluation(folder: SweepFolder) -> dict[str, Any] | None:
    choice = folder.read_choice()
    file = folder.pipeline(choice).evaluation / "metrics.json" if choice else None
    return read_json(file) if file and file.is_file() else None


def _evaluation_tables(folder: SweepFolder, plan: Plan) -> Iterator[str]:
    metrics = _evaluation(folder)
    if metrics is None:
        return
    slices, subjects, split = (metrics.get(name, "?") for name in ("slices", "subjects", "split"))
    yield html.paragraph(f"{slices} slices of {subjects} subjects, split {split}{_earlier(folder, plan, 'evaluate')}.")
    scores = [(name, value) for name, value in metrics.items() if isinstance(value, dict) and "mean" in value]
    interval = "95 % interval"
    yield html.table(
        ["", "mean", interval], [[name, _number(value["mean"]), _interval(value)] for name, value in scores]
    )
    for name in ("codebook", "rate", "prior"):
        figures = metrics.get(name)
        figures = figures if isinstance(figures, dict) else {}
        plain = {key: value for key, value in figures.items() if not isinstance(value, dict | list)}
        if plain:
            yield html.table([name, ""], [[key, _number(value)] for key, value in plain.items()])


def _prior(folder: SweepFolder) -> Iterator[str]:
    choice = folder.read_choice()
    run = RunFolder(folder.pipeline(choice).prior) if choice else None
    summary = run.read_summary() if run else None
    if summary:
        best = summary.get("best") or {}
        figures = {"state": summary["state"], "step": summary["step"], best.get("metric", "best"): best.get("value")}
        yield html.table(["PixelCNN", ""], [[key, _number(value)] for key, value in figures.items()])


def _member_table(rows: Sequence[Status], results: Sequence[Result]) -> str:
    table = table_rows(rows, results)
    columns = list(dict.fromkeys(key for row in table for key in row if not key.startswith("final/")))
    return html.table(columns, [[_number(row.get(column)) for column in columns] for row in table])


def _settings(folder: SweepFolder, results: Sequence[Result]) -> Iterator[str]:
    yield html.details("sweep.toml", folder.sweep_file.read_text(encoding="utf-8"))
    choice = folder.read_choice()
    for result in results:
        if result.member.run_id == choice and result.run.config_file.is_file():
            config = result.run.read_config()
            seconds = result.progress.seconds
            took = f", {duration_text(seconds)}" if seconds else ""
            yield html.details(f"config.json of the best member{took}", json.dumps(config, indent=1))


def _interval(value: dict[str, Any]) -> str:
    bounds = value.get("ci95")
    bounds = bounds if isinstance(bounds, list) else []
    return " – ".join(_number(bound) for bound in bounds)


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) and abs(value) >= 1e-3 else value_text(value)
