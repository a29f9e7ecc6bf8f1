"""The prior beside simpler models of the same codes, and its samples beside real slices.

    python -m benchmarks.prior --data brain.h5 --steps 1500 --set model.downsample=8 --views 8 --prior-steps 3000 \\
        --prior-set model.layers=10 model.hidden=64 model.attention=5 model.ema=0.995     (CPU: 36x36 codes)
    python -m benchmarks.prior --data brain.h5 --vqvae RUN --views 16 --prior-steps 20000 \\
        --prior-set model.layers=16 model.hidden=192 model.attention=4 model.ema=0.999    (GPU: 72x72 codes)

Trains a VQ-VAE (or takes one), extracts its codes once, and trains on them: our prior; it without the slice's position;
without coordinates; an unconditional PixelCNN without dilation and attention; one masked stack with our conditions.
Beside them the fixed left-and-above count model, on the slices as they are and on all views. All are chosen on
validate and charged once for the test slices' codes: bits a code inside the head and outside, and by subject.
Writes docs/results/prior.json and docs/results/pictures/samples.png.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.suite import base_settings, command, evaluate, markdown, parser, save, setting, train
from vqvae_dist.data.code_batches import CodesBatch, labelled
from vqvae_dist.data.codes import CodesReader
from vqvae_dist.inference.load import load_pixelcnn
from vqvae_dist.metrics.rate import ContextModel
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.prior import Prior, code_nll

VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "without_position": {"model.condition_position": False},
    "without_coordinates": {"model.condition_coordinates": False},
    "unconditional": {
        "model.condition_position": False, "model.condition_coordinates": False,
        "model.dilations": [1], "model.attention": 0,
    },
    "single_stack": {"model.kind": "single_stack"},
}  # fmt: skip

Bits = Callable[[CodesBatch], NDArray[np.float64]]
"""Gives the bits (b, h, w) of code maps under a model."""


def main(arguments: list[str] | None = None) -> None:
    """Train, charge, print the table and write the results."""
    made = parser(__doc__, name="prior", steps=1500)
    made.add_argument("--vqvae", type=Path, help="a trained VQ-VAE instead of --steps")
    made.add_argument("--views", type=int, default=8)
    made.add_argument("--prior-preset", default="pixelcnn")
    made.add_argument("--prior-steps", type=int, default=3000)
    made.add_argument("--prior-set", nargs="*", default=[], metavar="KEY=JSON", type=setting)
    made.add_argument("--only", nargs="+", choices=[*VARIANTS], default=[*VARIANTS], help="ours comes with them")
    made.add_argument("--reference-draws", type=int, default=200)
    options = made.parse_args(arguments)
    vqvae, codes = options.vqvae or options.runs / "vqvae", options.runs / "codes.h5"
    if options.vqvae is None:
        train("train-vqvae", vqvae, base_settings(options), preset=options.preset)
    command("extract-codes", "--run", vqvae, "--data", options.data, "--output", codes, "--views", options.views)
    trained = list(dict.fromkeys(["ours", *options.only]))
    for name in trained:
        changes = VARIANTS[name]
        settings = {"data.path": codes, "schedule.steps": options.prior_steps, **dict(options.prior_set), **changes}
        train("train-pixelcnn", options.runs / name, settings, preset=options.prior_preset)
    reader = CodesReader(codes)
    rows = {name: charge(reader, model) for name, model in models(reader, options.runs, trained).items()}
    metrics = evaluate(
        vqvae, options.data, "test", pixelcnn=options.runs / "ours", reference_draws=options.reference_draws
    )
    picture = options.output.parent / "pictures" / "samples.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(vqvae / "evaluate-prior-test" / "samples.png", picture)
    ceiling = {name: metrics[name]["mean"] for name in ("ssim", "ssim_foreground", "psnr")}
    save(options, {"models": rows, "samples": metrics["prior"], "reconstruction": ceiling, "rate": metrics["rate"]})
    print(table(rows))


def models(reader: CodesReader, runs: Path, trained: Sequence[str]) -> dict[str, Bits]:
    """The trained models and the count models, ready to charge codes."""
    made: dict[str, Bits] = {}
    for name in trained:
        made[name] = prior_bits(load_pixelcnn(runs / name).model)
    for name, views in (("left_and_above", False), ("left_and_above_all_views", True)):
        maps = (reader.codes(group.name, reader.rows(group.name, "train", views=views)) for group in reader.groups)
        made[name] = context_bits(ContextModel.fit(maps, reader.codebook_size))
    return made


def prior_bits(model: Prior) -> Bits:
    """Charge under a trained prior."""
    device = next(model.parameters()).device

    @torch.inference_mode()
    def bits(batch: CodesBatch) -> NDArray[np.float64]:
        codes, position, label, flipped = (tensor.to(device) for tensor in batch[:4])
        nll: Tensor = code_nll(model(codes, Condition(position, label, flipped)), codes)
        return np.asarray(nll.double().cpu().numpy() / math.log(2))

    return bits


def context_bits(model: ContextModel) -> Bits:
    """Charge under the fixed count model."""
    return lambda batch: model.bits(batch.codes.numpy())


def charge(reader: CodesReader, bits: Bits, split: str = "test") -> dict[str, Any]:
    """Bits a code of a split, in the head and outside, and in the head by subject."""
    totals: dict[str, NDArray[np.float64]] = {}
    for group in reader.groups:
        for row in reader.rows(group.name, split, views=False):
            one = np.array([row])
            batch = labelled(reader, group, one, reader.codes(group.name, one), torch.zeros(1, dtype=torch.int64))
            cost, inside = bits(batch)[0], reader.foreground(group.name, one)[0]
            sums = [cost[inside].sum(), inside.sum(), cost[~inside].sum(), (~inside).sum()]
            subject = reader.subjects[reader.index(group.name).subject[row]]
            totals[subject] = totals.get(subject, np.zeros(4)) + sums
    head, cells, air, air_cells = np.sum(list(totals.values()), axis=0)
    return {
        "foreground": head / cells,
        "background": air / air_cells if air_cells else None,
        "all": (head + air) / (cells + air_cells),
        "subjects": {subject: sums[0] / sums[1] for subject, sums in totals.items()},
    }


def table(rows: dict[str, Any]) -> str:
    """Bits a code, what ours saves, and in how many subjects."""
    ours = rows["ours"]
    lines = []
    for name, row in rows.items():
        better = sum(ours["subjects"][subject] < bits for subject, bits in row["subjects"].items())
        saved = f"{100 * (1 - ours['foreground'] / row['foreground']):.1f} %"
        outside = None if row["background"] is None else f"{row['background']:.3f}"
        bits = [f"{row['foreground']:.3f}", outside, f"{row['all']:.3f}"]
        lines.append([name, *bits, saved, f"{better} of {len(row['subjects'])}"])
    return markdown(["model", "foreground", "background", "all", "ours saves", "in subjects"], lines)


if __name__ == "__main__":
    main()
