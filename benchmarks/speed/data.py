"""Packing beside decoding alone, and shuffled batches beside ImageFolder and a plain memory map."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.speed.row import Options, Row
from benchmarks.speed.stages import phantoms
from data_tools.slicefile import SliceReader
from vqvae_dist.config import DataConfig
from vqvae_dist.data.slices import TrainingSlices

SIZE, SUBJECTS, SLICES, COPIES = 288, 20, 20, 10
BATCH = 32
SECONDS = 3.0
"""Each way of reading runs for so long."""


def rows(options: Options) -> list[Row]:
    """Slices a second."""
    folder = many_phantoms(options.work)
    files = sorted(folder.rglob("*.png"))
    cores = len(os.sched_getaffinity(0))
    decoding = max(decode_rate(files, cores) for _ in range(2))
    slices = options.work / "packed.h5"
    packing = len(files) / min(packed(folder, slices)[0] for _ in range(2))
    (first, later), plain, mapped = shuffled(slices), image_folder(folder, cores), memory_map(slices, options.work)
    of = f"{SIZE}x{SIZE} PNG, {len(files)} slices"
    batches = f"shuffled batches of {BATCH}, {of}"
    return [
        Row(
            f"packing, {of}",
            packing,
            "slices/s",
            f"decoding alone, {cores} processes",
            decoding,
            packing / decoding,
            ">= 0.8",
        ),
        Row(f"{batches}, first epoch", first, "slices/s", f"ImageFolder, {cores} workers", plain, first / plain, "-"),
        Row(f"{batches}, later", later, "slices/s", f"ImageFolder, {cores} workers", plain, later / plain, ">= 20"),
        Row(f"{batches}, later", later, "slices/s", "numpy.memmap", mapped, later / mapped, ">= 0.5"),
    ]


def many_phantoms(work: Path) -> Path:
    """Phantoms, and more of each, moved by some pixels: drawing takes longer than all that is measured."""
    drawn = phantoms(work, subjects=SUBJECTS, slices=SLICES, size=SIZE)
    for file in sorted(drawn.rglob("*.png")):
        with Image.open(file) as image:
            pixels = np.asarray(image)
        subject, slice_name = file.name.split("_slice_")
        for copy in range(1, COPIES):
            moved = Image.fromarray(np.roll(pixels, copy, axis=1))
            moved.save(file.with_name(f"{subject}{copy:03d}_slice_{slice_name}"))
    return drawn


def decode_rate(files: list[Path], cores: int) -> float:
    """PNG to array in one process a core, nothing sent back."""
    with multiprocessing.get_context("forkserver").Pool(cores) as pool:
        pool.map(_decode, files[:cores])  # processes are there
        began = time.perf_counter()
        pool.map(_decode, files, chunksize=32)
        return len(files) / (time.perf_counter() - began)


def _decode(file: Path) -> int:
    with Image.open(file) as image:
        return int(np.asarray(image)[0, 0])


TIMED = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - began
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))
"""
"""Runs a command and gives its seconds and the memory of its largest process. Started by this process itself, it would
have the memory of this one counted as its own."""


def packed(folder: Path, output: Path) -> tuple[float, int]:
    """Seconds and bytes of the whole command as it is run: start, decode, checksum, write, fsync, rename."""
    command = [sys.executable, "-m", "data_tools", "pack", str(folder), "--output", str(output), "--overwrite"]
    words = [sys.executable, "-c", TIMED, *command, "--min-foreground", "0"]
    seconds, peak = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    return seconds, peak


def rate_of(batches: Iterator[torch.Tensor]) -> float:
    """Slices a second of (b, 1, H, W) batches in [0, 1], each touched; the first is not counted."""
    next(batches)
    began, slices = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < SECONDS:
        slices += len(next(batches))
    return slices / passed


def shuffled(slices: Path) -> tuple[float, float]:
    """The suite's loader in this process: the first epoch, held against fletcher32 and SHA-256, and later ones."""
    source = TrainingSlices(
        str(slices), DataConfig(path=str(slices), crop=0), seed=0, batch_size=BATCH, rank=0, share=BATCH
    )
    epoch = sum(len(rows) for _, rows in source.groups) // BATCH
    began = time.perf_counter()
    read = sum(len(source[step].images) for step in range(epoch))
    return read / (time.perf_counter() - began), rate_of(source[step].images for step in range(epoch, 10**9))


def image_folder(folder: Path, cores: int) -> float:
    """torchvision's ImageFolder behind a DataLoader."""
    to_tensor = transforms.Compose([transforms.Grayscale(), transforms.ToTensor()])
    loader = DataLoader(ImageFolder(str(folder), to_tensor), BATCH, shuffle=True, num_workers=cores)

    def endless() -> Iterator[torch.Tensor]:
        while True:
            yield from (images for images, _ in loader)

    return rate_of(endless())


def memory_map(slices: Path, work: Path) -> float:
    """Random rows of an uncompressed array on disk, divided by 255."""
    with SliceReader(slices) as reader:
        (group,) = reader.groups
        images = reader.read_block(group.name, 0, group.count)
    np.save(work / "images.npy", images)
    mapped = np.load(work / "images.npy", mmap_mode="r")
    random = np.random.default_rng(0)

    def endless() -> Iterator[torch.Tensor]:
        while True:
            order = random.permutation(len(mapped))
            for first in range(0, len(order) - BATCH, BATCH):
                chosen = mapped[order[first : first + BATCH]]
                yield torch.from_numpy(chosen).float().div_(255).unsqueeze(1)

    return rate_of(endless())
