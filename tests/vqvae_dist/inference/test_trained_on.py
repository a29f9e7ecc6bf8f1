"""What evaluate says where the file is another than was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import pytest

from data_tools.slicefile import SliceReader
from tests.vqvae_dist.inference.conftest import Make
from tests.vqvae_dist.inference.evaluation import run_evaluate
from vqvae_dist.data.codes import FORMAT, VERSION
from vqvae_dist.data.codes_writer import write_attributes
from vqvae_dist.files import write_sealed
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import SCHEMA, RunFolder

SPLITS = ("train",) * 4 + ("validate", "test", "test")
OTHERWISE = ("test", "test", "test", "train", "validate", "train", "test")
"""Of the test slices here, those of three subjects were trained on."""


def configured(run: Path, stage: str, digest: str, path: Path, train_split: str = "train") -> Path:
    """Give a run the config.json that training writes."""
    data = {"path": str(path), "train_split": train_split}
    identity = {"schema": SCHEMA, "stage": stage, "run_id": run.name, "fingerprint": "0" * 64, "data_digest": digest}
    more: dict[str, Any] = {"generation": 0, "settings": {"data": data}, "resolved": {}, "attempts": []}
    write_sealed(RunFolder(run).config_file, {**identity, **more})
    return run


@pytest.fixture
def trained(pack: Make, vqvae_run: Make) -> tuple[Path, Path]:
    """A run, and the file that it was trained on."""
    data = pack("lk1.h5", splits=SPLITS)
    digest = SliceReader(data).digest
    return configured(vqvae_run(data_digest=digest), "train-vqvae", digest, data), data


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


def test_the_file_that_was_trained_on_needs_no_word(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = trained
    metrics, _ = run_evaluate(run, data, tmp_path / "out")
    assert warnings(capsys) == []
    assert metrics["data"]["slices_trained_on"] == 0


@pytest.mark.parametrize("trained_split", ["test", "all"])
def test_a_split_that_was_trained_on_itself_is_told(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], trained_split: str
) -> None:
    run, data = trained
    configured(run, "train-vqvae", SliceReader(data).digest, data, train_split=trained_split)
    run_evaluate(run, data, tmp_path / "out")
    (said,) = warnings(capsys)
    assert said.endswith(f"6 of the 6 slices of its split test were trained on (data.train_split of {run})")
    run_evaluate(run, data, tmp_path / "all", split="all")
    assert warnings(capsys) == []


def test_slices_that_were_packed_again_and_trained_on_are_counted(
    trained: tuple[Path, Path], pack: Make, pixelcnn_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, again = trained[0], pack("lk2.h5", splits=OTHERWISE)
    metrics, _ = run_evaluate(run, again, tmp_path / "out")
    told = f"warning: {again}: not the file that {run} was trained on"
    assert warnings(capsys) == [f"{told}, and 9 of the 12 slices of its split test were trained on"]
    assert metrics["data"]["trained_on_this_file"] is False
    assert metrics["data"]["slices_trained_on"] == 9
    run_evaluate(run, again, tmp_path / "prior", pixelcnn=pixelcnn_run(run))
    assert warnings(capsys) == [f"{told}, and 9 of the 12 slices of its split test were trained on"]
    metrics, _ = run_evaluate(run, again, tmp_path / "all", split="all")
    assert warnings(capsys) == [], "nothing is held out of all"
    assert metrics["data"]["slices_trained_on"] == 12


def test_where_the_file_that_was_trained_on_is_gone_subjects_may_have_been_trained_on(
    trained: tuple[Path, Path], pack: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = trained
    again = pack("lk2.h5", splits=OTHERWISE)
    told = (
        f"warning: {again}: not the file that {run} was trained on; subjects of its split test may have been trained on"
    )
    data.unlink()
    metrics, _ = run_evaluate(run, again, tmp_path / "gone")
    assert metrics["data"]["slices_trained_on"] is None
    assert warnings(capsys) == [told]
    again.rename(data)  # another file in its place
    metrics, _ = run_evaluate(run, data, tmp_path / "other")
    assert metrics["data"]["slices_trained_on"] is None
    assert warnings(capsys) == [told.replace(str(again), str(data))]


def test_a_prior_of_the_codes_of_a_third_file_is_told_of_too(
    trained: tuple[Path, Path], pack: Make, pixelcnn_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = trained
    prior, codes = pixelcnn_run(run), tmp_path / "codes.h5"
    for packed, told in ((SliceReader(data).digest, []), ("third", ["may have been trained on"])):
        with h5py.File(codes, "w") as file:
            about = {"format": FORMAT, "version": VERSION, "digest": packed, "data_digest": packed}
            write_attributes(file, about)
        config = RunFolder(prior).model / "config.json"
        description = {key: value for key, value in read_json(config).items() if key != "sha256"}
        write_sealed(config, {**description, "data_digest": packed})
        configured(prior, "train-pixelcnn", packed, codes)
        run_evaluate(run, data, tmp_path / packed, pixelcnn=prior)
        lines = warnings(capsys)
        assert [f"{data}: not the file that the codes of {prior} are of" in line for line in lines] == [True] * len(
            told
        )
        assert len(lines) == len(told)
