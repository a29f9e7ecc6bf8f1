"""A copy of the code that is submitted, so that jobs run it whatever is edited while they wait."""

from __future__ import annotations

import hashlib
import shutil
from importlib.util import find_spec
from pathlib import Path

from data_tools.staging import staged
from jobs.folder import SweepFolder
from vqvae_dist.code_version import code_version
from vqvae_dist.files import write_json

PACKAGES = ("data_tools", "vqvae_dist", "jobs")
SUFFIXES = (".py", ".toml", ".typed")
DONE = "snapshot.json"
"""Written last: a snapshot without it is not one."""


def take_snapshot(folder: SweepFolder) -> Path:
    """Copy the packages into the sweep's folder, once for each version; return what to put on PYTHONPATH."""
    target = snapshot_path(folder)
    if (target / DONE).is_file():
        return target
    files = _source_files()
    with staged(target) as made:
        whole = made / target.name
        for name, source in files.items():
            copy = whole / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        write_json(whole / DONE, {"commit": code_version(), "files": len(files)})
        shutil.rmtree(target, ignore_errors=True)  # half of one, from a copy that was killed
        whole.rename(target)
    return target


def snapshot_path(folder: SweepFolder) -> Path:
    """Where the code as it is now belongs: a folder named by its content."""
    digest = hashlib.sha256()
    for name, path in _source_files().items():
        digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return folder.code / digest.hexdigest()[:12]


def _source_files() -> dict[str, Path]:
    """Names within the snapshot, and the files as they are imported here."""
    files = {}
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        root = Path(spec.submodule_search_locations[0])
        for path in sorted(root.rglob("*")):
            if path.suffix in SUFFIXES and "__pycache__" not in path.parts:
                files[f"{package}/{path.relative_to(root)}"] = path
    return files
