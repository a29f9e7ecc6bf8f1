"""What the benchmarks of quality share: commands of the suite that are not repeated, figures over seeds, results.

A training or evaluation that exists is not made again, so every script goes on where it stopped. One of another length
or of other weights is no such: it is made anew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, provenance
from data_tools.slicefile import SliceReader

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["vqvae_dist.training.vqvae", "vqvae_dist.training.pixelcnn"])


def command(*words: object, builder: Callable[..., Any] | None = None) -> None:
    """Run ``python -m vqvae_dist WORDS`` in a process of its own; its failure ends the measurement.

    ``builder``, named ``build_vqvae`` or ``build_pixelcnn``, takes the place of the suite's function of that name.
    """
    process = _processes.Process(target=_run, args=([str(word) for word in words], builder))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"vqvae_dist {' '.join(map(str, words))}: exit status {process.exitcode}")


def _run(words: list[str], builder: Callable[..., Any] | None) -> None:
    from vqvae_dist.cli import main

    if builder is not None:  # everything else stays the suite's: order, schedule, averages, checkpoints, export
        for name in ("training.vqvae", "training.pixelcnn", "inference.load"):
            module = import_module(f"vqvae_dist.{name}")
            if hasattr(module, builder.__name__):
                setattr(module, builder.__name__, builder)
    sys.exit(main(words))


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Dotted settings as command line flags."""
    words = []
    for key, value in settings.items():
        *tables, name = key.replace("_", "-").split(".")
        if isinstance(value, bool):
            words.append("--" + ".".join([*tables, name if value else f"no-{name}"]))
        else:
            words += [
                "--" + ".".join([*tables, name]),
                *map(str, value if isinstance(value, list | tuple) else [value]),
            ]
    return words


def train(stage: str, run: Path, settings: Mapping[str, Any], *, preset: str) -> dict[str, Any]:
    """Train into ``run``, or go on with it, or leave it as it is if completed; return its summary.

    The suite itself says which, and refuses a run of other settings. It would extend one of fewer steps, whose
    milestones stay where they were: such a one is put aside.
    """
    settings = {"tracking.mode": "disabled", **settings}
    before = planned_steps(run)
    words = ["--fresh"] if before not in (None, settings.get("schedule.steps", before)) else []
    command(stage, "--preset", preset, "--output-dir", run, *flags(settings), *words)
    return dict(json.loads((run / "summary.json").read_text()))


def planned_steps(run: Path) -> int | None:
    """``schedule.steps`` of the run that there is; None for none."""
    file = run / "config.json"
    return json.loads(file.read_text())["settings"]["schedule"]["steps"] if file.is_file() else None


def evaluate(
    run: Path,
    data: Path,
    split: str,
    *,
    pixelcnn: Path | None = None,
    reference_draws: int = 5,
) -> dict[str, Any]:
    """The metrics.json of a run on a split, made if this was not scored yet; test is looked at once a model."""
    output = run / f"evaluate-{'prior-' if pixelcnn else ''}{split}"
    file, said = output / "metrics.json", output.with_suffix(".asked.json")
    models = [json.loads((one / "model" / "config.json").read_text()) for one in (run, pixelcnn) if one]
    asked = [SliceReader(data).digest, reference_draws, *(model["weights_sha256"] for model in models)]
    if not (file.is_file() and said.is_file() and json.loads(said.read_text()) == asked):
        said.unlink(missing_ok=True)
        prior = ["--pixelcnn", pixelcnn, "--reference-draws", reference_draws] if pixelcnn else []
        words = ["--run", run, "--data", data, "--split", split, "--output", output, "--overwrite", *prior]
        command("evaluate", *words)
        said.write_text(json.dumps(asked))
    return dict(json.loads(file.read_text()))


class MeanSd(dict[str, Any]):
    """Mean, standard deviation and the values of a figure over seeds; as JSON has it."""

    def __init__(self, values: Sequence[float]) -> None:
        sd = statistics.stdev(values) if len(values) > 1 else None
        super().__init__(mean=statistics.fmean(values), sd=sd, values=list(values))

    def __str__(self) -> str:
        return f"{self['mean']:.4g}" + ("" if self["sd"] is None else f" ± {self['sd']:.2g}")


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join("–" if cell is None else str(cell) for cell in line) + " |\n" for line in lines)


def save_figure(figure: Any, target: Path) -> None:
    """Write a matplotlib figure of curves, with legend and grid."""
    (axes,) = figure.axes
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120, metadata={"Software": None})


def parser(about: str | None, *, name: str, steps: int) -> argparse.ArgumentParser:
    """The flags that all these scripts take."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.set_defaults(benchmark=name)
    made.add_argument("--data", type=Path, required=True, help="packed slices")
    made.add_argument("--runs", type=Path, default=Path("runs") / name, help="where runs go (not committed)")
    made.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / f"{name}.json")
    made.add_argument("--preset", default="full_resolution", help="settings to start from")
    made.add_argument("--steps", type=int, default=steps, help="optimizer steps of a VQ-VAE")
    made.add_argument("--set", nargs="*", default=[], metavar="KEY=JSON", type=setting, help="further settings")
    return made


def setting(text: str) -> tuple[str, Any]:
    """Read ``KEY=JSON``; what is no JSON is text."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def base_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that all VQ-VAEs of a script have."""
    return {
        "data.path": options.data, "schedule.batch_size": 8, "schedule.steps": options.steps, **dict(options.set)
    }  # fmt: skip


def provenance_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures of this script's call stand beside."""
    return provenance(" ".join(["python -m", f"benchmarks.{options.benchmark}", *sys.argv[1:]]))


def rows_before(options: argparse.Namespace) -> dict[str, Any]:
    """Rows that earlier calls wrote, for scripts whose rows are measured a few at a time."""
    if not options.output.is_file():
        return {}
    return dict(json.loads(options.output.read_text(), object_hook=_figure)["rows"])


def _figure(read: dict[str, Any]) -> dict[str, Any]:
    return MeanSd(read["values"]) if read.keys() == {"mean", "sd", "values"} else read


def save(options: argparse.Namespace, rows: Any) -> None:
    """Write a script's results with what they stand beside."""
    content = {"rows": rows, **provenance_of(options)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=2, sort_keys=True, default=str) + "\n")
