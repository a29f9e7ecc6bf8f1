"""Files that are either whole under their name or not there: written beside, then renamed."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data_tools.console import CommandError, UsageError

STAGING = ".staging-"
"""Folders of this name hold half-made files; nothing looks into them."""


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """Provide a folder beside ``output`` to write in, and remove it afterwards, with what killed runs left."""
    output.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{STAGING}{output.name}-"
    for left in output.parent.glob(f"{glob.escape(prefix)}*"):
        _remove_if_dead(left)
    with contextlib.ExitStack() as stack:
        folder: Path | None = None
        while folder is None:  # between its making and its locking a folder looks dead to others
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=output.parent))
            stack.callback(shutil.rmtree, made, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                lock = stack.enter_context((made / "lock").open("w"))
                with contextlib.suppress(OSError):  # some file systems have no locks: then nothing is ever removed
                    fcntl.flock(lock, fcntl.LOCK_EX)
                folder = made if (made / "lock").exists() else None
        yield folder


@contextlib.contextmanager
def new_folder(out_dir: Path) -> Iterator[Path]:
    """Provide a folder to fill, which becomes ``out_dir`` when it is whole, also where that is an empty folder.

    An empty folder that must stay (a mount, say) is filled piece by piece instead, files last: tables never list
    pictures that are not there. UsageError where something is there already, CommandError where it can't be written.
    """
    is_there = out_dir.is_dir()
    held = [path.name for path in out_dir.iterdir()] if is_there else []
    if (out_dir.exists() and not is_there) or not all(name.startswith(STAGING) for name in held):
        raise UsageError(f"{out_dir} is not an empty folder; choose another")
    target = out_dir.resolve()  # a link stays, and the folder that it leads to is replaced
    stays = bool(held) or (is_there and not _is_replaceable(target))
    try:
        with staged(target / "slices" if stays else target) as folder:
            whole = folder / "whole"
            whole.mkdir()
            yield whole
            _put(whole, target, stays=stays)
    except OSError as error:
        raise CommandError(f"{out_dir}: could not be written ({error.strerror or error})") from error


def _is_replaceable(folder: Path) -> bool:
    """Whether another folder may take an empty one's name: not where it is a mount, somebody else's, or stood in."""
    may_write = os.access(folder, os.W_OK) and os.access(folder.parent, os.W_OK)
    return may_write and folder.stat().st_uid == os.geteuid() and not folder.is_mount() and folder != Path.cwd()


def _put(whole: Path, target: Path, *, stays: bool) -> None:
    """Rename a finished folder to ``target``; what it holds, folders before files, where that one ``stays``."""
    if not stays:
        if target.is_dir():
            shutil.copymode(target, whole)
        whole.replace(target)
        return
    for piece in sorted(whole.iterdir(), key=Path.is_file):
        piece.replace(target / piece.name)


def _remove_if_dead(folder: Path) -> None:
    """Remove a staging folder whose process is gone: a lock ends with its process, however that ended."""
    with contextlib.suppress(OSError), (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)


def publish(staged_file: Path, output: Path) -> None:
    """Put a finished file under its name, safe against a power cut: synced, renamed, and the rename synced."""
    with staged_file.open("rb") as file:
        os.fsync(file.fileno())
    staged_file.replace(output)
    folder = os.open(output.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
