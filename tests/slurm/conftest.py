"""A real Slurm for the tests: the one that runs on this machine, or one of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.one_machine import SCRIPTS, Cluster, free_ports
from tests.slurm.sweeps import run_here


def give_up(reason: str) -> None:
    """Skip where Slurm is optional, fail where it was promised."""
    if os.environ.get("REQUIRE_SLURM") == "1":
        pytest.fail(f"REQUIRE_SLURM=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that slurm/one_machine/start.sh started on this machine."""
    env_file = SCRIPTS / "env.sh"
    if not env_file.exists():
        give_up("no Slurm was started here (slurm/one_machine/start.sh)")
    found = subprocess.run(
        ["bash", "-uc", 'source "$1"; echo "$SLURM_CONF"', "-", env_file], capture_output=True, text=True, check=True
    )
    running = Cluster(Path(found.stdout.strip()).parents[1], SCRIPTS)
    if running.attempt("sinfo", "-h").returncode:
        give_up("the Slurm of slurm/one_machine/env.sh does not answer (slurm/one_machine/start.sh --repair)")
    return running


@pytest.fixture(scope="module")
def make_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters, not started yet, that live beside any other: with their own ports, folder and scripts."""
    if not shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin"):
        give_up("Slurm is not installed (slurm/one_machine/install.sh)")
    made = []

    def make(*options: str) -> Cluster:
        # A checkout at a path that needs quoting; the state's path is short because sockets have short names.
        scripts = tmp_path_factory.mktemp("it's a checkout") / "one_machine"
        shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("env.sh"))
        state = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        at = ("--state", str(state), "--ports", str(free_ports()))
        made.append(Cluster(state, scripts, (*at, *options)))
        return made[-1]

    yield make
    for cluster in made:
        cluster.stop("--wipe")
        shutil.rmtree(cluster.state, ignore_errors=True)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed phantoms of 32 x 32 pixels."""
    folder = tmp_path_factory.mktemp("data")
    run_here("data_tools", "phantom", str(folder / "slices"), "--subjects", "6", "--slices", "4", "--size", "32")
    run_here("data_tools", "pack", str(folder / "slices"), "--output", str(folder / "brain.h5"))
    return folder / "brain.h5"
