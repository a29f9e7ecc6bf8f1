from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from PIL import Image

from data_tools.console import CommandError
from jobs.collect import choose_best
from jobs.folder import Plan, SweepFolder
from jobs.report import write_report
from jobs.stages import run_stage
from tests.jobs.sweep_files import GRID, finish_run, make_sweep
from tests.trainings import empty_config
from vqvae_dist.config import PixelCNNConfig
from vqvae_dist.config_io import compose, to_json, toml_layer
from vqvae_dist.data.codes_writer import write_attributes
from vqvae_dist.files import write_json, write_sealed
from vqvae_dist.run_folder import SCHEMA

PIPELINE = """
[pipeline]
then = ["extract-codes", "train-pixelcnn", "generate", "evaluate", "report"]
[pipeline.train-pixelcnn]
"schedule.steps" = 20
"""


class Line:
    """A pipeline whose commands are faked: they leave their output and are counted."""

    def __init__(self, folder: SweepFolder, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.asked: list[list[str]] = []

    def __call__(self, arguments: list[str]) -> str:
        self.asked.append(arguments)
        assert arguments[0] == "train-pixelcnn" or "--overwrite" in arguments
        name, target = (
            arguments[0],
            Path(arguments[arguments.index("--output" if "--output" in arguments else "--output-dir") + 1]),
        )
        if name == "extract-codes":
            with h5py.File(target, "w") as file:
                write_attributes(file, {"K": 16, "digest": "of these codes"})
        elif name == "train-pixelcnn":
            self.leave_prior(Path(arguments[2]), target)
        elif name == "evaluate":
            target.mkdir()
        else:
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(b"picture")
        return "completed"

    def leave_prior(self, settings: Path, target: Path) -> None:
        config = compose(PixelCNNConfig, toml_layer(settings))
        resolved = {"milestones": list(config.milestones)}
        stored = empty_config() | {"schema": SCHEMA, "settings": to_json(config), "resolved": resolved}
        (target / "model").mkdir(parents=True, exist_ok=True)
        (target / "model" / "model.safetensors").write_text(json.dumps(stored))
        about = {"data_digest": "of these codes", "stage": "train-pixelcnn", "attempts": []}
        write_sealed(target / "config.json", stored | about)

    def run(self) -> list[str]:
        """Run all stages; return the commands that were needed."""
        self.asked = []
        for stage in self.plan.pipeline:
            assert run_stage(self.folder, self.plan, stage, run=self) == "completed"
        return [arguments[0] for arguments in self.asked]


@pytest.fixture
def line(tmp_path: Path, packed: Path) -> Line:
    folder, plan = make_sweep(tmp_path, packed, GRID + PIPELINE)
    for number, member in enumerate(plan.members):
        finish_run(folder, member.run_id, value=0.5 + number / 10)
    return Line(folder, plan)


def test_pipeline_works_on_the_best_member_and_leaves_everything_in_its_place(line: Line) -> None:
    assert line.run() == ["extract-codes", "train-pixelcnn", "generate", "evaluate"]
    best = json.loads(line.folder.best_file.read_text())
    assert best["choice"] == line.plan.members[3].run_id
    target = line.folder.path / "pipeline" / best["choice"]
    assert {path.name for path in target.iterdir()} >= {"codes.h5", "prior", "Pic", "evaluate"}
    assert (target / "Pic" / "PixelCNN_generate.jpg").is_file()
    assert line.folder.report_html.is_file()


def test_second_run_does_only_what_trainings_decide_themselves(line: Line) -> None:
    line.run()
    assert line.run() == ["train-pixelcnn"]  # the training says itself that it is completed
    assert "--fresh" not in line.asked[0]


def test_new_best_makes_a_new_folder_and_keeps_the_old(line: Line) -> None:
    line.run()
    finish_run(line.folder, line.plan.members[0].run_id, value=0.99)
    assert line.run() == ["extract-codes", "train-pixelcnn", "generate", "evaluate"]
    assert len(list((line.folder.path / "pipeline").iterdir())) == 2


def test_retrained_member_makes_its_codes_and_pictures_anew(line: Line) -> None:
    line.run()
    choice = line.folder.read_choice()
    assert choice
    (line.folder.run(choice).model / "model.safetensors").write_text("other weights")
    assert line.run() == ["extract-codes", "train-pixelcnn", "generate", "evaluate"]


def test_the_report_says_what_is_not_of_the_present_models(line: Line) -> None:
    line.run()
    choice = line.folder.read_choice()
    assert choice
    target, vqvae = line.folder.pipeline(choice), line.folder.run(choice)
    Image.new("L", (8, 8)).save(target.picture.with_suffix(".png"))
    write_json(target.evaluation / "metrics.json", {"slices": 3, "subjects": 1, "split": "test"})
    remark = "of earlier weights or options: the stage has not run since"
    write_report(line.folder, line.plan)
    assert remark not in line.folder.report_html.read_text()
    (vqvae.model / "model.safetensors").write_text("other weights")
    write_report(line.folder, line.plan)
    assert line.folder.report_html.read_text().count(remark) == 3  # a caption stands twice, as what is read aloud


def test_an_earlier_result_stays_until_a_new_one_is_there(line: Line) -> None:
    line.run()
    choice = line.folder.read_choice()
    assert choice
    evaluation = line.folder.pipeline(choice).evaluation
    (evaluation / "metrics.json").write_text("earlier")
    (stage,) = (stage for stage in line.plan.pipeline if stage.name == "evaluate")
    other = replace(stage, options={"split": "validate"})

    def fail(arguments: list[str]) -> str:
        evaluation.mkdir()
        raise CommandError("no")

    with pytest.raises(CommandError, match="no"):
        run_stage(line.folder, line.plan, other, run=fail)
    assert (evaluation / "metrics.json").read_text() == "earlier"
    evaluation.rename(evaluation.with_name(".staging-evaluate"))  # as a kill leaves it, early or later
    with pytest.raises(CommandError, match="no"):
        run_stage(line.folder, line.plan, other, run=fail)
    assert (evaluation / "metrics.json").read_text() == "earlier"
    evaluation.rename(evaluation.with_name(".staging-evaluate"))
    evaluation.mkdir()
    with pytest.raises(CommandError, match="no"):
        run_stage(line.folder, line.plan, other, run=fail)
    assert (evaluation / "metrics.json").read_text() == "earlier"
    assert run_stage(line.folder, line.plan, other, run=line) == "completed"
    assert not (evaluation / "metrics.json").exists()
    assert not list(evaluation.parent.glob(".staging-*"))


def test_prior_goes_on_with_more_steps_and_starts_afresh_with_other_settings(
    line: Line, tmp_path: Path, packed: Path
) -> None:
    line.run()
    _, line.plan = make_sweep(tmp_path, packed, GRID + PIPELINE.replace("= 20", "= 30"))
    line.run()
    assert "--fresh" not in line.asked[0]
    _, line.plan = make_sweep(tmp_path, packed, GRID + PIPELINE.replace("= 20", '= 30\n"model.layers" = 3'))
    line.run()
    assert "--fresh" in line.asked[0]


@pytest.mark.parametrize(
    ("sweep", "prior", "expected"),
    [
        ("", "", ("disabled", "trial", ())),  # of the base, smoke
        ('"tracking.mode" = "offline"\n"tracking.tags" = ["a"]\n', "", ("offline", "trial", ("a",))),
        ('"tracking.mode" = "offline"\n', '"tracking.mode" = "online"\n', ("online", "trial", ())),
    ],
)
def test_prior_is_tracked_as_the_chosen_member_is_unless_it_says_otherwise(
    tmp_path: Path, packed: Path, sweep: str, prior: str, expected: tuple[str, str, tuple[str, ...]]
) -> None:
    folder, plan = make_sweep(tmp_path, packed, sweep + GRID + PIPELINE + prior)
    finish_run(folder, plan.members[0].run_id)
    Line(folder, plan).run()
    settings = folder.pipeline(plan.members[0].run_id).prior_settings
    tracking = compose(PixelCNNConfig, toml_layer(settings)).tracking
    assert (tracking.mode, tracking.group, tracking.tags) == expected


def test_best_is_the_completed_member_with_the_best_value(line: Line) -> None:
    runs = [member.run_id for member in line.plan.members]
    finish_run(line.folder, runs[3], value=0.95, state="running")
    finish_run(line.folder, runs[2], value=None)
    best = choose_best(line.folder, line.plan)
    assert (best["choice"], best["metric"], best["value"]) == (runs[1], "max validate/ssim_foreground", 0.6)
    assert [(candidate["run_id"], candidate["state"], candidate["value"]) for candidate in best["candidates"]] == [
        (runs[0], "completed", 0.5),
        (runs[1], "completed", 0.6),
        (runs[2], "completed", None),
        (runs[3], "running", 0.95),
    ]


def test_smallest_is_best_where_the_sweep_says_so(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed, GRID + '[pipeline]\nselect = "min validate/mse"')
    for number, member in enumerate(plan.members):
        finish_run(folder, member.run_id, value=0.5 + number / 10)
    assert choose_best(folder, plan)["choice"] == plan.members[0].run_id


def test_without_a_completed_member_there_is_no_best(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    finish_run(folder, plan.members[0].run_id, state="failed")
    with pytest.raises(CommandError, match="no member is completed yet"):
        choose_best(folder, plan)
