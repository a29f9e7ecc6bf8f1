"""The command that makes every figure of speed again: its rows, and what it says where one can't be made."""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main, number
from benchmarks.machine import commit
from benchmarks.speed import growth
from benchmarks.speed.quality_time import PeerReached, Way, beside
from benchmarks.speed.row import measured_memory
from benchmarks.speed.stages import with_plain_malloc
from tests.page_faults import LARGE, TIMES, faulted_when_kept

KEYS = {"name", "value", "unit", "peer", "peer_value", "ratio", "target", "command", "machine", "commit"}


@pytest.mark.slow
def test_a_row_has_its_figure_its_peer_and_where_it_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "benchmarks.json"
    assert main(["--quick", "--only", "starting", "--output", str(output)]) == 0
    rows, printed = json.loads(output.read_text()), capsys.readouterr().out
    assert [row["name"] for row in rows] == ["python -m jobs status --help", "python -m data_tools --help"]
    for row in rows:
        assert row.keys() >= KEYS
        assert row["ratio"] == pytest.approx(row["value"] / row["peer_value"])
        assert row["commit"] == commit()
        assert f"| {row['name']} | {number(row['value'])} s |" in printed


@pytest.mark.slow
def test_a_measurement_that_cannot_be_made_is_named_and_keeps_the_rows_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "benchmarks.json"
    output.write_text('[{"name": "a", "value": 1, "unit": "s", "peer": "-", "peer_value": null, "ratio": null, '
                      '"target": "-", "measurement": "memory", "device": "cpu"}]')  # fmt: skip
    assert main(["--only", "quality_time", "--output", str(output)]) == 1
    said = capsys.readouterr()
    assert "quality_time is left out: RuntimeError: needs --data, packed real slices" in said.err
    assert [row["name"] for row in json.loads(output.read_text())] == ["a"]


def test_unknown_measurements_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "sampler"])
    assert "--only sampler: one of vqvae_step" in capsys.readouterr().err


def test_the_way_that_was_there_first_stands_beside_ours() -> None:
    peers = {
        Way(0.5, compiled=True): PeerReached(0.91, 50.0, {0.86: 20.0, 0.9: 40.0}),
        Way(0.99, compiled=False): PeerReached(0.9, 60.0, {0.86: 30.0, 0.9: 25.0}),
    }
    rows = beside({0.86: 2.0, 0.9: 5.0, 0.92: 6.0}, peers, "peer")
    assert [(row.peer, row.peer_value, row.ratio) for row in rows] == [
        ("peer, compiled, decay 0.5", 20.0, 10.0),
        ("peer, uncompiled, decay 0.99", 25.0, 5.0),
        ("peer: at 0.910 when it was stopped", 60.0, 10.0),
    ]


def test_memory_of_a_block_is_what_it_held_at_a_time() -> None:
    with measured_memory("cpu") as memory:
        for _ in range(3):
            held = bytearray(60_000_000)
            held[::4096] = b"x" * len(held[::4096])
            del held
    assert 0.055e9 < memory.above < 0.09e9


def is_daemon() -> bool:
    """Whether this process may start none."""
    return multiprocessing.current_process().daemon


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_peers_get_their_memory_as_whoever_does_not_use_the_suite(capfd: pytest.CaptureFixture[str]) -> None:
    assert with_plain_malloc(faulted_when_kept) > (TIMES - 1) * LARGE
    assert not with_plain_malloc(is_daemon), "packing starts processes"
    with_plain_malloc(print, "progress")
    assert capfd.readouterr().out == "", "stdout is for the rows"


@pytest.mark.slow
def test_growth_is_measured_in_processes_whose_end_is_noticed(tmp_path: Path) -> None:
    figures = growth.in_a_process(tmp_path, 2 * growth.DEPTH)
    assert set(figures) == {"packing", "packing memory", "reading", "reading memory"}
    assert min(figures.values()) > 0
    assert figures["packing memory"] < figures["reading memory"], "packing loads no torch"
    assert not any(tmp_path.iterdir())
    (tmp_path / "growth_0").write_text("in the way")
    with pytest.raises(EOFError):
        growth.in_a_process(tmp_path, 0)
