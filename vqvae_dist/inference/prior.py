"""A trained prior beside the VQ-VAE whose codes it learned: do they fit, and what does it think of codes?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_tools.console import UsageError
from data_tools.slicefile import SliceReader
from vqvae_dist.inference.load import LoadedPixelCNN, LoadedVQVAE, load_pixelcnn, load_vqvae
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.prior import code_nll


def load_pair(vqvae: Path, pixelcnn: Path) -> tuple[LoadedVQVAE, LoadedPixelCNN]:
    """Load a VQ-VAE and a prior; UsageError for a prior that learned the codes of another VQ-VAE."""
    images, prior = load_vqvae(vqvae), load_pixelcnn(pixelcnn)
    learned_from = prior.description["vqvae"]
    if learned_from["weights_sha256"] != images.description["weights_sha256"]:
        raise UsageError(
            f"{pixelcnn}: learned the codes of VQ-VAE {learned_from['run_id']} "
            f"(weights {learned_from['weights_sha256'][:12]}), not of {vqvae} "
            f"({images.description['run_id']}, weights {images.description['weights_sha256'][:12]}); "
            "extract its codes and train a prior on them"
        )
    return images, prior


def slice_condition(
    reader: SliceReader, group: str, rows: npt.NDArray[np.int64], *, classes: Sequence[str]
) -> Condition:
    """What a prior that knows ``classes`` is told of unaltered slices; a class it does not know counts as none."""
    index = reader.index(group)
    known = [classes.index(name) if name in classes else -1 for name in reader.classes] + [-1]
    return Condition(
        position=torch.from_numpy(index.position[rows]),
        label=torch.from_numpy(np.array(known)[index.label[rows]]),  # -1, no class, takes the last
        flipped=torch.zeros(len(rows)),
    )


@torch.inference_mode()
def code_bits(prior: LoadedPixelCNN, codes: Tensor, condition: Condition) -> npt.NDArray[np.float64]:
    """The negative log-likelihood in bits of each code of (B, h, w), given those before it, as (B, h, w)."""
    codes = codes.to(prior.device)
    nll = code_nll(prior.model(codes, condition.to(prior.device)), codes)
    return np.asarray(nll.double().cpu().numpy() / math.log(2))
