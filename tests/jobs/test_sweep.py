from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.console import CommandError, UsageError
from jobs.setting_text import value_text
from jobs.sweep import Sweep, read_sweep
from tests.jobs.sweep_files import GRID, write_sweep_file


def read(folder: Path, data: Path, rest: str = GRID, *, head: str = "", steps: int = 40) -> Sweep:
    return read_sweep(write_sweep_file(folder, data, rest, head=head, steps=steps), wandb_mode="disabled")


def test_grid_is_the_product_with_the_first_key_slowest(tmp_path: Path, packed: Path) -> None:
    sweep = read(tmp_path, packed)
    assert [(member.config.optim.lr, member.config.optim.milestones) for member in sweep.members] == [
        (1e-2, (10,)),
        (1e-2, (20, 30)),
        (1e-3, (10,)),
        (1e-3, (20, 30)),
    ]
    assert [member.run_id.rsplit("_", 1)[0] for member in sweep.members] == [
        "lr1e-2_ms10",
        "lr1e-2_ms20-30",
        "lr1e-3_ms10",
        "lr1e-3_ms20-30",
    ]
    assert sweep.members[1].label == "lr 0.01 · milestones 20 30"


def test_zip_walks_lists_together_and_points_list_members(tmp_path: Path, packed: Path) -> None:
    points = '[[points]]\n"optim.gamma" = 0.5\n[[points]]\n"optim.gamma" = 0.1\n'
    rest = '[zip]\n"optim.lr" = [1e-2, 1e-3]\nseed = [1, 2]\n' + points
    members = read(tmp_path, packed, rest).members
    assert [(member.config.optim.lr, member.config.seed, member.config.optim.gamma) for member in members] == [
        (1e-2, 1, 0.5),
        (1e-2, 1, 0.1),
        (1e-3, 2, 0.5),
        (1e-3, 2, 0.1),
    ]


def test_sweep_without_tables_has_one_member(tmp_path: Path, packed: Path) -> None:
    (member,) = read(tmp_path, packed, "").members
    assert member.label == ""


def test_run_ids_do_not_depend_on_paths_or_on_the_sweep(tmp_path: Path, packed: Path) -> None:
    first = read(tmp_path, packed)
    moved = tmp_path / "moved.h5"
    moved.write_bytes(packed.read_bytes())
    second = read(tmp_path, moved, head="# another file, by its relative path\n")
    assert [member.run_id for member in first.members] == [member.run_id for member in second.members]


def test_paths_are_relative_to_the_sweep_file(tmp_path: Path, packed: Path) -> None:
    (tmp_path / "brain.h5").write_bytes(packed.read_bytes())
    assert read(tmp_path, Path("brain.h5")).data_path == str(tmp_path.resolve() / "brain.h5")


def test_base_may_be_a_file_beside_the_sweep_file(tmp_path: Path, packed: Path) -> None:
    (tmp_path / "mine.toml").write_text("[model]\nhidden = 16\n[optim]\nmilestones = [0.5]\n")
    file = write_sweep_file(tmp_path, packed, "")
    file.write_text(file.read_text().replace('"smoke"', '"mine.toml"'))
    (member,) = read_sweep(file, wandb_mode="offline").members
    assert member.config.model.hidden == 16
    assert member.config.tracking.mode == "offline"  # the profile's, where nothing else says one


def test_a_stage_that_there_is_not_is_answered_with_the_nearest(tmp_path: Path, packed: Path) -> None:
    with pytest.raises(UsageError, match=r"got \"train-vqva\"; did you mean train-vqvae\?$"):
        read(tmp_path, packed, head='stage = "train-vqva"')


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (
            '[pipeline]\nthen = ["extract-codes", "report"]\n[pipeline.extract-code]\nviews = 2',
            "then doesn't hold extract-code; did you mean extract-codes?",
        ),
        (
            '[grid]\nseed = [1, 2]\n"optim.lr" = [1e-2, 1e-3, 0.001]',
            "two members are the same run: [grid] optim.lr entry 2 (lr 1e-3) and entry 3 (lr 1e-3)",
        ),
        (
            '[grid]\n"optim.milestones" = [[20], [0.5]]\n[[points]]\nseed = 1\n[[points]]\nseed = 2',
            "[grid] optim.milestones entry 1 (milestones 20) and entry 2 (milestones 0.5)",
        ),
        (
            '[zip]\n"optim.lr" = [1e-3, 1e-3]\nseed = [1, 1]',
            "[zip] entry 1 (lr 1e-3 · seed 1) and entry 2 (lr 1e-3 · seed 1)",
        ),
        (
            '"model.quantizer.kind" = "fsq"\n"model.code_dim" = 3\n[grid]\n"model.quantizer.decay" = [0.5, 0.9]',
            "and entry 2 (quantizer.decay 0.9); model.quantizer.kind fsq does not use model.quantizer.decay",
        ),
        (
            '"model.quantizer.kind" = "fsq"',
            "preset smoke with {file}: model.codebook_size must be levels to the power of model.code_dim",
        ),
        ('[grid]\n"optim.milestones" = [[10, 50]]', "optim.milestones 50 must lie below schedule.steps 40"),
        ('[grid]\n"optim.milestones" = [[20, 10]]', "optim.milestones must be rising"),
        ('[grid]\n"optim.milestones" = [[0.5, 5]]', "optim.milestones must be rising; in steps they are [20, 5]"),
        ('[grid]\n"optim.lrr" = [1e-3]', "unknown setting optim.lrr, given 0.001; did you mean optim.lr?"),
        ('[grid]\n"optim.lr" = ["fast"]', 'optim.lr must be a number, got "fast"'),
        ('[grid]\n"optim.lr" = []', "optim.lr has an empty list"),
        (
            '[grid]\n"optim.milestones" = [10, 30]',
            "is a list itself, so give a list of lists like [[0.65, 0.9], [0.65, 0.9]]",
        ),
        ("[grid]\noptim.lr = [1e-3]", 'write dotted settings in quotes, like "optim.lr"'),
        (
            '[grid]\n"optim.polynomial_power" = [1e-3]',
            "unknown setting optim.polynomial_power, given 0.001; allowed: optim.lr, optim.milestones",
        ),
        (
            '[grid]\n"optim.learning_rate" = [1e-3]',
            "unknown setting optim.learning_rate, given 0.001; did you mean optim.lr?",
        ),
        ('[grid]\n"optim.lr" = 1e-3', "grid.optim.lr must be a list, got 0.001"),
        ('[grid]\n"optim.lr" = [1e-3]\n[zip]\n"optim.lr" = [1e-4]', "optim.lr is varied in two tables"),
        ('[zip]\n"optim.lr" = [1e-3]\nseed = [1, 2]', "differ in length: {'optim.lr': 1, 'seed': 2}"),
        ('[gird]\n"optim.lr" = [1e-3]', "unknown key gird, given {"),
        ('[grid]\noutput_dir = ["a"]', "output_dir is the sweep's to choose"),
        ('[pipeline]\nselect = "best ssim"', "[pipeline] select must be"),
        ('[pipeline]\nselect = "max validate/mse"', "[pipeline] select must be one of max validate/ssim, "),
        ('[pipeline]\nselect = "min validate/ssim_foreground"', "got 'min validate/ssim_foreground'"),
        (
            '[grid]\n"checkpoint.best_metric" = ["max validate/ssim", "max validate/psnr"]',
            "members differ in checkpoint.best_metric",
        ),
        (
            '[grid]\n"checkpoint.best_metric" = ["max validate/ssim"]\n[pipeline]\nselect = "max validate/psnr"',
            "pipeline.select 'max validate/psnr' differs from checkpoint.best_metric 'max validate/ssim'",
        ),
    ],
)
def test_wrong_sweep_file_is_refused_in_words(tmp_path: Path, packed: Path, rest: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read(tmp_path, packed, rest)
    assert message.replace("{file}", str(tmp_path / "sweep.toml")) in str(refusal.value)
    assert "sweep.toml" in str(refusal.value)


def test_setting_that_no_member_uses_is_told(tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = '"model.code_dim" = 3\n"model.quantizer.decay" = 0.5\n[grid]\n"model.quantizer.kind" = '
    assert len(read(tmp_path, packed, f'{given}["fsq"]').members) == 1
    assert "sweep.toml: model.quantizer.kind fsq does not use model.quantizer.decay\n" in capsys.readouterr().err
    assert len(read(tmp_path, packed, f'{given}["fsq", "ema"]').members) == 2
    assert capsys.readouterr().err == ""


def test_setting_of_a_base_file_that_no_member_uses_is_told_once(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.toml").write_text(
        "[model]\ncode_dim = 3\ncodebook_size = 64\n[model.quantizer]\ndecay = 0.5\ncommitment = 0.25\n"
    )
    file = write_sweep_file(tmp_path, packed, '"model.quantizer.kind" = "fsq"\n' + GRID)
    file.write_text(file.read_text().replace('"smoke"', '"base.toml"'))
    assert len(read_sweep(file, wandb_mode="disabled").members) == 4
    said = f"warning: {tmp_path / 'base.toml'}: model.quantizer.kind fsq does not use model.quantizer.decay\n"
    assert capsys.readouterr().err == said  # commitment is at its default
    file.write_text(file.read_text().replace('"fsq"', '"ema"'))
    read_sweep(file, wandb_mode="disabled")
    assert capsys.readouterr().err == ""


def test_setting_that_is_varied_and_that_no_member_uses_is_told(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fsq = '"model.quantizer.kind" = "fsq"\n"model.code_dim" = 3\n"model.codebook_size" = 64\n'
    read(tmp_path, packed, f'{fsq}[zip]\n"optim.lr" = [1e-2, 1e-3]\n"model.quantizer.decay" = [0.5, 0.9]')
    assert "sweep.toml: model.quantizer.kind fsq does not use model.quantizer.decay\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pixelcnn", ""),
        (
            "single_stack",
            "warning: {folder}/prior.toml: model.kind single_stack does not use model.attention\n"
            "warning: {folder}/sweep.toml [pipeline.train-pixelcnn]: model.kind single_stack does not use "
            "model.attention\n",
        ),
    ],
)
def test_setting_that_the_pipelines_prior_does_not_use_is_told(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str], kind: str, said: str
) -> None:
    (tmp_path / "prior.toml").write_text("[model]\nattention = 4\n")
    stages = '[pipeline]\nthen = ["extract-codes", "train-pixelcnn"]\n[pipeline.train-pixelcnn]\n'
    read(tmp_path, packed, f'{stages}base = "prior.toml"\n"model.kind" = "{kind}"\n"model.attention" = 2')
    assert capsys.readouterr().err == said.format(folder=tmp_path.resolve())


def test_late_milestone_of_the_base_is_only_a_warning(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.toml").write_text("[optim]\nmilestones = [10, 100]\n")
    file = write_sweep_file(tmp_path, packed, "")
    file.write_text(file.read_text().replace('"smoke"', '"base.toml"'))
    assert len(read_sweep(file, wandb_mode="disabled").members) == 1
    assert "optim.milestones 100 must lie below schedule.steps 40" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "with space"])
def test_name_that_is_no_folder_name_is_refused(tmp_path: Path, packed: Path, name: str) -> None:
    file = write_sweep_file(tmp_path, packed)
    file.write_text(file.read_text().replace('name = "trial"', f'name = "{name}"'))
    with pytest.raises(UsageError, match="name must be letters"):
        read_sweep(file, wandb_mode="disabled")


def test_missing_name_is_said(tmp_path: Path, packed: Path) -> None:
    file = write_sweep_file(tmp_path, packed)
    file.write_text(file.read_text().replace('name = "trial"', ""))
    with pytest.raises(UsageError, match="name is missing"):
        read_sweep(file, wandb_mode="disabled")


def test_data_file_that_is_missing_or_not_ours_is_refused(tmp_path: Path, codes: Path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    for data in (tmp_path / "nowhere.h5", tmp_path / "text.h5", codes):
        with pytest.raises(CommandError, match=rf"sweep\.toml: data\.path: .*{data.name}") as refusal:
            read(tmp_path, data)
        assert refusal.value.status == 1


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("smok", "sweep.toml: base: no preset 'smok'; there are"),
        ("pixelcnn", "sweep.toml: base: preset pixelcnn is for train-pixelcnn; there are full_resolution, original"),
        ("gone.toml", "gone.toml: No such file"),
        ("broken.toml", "broken.toml: not valid TOML"),
    ],
)
def test_wrong_base_is_refused_with_the_sweep_file_that_names_it(
    tmp_path: Path, packed: Path, base: str, message: str
) -> None:
    (tmp_path / "broken.toml").write_text("[")
    file = write_sweep_file(tmp_path, packed)
    file.write_text(file.read_text().replace('"smoke"', f'"{base}"'))
    with pytest.raises(UsageError, match=r"sweep\.toml: base: ") as refusal:
        read_sweep(file, wandb_mode="disabled")
    assert message in str(refusal.value)


def test_sweep_of_priors_takes_codes_and_not_slices(tmp_path: Path, packed: Path, codes: Path) -> None:
    file = write_sweep_file(tmp_path, codes, '[grid]\n"model.layers" = [3, 4]', head='stage = "train-pixelcnn"')
    file.write_text(file.read_text().replace('base = "smoke"', 'base = "pixelcnn"'))
    sweep = read_sweep(file, wandb_mode="disabled")
    assert (len(sweep.members), str(sweep.select)) == (2, "min validate/bits_per_code")
    file.write_text(file.read_text().replace(str(codes), str(packed)))
    with pytest.raises(CommandError, match=r"sweep\.toml: data\.path: .*not a file of codes"):
        read_sweep(file, wandb_mode="disabled")


def test_selection_becomes_the_metric_of_each_best_checkpoint(tmp_path: Path, packed: Path) -> None:
    plain = read(tmp_path, packed)
    default = read(tmp_path, packed, GRID + '[pipeline]\nselect = "max validate/ssim_foreground"')
    other = read(tmp_path, packed, GRID + '[pipeline]\nselect = "min validate/mse"')
    assert [member.run_id for member in plain.members] == [member.run_id for member in default.members]
    assert other.members[0].config.checkpoint.best_metric == "min validate/mse"
    assert str(other.select) == "min validate/mse"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-4, "1e-4"), (2.5e-3, "2.5e-3"), (0.5, "0.5"), (0.0, "0"), ([1, 0.5], "1 0.5"), ([], "none"), (True, "true")],
)
def test_values_are_written_as_people_write_them(value: object, text: str) -> None:
    assert value_text(value) == text


def test_sweep_that_the_documentation_shows_is_the_file_beside_it() -> None:
    docs = Path(__file__).parents[2] / "docs"
    _, shown = (docs / "sweeps" / "lr_milestones.toml").read_text().split("\n", 1)
    assert f"```toml\n{shown}```" in (docs / "sweeps.md").read_text()
