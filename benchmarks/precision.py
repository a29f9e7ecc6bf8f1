"""Whether half precision is free: with equal weights, and trained from scratch.

    python -m benchmarks.precision --data brain.h5 [--steps 4000] [--seeds 0 1 2]

For each seed the same training in float32 and bfloat16 (and float16 on CUDA), then: the held-out MSE of each beside
float32's of the same seed; and the float32 model's encoder and decoder under autocast, which codes it still chooses
and what that does to the reconstruction. The quantizer itself computes in float32 whatever the toggle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.suite import MeanSd, base_settings, evaluate, markdown, parser, save, train
from data_tools.slicefile import SliceReader
from vqvae_dist.inference.load import LoadedVQVAE, load_vqvae
from vqvae_dist.inference.slices import batches, rows_of_split
from vqvae_dist.metrics.codebook import foreground_cells
from vqvae_dist.metrics.image import foreground_mask

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def main(arguments: list[str] | None = None) -> None:
    """Train, compare, print both tables and write docs/results/precision.json."""
    made = parser(__doc__, name="precision", steps=4000)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--split", default="test")
    options = made.parse_args(arguments)
    toggles = ["no", "bf16", *(["fp16"] if torch.cuda.is_available() else [])]
    runs = {(toggle, seed): options.runs / f"{toggle}_seed{seed}" for toggle in toggles for seed in options.seeds}
    for (toggle, seed), run in runs.items():
        settings = {**base_settings(options), "seed": seed, "precision.mixed": toggle}
        train("train-vqvae", run, settings, preset=options.preset)
    scores = {key: evaluate(run, options.data, options.split) for key, run in runs.items()}
    reader = SliceReader(options.data)
    models = [load_vqvae(runs["no", seed]) for seed in options.seeds]
    rows = {
        "trained": {toggle: trained(scores, toggle, options.seeds) for toggle in toggles},
        "equal_weights": {toggle: equal_weights(models, reader, options.split, toggle) for toggle in AUTOCAST},
    }
    save(options, rows)
    print(tables(rows))


def trained(scores: dict[tuple[str, int], Any], toggle: str, seeds: list[int]) -> dict[str, Any]:
    """Held-out figures of one precision, and its MSE over float32's of the same seed."""
    own, single = ([scores[name, seed] for seed in seeds] for name in (toggle, "no"))
    return {
        "mse_over_float32": MeanSd([a["mse"]["mean"] / b["mse"]["mean"] for a, b in zip(own, single, strict=True)]),
        **{name: MeanSd([score[name]["mean"] for score in own]) for name in ("mse", "ssim", "ssim_foreground")},
    }


def equal_weights(models: list[LoadedVQVAE], reader: SliceReader, split: str, toggle: str) -> dict[str, Any]:
    """What autocast changes in trained models, over seeds."""
    found = [agreement(model, reader, split, AUTOCAST[toggle]) for model in models]
    return {name: MeanSd([one[name] for one in found]) for name in found[0]}


@torch.inference_mode()
def agreement(vqvae: LoadedVQVAE, reader: SliceReader, split: str, dtype: torch.dtype) -> dict[str, float]:
    """Shares of codes (all, foreground) that are equal under autocast, and the MSE over float32's."""
    model, same, errors = vqvae.model, np.zeros((2, 2)), np.zeros(2)  # (all, foreground) x (equal, cells)
    for group, rows, images in batches(reader, rows_of_split(reader, split)):
        images = images.to(vqvae.device)
        single = model(images)
        with torch.autocast(vqvae.device.type, dtype=dtype):
            half = model(images)
        equal = (single.codes == half.codes).cpu().numpy()
        noisy = reader.index(group.name).noisy_air[rows]
        masks = [foreground_mask(i[0].cpu().numpy(), bool(air)) for i, air in zip(images, noisy, strict=True)]
        inside = np.stack([foreground_cells(mask, model.downsample) for mask in masks])
        same += [[equal.sum(), equal.size], [equal[inside].sum(), inside.sum()]]
        errors += [float((o.reconstruction.float().clamp(0, 1) - images).square().sum()) for o in (half, single)]
    (everywhere, head), ratio = same[:, 0] / same[:, 1], errors[0] / errors[1]
    return {"equal_codes": everywhere, "equal_codes_foreground": head, "mse_over_float32": ratio}


def tables(rows: dict[str, Any]) -> str:
    """Both tables as Markdown."""
    names = ("mse_over_float32", "mse", "ssim", "ssim_foreground")
    first = markdown(["trained in", *names], [[t, *(row[n] for n in names)] for t, row in rows["trained"].items()])
    shares = ("equal_codes", "equal_codes_foreground", "mse_over_float32")
    equal = [[t, *(row[n] for n in shares)] for t, row in rows["equal_weights"].items()]
    return f"{first}\n{markdown(['equal weights in', *shares], equal)}"


if __name__ == "__main__":
    main()
