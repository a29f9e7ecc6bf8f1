from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.console import UsageError
from jobs.pipeline import PipelineFolder, PipelineStage, command_line, read_stages
from jobs.stage_options import OPTIONS

SWEEP = Path("sweep.toml")
ALL = tuple(OPTIONS)


def test_options_and_resources_of_a_stage_are_told_apart() -> None:
    tables = {"extract-codes": {"views": 2, "timeout_min": 30}}
    (stage,) = read_stages(["extract-codes"], tables, allowed=ALL, path=SWEEP)
    assert (stage.options, stage.resources) == ({"views": 2}, {"timeout_min": 30})


@pytest.mark.parametrize(
    ("then", "tables", "message"),
    [
        (["train-pixelcn"], {}, "no stage 'train-pixelcn' behind this array"),
        (["train-pixelcnn"], {}, "train-pixelcnn needs extract-codes before it"),
        (["extract-codes", "generate"], {}, "generate needs train-pixelcnn before it"),
        (["report", "report"], {}, "report stands there twice"),
        (["extract-codes"], {"extract-codes": {"views": 0}}, "views must be a whole number from 1, got 0"),
        (["evaluate"], {"evaluate": {"split": "tset"}}, 'split must be one of train, validate, test, all, got "tset"'),
        (ALL, {"generate": {"num_samples": "many"}}, 'num-samples must be a whole number from 1, got "many"'),
        (ALL, {"generate": {"num_samples": True}}, "num-samples must be a whole number from 1, got true"),
        (ALL, {"generate": {"temperature": -1}}, "temperature must be a number above 0, got -1"),
        (ALL, {"generate": {"top-p": 1.5}}, "top-p must be a number above 0 and at most 1, got 1.5"),
        (ALL, {"generate": {"position": 7}}, "position must be a number from 0 to 1, got 7"),
        (ALL, {"generate": {"class": []}}, "class must be the name or number of a class, got []"),
        (ALL, {"generate": {"size": "big"}}, 'size must be HEIGHTxWIDTH in pixels, like "288x256", got "big"'),
        (["report"], {"generate": {}}, "[pipeline.generate] is set, but then doesn't hold generate"),
        (["evaluate"], {"evaluate": {"spilt": "test"}}, 'unknown key spilt, given "test"; did you mean split?'),
        (
            ["extract-codes", "train-pixelcnn"],
            {"train-pixelcnn": {"model.layer": 3}},
            "unknown setting model.layer, given 3; did you mean model.layers?",
        ),
        (
            ["extract-codes", "train-pixelcnn"],
            {"train-pixelcnn": {"data.path": "x.h5"}},
            "data.path is the pipeline's to choose",
        ),
        (
            ["extract-codes", "train-pixelcnn"],
            {"train-pixelcnn": {"base": "pixelcn"}},
            "sweep.toml [pipeline.train-pixelcnn]: base: no preset 'pixelcn'",
        ),
    ],
)
def test_wrong_pipeline_is_refused_in_words(
    then: list[str], tables: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        read_stages(then, tables, allowed=ALL, path=SWEEP)
    assert message in str(refusal.value)


def test_stages_hand_their_results_on_by_path(tmp_path: Path) -> None:
    target, vqvae = PipelineFolder(tmp_path), tmp_path / "run"
    lines = {
        name: command_line(PipelineStage(name), target, vqvae=vqvae, data="brain.h5")
        for name in OPTIONS
        if name != "report"
    }
    assert lines["extract-codes"][-1] == str(tmp_path / "codes.h5")
    assert lines["train-pixelcnn"] == [
        *("train-pixelcnn", "--config", str(tmp_path / "prior.toml"), "--output-dir", str(tmp_path / "prior"))
    ]
    assert lines["generate"] == [
        *("generate", "--vqvae", str(vqvae), "--pixelcnn", str(tmp_path / "prior")),
        *("--output", str(tmp_path / "Pic" / "PixelCNN_generate.jpg")),
    ]
    assert "--pixelcnn" not in lines["evaluate"]  # there is no prior yet
    (tmp_path / "prior").mkdir()
    assert "--pixelcnn" in command_line(PipelineStage("evaluate"), target, vqvae=vqvae, data="brain.h5")
