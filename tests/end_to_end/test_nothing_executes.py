"""Nothing that a user gives is ever run: no pickle is loaded, no shell sees a name, no library is told to trust."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from data_tools.cli import run
from data_tools.console import CommandError, UsageError, run_command
from jobs.cli import main as jobs
from tests.canary import Canary
from tests.data_tools.slices import Pixels, Save, brain
from tests.trainings import command_line, settings_of, train
from vqvae_dist.cli import main as vqvae_dist
from vqvae_dist.files import write_sealed
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.training import logged_config

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for package in ("data_tools", "vqvae_dist", "jobs") for path in sorted((ROOT / package).rglob("*.py"))]

FORBIDDEN = {
    "pickle": {"load", "loads"},
    "cloudpickle": {"load", "loads"},
    "dill": {"load", "loads"},
    "joblib": {"load"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "yaml": {"load", "unsafe_load", "full_load"},
    "os": {"system", "popen"},
    "builtins": {"eval", "exec", "compile", "__import__"},
}
UNPICKLER = ROOT / "jobs" / "enter.py"
"""The one file that has an unpickler of its own, which refuses every name but two."""


def calls(path: Path) -> Iterator[tuple[str, str, ast.Call]]:
    """(module or object, function, call) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name):
                    yield "builtins", name, node
                case ast.Attribute(value=ast.Name(id=owner), attr=name):
                    yield owner, name, node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    for owner, name, call in calls(path):
        where = f"{path}:{call.lineno}: {owner}.{name}"
        options = {keyword.arg: keyword.value for keyword in call.keywords}
        safe = owner == "yaml" and ast.unparse(options.get("Loader", ast.Constant(None))) == "_Loader"
        assert name not in FORBIDDEN.get(owner, ()) or safe, where
        if owner == "torch" and name == "load":
            assert isinstance(options.get("weights_only"), ast.Constant), where
            assert options["weights_only"].value is True, where
        for option, right in (("shell", False), ("allow_pickle", False), ("trust_remote_code", False)):
            assert option not in options or ast.literal_eval(options[option]) is right, where
    text = path.read_text()
    assert "Unpickler" not in text or path == UNPICKLER


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    for line in ("import pickle\npickle.load(x)", "eval('1')", "torch.load('x')", "subprocess.run('x', shell=True)"):
        (tmp_path / "bad.py").write_text(line)
        with pytest.raises(AssertionError):
            test_no_source_runs_what_it_reads(tmp_path / "bad.py")


def test_the_yaml_of_wandb_is_read_by_a_safe_loader(tmp_path: Path) -> None:
    assert issubclass(logged_config._Loader, yaml.SafeLoader)
    bombs = "a: &a [x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
    )
    loop = "stage: &a {b: *a}\n"
    for text in (f'!!python/object/apply:pathlib.Path.touch ["{tmp_path}/mark"]', bombs, loop, "[" * 100_000, "\0"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(CommandError, match=f"{tmp_path}/config.yaml: neither JSON nor YAML"):
            logged_config.read_logged_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("stage: 2026-01-01\n")
    with pytest.raises(CommandError, match="neither JSON nor YAML"):
        logged_config.read_logged_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("stage: {1: {2: 3}}\n")
    with pytest.raises(UsageError, match="not the config of a"):
        logged_config.read_logged_config(tmp_path / "config.yaml")
    for text in ('{"stage": []}', "3", '{"stage": {"value": ["a"]}}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UsageError, match="not the config of a"):
            logged_config.read_logged_config(tmp_path / "config.json")
    assert not (tmp_path / "mark").exists()


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
def save(tmp_path: Path) -> Save:
    """Save pixels as an image under ``tmp_path/in``; returns that folder."""

    def save(name: str, pixels: Pixels) -> Path:
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / name)
        return tmp_path / "in"

    return save


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    (tmp_path / "trap").mkdir()
    trap = Trap(tmp_path / "trap")
    yield trap
    trap.check()


def test_the_trap_works(tmp_path: Path) -> None:
    trap = Trap(tmp_path)
    loads = [pickle.loads, lambda data: torch.load(tmp_path / "trap.pt", weights_only=False)]
    loads.append(lambda data: np.load(tmp_path / "trap.npy", allow_pickle=True))
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


def data_tools_command(*arguments: object) -> int:
    return run_command(run, [str(argument) for argument in arguments])


@pytest.mark.parametrize("kind", range(4))
def test_no_data_file_is_loaded_as_a_pickle(kind: int, trap: Trap, tmp_path: Path) -> None:
    file = tmp_path / "data.h5"
    file.write_bytes(trap.kinds[kind])
    for command in (["info", file], ["verify", file], ["export", file, tmp_path / "out"]):
        assert data_tools_command(*command) == 1
    for stage in ("train-vqvae", "train-pixelcnn"):
        assert vqvae_dist(command_line(stage, settings_of(stage, file, tmp_path / "run", {}))) == 1
    (tmp_path / "sweep.toml").write_text(f'name = "trial"\nbase = "smoke"\n[set]\n"data.path" = "{file}"\n')
    for sweep in (tmp_path / "sweep.toml", file):
        assert jobs(["submit", str(sweep), "--root", str(tmp_path / "runs"), "--dry-run"]) == 2
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


NASTY = [
    "a; touch canary",
    "$(touch canary)",
    "`touch canary`",
    "' && touch canary '",
    '" | touch canary "',
    "&touch canary",
]


@pytest.mark.parametrize("name", NASTY)
def test_names_of_files_reach_no_shell(name: str, save: Save, tmp_path: Path) -> None:
    folder = save(f"{name}.png", brain())
    work = tmp_path / name
    work.mkdir()
    command = [sys.executable, "-m", "data_tools", "pack", str(folder), "--output", f"{name}.h5"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in work.iterdir()) == sorted([f"{name}.h5", f"{name}.report.json"])
    assert not list(tmp_path.rglob("canary"))
