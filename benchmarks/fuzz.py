"""Hours of coverage-guided fuzzing of everything that reads what a user gives, by atheris; the tests do minutes of it.

    pip install atheris
    python -m benchmarks.fuzz --seconds 600 --output docs/results/fuzz.json

A finding is an exception that is no clear error, an input that takes longer than 20 s, more than 4 GB of memory, or a
crash. The input that does it is kept in ``--findings``.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tyro

from benchmarks.machine import ROOT, provenance

TIME_LIMIT_S, MEMORY_LIMIT_MB = 20, 4096
Feed = Callable[[bytes], None]


def images(folder: Path) -> tuple[Feed, Iterable[bytes]]:
    """The readers of images, NIfTI and DICOM: slices or a reason, whatever the bytes."""
    import numpy as np

    from data_tools.catalog import FileRow
    from data_tools.decode import Decoder, DecodeSettings
    from tests.data_tools.hostile_files import HOSTILE
    from tests.data_tools.readers.test_hostile import GOOD

    decoder = Decoder(DecodeSettings(folder, "auto", 0, None, 0.0, "none"))

    def feed(data: bytes) -> None:
        (folder / "file").write_bytes(data)
        for is_dicom in (False, True):
            result = decoder.decode([FileRow("file", len(data), "file", None, None, None, is_dicom)])
            assert result.slices or result.unreadable
            for _, one in result.slices:
                assert len(one.chunk) == one.height * one.width * np.dtype(one.dtype).itemsize + 4
                assert np.isfinite(one.window).all()

    return feed, [*GOOD.values(), *(data for data, _ in HOSTILE.values() if len(data) < 10_000)]


def packed(folder: Path) -> tuple[Feed, Iterable[bytes]]:
    """``info`` and ``verify`` of a packed file."""
    from data_tools.cli import run
    from tests.phantoms import write_packed

    path = write_packed(folder / "brain.h5", shapes=((8, 8, "uint8"),), subjects=("train", "test"), slices=1)
    seeds = [path.read_bytes()]

    def feed(data: bytes) -> None:
        path.write_bytes(data)
        for command in ("info", "verify"):
            _answers_clearly(run, [command, str(path)])

    return feed, seeds


def codes(folder: Path) -> tuple[Feed, Iterable[bytes]]:
    """All that is read of a file of codes."""
    import numpy as np

    from data_tools.console import CommandError
    from tests.phantoms import write_codes
    from vqvae_dist.data.codes import CodesReader

    path = write_codes(folder / "codes.h5", grid=(2, 2), maps=4)
    seeds = [path.read_bytes()]

    def feed(data: bytes) -> None:
        path.write_bytes(data)
        reader = CodesReader(path)
        with contextlib.suppress(CommandError):
            for group in reader.groups:
                reader.index(group.name)
                reader.codes(group.name, np.arange(group.count))
            assert reader.digest is not None
            assert len(reader.subjects) + len(reader.classes) + len(reader.patches) >= 0

    return feed, seeds


def sweeps(folder: Path) -> tuple[Feed, Iterable[bytes]]:
    """A sweep file, and the same bytes as a profile."""
    from jobs.cli import main as jobs
    from tests.phantoms import write_packed

    write_packed(folder / "brain.h5", shapes=((8, 8, "uint8"),), subjects=("train", "test"), slices=1)
    good = folder / "good.toml"
    good.write_text('name = "trial"\nbase = "smoke"\n[set]\n"data.path" = "brain.h5"\n')
    documents = [*sorted((ROOT / "docs" / "sweeps").glob("*.toml")), *sorted((ROOT / "slurm/profiles").glob("*.toml"))]

    def feed(data: bytes) -> None:
        (folder / "file.toml").write_bytes(data)
        root = ["--root", str(folder / "runs"), "--dry-run"]
        _answers_clearly(jobs, ["submit", str(folder / "file.toml"), *root])
        _answers_clearly(jobs, ["submit", str(good), "--profile", str(folder / "file.toml"), *root])

    return feed, [good.read_bytes(), *(path.read_bytes() for path in documents)]


def runs(folder: Path) -> tuple[Feed, Iterable[bytes]]:
    """One file of a sweep or run after the other, as ``status``, ``best`` and the logged config read it."""
    from data_tools.console import CommandError
    from jobs.cli import main as jobs
    from tests.jobs.sweep_files import finish_run, make_sweep
    from tests.phantoms import write_packed
    from vqvae_dist.run_folder import RunFolder
    from vqvae_dist.training.logged_config import read_logged_config

    data_file = write_packed(folder / "brain.h5", shapes=((8, 8, "uint8"),), subjects=("train", "test"), slices=1)
    sweep, plan = make_sweep(folder, data_file, "")
    run = sweep.run(plan.members[0].run_id)
    finish_run(sweep, plan.members[0].run_id)
    _answers_clearly(jobs, ["best", str(sweep.path)])
    sweep.events_file.write_text('{"event": "started", "unit": "a", "job_id": "1", "restart": 0, "step": 0}\n')
    files = [sweep.plan_file, sweep.best_file, sweep.events_file, run.summary_file, run.metrics_file]
    kept = {path: path.read_bytes() for path in files}

    def feed(data: bytes) -> None:
        for path in files:
            path.write_bytes(data)
            for command in ("status", "best"):
                _answers_clearly(jobs, [command, str(sweep.path)])
            path.write_bytes(kept[path])
        for name in ("config.yaml", "config.json"):
            (run.path / name).write_bytes(data)
            with contextlib.suppress(CommandError):
                read_logged_config(run.path / name)
        with contextlib.suppress(CommandError):
            RunFolder(run.path).read_config()

    return feed, kept.values()


TARGETS: dict[str, Callable[[Path], tuple[Feed, Iterable[bytes]]]] = {
    "images": images,
    "packed": packed,
    "codes": codes,
    "sweeps": sweeps,
    "runs": runs,
}


def _answers_clearly(command: Any, arguments: list[str]) -> None:
    """Run a command line of ours; its status must be promised, and its message one of ours."""
    from data_tools.console import run_command

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = command(arguments) if command.__name__ == "main" else run_command(command, arguments)
    assert status in (0, 1, 2), status
    assert "--debug shows where" not in said.getvalue(), said.getvalue()


def fuzz_one(name: str, flags: list[str]) -> None:
    """Fuzz a target in this process, which libFuzzer ends."""
    import atheris

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["data_tools", "vqvae_dist", "jobs", "pydicom", "nibabel.nifti1"]):
        folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        feed, seeds = TARGETS[name](folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    atheris.Setup([sys.argv[0], *flags, str(corpus)], feed)
    atheris.Fuzz()


def fuzz_all(names: Iterable[str], seconds: int, findings: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Fuzz each target in a process of its own for ``seconds``; return what came of it."""
    results = {}
    for name in names:
        folder = (findings / name).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        flags = [f"-max_total_time={seconds}", f"-timeout={TIME_LIMIT_S}", f"-rss_limit_mb={MEMORY_LIMIT_MB}"]
        flags += ["-print_final_stats=1", "-max_len=200000", f"-artifact_prefix={folder}/", f"-seed={seed}"]
        command = [sys.executable, "-m", "benchmarks.fuzz", "--one", name, *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        stats = {key: int(value) for key, value in re.findall(r"stat::(\w+):\s+(\d+)", done.stderr)}
        cover = re.findall(r"cov: (\d+)", done.stderr)
        results[name] = {
            "executions": stats.get("number_of_executed_units", 0),
            "seconds": seconds,
            "branches_reached": int(cover[-1]) if cover else 0,
            "slowest_s": stats.get("slowest_unit_time_sec"),
            "peak_rss_mb": stats.get("peak_rss_mb"),
            "findings": sorted(path.name for path in folder.iterdir()),
            "exit_status": done.returncode,
        }
        print(name, json.dumps(results[name]), flush=True)
        if done.returncode:
            print(done.stderr[-3000:], flush=True)
    return results


def main(
    output: Path | None = None,
    seconds: int = 60,
    targets: tuple[str, ...] = tuple(TARGETS),
    findings: Path = Path("runs/fuzz"),
    seed: int = 1,
) -> None:
    """Fuzz ``targets`` for ``seconds`` each; write what came of it."""
    results = fuzz_all(targets, seconds, findings, seed)
    if output is not None:
        from importlib.metadata import version

        about = provenance(f"python -m benchmarks.fuzz --seconds {seconds} --output {output}")
        limits = {"time_limit_s": TIME_LIMIT_S, "memory_limit_mb": MEMORY_LIMIT_MB, "atheris": version("atheris")}
        output.write_text(json.dumps({**about, **limits, "targets": results}, indent=1) + "\n")
    if any(result["findings"] or result["exit_status"] for result in results.values()):
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
    else:
        tyro.cli(main)
