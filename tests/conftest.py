"""Inputs that many tests share, made once."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: results and speed on a shared machine

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.phantoms import write_codes, write_packed
from tests.wandb_server import WandbServer
from tests.wandb_server.client import Client

SLURM = "tests/slurm/"

# A test run that was itself started in the background has Ctrl-C ignored, and its child processes would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left alone with it at the end."""
    items.sort(key=urgency)


def urgency(item: pytest.Item) -> int:
    """What runs first has the lowest."""
    return 0 if item.get_closest_marker("slurm") else 1 if item.get_closest_marker("slow") else 2


class FilesAtOnce(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Files run at the same time, each in one process; those that share this machine's Slurm run as one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return SLURM if file.startswith(SLURM) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesAtOnce:
    """What gives pytest-xdist's processes their tests."""
    return FilesAtOnce(config, log)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Give back the handlers of Ctrl-C and SIGTERM, which a command that is run in this process sets for itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed slices of 40 x 40 pixels: 20 to train on, 4 to validate, 4 to test."""
    return write_packed(tmp_path_factory.mktemp("packed") / "brain.h5")


@pytest.fixture(scope="session")
def packed_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed slices of three shapes and depths, none a multiple of 4 in both sides."""
    shapes = ((41, 36, "uint8"), (40, 38, "uint16"), (33, 40, "uint8"))
    return write_packed(tmp_path_factory.mktemp("packed") / "shapes.h5", shapes=shapes)


@pytest.fixture(scope="session")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Code maps of 8 x 8 cells over 16 codes: 18 to train on, 6 to validate."""
    return write_codes(tmp_path_factory.mktemp("codes") / "codes.h5")


@pytest.fixture
def server() -> Iterator[WandbServer]:
    """A W&B server on 127.0.0.1."""
    with WandbServer() as running:
        yield running


@pytest.fixture
def client(server: WandbServer, tmp_path: Path) -> Client:
    """The real W&B client, which sends to the server."""
    (tmp_path / "home").mkdir()
    return Client(server.environment(tmp_path / "home"))
