"""Slices that look like brains and are nobody's: ``phantom``.

A subject is drawn once: head shape, hemispheres, folds, ventricles, tissue brightness, a slow bias field. A slice is a
cut through it at a height, so that neighbouring slices are alike and subjects differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_tools.console import counted, progress, say
from data_tools.settings import PhantomSettings
from data_tools.staging import new_folder

Field = npt.NDArray[np.float64]

_WAVES = 4  # of each smooth field


@dataclass(frozen=True)
class Anatomy:
    """What does not change from slice to slice of a subject. Lengths are shares of half the picture."""

    width: float
    length: float
    folds: int
    """How many gyri around each hemisphere."""

    fold_depth: float
    """Of the sulci; each is one to three times as deep."""

    fold_phase: float
    cortex: float
    """Thickness of the grey matter."""

    ventricles: float
    """Size of the ventricles."""

    lean: float
    """Rotation of the head, in radians."""

    asymmetry: float
    grey: float
    white: float
    fluid: float
    waves: Field
    """(3 fields, _WAVES, 5): frequencies in x, y and z, phase and strength of slow and fine variations."""


def phantom(settings: PhantomSettings) -> None:
    """Write ``OUT_DIR/{train,test}/case_NNN_slice_K.png`` (8-bit gray); UsageError if there is something already."""
    tests = max(1, round(settings.subjects / 6)) if settings.subjects > 1 else 0
    with new_folder(settings.out_dir) as out:
        for folder in ("train", "test"):
            (out / folder).mkdir()
        for subject in progress(range(settings.subjects), total=settings.subjects, label="phantoms"):
            folder = "test" if subject >= settings.subjects - tests else "train"
            _draw_subject(settings, subject, out / folder)
    count, subjects = settings.slices * settings.subjects, counted(settings.subjects, "subject")
    say(f"{settings.out_dir}: {counted(count, 'slice')} of {subjects}, {tests} of them in test")


def _draw_subject(settings: PhantomSettings, subject: int, folder: Path) -> None:
    """Write a subject's slices; it depends on the seed and its number alone, not on how many there are."""
    anatomy = draw_anatomy(np.random.default_rng([settings.seed, subject]))
    for number in range(settings.slices):
        height = -0.35 + 0.9 * (number + 0.5) / settings.slices
        noise = np.random.default_rng([settings.seed, subject, number])
        picture = Image.fromarray(draw_slice(anatomy, height, settings.size, noise))
        picture.save(folder / f"case_{subject:03d}_slice_{number}.png")


def draw_anatomy(random: np.random.Generator) -> Anatomy:
    """Draw a subject."""
    waves = random.normal(size=(3, _WAVES, 5))
    waves[..., 3] = random.uniform(0, 2 * np.pi, (3, _WAVES))
    return Anatomy(
        width=random.uniform(0.62, 0.74),
        length=random.uniform(0.80, 0.92),
        folds=int(random.integers(9, 16)),
        fold_depth=random.uniform(0.05, 0.085),
        fold_phase=random.uniform(0, 2 * np.pi),
        cortex=random.uniform(0.055, 0.085),
        ventricles=random.uniform(0.7, 1.5),
        lean=random.normal(0, 0.06),
        asymmetry=random.normal(0, 0.04),
        grey=random.uniform(0.42, 0.52),
        white=random.uniform(0.72, 0.85),
        fluid=random.uniform(0.12, 0.22),
        waves=waves,
    )


def draw_slice(anatomy: Anatomy, height: float, size: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return the slice (size, size) at ``height`` (-1 bottom of the head, 1 top) with background exactly 0."""
    x, y = _coordinates(anatomy, size)
    slow, fine, bent = (_waves(waves, x, y, height) for waves in anatomy.waves)
    depth, sulcus = _surface(anatomy, x, y, height, bent)
    soft = 2.5 / size
    # Grey matter follows the surface, down the sulci too; what is deeper is white.
    white = _step(np.minimum(depth, sulcus) - anatomy.cortex * (1 + 0.25 * fine), soft)
    value = anatomy.grey + (anatomy.white - anatomy.grey) * white
    value = _put(value, anatomy.fluid, 0.015 - sulcus, soft)
    value = _put(value, anatomy.grey * 1.12, _nuclei(x, y, height, fine) - soft / 2, soft)
    value = _put(value, anatomy.fluid, _ventricles(anatomy, x, y, height) - soft / 2, soft)
    value = value * (1 + 0.05 * slow + 0.035 * fine) + random.normal(0, 0.008, x.shape)
    head = _step(depth, soft)
    painted = np.where(head > 0.02, np.clip(value * head, 1 / 255, 1), 0)
    return np.round(255 * painted).astype(np.uint8)


def _surface(anatomy: Anatomy, x: Field, y: Field, height: float, bent: Field) -> tuple[Field, Field]:
    """Return how deep each pixel is below the surface, and how far it is from the nearest sulcus."""
    radius = np.sqrt(max(1 - height**2, 0.0))
    # Two halves, a little apart: the gap is the fissure. In the middle the callosum joins them.
    fissure = np.clip((np.abs(y) - 0.3 * max(0.0, 1 - (height / 0.45) ** 2)) / 0.06, 0.0, 1.0)
    side = np.abs(x) - (0.012 + 0.008 * radius) * fissure + 0.15 * (1 - fissure)
    tilt = 1 + anatomy.asymmetry * np.sign(x)
    reach = np.hypot(x / (anatomy.width * tilt), y / anatomy.length)
    angle = np.arctan2(y / anatomy.length, side / anatomy.width)
    turn = anatomy.folds * angle + anatomy.fold_phase * np.sign(x) + 2.5 * height + 1.2 * bent
    edge = radius * (1 - 0.03 * bent) - anatomy.fold_depth * 0.2 * (1 - np.abs(np.sin(turn / 2)))
    depth = np.minimum((edge - reach) * anatomy.width, side)
    ends = anatomy.fold_depth * (2.2 + np.sin(0.37 * turn + anatomy.fold_phase) + 0.8 * bent)
    across = np.abs(np.sin(turn / 2)) * 2 * reach * anatomy.width / anatomy.folds
    sulcus = np.hypot(across, np.maximum((edge - reach) * anatomy.width - ends, 0.0))
    return depth, sulcus


def _ventricles(anatomy: Anatomy, x: Field, y: Field, height: float) -> Field:
    """Return how far inside the fluid a pixel is: two horns that part towards the back, and one in the middle below."""
    size = anatomy.ventricles * max(0.0, 1 - ((height - 0.1) / 0.45) ** 2)
    bend = 0.07 + 0.10 * np.abs(y) + 0.05 * np.maximum(y, 0) * anatomy.ventricles
    horns = 1 - np.hypot((np.abs(x) - bend) / (0.055 * size + 1e-3), y / (0.30 * size + 1e-3))
    third = 1 - np.hypot(x / 0.025, (y - 0.12) / 0.12) if height < 0.0 else np.full_like(x, -1.0)
    return np.maximum(horns * 0.06 * size, third * 0.025)


def _nuclei(x: Field, y: Field, height: float, fine: Field) -> Field:
    """Return how far inside the deep grey matter (thalamus, putamen) a pixel is."""
    size = max(0.0, 1 - ((height + 0.05) / 0.4) ** 2)
    thalamus = 1 - np.hypot((np.abs(x) - 0.13) / (0.10 * size + 1e-3), (y - 0.10) / (0.14 * size + 1e-3))
    putamen = 1 - np.hypot((np.abs(x) - 0.30) / (0.06 * size + 1e-3), (y + 0.10) / (0.20 * size + 1e-3))
    inside: Field = np.maximum(thalamus, putamen) * 0.1 * size + 0.01 * fine * size
    return inside


def _put(value: Field, tissue: float, inside: Field, soft: float) -> Field:
    share = _step(inside, soft)
    return value * (1 - share) + tissue * share


def _step(distance: Field, soft: float) -> Field:
    """Return 0 outside and 1 inside with an edge about a pixel wide."""
    share: Field = np.clip(distance / soft + 0.5, 0.0, 1.0)
    return share


def _coordinates(anatomy: Anatomy, size: int) -> tuple[Field, Field]:
    """Return x (left to right) and y (front to back) of every pixel, -1 to 1, in the frame of the head."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    cos, sin = np.cos(anatomy.lean), np.sin(anatomy.lean)
    return cos * x + sin * y, cos * y - sin * x


def _waves(waves: Field, x: Field, y: Field, height: float) -> Field:
    """Return a smooth field of about unit strength that changes slowly with height."""
    field: Field = np.zeros_like(x)
    for number, (u, v, w, phase, strength) in enumerate(waves):
        scale = 2.5 * (number + 1)
        field += strength * np.sin(scale * (u * x + v * y) + 2 * w * height + phase) / len(waves)
    return field
