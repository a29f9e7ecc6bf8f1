"""Which subject is for training, which for validation, which for the test; never a slice by itself."""

from __future__ import annotations

import hashlib

_NAMES = {"train": "train", "validate": "validate", "validation": "validate", "val": "validate", "test": "test"}
_OTHER_NAMES = {"training": "train", "valid": "validate", "testing": "test"}
"""Folders of these names count only below no folder of the others: ``training/val`` is for validation."""

_OASIS = "keras_png_slices_"


def split_of_folder(path: str) -> str | None:
    """Return the split that the outermost telling folder of a relative path gives; None where none does."""
    folders = [_plain(folder) for folder in path.split("/")[:-1]]
    for names in (_NAMES, _OTHER_NAMES):
        found = next((names[folder] for folder in folders if folder in names), None)
        if found:
            return found
    return None


def is_split_folder(name: str) -> bool:
    """Whether a folder of this name gives a split."""
    return _plain(name) in _NAMES or _plain(name) in _OTHER_NAMES


def place(path: str) -> list[str]:
    """Return the folders of a relative path but for those that give splits."""
    return [folder for folder in path.split("/")[:-1] if not is_split_folder(folder)]


def _plain(folder: str) -> str:
    return folder.lower().removeprefix(_OASIS)


def draw(subject: str) -> float:
    """Return a number in [0, 1) that depends on the subject's name alone."""
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big") / 2**64
