from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data_tools.console import UsageError
from jobs.config import Profile
from jobs.profile import read_profile

SHIPPED = Path(__file__).parents[2] / "slurm" / "profiles"


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_profile_is_right_and_found_by_name(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # far from slurm/profiles: they come with the package
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    assert read_profile(path.stem) == read_profile(str(path))


def test_working_folder_comes_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "slurm" / "profiles"
    folder.mkdir(parents=True)
    shutil.copy(SHIPPED / "local.toml", folder)
    with (folder / "local.toml").open("a") as file:
        file.write('env = {HERE = "yes"}\n')
    monkeypatch.chdir(tmp_path)
    assert read_profile("local").env == {"HERE": "yes"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('executor = "slurm"\npartion = "gpu"', 'unknown key partion, given "gpu"; did you mean partition?'),
        ('partition = "gpu"', "executor is missing"),
        ('executor = "slrum"', "executor must be 'local' or 'slurm', got \"slrum\""),
        ('executor = "slurm"\nnodes = 0', "nodes must be 1 or more, got 0"),
        ('executor = "slurm"\ntimeout_min = "1h"', 'timeout_min must be a whole number, got "1h"'),
        ('executor = "slurm"\ngpus_per_node = "auto"', "gpus_per_node must be a number with executor slurm"),
        ('executor = "local"\nnodes = 2', "nodes must be 1 with executor local"),
        ('executor = "slurm"\n[sbatch]\nntasks_per_node = 3', "sbatch must be options that the profile's own keys"),
        ('executor = "slurm"\n[env]\nA = 1', "env.A must be a text in quotes, got 1"),
    ],
)
def test_wrong_profile_is_refused_in_words(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as refusal:
        read_profile(str(file))
    assert message in str(refusal.value)
    assert "mine.toml" in str(refusal.value)


def test_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no profile 'a10'; there are a100, .*did you mean a100\?"):
        read_profile("a10")


def test_one_process_runs_for_each_gpu() -> None:
    assert Profile(executor="slurm", gpus_per_node=4, tasks_per_node=2).processes_per_node == 4
    assert Profile(executor="slurm", gpus_per_node=0, tasks_per_node=2).processes_per_node == 2
