from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from vqvae_dist.cli import PROGRAM, main
from vqvae_dist.config import STAGES, TrainConfig
from vqvae_dist.config_io import preset_names


def said(capfd: pytest.CaptureFixture[str]) -> str:
    return capfd.readouterr().err


def test_without_a_command_the_commands_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    listed = capfd.readouterr().out
    assert all(name in listed for name in PROGRAM.commands)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-vqva"], "error: no command 'train-vqva'; did you mean train-vqvae?; allowed: train-vqvae, "),
        (["train-vqvae"], "error: missing --data.path FILE.h5, --output-dir RUN (see"),
        (["train-vqvae", "--preset", "smoky"], "error: no preset 'smoky'; there are"),
        (["train-pixelcnn", "--preset", "smoke"], "error: preset smoke is for train-vqvae; there are pixelcnn"),
        (["train-vqvae", "--preset"], "--preset takes one of full_resolution, original, smoke, got nothing (see"),
        (["train-vqvae", "--config", "--fresh"], "--config takes a TOML file, got nothing (see"),
        (
            ["train-vqvae", "--preset", "full_resolution", "--schedule.steps", "10"],
            "error: preset full_resolution with --schedule.steps: model.quantizer.init_after must be below "
            "schedule.steps 10, got 20",
        ),
        (
            ["train-vqvae", "--preset", "smoke", "--model.quantizer.kind", "fsq"],
            "error: preset smoke with --model.quantizer.kind: model.codebook_size must be levels to the power of",
        ),
        (
            [
                "train-vqvae",
                "--model.quantizer.init-after",
                "9",
                "--schedule.steps",
                "9",
                "--preset",
                "full_resolution",
            ],
            "error: model.quantizer.init_after must be below schedule.steps 9, got 9",
        ),
        (["train-vqvae", "--schedule.steps", "1" * 400], "schedule.steps must be 1,000,000,000 or less, got 111"),
        (["train-vqvae", "--schedule.steps", "1" * 9000], "--schedule.steps"),
        (["train-vqvae", "--optim.lr", "-1"], "error: optim.lr must be positive, got -1"),
        (["train-vqvae", "--optim.lrr", "1"], "--optim.lr"),
        (["train-vqvae", "--config", "no.toml"], "error: no.toml: No such file or directory; give a TOML file"),
        (["train-pixelcnn", "--model.codebook-size", "3"], "--model.codebook-size"),
        (["rerun", "--output", "new", "run"], "error: unrecognized: --output; did you mean --output-dir? (see"),
    ],
)
def test_a_wrong_command_line_exits_2_with_one_line(
    capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    text = said(capfd)
    assert message in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(("stage", "kind"), STAGES.items())
def test_help_says_what_each_preset_is_for(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stage: str, kind: type[TrainConfig]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        main([stage, "--help"])
    shown = capfd.readouterr().out
    for name in preset_names(kind):
        purpose = (files("vqvae_dist") / "presets" / f"{name}.toml").read_text().splitlines()[0].removeprefix("# ")
        assert purpose.endswith(".")
        assert f" {name}: {purpose} " in shown


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--lr", "--optim.lr"),
        ("--lr=1e-3", "--optim.lr"),
        ("--learning-rate", "--optim.lr"),
        ("--optim.learning_rate", "--optim.lr"),
        ("--batch_size", "--schedule.batch-size"),
        ("--steps", "--schedule.steps"),
        ("--epochs", "--schedule.steps"),
        ("--num-workers", "--data.workers"),
        ("--data", "--data.path"),
        ("--mixed-precision", "--precision.mixed"),
        ("--wandb-project", "--tracking.project"),
        ("--num-embeddings", "--model.codebook-size"),
        ("--output", "--output-dir"),
        ("--seeed", "--seed"),
    ],
)
def test_a_flag_of_another_name_is_answered_with_ours(
    capfd: pytest.CaptureFixture[str], given: str, meant: str
) -> None:
    assert main(["train-vqvae", given, "8"]) == 2
    text = said(capfd)
    assert f"unrecognized: {given}" in text
    assert f"; did you mean {meant}? (see python -m vqvae_dist train-vqvae --help)" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model.quantizer.commitment", "5"],
            "warning: model.quantizer.kind fsq does not use model.quantizer.commit",
        ),
        (
            ["--model.quantizer.init-after=0"],
            "warning: model.quantizer.kind fsq does not use model.quantizer.init_after\n",
        ),
        (["--config", "a.toml"], "warning: model.quantizer.kind fsq does not use model.quantizer.decay\n"),
        (["--config", "a.toml", "--model.quantizer.kind", "ema"], ""),
        (["--optim.lr", "1"], ""),
    ],
)
def test_a_setting_that_the_kind_does_not_use_is_told(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "a.toml").write_text("[model.quantizer]\ndecay = 0.5\ninit_after = 0\n")
    monkeypatch.chdir(tmp_path)
    fsq = ["--model.quantizer.kind", "fsq", "--model.code-dim", "3", "--data.path", "no.h5", "--output-dir", "run"]
    assert main(["train-vqvae", *fsq, *arguments]) == 1
    text = said(capfd)
    assert message in text
    assert ("does not use" in text) == bool(message)


def test_a_missing_file_exits_1(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train-vqvae", "--data.path", "no.h5", "--output-dir", str(tmp_path / "run")]) == 1
    assert "no.h5: no such file" in said(capfd)
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_and_no_codes_says_what_it_is(
    capfd: pytest.CaptureFixture[str], packed: Path, tmp_path: Path
) -> None:
    prior, out = ["train-pixelcnn", "--output-dir", str(tmp_path / "run"), "--data.path"], str(tmp_path / "out")
    for words, message in (
        (["evaluate", "--run", packed, "--data", packed, "--split", "test", "--output", out], "a file; give the run"),
        ([*prior, packed], "an HDF5 file, but not codes; codes are made by: python -m vqvae_dist extract-codes"),
        ([*prior, tmp_path], "is a folder, not a file of codes; codes are made by:"),
        (["rerun", tmp_path / "none", "--output-dir", out], "none: no such run folder; a training makes one as its"),
    ):
        assert main([str(word) for word in words]) == 1
        assert message in said(capfd)


def test_output_dir_is_needed(capfd: pytest.CaptureFixture[str], packed: Path) -> None:
    assert main(["train-vqvae", "--data.path", str(packed)]) == 2
    assert "missing --output-dir RUN (see" in said(capfd)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    from vqvae_dist.cli import TrainVQVAE, _read_config
    from vqvae_dist.config import VQVAEConfig

    text = 'output_dir = "runs"\n[schedule]\nsteps = 70\nlog_every = 7\n[data]\npath = "x.h5"\n'
    (tmp_path / "a.toml").write_text(text)
    arguments = ["--preset", "smoke", "--config", str(tmp_path / "a.toml"), "--schedule.log-every", "9", "--fresh"]
    config, fresh = _read_config(VQVAEConfig, TrainVQVAE, arguments, "test")
    assert fresh
    assert type(config) is VQVAEConfig
    assert (config.schedule.steps, config.schedule.log_every, config.model.hidden) == (70, 9, 32)


@pytest.mark.parametrize(("local_rank", "complains"), [("1", False), ("0", True)])
def test_one_process_of_each_machine_complains(local_rank: str, complains: bool) -> None:
    environment = {**os.environ, "RANK": "3", "LOCAL_RANK": local_rank}
    command = [sys.executable, "-m", "vqvae_dist", "train-vqvae", "--optim.lr", "-1"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ("optim.lr must be positive" in ended.stderr) == complains
    assert bool(ended.stderr) == complains
