"""Which subject is for training, which for validation, which for the test; never a slice by itself."""

from __future__ import annotations

import hashlib
import re

_FOLDER = re.compile(r"(?:keras_png_slices_)?(train|validate|validation|val|test)", re.IGNORECASE)
_NAMES = {"train": "train", "validate": "validate", "validation": "validate", "val": "validate", "test": "test"}


def split_of_folder(path: str) -> str | None:
    """Return the split that the outermost telling folder of a relative path gives; None where none does."""
    for folder in path.split("/")[:-1]:
        found = _FOLDER.fullmatch(folder)
        if found:
            return _NAMES[found[1].lower()]
    return None


def draw(subject: str) -> float:
    """Return a number in [0, 1) that depends on the subject's name alone."""
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big") / 2**64
