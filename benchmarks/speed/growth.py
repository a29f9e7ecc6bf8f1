"""Cost a slice by the number of slices, for packing and reading; and cost a pixel by the size, for a training step."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
from multiprocessing.connection import Connection
from pathlib import Path

import nibabel
import numpy as np

from benchmarks.speed.data import packed, shuffled
from benchmarks.speed.row import GB, Options, Row, median_seconds
from benchmarks.speed.stages import packed_phantoms, vqvae_stage
from data_tools.slicefile import SliceReader

COUNTS = {True: (10**3, 10**4), False: (10**3, 10**4, 10**5, 10**6)}
"""Slices, by whether the benchmark is quick."""

SIDE, DEPTH = 64, 100
SIZES = (256, 512, 1024)


def rows(options: Options) -> list[Row]:
    """Each count against the smallest, each size against the smallest."""
    found = []
    first: dict[str, float] = {}
    for count in COUNTS[options.quick]:
        figures = in_a_process(options.work, count)
        for name, value in figures.items():
            base = first.setdefault(name, value)
            unit = "GB" if name.endswith("memory") else "us/slice"
            found.append(
                Row(
                    f"{name}, {count} slices of {SIDE}x{SIDE}",
                    value,
                    unit,
                    f"{COUNTS[True][0]} slices",
                    base,
                    value / base,
                    "flat",
                )
            )
    return found + pixel_rows(options)


def in_a_process(work: Path, count: int) -> dict[str, float]:
    """Microseconds a slice and peak memory of packing and reading, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    figures: dict[str, float] = {}
    for target in (pack_volumes, read_slices):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=target, args=(sender, work / f"growth_{count}", count))
        process.start()
        sender.close()  # so that its death is the end of the pipe
        figures |= receiver.recv()
        process.join()
    shutil.rmtree(work / f"growth_{count}")
    return figures


def pack_volumes(answer: Connection, work: Path, count: int) -> None:
    """Pack volumes of noise, a subject each; memory is that of the largest process of the command."""
    volumes = work / "volumes"
    volumes.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count // DEPTH):
        image = random.integers(0, 256, (SIDE, SIDE, DEPTH), dtype=np.uint8)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), volumes / f"sub-{number}.nii")
    seconds, peak = packed(volumes, work / "packed.h5")
    answer.send({"packing": 1e6 * seconds / count, "packing memory": peak / GB})


def read_slices(answer: Connection, work: Path, count: int) -> None:
    """Shuffled batches of the packed file."""
    with SliceReader(work / "packed.h5") as reader:
        assert sum(group.count for group in reader.groups) == count
    _, rate = shuffled(work / "packed.h5")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answer.send({"reading": 1e6 / rate, "reading memory": peak / GB})


def pixel_rows(options: Options) -> list[Row]:
    """A float32 step on one whole slice of each size, in nanoseconds a pixel."""
    found: list[Row] = []
    for size in SIZES:
        data = packed_phantoms(options.work, subjects=6, slices=2, size=size)
        value = 1e9 * step_seconds(options, data, options.work / f"pixels_{size}") / size**2
        base = found[0].value if found else value
        found.append(
            Row(
                f"training step, batch 1, {size}x{size}",
                value,
                "ns/pixel",
                f"{SIZES[0]}x{SIZES[0]}",
                base,
                value / base,
                "flat",
            )
        )
    return found


def step_seconds(options: Options, data: Path, run: Path) -> float:
    """A step on one whole slice, the codebook being there."""
    settings = {"schedule.batch_size": 1, "data.crop": 0, "precision.compile": "off", "precision.mixed": "no"}
    stage = vqvae_stage(data, run, settings)
    batch = next(stage.batches(range(1)))
    stage.train_step(stage.config.model.quantizer.init_after, batch)
    return median_seconds(lambda: stage.train_step(30, batch), repeat=3, device=options.device)
