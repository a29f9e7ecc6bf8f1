"""A synthetic lesion in held-out slices: does the prior's likelihood map show where it is?

    python -m data_tools phantom runs/heads --subjects 60 --slices 12 --size 96
    python -m data_tools pack runs/heads --output runs/heads.h5
    python -m benchmarks.lesion --data runs/heads.h5 --preset smoke --steps 600 --prior-steps 600

Trains a VQ-VAE and a prior on slices without lesions, paints a ball of another brightness into each test slice, and
scores the codes. AUROC: how often a cell of the lesion is less likely than another cell of the head in the same
slice (0.5 is chance), beside the same cells of the same slices without it. Writes docs/results/lesion.json and
docs/results/pictures/lesion.png: reconstructions with a lesion above their maps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from benchmarks.suite import MeanSd, base_settings, command, markdown, parser, save, setting, train
from data_tools.slicefile import SliceReader
from vqvae_dist.inference.likelihood import surprise_image
from vqvae_dist.inference.load import LoadedPixelCNN, LoadedVQVAE
from vqvae_dist.inference.prior import code_bits, load_pair, slice_condition
from vqvae_dist.inference.slices import batches, rows_of_split
from vqvae_dist.metrics.codebook import foreground_cells
from vqvae_dist.metrics.image import foreground_mask
from vqvae_dist.pictures import comparison_picture, save_picture

RADIUS = 0.1
"""Of the lesion, as a share of the slice's shorter side."""

PICTURED = 8


def main(arguments: list[str] | None = None) -> None:
    """Train, paint, score, print the table and write the results."""
    made = parser(__doc__, name="lesion", steps=600)
    made.add_argument("--prior-steps", type=int, default=600)
    made.add_argument("--prior-set", nargs="*", default=[], metavar="KEY=JSON", type=setting)
    options = made.parse_args(arguments)
    vqvae, codes, prior = (options.runs / name for name in ("vqvae", "codes.h5", "prior"))
    train("train-vqvae", vqvae, base_settings(options), preset=options.preset)
    command("extract-codes", "--run", vqvae, "--data", options.data, "--output", codes, "--views", 4)
    settings = {"data.path": codes, "schedule.steps": options.prior_steps, "model.layers": 6, "model.hidden": 48}
    settings |= dict(options.prior_set)
    train("train-pixelcnn", prior, settings, preset="pixelcnn")
    cases, maps = score(*load_pair(vqvae, prior), SliceReader(options.data))
    picture = options.output.parent / "pictures" / "lesion.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    save_picture(picture, comparison_picture(*maps))
    rows = {name: MeanSd([getattr(case, name) for case in cases]) for name in Case._fields}
    save(options, {"slices": len(cases), **rows})
    print(markdown(["figure", "mean ± sd over slices"], [[name, str(row)] for name, row in rows.items()]))


class Case(NamedTuple):
    """A slice with a lesion, and without."""

    auroc: float
    auroc_without: float
    bits: float
    """Mean of the lesion's cells."""
    bits_without: float
    """Of the same cells without the lesion."""


@torch.inference_mode()
def score(vqvae: LoadedVQVAE, prior: LoadedPixelCNN, reader: SliceReader) -> tuple[list[Case], tuple[Tensor, Tensor]]:
    """Every test slice with room for a lesion; and the first few as reconstructions and maps."""
    cases: list[Case] = []
    shown: list[tuple[Tensor, Tensor]] = []
    d = vqvae.config.downsample
    for group, rows, images in batches(reader, rows_of_split(reader, "test")):
        noisy = reader.index(group.name).noisy_air[rows]
        for row, image, air in zip(rows, images[:, 0].numpy(), noisy, strict=True):
            head = foreground_mask(image, bool(air))
            painted, lesion = with_lesion(image, head, seed=int(row))
            inside, hit = foreground_cells(head, d), foreground_cells(lesion, d)
            if not lesion.any():
                continue
            pair = torch.from_numpy(np.stack([painted, image]))[:, None].to(vqvae.device)
            codes = vqvae.model.encode(pair)
            condition = slice_condition(reader, group.name, np.array([row, row]), classes=prior.classes)
            ill, well = code_bits(prior, codes, condition)
            cases.append(
                Case(auroc(ill[hit], ill[inside & ~hit]), auroc(well[hit], well[inside & ~hit]),
                     float(ill[hit].mean()), float(well[hit].mean()))
            )  # fmt: skip
            size = image.shape[0], image.shape[1]
            shown.append((vqvae.model.decode(codes[:1], size).cpu().clamp(0, 1), surprise_image(ill, vqvae, size)))
    first = [pair for pair in shown if pair[0].shape == shown[0][0].shape]
    chosen = [first[i] for i in np.linspace(0, len(first) - 1, min(PICTURED, len(first))).astype(int)]
    return cases, (torch.cat([a for a, _ in chosen]), torch.cat([b for _, b in chosen]))


def with_lesion(
    image: NDArray[np.float32], head: NDArray[np.bool_], *, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Paint a bright ball with a dark rim well inside the head of (H, W); return it and where it is (or nowhere)."""
    from scipy.ndimage import distance_transform_edt

    radius = RADIUS * min(image.shape)
    depth = distance_transform_edt(head)
    room = np.argwhere(depth > 1.5 * radius)
    if not len(room):
        return image, np.zeros_like(head)
    row, column = room[np.random.default_rng(seed).integers(len(room))]
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(y - row, x - column) / radius
    ball = np.where(distance < 0.7, 0.95, 0.05).astype(np.float32)
    lesion = distance < 1
    return np.where(lesion, ball, image), lesion


def auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Probability that one of ``positive`` is above one of ``negative``, ties half (Mann-Whitney U)."""
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


if __name__ == "__main__":
    main()
