"""Where a command may write: nothing that exists is overwritten unless asked, and results take their places whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data_tools.console import UsageError
from data_tools.staging import STAGING, staged
from vqvae_dist.files import fsync_folder

_NUMBERED = re.compile(r"(.+_)?\d{2,}\.png")
"""Single pictures in a folder of results; whatever else lies there is somebody else's."""


def claim(paths: Iterable[Path], *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Make the folders of ``paths``; UsageError names the first path that exists, unless ``overwrite``.

    What is read, ``inputs``, is never overwritten. Called when all inputs are known to be good, so that a command that
    refuses leaves nothing behind.
    """
    paths, inputs = list(paths), list(inputs)
    for path in paths:
        if _is_there(path) and not overwrite:
            raise UsageError(f"{path} exists; give another --output, or --overwrite")
        if path.is_file() and any(path.samefile(one) for one in inputs):
            raise UsageError(f"{path} is what this command reads; give another --output")
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{path.parent}: a file is in the way of this folder; give another --output") from None


@contextmanager
def staged_results(
    folder: Path, names: Sequence[str], *, overwrite: bool, inputs: Iterable[Path] = ()
) -> Iterator[Path]:
    """Provide a folder to write ``names`` in, files or folders of numbered pictures, which then move to ``folder``.

    The last of them is the one that says what the others are: it comes last, and goes first where it is replaced. So
    an error or a full disk changes nothing in ``folder``, and a kill leaves no old name on new pictures.
    """
    claim([folder / name for name in reversed(names)], overwrite=overwrite, inputs=inputs)
    try:
        with staged(folder / "results") as made:
            yield made
            for name in reversed(names):
                _clear(folder / name)
            for name in names:
                _move(made / name, folder / name)
            fsync_folder(folder)
    except OSError as error:
        if error.filename is None or STAGING in str(error.filename):
            error.filename = str(folder)  # the one beside is nobody's affair
        raise


def _is_there(path: Path) -> bool:
    return any(map(_is_ours, path.iterdir())) if path.is_dir() else path.exists()


def _is_ours(file: Path) -> bool:
    return _NUMBERED.fullmatch(file.name) is not None


def _clear(path: Path) -> None:
    for file in filter(_is_ours, list(path.iterdir())) if path.is_dir() else [path]:
        file.unlink(missing_ok=True)


def _move(made: Path, path: Path) -> None:
    if made.is_dir():
        path.mkdir(exist_ok=True)
        for file in sorted(made.iterdir()):
            file.replace(path / file.name)
    elif made.exists():
        made.replace(path)
