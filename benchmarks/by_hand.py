"""The sweep that the original recipe tried by hand, learning rates x milestones, through ``jobs submit``.

    python -m benchmarks.by_hand --data brain.h5 [--steps 4000] [--further-lr 2e-3]

Runs docs/sweeps/by_hand.toml on this machine, with --further-lr (the preset's) beside its learning rates; given again,
it goes on where it stopped. The members are compared on validate, and the pipeline scores the best on test.
Writes docs/results/by_hand.json and docs/results/pictures/by_hand.png.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.ablation import at_step
from benchmarks.machine import ROOT
from benchmarks.suite import markdown, parser, save, save_figure
from jobs.setting_text import value_text

SWEEP = ROOT / "docs" / "sweeps" / "by_hand.toml"
FIGURES = ("ssim_foreground", "ssim", "psnr", "usage")


def main(arguments: list[str] | None = None) -> None:
    """Run the sweep, print its table and write the results."""
    made = parser(__doc__, name="by_hand", steps=4000)
    made.add_argument("--further-lr", type=float, nargs="*", default=[2e-3])
    options = made.parse_args(arguments)
    sweep = tomllib.loads(SWEEP.read_text())
    sweep["name"] += f"-{options.steps}"  # members of another length are another sweep
    sweep["base"] = options.preset
    sweep["set"] |= {"data.path": str(options.data.resolve()), "schedule.steps": options.steps, **dict(options.set)}
    sweep["grid"]["optim.lr"] += options.further_lr
    options.runs.mkdir(parents=True, exist_ok=True)
    file = options.runs / SWEEP.name
    file.write_text(toml(sweep))
    jobs("submit", file, "--root", options.runs)
    folder = options.runs / sweep["name"]
    rows = [member(path) for path in sorted((folder / "runs").iterdir())]
    (evaluated,) = (folder / "pipeline").glob("*/evaluate/metrics.json")
    tested = json.loads(evaluated.read_text())
    test = {name: tested[name]["mean"] for name in FIGURES[:3]}
    save(options, {"members": rows, "best_on_test": test})
    print(table(rows))
    draw(rows, folder / "runs", options.output.parent / "pictures" / "by_hand.png")


def toml(sweep: Mapping[str, Any]) -> str:
    """Values and flat tables of them; numbers, texts and lists look in TOML as they do in JSON."""
    values = {name: value for name, value in sweep.items() if not isinstance(value, dict)}
    lines = list(assignments(values))
    for name, entries in sweep.items():
        if isinstance(entries, dict):
            lines += [f"[{name}]", *assignments(entries)]
    return "\n".join([*lines, ""])


def assignments(values: Mapping[str, Any]) -> Iterable[str]:
    """A line for each."""
    return (f"{json.dumps(name)} = {json.dumps(value)}" for name, value in values.items())


def jobs(*words: object) -> None:
    """Run ``python -m jobs WORDS``; its failure ends the measurement."""
    ended = subprocess.run([sys.executable, "-m", "jobs", *map(str, words)], cwd=ROOT, check=False)
    if ended.returncode:
        sys.exit(f"jobs {words[0]}: exit status {ended.returncode}")


def member(run: Path) -> dict[str, Any]:
    """Settings and best validation of a member."""
    settings = json.loads((run / "config.json").read_text())["settings"]["optim"]
    summary = json.loads((run / "summary.json").read_text())
    scores = at_step(run, summary["best"]["step"])
    return {
        "run_id": run.name,
        "lr": settings["lr"],
        "milestones": settings["milestones"],
        "best_step": summary["best"]["step"],
        "seconds": summary["seconds"],
        **{name: scores[name] for name in FIGURES},
    }


def metrics(run: Path) -> list[dict[str, Any]]:
    """Rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def table(rows: list[dict[str, Any]]) -> str:
    """Foreground SSIM on validate: a line for each learning rate, a column for each set of milestones."""
    columns = sorted({tuple(row["milestones"]) for row in rows})
    found = {(row["lr"], tuple(row["milestones"])): f"{row['ssim_foreground']:.4f}" for row in rows}
    lines = [
        [value_text(lr), *(found.get((lr, column)) for column in columns)]
        for lr in sorted({row["lr"] for row in rows}, reverse=True)
    ]
    return markdown(["lr", *(", ".join(map(str, column)) for column in columns)], lines)


def draw(rows: list[dict[str, Any]], runs: Path, target: Path) -> None:
    """The members' training losses: a colour for each learning rate, a kind of line for each set of milestones."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="training loss", yscale="log")
    rates, falls = sorted({row["lr"] for row in rows}), sorted({tuple(row["milestones"]) for row in rows})
    for row in rows:
        points = [(at["global_step"], at["train/loss"]) for at in metrics(runs / row["run_id"]) if "train/loss" in at]
        style = ("-", "--", ":", "-.")[falls.index(tuple(row["milestones"])) % 4]
        label = row["run_id"].rpartition("_")[0]
        axes.plot(*zip(*points, strict=True), style, color=f"C{rates.index(row['lr'])}", label=label, linewidth=1)
    save_figure(figure, target)


if __name__ == "__main__":
    main()
