"""How fast ``data_tools verify`` is beside SHA-256 alone over the same pixels.

    python -m benchmarks.verify --data brain.h5 [--repeat 7]

Both sides in one process, in turn; the best time of each counts. Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import provenance
from data_tools.slicefile import SliceReader
from data_tools.verify import verify


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="packed slices")
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    with SliceReader(options.data) as reader:
        slices = [image for group in reader.groups for image in reader.read_block(group.name, 0, group.count)]
    size = sum(image.nbytes for image in slices)
    ours, alone = [], []
    for _ in range(options.repeat):
        alone.append(seconds(lambda: [hashlib.sha256(image.data).digest() for image in slices]))
        with contextlib.redirect_stdout(io.StringIO()):
            ours.append(seconds(lambda: verify(options.data)))
    result = {
        "verify_mb_per_s": size / min(ours) / 1e6,
        "sha256_mb_per_s": size / min(alone) / 1e6,
        "ratio": min(alone) / min(ours),
        **provenance(" ".join(["python -m benchmarks.verify", *sys.argv[1:]])),
    }
    print(json.dumps(result, indent=2))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of a call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
