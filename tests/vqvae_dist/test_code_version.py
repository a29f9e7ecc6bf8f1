from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vqvae_dist.code_version import PACKAGES, ROOT, hash_of_files


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A repository of another program with a copy of the packages in it."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "site" / package, ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "another program")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True)


def version_in(site: Path) -> str:
    program = "from vqvae_dist.code_version import code_version; print(code_version())"
    return subprocess.run([sys.executable, "-c", program], cwd=site, capture_output=True, text=True, check=True).stdout


def test_the_repository_around_an_installed_package_is_not_its_own(around: Path) -> None:
    assert version_in(around / "site") == f"{hash_of_files(around / 'site')}\n"
    git(around, "add", "site")
    git(around, "commit", "--quiet", "--message", "now it is")
    assert re.fullmatch(r"[0-9a-f]{12}\n", version_in(around / "site"))


def test_files_say_which_code_it_is(around: Path) -> None:
    before = hash_of_files(around / "site")
    assert re.fullmatch(r"files-[0-9a-f]{8}", before)
    assert before == hash_of_files(ROOT)
    (around / "site" / "vqvae_dist" / "cli.py").write_text("pass\n")
    assert hash_of_files(around / "site") != before
