"""How well a slice was reconstructed: SSIM, PSNR and MSE, over the whole frame and inside the head.

Three quarters of a skull-stripped slice is black, and a picture that is black everywhere has a full-frame SSIM of
about 0.75. So every figure is also given over the foreground alone, and a slice that lost its head is called dead.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from skimage.measure import label
from skimage.metrics import structural_similarity
from torch import Tensor

FOREGROUND_THRESHOLD = 0.02
"""A pixel is foreground where the original is above this, on [0, 1]; air is exactly 0 in skull-stripped slices."""

MIN_FOREGROUND_PIXELS = 100
"""Below this, foreground figures are not given: a few windows of 7×7 pixels say nothing about a head."""

DEAD_SSIM, DEAD_INTENSITY = 0.3, 0.25
"""A slice is dead below this foreground SSIM, or below this share of the original's mean foreground intensity."""

WINDOW = 7
"""Side of the uniform SSIM window in pixels; the smallest side an image may have."""

_BORDER = WINDOW // 2
_SAMPLE = WINDOW**2 / (WINDOW**2 - 1)  # from population to sample (co)variance, as scikit-image has it
_C1, _C2 = 0.01**2, 0.03**2  # Wang et al. 2004, for data_range 1


class SliceScores(NamedTuple):
    """The figures of one reconstructed slice on [0, 1]; None where a figure does not exist."""

    ssim: float
    ssim_foreground: float | None
    """Mean of the full SSIM map over the foreground; None with fewer than ``MIN_FOREGROUND_PIXELS``."""
    psnr: float | None
    """In dB against a peak of 1; None where both images are equal."""
    mse: float
    mse_foreground: float | None
    black_error: float | None
    """Mean of the reconstruction where the original is exactly 0: a constant error in black costs full-frame SSIM
    dearly (.002 costs about .03). None where nothing is black."""
    dead: bool
    """The head is not in the reconstruction; never True where there is too little foreground to judge."""


FIGURES = tuple(name for name in SliceScores._fields if name != "dead")
"""The figures that are averaged over slices; those that are dead are counted."""


def foreground_mask(image: NDArray[np.floating], noisy_air: bool) -> NDArray[np.bool_]:
    """Mark the pixels of the head in an original slice (H, W) on [0, 1].

    Clean air: above ``FOREGROUND_THRESHOLD``. Noisy air (DICOM, JPEG): above Otsu's threshold, in the largest
    8-connected component, since noise passes any fixed threshold somewhere in the frame.
    """
    if not noisy_air:
        return np.asarray(image > FOREGROUND_THRESHOLD)
    components = label(image > threshold_otsu(image))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0  # label 0 is the air
    return np.asarray((components == sizes.argmax()) & (components > 0))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Give the mean SSIM of each pair of images (B, 1, H, W) on [0, 1] as (B,); differentiable.

    Wang et al. 2004 with scikit-image's defaults: 7×7 uniform window, sample covariance, data_range 1, and the mean
    over the windows that lie inside the image. Half precision is computed in float32, float64 in float64.
    """
    luminance, structure = ssim_terms(a, b)
    return (luminance * structure).mean(dim=(1, 2, 3))


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Give the SSIM around every pixel, (B, 1, H, W), the borders mirrored as scikit-image's ``full=True`` has it."""
    luminance, structure = ssim_terms(_mirror_borders(a), _mirror_borders(b))
    return luminance * structure


def ssim_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Give SSIM's luminance and contrast-structure factors for each window inside, (B, 1, H-6, W-6) each.

    Raises ValueError for images smaller than the window.
    """
    if min(a.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, got {tuple(a.shape[-2:])}")
    dtype = torch.promote_types(a.dtype, torch.float32)
    a, b = a.to(dtype), b.to(dtype)
    # Variances as E[x²] - E[x]² cancel digits far from 0, so both images are moved by one number, near to the air
    # where there is much of it.
    centre = (a.detach() + b.detach()).mean(dim=(1, 2, 3), keepdim=True) / 2
    a, b = a - centre, b - centre
    mean_a, mean_b = _box_mean(a), _box_mean(b)
    product, squares = mean_a * mean_b, mean_a.square() + mean_b.square()
    covariance = _SAMPLE * (_box_mean(a * b) - product)
    variances = _SAMPLE * (_box_mean(a.square() + b.square()) - squares)
    # (u + c)(v + c) = uv + c(u + v) + c², and likewise for the squares: back to means on [0, 1].
    shift = 2 * centre * (mean_a + mean_b + centre)
    luminance = (2 * product + shift + _C1) / (squares + shift + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def score_slice(
    original: NDArray[np.floating], reconstruction: NDArray[np.floating], mask: NDArray[np.bool_]
) -> SliceScores:
    """Score one slice (H, W) by scikit-image in float64, as `evaluate` reports it.

    The reconstruction is clipped to [0, 1], as it is when saved as a picture. ``mask`` is the original's foreground.
    """
    a, b = original.astype(np.float64), np.clip(reconstruction.astype(np.float64), 0, 1)
    mean: Any  # scikit-image has no types
    mean, full = structural_similarity(a, b, data_range=1.0, full=True)
    return _scores(float(mean), full, (a - b) ** 2, a, b, mask)


def score_batch(originals: Tensor, reconstructions: Tensor, masks: Tensor) -> list[SliceScores]:
    """Score slices (B, 1, H, W) as `score_slice` does, but with the SSIM in torch: for validation during training."""
    b = reconstructions.detach().to(torch.promote_types(reconstructions.dtype, torch.float32)).clamp(0, 1)
    a = originals.to(b.dtype)
    maps = ssim_map(a, b)
    means = maps[..., _BORDER:-_BORDER, _BORDER:-_BORDER].mean(dim=(1, 2, 3), dtype=torch.float64)
    columns = [t[:, 0].double().cpu().numpy() for t in (maps, (a - b).square(), a, b)]
    rows = zip(means.tolist(), *columns, masks[:, 0].cpu().numpy(), strict=True)
    return [_scores(*row) for row in rows]


def _scores(
    mean_ssim: float,
    full_map: NDArray[np.float64],
    squared_error: NDArray[np.float64],
    original: NDArray[np.float64],
    reconstruction: NDArray[np.float64],
    mask: NDArray[np.bool_],
) -> SliceScores:
    mse, black = float(squared_error.mean()), original == 0
    inside, mse_inside, dead = None, None, False
    if np.count_nonzero(mask) >= MIN_FOREGROUND_PIXELS:
        inside, mse_inside = float(full_map[mask].mean()), float(squared_error[mask].mean())
        dead = inside < DEAD_SSIM or bool(reconstruction[mask].mean() < DEAD_INTENSITY * original[mask].mean())
    return SliceScores(
        ssim=mean_ssim,
        ssim_foreground=inside,
        psnr=-10 * math.log10(mse) if mse > 0 else None,
        mse=mse,
        mse_foreground=mse_inside,
        black_error=float(reconstruction[black].mean()) if black.any() else None,
        dead=dead,
    )


def _mirror_borders(x: Tensor) -> Tensor:
    """Pad by half a window with the border pixel repeated (c b a | a b c); torch only has (c b | a b c)."""
    for dim in (-1, -2):
        first = x.narrow(dim, 0, _BORDER).flip(dim)
        last = x.narrow(dim, x.shape[dim] - _BORDER, _BORDER).flip(dim)
        x = torch.cat([first, x, last], dim)
    return x


def _box_mean(x: Tensor) -> Tensor:
    total: Tensor = _BoxSum.apply(x)
    return total / WINDOW**2


class _BoxSum(torch.autograd.Function):
    """Sum over 7×7 windows: (…, H, W) -> (…, H-6, W-6).

    Shifted additions take a tenth of avg_pool2d's time on a CPU. The gradient of a box sum is the box sum of the
    padded gradient; autograd would allocate a full-size tensor for each of the ten shifts instead.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _sum_of_seven(_sum_of_seven(x, -1), -2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        padded = F.pad(gradient, (WINDOW - 1,) * 4)
        total: Tensor = _BoxSum.apply(padded)
        return total


def _sum_of_seven(x: Tensor, dim: int) -> Tensor:
    """Sum x[i] … x[i+6] along ``dim`` by doubling: 2, 4, then 4 + 2 + 1."""
    size = x.shape[dim]
    two = x.narrow(dim, 0, size - 1) + x.narrow(dim, 1, size - 1)
    four = two.narrow(dim, 0, size - 3) + two.narrow(dim, 2, size - 3)
    rest = size - 6
    return four.narrow(dim, 0, rest) + two.narrow(dim, 4, rest) + x.narrow(dim, 6, rest)
