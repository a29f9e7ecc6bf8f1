"""Which code this is: recorded for each attempt, for it decides results and is no setting. No torch."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""What the packages lie in: a checkout, a sweep's copy of the code, or site-packages."""

PACKAGES = ("data_tools", "vqvae_dist")
"""Those that decide results."""


def code_version() -> str:
    """The git commit of this code, with ``-dirty`` where it was edited; outside a checkout what its files hash to."""
    snapshot = ROOT / "snapshot.json"  # a sweep runs a copy of the code, which knows what it is of
    if snapshot.is_file():
        return str(json.loads(snapshot.read_text())["commit"])
    return commit() or hash_of_files(ROOT)


def commit() -> str:
    """The commit, empty outside a checkout; the repository around an installed package is another program's."""
    if not _git("ls-files", "--error-unmatch", Path(__file__).name):
        return ""
    return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _git(*arguments: str) -> str:
    folder = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def hash_of_files(root: Path) -> str:
    """Names and contents of the packages' Python files in ``root``, as ``files-1a2b3c4d``."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return f"files-{digest.hexdigest()[:8]}"
