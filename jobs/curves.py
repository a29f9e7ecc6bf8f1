"""Curves of a sweep's members as a PNG, drawn by matplotlib without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence

from jobs.collect import Result
from vqvae_dist.json_files import is_number

MAX_POINTS = 400
MAX_LEGEND = 12
PIXELS_PER_INCH = 130


def draw_curves(results: Sequence[Result], metric: str, *, logarithmic: bool) -> bytes | None:
    """The metric over the steps, a line for each member; None where no member has logged it."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    lines = [(result, points) for result in results if len(points := read_points(result, metric)) > 0]
    if not lines:
        return None
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for position, (result, points) in enumerate(lines):
        colour = colormaps["viridis"](position / max(1, len(lines) - 1) * 0.9)
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=colour, linewidth=1.4, label=result.member.label or result.member.run_id)
        if len(points) == 1:
            axes.plot(steps, values, "o", color=colour)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(metric)
    if logarithmic and all(value > 0 for _, points in lines for _, value in points):
        axes.set_yscale("log")
    axes.grid(visible=True, alpha=0.25)
    if len(lines) <= MAX_LEGEND:
        axes.legend(fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=PIXELS_PER_INCH, metadata={"Software": None})
    return content.getvalue()


def read_points(result: Result, metric: str) -> list[tuple[int, float]]:
    """(step, value) of the rows that hold the metric, thinned to what a picture can show."""
    rows = result.run.read_metrics()
    points = [(row["global_step"], row[metric]) for row in rows if is_number(row.get(metric))]
    stride = -(-len(points) // MAX_POINTS)
    return points[:: max(1, stride)]
