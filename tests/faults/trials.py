"""What each kind of folder is good for, tried on a damaged copy: did it end as on the whole one, and what was said?"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from data_tools.console import run_command
from data_tools.slicefile import SliceReader
from data_tools.verify import verify
from tests.faults.inject import KINDS
from tests.kills.harness import SHORT, differences
from tests.trainings import command_line, settings_of
from vqvae_dist.cli import main as vqvae_dist
from vqvae_dist.data.codes import CodesReader
from vqvae_dist.data.codes_digest import check_digest

STEPS = 12
RUN = {**SHORT, "schedule.steps": STEPS, "schedule.validate_every": 4, "schedule.checkpoint_every": 4}
LONGER = {**RUN, "schedule.steps": STEPS + 4, "optim.milestones": [7]}


class Ended(NamedTuple):
    """How a trial went."""

    status: int
    said: str
    same: bool
    """Its results are those of the trial on whole files."""

    @property
    def verdict(self) -> str:
        """``refused``, ``undone aloud``, ``harmless`` or ``SILENT``; a crash is ``CRASHED``."""
        if "Traceback" in self.said or "--debug shows where" in self.said:
            return "CRASHED"
        if self.status:
            return "refused" if self.said.strip() else "SILENT"
        loud = "warning:" in self.said
        return ("undone aloud" if loud else "harmless") if self.same else "said aloud" if loud else "SILENT"


def call(main: Callable[[list[str]], int], *words: object) -> tuple[int, str]:
    """Run a command in this process; its exit status and what it printed on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main([str(word) for word in words])
    return status, said.getvalue()


def train(data: Path, run: Path, changes: dict[str, Any]) -> tuple[int, str]:
    """Train a tiny VQ-VAE, or go on with it."""
    return call(vqvae_dist, *command_line("train-vqvae", settings_of("train-vqvae", data, run, changes)))


def resumed(run: Path, data: Path, reference: Path) -> Ended:
    """Go on with a run for some steps more; the end must be that of ``reference``, or the damage said aloud.

    Pictures are not compared: nothing is computed from them, and ``animate`` reads them.
    """
    status, said = train(data, run, LONGER)
    found = [] if status else [text for text in differences(reference, run) if not text.startswith("images/")]
    return Ended(status, "\n".join([said, *found]), not status and not found)


def repeated(run: Path, data: Path, reference: Path) -> Ended:
    """Give the command of a completed run again."""
    status, said = train(data, run, RUN)
    results = ["model/model.safetensors", "metrics.jsonl"]
    return Ended(status, said, not status and same_files(run, reference, results))


def evaluated(run: Path, data: Path, reference: Path) -> Ended:
    """Score a run's model; ``reference`` is the evaluation of the whole one."""
    output = run / "scores"
    status, said = call(vqvae_dist, "evaluate", "--run", run, "--data", data, "--split", "test", "--output", output)
    return Ended(status, said, not status and same_files(output, reference, ["metrics.json", "per_slice.csv"]))


def animated(run: Path, data: Path, reference: Path) -> Ended:
    """Put a run's pictures together; one that is gone is named."""
    status, said = call(vqvae_dist, "animate", "--run", run, "--output", run / "again.gif")
    return Ended(status, said, not status and same_files(run, reference, ["again.gif"]))


def verified(folder: Path, data: Path, reference: Path) -> Ended:
    """``data_tools verify`` on a packed file; what it passes must hold the same pixels and index."""
    file = folder / "brain.h5"
    status, said = call(lambda _: run_command(lambda _: verify(file), []))
    return Ended(status, said, not status and packed_content(file) == packed_content(reference / "brain.h5"))


def trained_on(folder: Path, data: Path, reference: Path) -> Ended:
    """Go on with a whole run on a damaged packed file."""
    run = folder / "run"
    shutil.copytree(reference.parent / "run", run)
    return resumed(run, folder / "brain.h5", reference)


def slices_read(folder: Path, data: Path, reference: Path) -> Ended:
    """Read every slice and its columns, after what each command does first: hold the index against its digest."""
    try:
        content = packed_content(folder / "brain.h5")
    except Exception as error:  # what a command would print
        return Ended(1, said_of(error), False)
    return Ended(0, "", content == packed_content(reference / "brain.h5"))


def codes_read(folder: Path, data: Path, reference: Path) -> Ended:
    """Read every code as the prior's training does, which first looks whether the file is what it is known by."""
    try:
        check_digest(CodesReader(folder / "codes.h5"))
        content = codes_content(folder / "codes.h5")
    except Exception as error:
        return Ended(1, said_of(error), False)
    return Ended(0, "", content == codes_content(reference / "codes.h5"))


def said_of(error: Exception) -> str:
    """The line that a command would end with."""
    from data_tools.console import CommandError, describe

    return describe(error) if isinstance(error, CommandError) else f"Traceback: {error!r}"


def packed_content(file: Path) -> list[Any]:
    """Everything that training takes from a packed file."""
    with SliceReader(file) as reader:
        reader.check_digest()
        content: list[Any] = [reader.digest, reader.subjects, reader.classes]
        for group in reader.groups:
            content += [group, *(reader.read(group.name, row).tobytes() for row in range(group.count))]
            content += [column.tobytes() for column in vars(reader.index(group.name)).values()]
    return content


def codes_content(file: Path) -> list[Any]:
    """Everything that a prior takes from a codes file."""
    reader = CodesReader(file)
    content: list[Any] = [reader.digest, reader.codebook_size, reader.subjects, reader.classes]
    for group in reader.groups:
        rows = np.arange(group.count)
        content += [group, reader.codes(group.name, rows).tobytes(), reader.foreground(group.name, rows).tobytes()]
        content += [np.asarray(column).tobytes() for column in vars(reader.index(group.name)).values()]
    return content


def same_files(one: Path, other: Path, names: list[str]) -> bool:
    """Whether files are equal, but for the paths and commits that JSON may name."""
    return all((one / name).is_file() and _plain(one / name) == _plain(other / name) for name in names)


def _plain(path: Path) -> Any:
    if path.suffix != ".json":
        return path.read_bytes()
    content = json.loads(path.read_text())
    return {key: value for key, value in content.items() if key not in ("model", "data")}


class Trial(NamedTuple):
    """What is damaged, what is tried on it, and what should come of it."""

    target: str
    """Folder of which a copy is damaged."""
    attempt: Callable[[Path, Path, Path], Ended]
    reference: str
    """Folder with the result of the same on whole files."""
    kinds: Sequence[str] = KINDS


IN_ONE_FILE = ("flip", "fill", "truncate", "delete")
"""For a folder of one file, for which another file of its kind is no damage but other data."""

TRIALS = {
    "run, resumed": Trial("run", resumed, "longer"),
    "run, given again": Trial("run", repeated, "run"),
    "run, evaluated": Trial("run", evaluated, "scores"),
    "run, animated": Trial("run", animated, "animated"),
    "packed slices, verified": Trial("packed", verified, "packed", IN_ONE_FILE),
    "packed slices, read": Trial("packed", slices_read, "packed", IN_ONE_FILE),
    "packed slices, trained on": Trial("packed", trained_on, "longer", (*IN_ONE_FILE, "foreign")),
    "codes, read": Trial("codes", codes_read, "codes", IN_ONE_FILE),
}


def prepare(folder: Path) -> None:
    """Make whole folders of each kind, and another of each to take foreign files from."""
    from tests.phantoms import write_packed

    torch.set_num_threads(1)
    for name, subjects, seed in (("", 7, 0), ("other ", 6, 1)):
        packed = folder / f"{name}packed"
        packed.mkdir()
        splits = ("train",) * (subjects - 2) + ("validate", "test")
        write_packed(packed / "brain.h5", subjects=splits)
        run = folder / f"{name}run"
        assert train(packed / "brain.h5", run, {**RUN, "seed": seed}) == (0, "")
        codes = folder / f"{name}codes"
        words = ["extract-codes", "--run", run, "--data", packed / "brain.h5", "--output", codes / "codes.h5"]
        codes.mkdir()
        assert call(vqvae_dist, *words)[0] == 0
    run, data = folder / "run", folder / "packed" / "brain.h5"
    shutil.copytree(run, folder / "longer")
    assert train(data, folder / "longer", LONGER)[0] == 0
    words = ["evaluate", "--run", run, "--data", data, "--split", "test", "--output", folder / "scores"]
    assert call(vqvae_dist, *words)[0] == 0
    shutil.copytree(run / "images", folder / "animated" / "images")
    assert call(vqvae_dist, "animate", "--run", run, "--output", folder / "animated" / "again.gif")[0] == 0
