"""What each choice of the preset is worth: it, and it with one change at a time, over seeds.

    python -m benchmarks.ablation --data brain.h5 [--steps 4000] [--seeds 0 1 2] [--only NAME ...] [--test]

Figures are of validate, where choices are made. ``--test`` also scores the test slices, once for each trained model:
for the table that is committed. Runs that exist are not repeated, and rows of earlier calls are kept, so more can be
added any time.
Writes docs/results/ablation.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.suite import MeanSd, base_settings, evaluate, markdown, parser, provenance_of, rows_before, save, train

CHANGES: dict[str, dict[str, Any]] = {
    "preset": {},
    "mse_alone": {"loss.ssim": 0.0},
    "ssim_0.01": {"loss.ssim": 0.01},
    "ssim_0.03": {"loss.ssim": 0.03},
    "ssim_0.3": {"loss.ssim": 0.3},
    "edges_0.1": {"loss.edges": 0.1},
    "l1_for_mse": {"loss.mse": 0.0, "loss.l1": 1.0},
    "l1_for_mse_small": {"loss.mse": 0.0, "loss.l1": 0.1},
    "whole_slices": {"data.crop": 0},
    "crop_96": {"data.crop": 96},
    "flips": {"data.augment": "flip"},
    "no_decay": {"optim.gamma": 1.0},
    "no_warmup": {"optim.warmup": 0},
    "lr_1e-3": {"optim.lr": 1e-3},
    "lr_4e-3": {"optim.lr": 4e-3},
    "beta2_0.999": {"optim.betas": [0.9, 0.999]},
    "beta2_0.99": {"optim.betas": [0.9, 0.99]},
    "clip_0.5": {"optim.gradient_clip": 0.5},
    "averaged_weights": {"model.ema": 0.998},
    "residual_hidden_32": {"model.residual_hidden": 32},
    "residual_hidden_128": {"model.residual_hidden": 128},
    "residual_layers_2": {"model.residual_layers": 2},
    "residual_layers_4": {"model.residual_layers": 4},
    "residual_layers_6": {"model.residual_layers": 6},
    "layer_norm": {"model.norm": "layer"},
    "strided": {"model.stem": "strided", "model.upsample": "transpose"},
    "stem_strided": {"model.stem": "strided"},
    "upsample_transpose": {"model.upsample": "transpose"},
    "upsample_shuffle": {"model.upsample": "shuffle"},
    "upsample_nearest": {"model.upsample": "nearest"},
    "commitment_0.05": {"model.quantizer.commitment": 0.05},
    "commitment_1": {"model.quantizer.commitment": 1.0},
    "codes_from_data": {"model.quantizer.init": "data"},
    "codes_from_noise": {"model.quantizer.init": "normal", "model.quantizer.init_after": 0},
    "no_revival": {"model.quantizer.revive_below": 0.0},
    "code_decay_0.95": {"model.quantizer.decay": 0.95},
    "code_decay_0.99": {"model.quantizer.decay": 0.99},
    "nearest_code": {"model.quantizer.rate": 0.0},
    "rate_0.3": {"model.quantizer.rate": 0.3},
    "rotation": {"model.quantizer.gradient": "rotation"},
    "cosine": {"model.quantizer.distance": "cosine"},
    "gradient_codebook": {"model.quantizer.kind": "gradient"},
    "fsq_8x8x8": {"model.quantizer.kind": "fsq", "model.code_dim": 3},
}
"""Rows of the table: named changes of the preset's settings."""

FIGURES = ("ssim_foreground", "ssim", "psnr", "usage", "perplexity_foreground", "black_error", "context_bpp")


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, print the table and write the results."""
    made = parser(__doc__, name="ablation", steps=4000)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--only", nargs="+", choices=[*CHANGES], default=[*CHANGES], help="rows; preset comes with them")
    made.add_argument("--test", action="store_true", help="score the test slices too")
    options = made.parse_args(arguments)
    rows = rows_before(options)
    for name in dict.fromkeys(["preset", *options.only]):
        rows[name] = {**measure(options, name), **provenance_of(options)}
        rows[name]["gain"] = paired(rows[name], rows["preset"])
        save(options, rows)
        print(table(rows), flush=True)


def measure(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Train a row's seeds and sum up their best validations, and their test scores if asked."""
    validated, tested, seconds = [], [], []
    for seed in options.seeds:
        run = options.runs / f"{name}_seed{seed}"
        settings = {**base_settings(options), "seed": seed, **CHANGES[name]}
        summary = train("train-vqvae", run, settings, preset=options.preset)
        rate = evaluate(run, options.data, "validate")["rate"]
        validated.append({**at_step(run, summary["best"]["step"]), "context_bpp": rate["context_bpp"]})
        seconds.append(summary["seconds"])
        if options.test:
            tested.append(evaluate(run, options.data, "test"))
    return {
        "changes": CHANGES[name],
        "seeds": options.seeds,
        "validate": {figure: MeanSd([one[figure] for one in validated]) for figure in FIGURES},
        "test": test_figures(tested) if tested else None,
        "seconds": MeanSd(seconds),
    }


def test_figures(tested: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and the worst slice of all."""
    means = {name: MeanSd([one[name]["mean"] for one in tested]) for name in ("ssim_foreground", "ssim", "psnr")}
    return {**means, "worst": min(one["ssim_foreground"]["min"] for one in tested)}


def at_step(run: Path, step: int) -> dict[str, float]:
    """The validation of a step."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = next(row for row in rows if row["global_step"] == step and "validate/ssim" in row)
    return {name.removeprefix("validate/"): value for name, value in found.items() if name.startswith("validate/")}


def paired(row: dict[str, Any], preset: dict[str, Any]) -> MeanSd:
    """Foreground SSIM above the preset's of the same seed, on validate."""
    own, other = (one["validate"]["ssim_foreground"]["values"] for one in (row, preset))
    return MeanSd([a - b for a, b in zip(own, other, strict=True)])


def table(rows: dict[str, Any]) -> str:
    """Means ± standard deviations over seeds."""
    figures = ("ssim_foreground", "ssim", "psnr", "usage", "context_bpp")
    head = ["change", *(f"validate {name}" for name in figures), "gain (paired)", "test ssim_foreground", "test ssim"]
    lines = []
    for name, row in rows.items():
        test = [row["test"][figure] for figure in figures[:2]] if row["test"] else [None, None]
        lines.append([name, *(row["validate"].get(figure) for figure in figures), row["gain"], *test])
    return markdown(head, lines)


if __name__ == "__main__":
    main()
