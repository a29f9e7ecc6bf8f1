"""What a sweep file may tell each stage behind the array, checked before anything is submitted.

The commands check it again, and what needs the data or the models: whether there is such a class, say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

from vqvae_dist.config import Split


class Option(NamedTuple):
    """An option of a stage's command."""

    fits: Callable[[Any], bool]
    wanted: str
    """What fits, in words."""


def _whole(least: int) -> Option:
    return Option(lambda value: type(value) is int and least <= value < 2**63, f"a whole number from {least}")


def _number(fits: Callable[[float], bool], wanted: str) -> Option:
    return Option(lambda value: type(value) in (int, float) and fits(value), wanted)


SPLIT = Option(lambda value: value in get_args(Split), f"one of {', '.join(get_args(Split))}")

OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "extract-codes": {"views": _whole(1)},
    "train-pixelcnn": {},  # any setting of the training, checked as such
    "generate": {
        "num-samples": _whole(1),
        "seed": _whole(0),
        "temperature": _number(lambda value: 0 < value < float("inf"), "a number above 0"),
        "top-k": _whole(0),
        "top-p": _number(lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
        "position": _number(lambda value: 0 <= value <= 1, "a number from 0 to 1"),
        "class": Option(lambda value: isinstance(value, str) or type(value) is int, "the name or number of a class"),
        "size": Option(
            lambda value: isinstance(value, str) and re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", value) is not None,
            'HEIGHTxWIDTH in pixels, like "288x256"',
        ),
    },
    "evaluate": {"split": SPLIT},
    "reconstruct": {"split": SPLIT},
    "animate": {},
    "report": {},
}
"""The stages there are, and the options of each one's command; the paths are the pipeline's own."""
