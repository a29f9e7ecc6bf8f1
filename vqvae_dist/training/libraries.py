"""Versions of the libraries that decide results."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

NAMES = ("torch", "accelerate", "numpy", "h5py", "scikit-image", "safetensors")


def library_versions() -> dict[str, str]:
    """Version of Python and of each library that decides results, by name."""
    found = {"python": platform.python_version()}
    for name in NAMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
