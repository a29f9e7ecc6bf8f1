"""Where a command may write: nothing that exists is overwritten unless asked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from data_tools.console import UsageError


def claim(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Make the folders of ``paths``; UsageError names the first path that exists, unless ``overwrite``.

    Called when all inputs are known to be good, so that a command that refuses leaves nothing behind.
    """
    paths = list(paths)
    for path in paths:
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists; give another --output, or --overwrite")
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{path.parent}: a file is in the way of this folder; give another --output") from None
