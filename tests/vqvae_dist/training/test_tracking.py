from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wandb_server.client import Client
from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import Layer, compose
from vqvae_dist.run_folder import Attempt, RunFolder
from vqvae_dist.training import metrics_file
from vqvae_dist.training.metrics_file import MetricsFile, cut_after
from vqvae_dist.training.tracking import MAX_BINS, Tracker, dashboard_config, np_histogram, wandb_id
from vqvae_dist.training.wandb_writer import Writer, best_of

IDENTITY = {
    "run_id": "lr1e-3_ms1k-9k_0123abcd",
    "stage": "train-vqvae",
    "generation": 0,
    "data_digest": "d" * 64,
    "resolved": {"mixed": "bf16"},
    "settings": {"optim": {"lr": 7}},
    "attempts": [{"code": "first"}, {"code": "second"}],
}


def make_config(**tracking: Any) -> VQVAEConfig:
    optim = {"milestones": [0.5, 0.9]}
    settings = {"schedule": {"steps": 100}, "optim": optim, "tracking": {"mode": "disabled", **tracking}}
    return compose(VQVAEConfig, Layer("test", settings))


def make_tracker(path: Path, *, resume_step: int = 0, active: bool = True) -> Tracker:
    attempt = Attempt("12", 3)
    return Tracker(
        RunFolder(path), make_config(), identity=IDENTITY, resume_step=resume_step, attempt=attempt, active=active
    )


def test_row_is_on_disk_when_log_returns(tmp_path: Path) -> None:
    tracker = make_tracker(tmp_path)
    tracker.log(5, {"epoch": 0.5, "train/loss": np.float32(0.25), "codes": np.int64(3)})  # type: ignore[dict-item]  # numpy's are taken too
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert list(row) == ["global_step", "time", "attempt", "epoch", "train/loss", "codes"]
    assert (row["global_step"], row["attempt"], row["train/loss"], row["codes"]) == (5, 3, 0.25, 3)
    tracker.finish("completed")


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    tracker = make_tracker(tmp_path)
    tracker.log(1, {"a": math.nan, "b": np.float32("inf"), "c": None, "d": -math.inf})  # type: ignore[dict-item]  # numpy's are taken too
    tracker.finish("completed")
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    (row,) = RunFolder(tmp_path).read_metrics()
    assert [row[key] for key in "abcd"] == [None] * 4


def test_rows_survive_a_kill(tmp_path: Path) -> None:
    ended = Client({}).train(tmp_path, steps=99, kill_at=50, mode="disabled")
    assert ended.code == -9
    assert [row["global_step"] for row in RunFolder(tmp_path).read_metrics()] == list(range(1, 51))


def test_resuming_cuts_later_rows_and_a_torn_line(tmp_path: Path) -> None:
    rows = "".join(f'{{"global_step": {step}, "x": 1}}\n' for step in (1, 2, 2, 3, 4))
    (tmp_path / "metrics.jsonl").write_text(rows + '{"global_step": 2, "x"')
    tracker = make_tracker(tmp_path, resume_step=2)
    tracker.log(3, {"x": 2})
    tracker.finish("completed")
    assert [(row["global_step"], row["x"]) for row in RunFolder(tmp_path).read_metrics()] == [
        (1, 1),
        (2, 1),
        (2, 1),
        (3, 2),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(0, 30), st.binary(max_size=20))
def test_cut_keeps_every_row_up_to_the_step(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], cut: int, torn: bytes
) -> None:
    path = tmp_path_factory.mktemp("cut") / "metrics.jsonl"
    path.write_bytes(b"".join(b'{"global_step": %d}\n' % step for step in steps) + torn.replace(b"\n", b""))
    cut_after(path, cut)
    assert [json.loads(line)["global_step"] for line in path.read_text().splitlines()] == [
        step for step in steps if step <= cut
    ]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    tracker = make_tracker(tmp_path / "run", active=False)
    tracker.log(1, {"x": 1})
    tracker.picture(1, "p", np.zeros((2, 2), np.uint8))
    tracker.histogram(1, "h", np.ones(3))
    tracker.summarise({"x": 1})
    tracker.finish("completed")
    assert not (tmp_path / "run").exists()


def test_closing_twice_is_closing(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.close()
    metrics.close()


def test_a_row_that_the_disk_took_in_part_is_an_error_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.append({"global_step": 1})
    write, room = os.write, [5]

    def nearly_full(descriptor: int, content: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[: room.pop()])

    monkeypatch.setattr(os, "write", nearly_full)
    with pytest.raises(OSError, match=r"No space left on device: '.*metrics\.jsonl'"):
        metrics.append({"global_step": 2})
    metrics.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"global_step": 1}\n'


def test_rows_that_do_not_reach_the_disk_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fsync(_: int) -> None:
        failed.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(metrics_file, "SYNC_EVERY_S", 0.01)
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fsync)
        metrics.append({"global_step": 1})
        assert failed.wait(10)
        metrics._syncing.join()
    with pytest.raises(OSError, match=r"Input/output error: '.*metrics\.jsonl'"):
        metrics.append({"global_step": 2})
    metrics.close()


def test_picture_of_floats_is_refused_instead_of_shown_black(tmp_path: Path) -> None:
    tracker = make_tracker(tmp_path)
    with pytest.raises(TypeError, match="uint8"):
        tracker.picture(1, "p", np.zeros((2, 2)))  # type: ignore[arg-type]  # not uint8
    tracker.finish("completed")


def test_tracking_needs_neither_torch_nor_wandb_when_disabled(tmp_path: Path) -> None:
    program = (
        "import sys; from tests.wandb_server.fake_training import *; "
        f"train(Options(run=Path({str(tmp_path)!r}), mode='disabled')); "
        "print([name for name in ('torch', 'wandb') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_wandb_id_is_stable_and_differs_where_runs_differ() -> None:
    first = wandb_id("lr1e-3_ms1k_0123abcd", 0, "sweep", "a")
    assert first == wandb_id("lr1e-3_ms1k_0123abcd", 0, "sweep", "a")
    assert first.startswith("0123abcd-")
    others = {
        wandb_id("lr1e-3_ms1k_0123abce", 0, "sweep", "a"),
        wandb_id("lr1e-3_ms1k_0123abcd", 1, "sweep", "a"),
        wandb_id("lr1e-3_ms1k_0123abcd", 0, "other", "a"),
        wandb_id("lr1e-3_ms1k_0123abcd", 0, "sweep", "b"),
    }
    assert len(others | {first}) == 5


def test_dashboard_config_has_dotted_keys_and_twins_of_lists() -> None:
    shown = dashboard_config(make_config(tags=("x", "y")), IDENTITY, resume_step=40, attempt=Attempt("12", 3))
    assert (shown["optim.milestones"], shown["optim.milestones_str"]) == ([50, 90], "50-90")
    assert shown["tracking.tags_str"] == "x-y"
    assert (shown["resolved.mixed"], shown["attempt.code"]) == ("bf16", "second")
    assert shown["attempt.index"] == 1
    assert (shown["attempt.job"], shown["attempt.number"], shown["attempt.resume_step"]) == ("12", 3, 40)
    assert shown["optim.lr"] == make_config().optim.lr
    assert not any(isinstance(value, dict) for value in shown.values())


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5000))
def test_histogram_keeps_every_count_in_few_bins(counts: list[int]) -> None:
    values, edges = np_histogram(np.array(counts))
    assert values.sum() == sum(counts)
    assert len(values) == len(edges) - 1 <= MAX_BINS
    assert (edges[0], edges[-1]) == (0, len(counts))


def test_best_values_follow_each_metrics_direction() -> None:
    best: dict[str, float] = {}
    for row in [{"validate/ssim": 0.5, "validate/mse": 0.2}, {"validate/ssim": 0.4, "validate/mse": 0.1}]:
        best = best_of(best, row)
    for row in [{"validate/black_error": 0.1}, {"validate/black_error": 0.2}]:
        assert best_of({"best/black_error": 0.1}, row) == {"best/black_error": 0.1}
    assert best_of(best, {"validate/ssim": None, "train/loss": 0.0}) == {"best/ssim": 0.5, "best/mse": 0.1}


class BrokenRun:
    """A client that fails at everything."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("the service is gone\nand more")


def test_what_the_client_raises_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    writer = Writer(None, BrokenRun(), after=-1, earlier=[])
    for step in range(5):
        writer.try_to(lambda writer, step=step: writer.add(step, {"x": 1}))  # type: ignore[misc]  # a default has no type in a lambda
    writer.try_to(lambda writer: writer.finish("completed"))
    assert writer.finished
    error = capsys.readouterr().err
    assert error.count("the service is gone") == 1
    assert "and more" not in error
