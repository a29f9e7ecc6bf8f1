"""``python -m jobs.enter FOLDER``: what a job starts with. It loads its pickle, but only one that is our own.

submitit hands a job its function in a pickle, and loading a pickle can run anything. So it is loaded only from a
folder and file that nobody else can have written, and whatever it holds, it can name nothing but the call of
``run_unit`` that ``jobs.launch`` submits.
"""

from __future__ import annotations

import os
import pickle
import stat
import sys
from pathlib import Path
from typing import Any

from data_tools.console import CommandError, run_command

ALLOWED = {("submitit.core.utils", "DelayedSubmission"), ("jobs.task", "run_unit")}
"""What a submitted pickle may name: submitit's record of a call, and the function called."""


def check_own(path: Path) -> None:
    """Raise CommandError where somebody else could have written ``path``, a folder of pickles or one of them."""
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise CommandError(f"{path}: belongs to another user; jobs load what they run from their own folder only")
    if found.st_mode & stat.S_IWOTH:
        raise CommandError(f"{path}: anybody may write to it, and jobs load what they run from it; chmod o-w {path}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Find what a pickle names; refuse all but ``ALLOWED``."""
        if (module, name) not in ALLOWED:
            raise CommandError(f"a submitted pickle names {module}.{name}, which no job needs; it is not loaded")
        return super().find_class(module, name)


def load_own(filename: str | Path) -> Any:
    """Load a submitted pickle, after looking at whose it is and while looking at what it names."""
    check_own(Path(filename).parent)
    check_own(Path(filename))
    with Path(filename).open("rb") as stream:
        return _Unpickler(stream).load()


def main() -> int:
    """Run the job that submitit submitted into the folder given."""
    return run_command(_enter)


def _enter(arguments: list[str]) -> int:
    from submitit.core import submission, utils

    utils.pickle_load = load_own
    submission.process_job(arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
