"""``python -m tests.faults``: damage run folders, packed slices and codes; say what came of it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import provenance
from tests.faults.soak import soak


def main() -> int:
    """Run the soak; exit status 1 if damage was ever taken silently, or ended in a traceback."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of their places")
    parser.add_argument("--json", type=Path, help="write the result there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), faults=given.faults, seed=given.seed)
    result |= provenance(" ".join(["python -m tests.faults", *sys.argv[1:]]))
    text = json.dumps(result, indent=2)
    print(text)
    if given.json:
        given.json.write_text(f"{text}\n")
    return 1 if result["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
