"""``generate``: new slices, drawn from a prior and decoded by its VQ-VAE."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from tyro.conf import arg

from data_tools.console import UsageError, counted, progress, say
from data_tools.flags import RunPath, Switch
from vqvae_dist.counter_random import uniforms
from vqvae_dist.files import write_json
from vqvae_dist.inference.load import LoadedPixelCNN, LoadedVQVAE
from vqvae_dist.inference.output import staged_results
from vqvae_dist.inference.prior import load_pair
from vqvae_dist.inference.seeds import check_seed
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.draw import Filter
from vqvae_dist.models.sampling import sample
from vqvae_dist.pictures import grid_picture, save_picture

BATCH = 16
"""Samples drawn at once; always as many, since products of matrices round otherwise in batches of some other sizes.

Of batches of 1, 2, 3 and 15 the logits of a prior on a CPU differ in their last bits from those of 16, and a code that
falls the other way changes all that come after it.
"""

LIKE_TRAINING = "(default: as the training slices)"

CONDITION_STREAM = 7
"""Stream of ``counter_random`` that draws positions and classes."""


def generate(
    *,
    vqvae: RunPath,
    pixelcnn: RunPath,
    num_samples: int,
    output: Path,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    position: Annotated[float | None, arg(metavar="0..1", help_behavior_hint=LIKE_TRAINING)] = None,
    class_: Annotated[str | None, arg(name="class", metavar="CLASS", help_behavior_hint=LIKE_TRAINING)] = None,
    size: Annotated[str | None, arg(metavar="HxW", help_behavior_hint=LIKE_TRAINING)] = None,
    overwrite: Switch = False,
) -> None:
    """Draw new slices from a prior: a grid of all, and beside it a lossless grid and a picture of each.

    Args:
        vqvae: Run folder of the VQ-VAE.
        pixelcnn: Run folder of the prior over its codes.
        num_samples: How many; sample i is the same however many are drawn, so the cost comes in steps of 16.
        output: The grid, .jpg or .png, like Pic/PixelCNN_generate.jpg.
        seed: Another seed draws other slices.
        temperature: Below 1 favours likely codes.
        top_k: Draw each code among the k likeliest; 0 for all.
        top_p: Draw each code among the likeliest that hold this share of the probability.
        position: Where in the volume the slices lie, 0..1.
        class_: A class of the training slices, by name or number.
        size: Height x width in pixels, like 288x288.
        overwrite: Replace pictures that are there.
    """
    kept = checked_filter(temperature, top_k, top_p)
    check_seed(seed)
    if num_samples < 1:
        raise UsageError(f"--num-samples must be 1 or more, got {num_samples}")
    names = list(dict.fromkeys(path.name for path in output_files(output, 0).values()))
    images, prior = load_pair(vqvae, pixelcnn)
    pixels = parse_size(size) if size else tuple(prior.description["size"])
    condition = conditions(prior, num_samples, seed=seed, position=position, class_name=class_)
    with staged_results(output.parent, names, overwrite=overwrite, asked=output.name) as staged:
        drawn = draw_slices(images, prior, condition, num_samples, size=pixels, seed=seed, kept=kept)
        files = output_files(staged / output.name, num_samples)
        save_pictures(files, drawn)
        settings = {"seed": seed, **kept._asdict(), "size": list(pixels)}
        write_json(files["record"], record(images, prior, condition, settings, num_samples))
    say(f"{output}: {counted(num_samples, 'slice')} of {pixels[0]}x{pixels[1]}; lossless in {output.with_suffix('')}")


def checked_filter(temperature: float, top_k: int, top_p: float) -> Filter:
    """The filter that the flags ask for; UsageError for what cannot be meant."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise UsageError(f"--temperature must be above 0, got {temperature}")
    if top_k < 0:
        raise UsageError(f"--top-k must be 0 (all codes) or more, got {top_k}")
    if not 0 < top_p <= 1:
        raise UsageError(f"--top-p must be above 0 and at most 1, got {top_p}")
    return Filter(temperature, top_k, top_p)


def output_files(output: Path, count: int) -> dict[str, Path]:
    """What is written, by name: the grid as asked, beside it the lossless grid, each sample, and last the settings."""
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"--output must end in .jpg or .png, got {output}")
    folder = output.with_suffix("")
    digits = max(2, len(str(count - 1)))
    samples = {f"sample {i}": folder / f"{i:0{digits}}.png" for i in range(count)}
    grids = {"grid": output, "lossless grid": output.with_suffix(".png")}
    return {"folder": folder, **samples, **grids, "record": output.with_suffix(".json")}


def save_pictures(files: Mapping[str, Path], drawn: Tensor) -> None:
    """Write slices (N, 1, H, W) as the grid, the lossless grid and each sample of ``output_files``."""
    grid = grid_picture(drawn, columns=math.ceil(math.sqrt(len(drawn))))
    for name in ("grid", "lossless grid"):
        save_picture(files[name], grid)
    for i, image in enumerate(drawn):
        save_picture(files[f"sample {i}"], grid_picture(image[None], columns=1))


def parse_size(text: str) -> tuple[int, int]:
    """``288x256`` as (height, width) in pixels."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise UsageError(f"--size must be HEIGHTxWIDTH in pixels, like 288x256, got {text}")
    return int(match[1]), int(match[2])


def conditions(
    prior: LoadedPixelCNN, count: int, *, seed: int, position: float | None, class_name: str | None
) -> Condition:
    """What is asked of ``count`` samples, rounded up to whole batches: given, or drawn as in the training slices."""
    if position is not None and not 0 <= position <= 1:
        raise UsageError(f"--position must be from 0 to 1, got {position}")
    samples = np.arange(-(-count // BATCH) * BATCH)
    u, v = uniforms(seed, CONDITION_STREAM, 2 * samples), uniforms(seed, CONDITION_STREAM, 2 * samples + 1)
    quantiles = prior.description["position_quantiles"]
    positions = np.interp(u, np.linspace(0, 1, len(quantiles)), quantiles) if position is None else position + 0 * u
    shares = np.cumsum(prior.description["label_counts"])
    labels = np.searchsorted(shares, v * shares[-1], side="right") - 1
    if class_name is not None:
        labels = np.full(len(samples), class_number(prior, class_name))
    return Condition(
        torch.from_numpy(positions.astype(np.float32)), torch.from_numpy(labels), torch.zeros(len(samples))
    )


def class_number(prior: LoadedPixelCNN, name: str) -> int:
    """The number of a class given by name or number; UsageError names those there are."""
    names = prior.classes if prior.config.condition_class else []
    if not names:
        raise UsageError("--class: this prior was trained without classes (model.condition_class)")
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise UsageError(f"--class {name}: no such class; there are {', '.join(names)}")


def draw_slices(
    images: LoadedVQVAE,
    prior: LoadedPixelCNN,
    condition: Condition,
    count: int,
    *,
    size: tuple[int, int],
    seed: int,
    kept: Filter,
) -> Tensor:
    """Draw whole batches of samples and decode those that are asked for, (count, 1, H, W) on the CPU."""
    grid, drawn = images.model.grid(size), []
    for first in range(0, count, BATCH):
        part = Condition(*(values[first : first + BATCH] for values in condition))
        last = min(first + BATCH, count)
        label = f"drawing samples {first + 1} to {last} of {count}"
        codes = sample(
            prior.model,
            grid=grid,
            condition=part,
            seed=seed,
            **kept._asdict(),
            first_sample=first,
            progress=partial(progress, total=grid[0], label=label),
        )
        with torch.inference_mode():
            drawn += [
                images.model.decode(code[None].to(images.device), size).float().cpu() for code in codes[: last - first]
            ]
    return torch.cat(drawn)


def record(
    images: LoadedVQVAE, prior: LoadedPixelCNN, condition: Condition, settings: dict[str, Any], count: int
) -> dict[str, Any]:
    """What was drawn, from what, so that it can be drawn again."""
    samples = zip(condition.position[:count].tolist(), condition.label[:count].tolist(), strict=True)
    return {
        **settings,
        "vqvae": {name: images.description[name] for name in ("run_id", "weights_sha256")},
        "pixelcnn": {name: prior.description[name] for name in ("run_id", "weights_sha256")},
        "samples": [
            {"position": where, "class": prior.classes[label] if label >= 0 else None} for where, label in samples
        ],
    }
