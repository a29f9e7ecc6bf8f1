"""A wheel gives working commands, with presets and profiles, away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with our wheel; the libraries are taken from this one, to save gigabytes."""
    folder = tmp_path_factory.mktemp("fresh")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    (site,) = (folder / "env/lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = [str(folder / "env/bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--ignore-installed", str(wheel)], check=True)
    return folder


@pytest.mark.parametrize("script", ["data-tools", "vqvae-dist", "vqvae-jobs"])
def test_console_script_shows_its_help(fresh: Path, script: str) -> None:
    done = subprocess.run(
        [fresh / "env/bin" / script, "--help"], cwd=fresh, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_packages_come_from_the_wheel_with_their_data(fresh: Path) -> None:
    program = (
        "import jobs, vqvae_dist, data_tools; from vqvae_dist.config_io import preset_names;"
        "from pathlib import Path; print(jobs.__file__); print(preset_names());"
        "print(sorted(p.name for p in (Path(jobs.__file__).parent / 'profiles').iterdir()))"
    )
    done = subprocess.run(
        [fresh / "env/bin/python", "-c", program], cwd=fresh, capture_output=True, text=True, check=True
    )
    origin, presets, profiles = done.stdout.splitlines()
    assert str(fresh) in origin
    assert "full_resolution" in presets
    assert "local.toml" in profiles


def test_a_wheel_of_an_unpacked_zip_has_the_same_data(tmp_path: Path) -> None:
    """Zip files know no links, so none may stand where a package looks for its data."""
    archive = ["git", "archive", "--format=zip", "-o", str(tmp_path / "suite.zip"), "HEAD"]
    subprocess.run(archive, cwd=ROOT, check=True)
    with zipfile.ZipFile(tmp_path / "suite.zip") as suite:
        suite.extractall(tmp_path / "suite")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(tmp_path / "suite")], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as made:
        names = set(made.namelist())
    for folder in ("jobs/profiles", "vqvae_dist/presets"):
        assert {file.relative_to(ROOT).as_posix() for file in (ROOT / folder).glob("*.toml")} <= names
