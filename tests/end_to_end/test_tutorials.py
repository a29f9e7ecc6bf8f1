"""Every command and program of the tutorials is run, in its order, on phantoms; only sizes are made small."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.data_tools.dicoms import at
from tests.end_to_end.pages import ROOT, call, commands, make_small, programs, run
from tests.wandb_server import WandbServer

PAGES = ROOT / "docs" / "tutorials"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def write_scans(images: Path, scans: Path) -> None:
    """The slices of phantom subjects as DICOM series with noisy air, a folder a subject."""
    rng = np.random.default_rng(0)
    for number, file in enumerate(sorted(images.rglob("*.png"))):
        subject, place = file.stem.split("_slice_")
        pixels = np.asarray(Image.open(file)).astype(np.uint16) * 12
        noisy = pixels + rng.integers(0, 40, pixels.shape, dtype=np.uint16)
        about = {
            "PatientID": subject,
            "SeriesInstanceUID": f"1.2.{int(subject[-3:]) + 1}",
            "SOPInstanceUID": f"1.3.{number + 1}",
        }
        target = scans / f"series {subject[-3:]}" / f"{place}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(at(float(place), noisy, InstanceNumber=int(place) + 1, **about))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a user who went through ``dicom_to_samples.md``."""
    folder = tmp_path_factory.mktemp("user")
    run("python -m data_tools phantom phantoms --subjects 12 --slices 3 --size 48", folder)
    write_scans(folder / "phantoms", folder / "scans")
    for line in commands(PAGES / "dicom_to_samples.md"):
        run(line, folder)
    return folder


def test_from_dicom_to_samples(trained: Path) -> None:
    info = json.loads(run("python -m data_tools info brain.h5 --json", trained))
    assert info["subject_rules"] == {"patient id": 12}, info
    metrics = json.loads((trained / "runs/prior/test/metrics.json").read_text())
    assert metrics["foreground_otsu_slices"] == metrics["slices"] > 0
    assert metrics["prior"]["swd"] > 0
    assert (trained / "Pic/PixelCNN_generate.jpg").is_file()
    assert len(list((trained / "Pic/PixelCNN_generate").glob("*.png"))) == 16


def test_anomaly_map(trained: Path) -> None:
    shutil.copytree(next((trained / "scans").iterdir()), trained / "patient")
    page = PAGES / "anomaly_map.md"
    for line in commands(page):
        run(line, trained)
    (program,) = programs(page)
    said = call([sys.executable, "-c", program], trained)
    with h5py.File(trained / "runs/patient/likelihood.h5") as maps:
        (group,) = maps.values()
        assert f"{group['bits'][:].max():.1f} bits" in said


def test_a_sweep_without_internet_and_its_report(tmp_path: Path) -> None:
    """Members train offline; ``sync`` brings one run a member to a server that only the login node reaches."""
    run("python -m data_tools phantom my_slices --subjects 12 --slices 3 --size 48", tmp_path)
    for folder in ("docs/sweeps", "slurm/profiles"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "home").mkdir()
    with WandbServer() as server:
        offline, online = {"WANDB_MODE": "offline"}, {"WANDB_MODE": "online", **server.environment(tmp_path / "home")}
        for line in commands(PAGES / "cluster_without_internet.md"):
            run(line, tmp_path, online if " sync " in line else offline)
            if line.startswith("cp docs/sweeps"):
                make_small(tmp_path / "lr_milestones.toml")
            if line.startswith("cp slurm/profiles"):  # adapted to the only cluster here
                shutil.copy(ROOT / "slurm/profiles/local.toml", tmp_path / "mine.toml")
        best = json.loads(run("python -m jobs best lr-milestones --json", tmp_path))
        for line in commands(PAGES / "reading_a_report.md"):
            run(line.replace("BEST", best["choice"]), tmp_path, offline)
        media = [{key for row in run.rows for key in row if key.startswith("images/")} for run in server.runs.values()]
        way = {"images/validate", "images/animation"}
        assert sorted(media, key=len) == [way] * 4 + [way | {"images/samples"}], "four members, the prior of the best"
    assert (tmp_path / "runs/lr-milestones/report.html").is_file()
    assert (tmp_path / "runs/lr-milestones/test/metrics.json").is_file()
