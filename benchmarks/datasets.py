"""Held-out quality on several sources of real slices, each trained at native size with the same preset.

    python -m benchmarks.datasets --mri FOLDER [--only NAME ...] [--steps 4000]

FOLDER holds one folder a source (SOURCES below), with ``train`` and ``test`` in each. For every source: pack, verify,
train, evaluate on test, reconstruct. Writes docs/results/datasets_STEPS.json and a picture a source, and prints the
table; a picture shows reconstructions above their error maps (never originals).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import ROOT, provenance

SOURCES = {
    "ds002748_png": "test",
    "ds002748_t1w_nifti": "test",
    "oasis_trt20_2d_nifti": "test",
    "figshare1512427_t1c_jpg512": "test",
}
"""Folders that are trained on, and the split that is scored."""

CROSS_SCANNER = ("sag_anon_mprage_dicom", "ds002748_png")
"""A folder of one subject, scored whole (--split all) with the model trained on another source."""

PICTURED = 4


def main() -> None:
    """Measure, print the table, and write docs/results/datasets_STEPS.json and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mri", type=Path, required=True, help="folder of sources")
    parser.add_argument("--only", nargs="*", default=[*SOURCES, CROSS_SCANNER[0]])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--runs", type=Path, default=Path("runs/datasets"), help="where runs go (not committed)")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results", help="where figures and pictures go")
    options = parser.parse_args()
    file = options.results / f"datasets_{options.steps}.json"
    rows: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for name in options.only:
        rows[name] = measure(name, options.mri, options.runs, options.steps, options.results / "pictures")
        file.write_text(json.dumps(rows, indent=2, sort_keys=True) + "\n")
    print(table(rows))


def measure(name: str, mri: Path, runs: Path, steps: int, pictures: Path) -> dict[str, Any]:
    """Pack, train (or take the other source's model), evaluate and picture one source."""
    packed, split = runs / f"{name}.h5", SOURCES.get(name, "all")
    sources = [CROSS_SCANNER[1], name] if name == CROSS_SCANNER[0] else [name]
    run = runs / sources[0]
    call("data_tools", "pack", mri / name, "--output", packed, "--overwrite")
    call("data_tools", "verify", packed)
    training = [
        "train-vqvae", "--preset", "full_resolution", "--data.path", packed, "--output-dir", run,
        "--schedule.batch-size", 8, "--schedule.steps", steps,
    ]  # fmt: skip
    if run.name == name:
        call("vqvae_dist", *training, "--tracking.mode", "disabled")
    scores = run / f"{name}-{split}"
    call("vqvae_dist", "evaluate", "--run", run, "--data", packed, "--split", split, "--output", scores, "--overwrite")
    call(
        "vqvae_dist", "reconstruct", "--run", run, "--data", packed, "--split", split, "--output", scores, "--overwrite"
    )
    picture(scores, pictures / f"{name}.png")
    metrics = json.loads((scores / "metrics.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    kept = ("split", "slices", "subjects", "ci_unit", "dead_slices", "ssim", "ssim_foreground", "psnr", "mse", "rate",
            "codebook", "baselines")  # fmt: skip
    return {
        "metrics": {key: metrics[key] for key in kept},
        "trained_on": run.name,
        "training": {key: summary[key] for key in ("steps", "seconds", "slices_per_second", "precision", "compile")},
        **provenance(f"python -m benchmarks.datasets --mri MRI --steps {steps} --only {' '.join(sources)}"),
    }


def call(package: str, *words: object) -> None:
    """Run a command of the suite; its failure ends the measurement."""
    subprocess.run([sys.executable, "-m", package, *map(str, words)], check=True)


def picture(scores: Path, target: Path) -> None:
    """Put reconstructions above their error maps, a row each, from the single pictures of ``reconstruct``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    found = sorted(scores.glob("*/*reconstruction*.png"))[:PICTURED]
    columns = []
    for path in found:
        error = next(path.parent.glob(path.name.replace("reconstruction", "error").replace(".png", "*.png")))
        columns.append(np.vstack([np.asarray(Image.open(path)), np.asarray(Image.open(error))]))
    height = max(column.shape[0] for column in columns)
    padded = [np.pad(column, ((0, height - column.shape[0]), (0, 2))) for column in columns]
    Image.fromarray(np.hstack(padded)).save(target, optimize=True)


def table(rows: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    head = (
        "| source | trained on | split | slices (subjects) | foreground SSIM [95 % CI] | worst | SSIM | PSNR | "
        "context bit/pixel | codes used | dead |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(_row(name, row) for name, row in rows.items())


def _row(name: str, row: dict[str, Any]) -> str:
    m = row["metrics"]
    inside = m["ssim_foreground"]
    interval = "[{:.3f}, {:.3f}] by {}".format(*inside["ci95"], m["ci_unit"]) if inside["ci95"] else "[one subject]"
    cells = [
        name,
        row["trained_on"],
        m["split"],
        f"{m['slices']} ({m['subjects']})",
        f"{inside['mean']:.3f} {interval}",
        f"{inside['min']:.3f}",
        f"{m['ssim']['mean']:.3f}",
        f"{m['psnr']['mean']:.1f}",
        _rate(m["rate"]["context_bpp"]),
        f"{100 * m['codebook']['usage']:.0f} %",
        str(m["dead_slices"]),
    ]
    return "| " + " | ".join(cells) + " |\n"


def _rate(value: float | None) -> str:
    """Bits a pixel; a model scored on another source's slices has no training codes of that source to count."""
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
