from __future__ import annotations

import shutil

import pytest

from tests.vqvae_dist.training.conftest import Trainer
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.training.generations import next_generation, set_aside


def leave(run: RunFolder, text: str) -> None:
    """What a run leaves, telling which one it was."""
    run.checkpoints.mkdir()
    (run.checkpoints / "latest").write_text(text)
    run.config_file.write_text(text)


def kept(run: RunFolder) -> dict[str, str]:
    return {path.parent.parent.name: path.read_text() for path in run.path.glob("previous/*/checkpoints/latest")}


def test_a_number_is_not_given_twice_when_an_older_run_is_deleted(run: RunFolder) -> None:
    for generation in range(4):
        leave(run, f"{generation}")
        set_aside(run, next_generation(run))
        if generation == 2:
            shutil.rmtree(run.path / "previous" / "0")
    assert kept(run) == {"1": "1", "2": "2", "3": "3"}
    assert next_generation(run) == 4


@pytest.mark.parametrize("generation", [1, None])
def test_nothing_is_moved_onto_an_earlier_run(run: RunFolder, generation: int | None) -> None:
    for number in (0, 1):
        leave(run, f"{number}")
        set_aside(run, number)
    leave(run, "new")
    set_aside(run, generation)
    assert kept(run) == {"0": "0", "1": "1", "2": "new"}


def test_other_names_among_the_earlier_runs_do_not_count(run: RunFolder) -> None:
    (run.path / "previous" / "best of all").mkdir(parents=True)
    assert next_generation(run) == 0


def test_fresh_puts_a_run_aside_whose_settings_are_damaged(trainer: Trainer) -> None:
    trainer()
    trainer.run.config_file.write_text("{")
    ended = trainer()
    assert ended.status == 1
    ended = trainer(None, "--fresh")
    assert ended.status == 0, ended.text
    assert "config.json: damaged, not valid JSON; put aside as it is" in ended.text
    assert trainer.run.read_config()["generation"] == 1
    assert (trainer.run.path / "previous" / "0" / "config.json").read_text() == "{"
