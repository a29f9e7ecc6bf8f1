"""Where a command may write: nothing that exists is overwritten unless asked, and results take their places whole."""

from __future__ import annotations

import errno
import fcntl
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from data_tools.console import CommandError, UsageError, note
from data_tools.staging import STAGING, staged
from vqvae_dist.files import fsync_folder, write_json
from vqvae_dist.json_files import check_kinds, read_json

_NUMBERED = re.compile(r"((.+_)?\d{2,}|row\d{6,}_[a-z]\w*)\.png")
"""Single pictures in a folder of results; whatever else lies there is somebody else's."""

RESULTS = "results"
"""Staging folders of results are called after this, and a set is made in a folder of this name in one."""

WHOLE = f"{STAGING}whole."
"""Staging folders of sets that are complete: not removed as half made, but put in their places by the next command."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without locks answer."""


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
    folder: Path, names: Sequence[str], *, overwrite: bool, inputs: Iterable[Path] = (), asked: str = ""
) -> Iterator[Path]:
    """Provide a folder to write ``names`` in, files or folders of numbered pictures, which then move to ``folder``.

    The last of them is the one that says what the others are: it comes last, and goes first where it is replaced. So
    an error or a full disk changes nothing in ``folder``, and a kill leaves no old name on new pictures. Once the set
    is complete, a kill loses nothing either: the next call finishes the move, and may replace what no other result
    stood in the place of, since that is its own command's. ``asked`` is the name that is refused first.
    """
    try:
        left = _finish_interrupted(folder)
        refused = [folder / name for name in ([asked] if asked else []) + list(reversed(names))]
        claim(refused, overwrite=overwrite or list(names) in left, inputs=inputs)
        with staged(folder / RESULTS) as made:
            (made / RESULTS).mkdir()
            yield made / RESULTS
            _refuse_folders(made / RESULTS, folder, names)
            write_json(made / "names.json", {"names": list(names), "first": not overwrite})
            whole = made.rename(folder / f"{WHOLE}{made.name.rpartition('-')[2]}")  # from here on it will be there
            _take_places(whole, folder, names)
    except OSError as error:
        if error.filename is None or STAGING in str(error.filename):
            error.filename = str(folder)  # the one beside is nobody's affair
        raise


def _finish_interrupted(folder: Path) -> list[list[str]]:
    """Put the complete sets of commands that were stopped in their places; give the names of those that were first."""
    first = []
    for whole in sorted(folder.glob(f"{WHOLE}*")):
        try:
            lock = (whole / "lock").open("a")
        except OSError:  # its own command has finished it meanwhile, or it is another user's
            continue
        with lock:
            if _is_free(lock) and whole.is_dir():
                names, was_first = _read_names(whole / "names.json")
                _take_places(whole, folder, names)
                note(f"{folder / names[-1]}: finished what a stopped command had left to do")
                first += [names] if was_first else []
    return first


def _is_free(lock: IO[str]) -> bool:
    """Take a staging folder's lock; False while its process lives. Where there are no locks it is taken for gone."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True


def _read_names(file: Path) -> tuple[list[str], bool]:
    """The names of a complete set, and whether it replaces nothing; CommandError where they are no plain names."""
    noted = read_json(file)
    check_kinds(file, noted, {"names": list})
    names = noted["names"]
    if not names or not all(isinstance(name, str) and name == Path(name).name not in ("", "..") for name in names):
        raise CommandError(f"{file}: damaged, names is not a list of names")
    return names, noted.get("first") is True


def _take_places(whole: Path, folder: Path, names: Sequence[str]) -> None:
    """Put a complete set in its places. Stopped anywhere and done again, it ends the same."""
    cleared = whole / "cleared"  # what is in the places from here on is new
    if not cleared.exists():
        for name in reversed(names):
            _clear(folder / name)
        cleared.touch()
    for name in names:
        _move(whole / RESULTS / name, folder / name)
    fsync_folder(folder)
    whole.rename(folder / f"{STAGING}{RESULTS}-{whole.name.removeprefix(WHOLE)}")  # now it is removed as any other


def _refuse_folders(results: Path, folder: Path, names: Sequence[str]) -> None:
    """UsageError where a folder stands in a file's place, while nothing is changed yet."""
    for name in names:
        if (results / name).is_file() and (folder / name).is_dir():
            raise UsageError(f"{folder / name}: a folder is in the way of this file; give another --output")


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
