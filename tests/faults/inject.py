"""One fault in one file."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import NamedTuple

KINDS = ("flip", "fill", "truncate", "delete", "swap", "foreign")
"""A bit flipped; a part turned to ones or zeros; the end cut off; the file gone; exchanged with another file; that file
of another run."""


class Fault(NamedTuple):
    """What was done."""

    kind: str
    file: str
    """Relative to the damaged folder."""
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {self.file} {self.detail}".strip()


def inject(folder: Path, other: Path, kind: str, rng: random.Random) -> Fault:
    """Damage one file below ``folder``; ``other`` is another folder of the same kind."""
    files = files_below(folder)
    file = rng.choice(files)
    path = folder / file
    if kind == "flip":
        flipped = bytearray(path.read_bytes())
        bit = rng.randrange(8 * len(flipped))
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        return Fault(kind, file, f"bit {bit} of {8 * len(flipped)}")
    if kind == "fill":
        content = path.read_bytes()
        start, length, value = rng.randrange(len(content)) & ~1, 2 * rng.randrange(1, 64), rng.choice([0x00, 0xFF])
        filled = content[:start] + bytes([value]) * len(content[start : start + length]) + content[start + length :]
        path.write_bytes(filled)
        return Fault(kind, file, f"{length} bytes from {start} with {value:02x}")
    if kind == "truncate":
        size = rng.randrange(path.stat().st_size)
        with path.open("r+b") as stream:
            stream.truncate(size)
        return Fault(kind, file, f"to {size} bytes")
    if kind == "delete":
        path.unlink()
        return Fault(kind, file, "")
    if kind == "swap":
        partner = rng.choice([name for name in files_below(folder) if name != file] or [file])
        content, theirs = path.read_bytes(), (folder / partner).read_bytes()
        path.write_bytes(theirs)
        (folder / partner).write_bytes(content)
        return Fault(kind, file, f"with {partner}")
    named = [name for name in files_below(other) if Path(name).name == path.name]
    chosen = rng.choice(named)
    shutil.copyfile(other / chosen, path)
    return Fault(kind, file, f"by {chosen}")


def files_below(folder: Path) -> list[str]:
    """Non-empty files below ``folder``, relative, in order."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    return sorted(str(path.relative_to(folder)) for path in found)
