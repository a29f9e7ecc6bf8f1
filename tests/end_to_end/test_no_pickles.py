"""No pickle is ever loaded from a file that a user gives: data, settings, runs."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from data_tools.cli import run
from data_tools.console import run_command
from jobs.cli import main as jobs
from tests.canary import Canary
from tests.data_tools.slices import Save, brain
from tests.trainings import command_line, settings_of, train
from vqvae_dist.cli import main as vqvae_dist
from vqvae_dist.files import write_sealed
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import RunFolder


def data_tools_command(*arguments: object) -> int:
    return run_command(run, [str(argument) for argument in arguments])


class Trap:
    """Files that leave a mark when anybody unpickles them."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "mark"
        self.pickled = pickle.dumps(Canary(self.mark))
        torch.save(Canary(self.mark), folder / "trap.pt")
        self.archive = (folder / "trap.pt").read_bytes()
        array = np.empty(1, object)
        array[0] = Canary(self.mark)
        np.save(folder / "trap.npy", array)
        self.numpy = (folder / "trap.npy").read_bytes()
        np.savez(folder / "trap.npz", a=array)
        self.numpy_archive = (folder / "trap.npz").read_bytes()

    @property
    def kinds(self) -> list[bytes]:
        return [self.pickled, self.archive, self.numpy, self.numpy_archive]

    def check(self) -> None:
        assert not self.mark.exists(), "a pickle was loaded"


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    (tmp_path / "trap").mkdir()
    trap = Trap(tmp_path / "trap")
    yield trap
    trap.check()


def test_the_trap_works(tmp_path: Path) -> None:
    trap = Trap(tmp_path)
    loads: list[Callable[[bytes], object]] = [
        pickle.loads,
        lambda data: torch.load(tmp_path / "trap.pt", weights_only=False),
        lambda data: np.load(tmp_path / "trap.npy", allow_pickle=True),
    ]
    for load in loads:
        load(trap.pickled)
        assert trap.mark.exists()
        trap.mark.unlink()


def test_packing_loads_no_pickle(trap: Trap, save: Save, tmp_path: Path) -> None:
    folder = save("good.png", brain())
    for number, data in enumerate(trap.kinds):
        for suffix in ("pkl", "pt", "npy", "npz", "png", "nii", "nii.gz", "dcm", "tif"):
            (folder / f"{number}.{suffix}").write_bytes(data)
    assert data_tools_command("pack", folder, "--output", tmp_path / "out.h5", "--workers", "1") == 0
    (tmp_path / "subjects.csv").write_bytes(trap.pickled)
    arguments = ("--output", tmp_path / "b.h5", "--workers", "1", "--subjects", tmp_path / "subjects.csv")
    assert data_tools_command("pack", folder, *arguments) in (1, 2)


@pytest.mark.parametrize("kind", range(4))
def test_no_data_file_is_loaded_as_a_pickle(kind: int, trap: Trap, tmp_path: Path) -> None:
    file = tmp_path / "data.h5"
    file.write_bytes(trap.kinds[kind])
    for command in (["info", file], ["verify", file], ["export", file, tmp_path / "out"]):
        assert data_tools_command(*command) == 1
    for stage in ("train-vqvae", "train-pixelcnn"):
        assert vqvae_dist(command_line(stage, settings_of(stage, file, tmp_path / "run", {}))) == 1
    (tmp_path / "sweep.toml").write_text(f'name = "trial"\nbase = "smoke"\n[set]\n"data.path" = "{file}"\n')
    for sweep, status in ((tmp_path / "sweep.toml", 1), (file, 2)):
        assert jobs(["submit", str(sweep), "--root", str(tmp_path / "runs"), "--dry-run"]) == status
    assert jobs(["submit", str(tmp_path / "sweep.toml"), "--profile", str(file), "--root", str(tmp_path)]) == 2
    assert vqvae_dist(["train-vqvae", "--config", str(file)]) == 2


@pytest.fixture(scope="module")
def trained(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 steps."""
    run = tmp_path_factory.mktemp("trained") / "run"
    short = {"schedule.steps": 4, "schedule.validate_every": 2, "schedule.checkpoint_every": 2}
    train("train-vqvae", settings_of("train-vqvae", packed, run, {**short, "model.quantizer.init_after": 1}))
    return run


@pytest.fixture(scope="module")
def prior(trained: Path, packed: Path) -> Path:
    """A prior of 4 steps over the codes of ``trained``."""
    run, codes = trained.with_name("prior"), trained.with_name("codes.h5")
    assert vqvae_dist(["extract-codes", "--run", str(trained), "--data", str(packed), "--output", str(codes)]) == 0
    train("train-pixelcnn", settings_of("train-pixelcnn", codes, run, {"schedule.steps": 4}))
    return run


def uses(vqvae: Path, prior: Path, packed: Path, made: Path) -> Iterator[list[str]]:
    """The commands that read finished runs; what they make goes to ``made``."""
    both, data = ["--vqvae", vqvae, "--pixelcnn", prior], ["--data", packed]
    for words in (
        ["evaluate", "--run", vqvae, *data, "--split", "validate", "--output", made / "evaluation"],
        ["extract-codes", "--run", vqvae, *data, "--output", made / "codes.h5"],
        ["generate", *both, "--num-samples", 1, "--output", made / "picture.png"],
        ["likelihood-map", *both, *data, "--split", "validate", "--output", made / "maps"],
    ):
        yield [str(word) for word in words]


def test_the_commands_work_on_what_nobody_spoiled(trained: Path, prior: Path, packed: Path, tmp_path: Path) -> None:
    assert [vqvae_dist(words) for words in uses(trained, prior, packed, tmp_path)] == [0] * 4


@pytest.mark.parametrize("kind", range(4))
def test_no_file_of_a_run_is_loaded_as_a_pickle(
    kind: int, trap: Trap, trained: Path, prior: Path, packed: Path, tmp_path: Path
) -> None:
    spoiled = [(trained, file) for file in files_of(trained)] + [(prior, file) for file in files_of(prior / "model")]
    for whole, file in spoiled:
        run, made = tmp_path / "run", tmp_path / "made"
        shutil.copytree(whole, run)
        (run / file.relative_to(whole)).write_bytes(trap.kinds[kind])
        _make_it_fit(run, file.relative_to(whole))
        pair = (run, prior) if whole == trained else (trained, run)
        if file.parent.name == "model":
            statuses = [vqvae_dist(words) for words in uses(*pair, packed, made)]
            assert any(status == 1 for status in statuses)
        if whole == trained:
            more = {"schedule.steps": 5, "schedule.validate_every": 2, "schedule.checkpoint_every": 2}
            settings = settings_of("train-vqvae", packed, run, {**more, "model.quantizer.init_after": 1})
            vqvae_dist(command_line("train-vqvae", settings))
        trap.check()
        for folder in (run, made):
            shutil.rmtree(folder, ignore_errors=True)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _make_it_fit(run: Path, file: Path) -> None:
    """Correct the checksums that name the file: an attacker can."""
    data = (run / file).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    manifest = (run / file).parent / "manifest.json"
    if manifest.is_file() and file.name != "manifest.json":
        written = json.loads(manifest.read_text())
        written[file.name] = {"size": len(data), "sha256": digest}
        manifest.write_text(json.dumps(written))
    if file == Path("model/model.safetensors"):
        about = read_json(RunFolder(run).model / "config.json")
        write_sealed(RunFolder(run).model / "config.json", {**about, "weights_sha256": digest})
