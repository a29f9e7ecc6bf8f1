from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.console import UsageError
from tests.vqvae_dist.layers import make
from vqvae_dist import config as settings
from vqvae_dist.config import STAGES, OptimConfig, PixelCNNConfig, VQVAEConfig, to_steps
from vqvae_dist.config_io import (
    Layer,
    compose,
    flatten,
    merge,
    nest,
    preset_layer,
    preset_names,
    to_json,
    toml_layer,
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim.lrr": 1e-3}, "file.toml: unknown setting optim.lrr, given 0.001; did you mean optim.lr?"),
        (
            {"schedule.batchsize": 8},
            "file.toml: unknown setting schedule.batchsize, given 8; did you mean schedule.batch_size?",
        ),
        (
            {"xyz.rate": 1},
            'file.toml: unknown setting xyz, given {"rate": 1}; allowed: seed, output_dir, optim,',
        ),
        (
            {"optm.gamma": 0.5},
            'file.toml: unknown setting optm, given {"gamma": 0.5}; did you mean optim?',
        ),
        ({"model.quantiser.decay": 0.5}, 'model.quantiser, given {"decay": 0.5}; did you mean model.quantizer?'),
        ({"model.norm": "layr"}, """must be 'none' or 'layer', got "layr"; did you mean layer?"""),
        ({"lr": 1e-3}, "file.toml: unknown setting lr, given 0.001; did you mean optim.lr?"),
        ({"optim.lr": "fast"}, 'file.toml: optim.lr must be a number, got "fast"'),
        ({"optim.lr": "1e-3"}, 'file.toml: optim.lr must be a number, got "1e-3"'),
        ({"optim.lr": -1}, "file.toml: optim.lr must be positive, got -1"),
        ({"optim.lr": float("inf")}, "optim.lr must be finite, got inf"),
        ({"schedule.steps": 10**400}, "schedule.steps must be 1,000,000,000 or less, got 10000000000000000000..."),
        ({"optim.milestones": [10**400]}, "optim.milestones must be whole steps from 1, or shares between 0 and 1"),
        ({"optim.warmup": 10**400}, "optim.warmup must be 0, whole steps, or a share, got 1"),
        ({"runtime.collective_timeout_s": 99999999999999999999}, "runtime.collective_timeout_s must be 1,000,000,000"),
        ({"optim.lr": float("nan")}, "file.toml: optim.lr must be positive, got nan"),
        ({"schedule.steps": 10.5}, "file.toml: schedule.steps must be a whole number, got 10.5"),
        ({"schedule.steps": "10"}, 'file.toml: schedule.steps must be a whole number, got "10"'),
        ({"optim.warmup": "10"}, 'file.toml: optim.warmup must be a number, got "10"'),
        ({"optim.milestones": 1000}, "file.toml: optim.milestones must be a list like [0.65, 0.9], got 1000"),
        ({"optim.milestones": [1, "a"]}, 'optim.milestones must be a list like [0.65, 0.9], got [1, "a"]'),
        ({"optim.betas": [0.9]}, "file.toml: optim.betas must be a list like [0.9, 0.999], got [0.9]"),
        ({"tracking.tags": "a"}, 'file.toml: tracking.tags must be a list like ["this", "that"], got "a"'),
        ({"tracking.project": 3}, "file.toml: tracking.project must be a text in quotes, got 3"),
        ({"optim": 3}, "file.toml: optim must be a table of settings, got 3"),
        ({"model.norm": "batch"}, """file.toml: model.norm must be 'none' or 'layer', got "batch\""""),
        ({"model.downsample": 3}, "file.toml: model.downsample must be a power of two from 2, got 3"),
        ({"model.codebook_size": 70000}, "file.toml: model.codebook_size must be from 2 to 65536, got 70000"),
        (
            {"model.quantizer.kind": "fsq", "model.code_dim": 16},
            "file.toml: model.codebook_size must be levels to the power of model.code_dim, as 8^3 = 512, with",
        ),
        ({"data.crop": 30}, "file.toml: data.crop must be a multiple of model.downsample 4, got 30"),
        ({"data.validate_split": "test"}, "data.validate_split must be 'train' or 'validate', got"),
        ({"data.validate_split": "all"}, "data.validate_split must be 'train' or 'validate', got"),
        ({"checkpoint.keep_last": 1}, "checkpoint.keep_last must be 2 or more"),
        ({"checkpoint.best_metric": "max validate/ssimm"}, "checkpoint.best_metric must be"),
        ({"checkpoint.best_metric": "validate/ssim"}, "checkpoint.best_metric must be"),
        ({"checkpoint.best_metric": "min validate/psnr"}, "must be one of max validate/ssim, max validate/ssim_"),
        ({"checkpoint.best_metric": "max validate/mse"}, "min validate/mse, "),
        ({"optim.milestones": [9000, 1000]}, "optim.milestones must be rising"),
        ({"optim.milestones": [1.5]}, "optim.milestones must be whole steps from 1, or shares between 0 and 1"),
        ({"loss.mse": 0.0}, "loss must be positive in one term at least"),
        ({"model.quantizer.decay": 1.0}, "model.quantizer.decay must be at least 0 and below 1, got 1.0"),
    ],
)
def test_what_does_not_fit_is_named_with_file_key_value_and_what_is_allowed(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        compose(VQVAEConfig, Layer("preset smoke", {}), Layer("file.toml", nest(values)))
    assert message in str(caught.value)
    assert str(caught.value).startswith("file.toml: ")
    assert "\n" not in str(caught.value)


def test_every_loss_term_may_stand_alone() -> None:
    terms = [field.name for field in fields(settings.LossConfig)]
    none = {f"loss.{name}": 0.0 for name in terms}
    for name in terms:
        assert getattr(make(none, {f"loss.{name}": 1.0}).loss, name) == 1.0
    with pytest.raises(UsageError, match=" = ".join(terms)):
        make(none)


def test_the_layer_that_holds_the_mistake_is_named() -> None:
    with pytest.raises(UsageError, match=r"^below\.toml: optim\.lr must be positive"):
        compose(VQVAEConfig, Layer("below.toml", {"optim": {"lr": -1}}), Layer("above.toml", {"seed": 1}))


def test_broken_toml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[optim]\nlr = = 3\n")
    with pytest.raises(UsageError, match=r"a\.toml: not valid TOML: .*line 2"):
        toml_layer(tmp_path / "a.toml")


def test_dotted_keys_and_tables_are_the_same_and_paths_follow_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('"optim.lr" = 0.5\noutput_dir = "runs/x"\n[data]\npath = "brain.h5"\n')
    (tmp_path / "b.toml").write_text(
        f'output_dir = "runs/x"\n[optim]\nlr = 0.5\n[data]\npath = "{tmp_path}/brain.h5"\n'
    )
    a, b = (compose(VQVAEConfig, toml_layer(tmp_path / name)) for name in ("a.toml", "b.toml"))
    assert a == b
    assert a.data.path == str(tmp_path / "brain.h5")
    assert a.output_dir == str(tmp_path / "runs/x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"optim.lr" = 1\n[optim]\nlr = 2', "optim.lr is given twice"),
        ('"model.quantizer" = 1\n[model.quantizer]\ndecay = 0.5', "model.quantizer: quantizer is given as a value and"),
        ("optim.lr = 1979-05-27", "optim.lr must not be a date or a time, got 1979-05-27"),
        ("[optim]\nmilestones = [07:32:00]", "optim.milestones must not be a date or a time, got 07:32:00"),
        (f"{'.'.join('a' * 3000)} = 1", "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a...: tables nested more than 16 deep"),
        (f'"{".".join("a" * 3000)}" = 1', "tables nested more than 16 deep"),
        (f"a = {'[' * 3000}{']' * 3000}", "not valid TOML"),
    ],
)
def test_what_no_settings_can_be_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        toml_layer(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_a_key_that_is_value_and_table_is_refused() -> None:
    with pytest.raises(UsageError, match="optim is given as a value and as a table"):
        nest({"optim": 3, "optim.lr": 1})


@pytest.mark.parametrize("name", preset_names())
def test_presets_compose(name: str) -> None:
    kind = PixelCNNConfig if name == "pixelcnn" else VQVAEConfig
    assert compose(kind, preset_layer(name)).schedule.steps >= 100


def test_the_original_recipe_is_what_it_was() -> None:
    config = compose(VQVAEConfig, preset_layer("original"))
    model, optim, schedule = config.model, config.optim, config.schedule
    assert (model.hidden, model.residual_layers, model.residual_hidden) == (128, 2, 32)
    assert (model.codebook_size, model.code_dim) == (128, 128)
    assert (optim.lr, optim.milestones, optim.gamma) == (1e-2, (1000, 9000), 0.1)
    assert (schedule.steps, schedule.batch_size, config.data.crop) == (15000, 64, 0)


def test_a_preset_of_the_other_training_is_named_as_such() -> None:
    with pytest.raises(
        UsageError, match=r"^preset pixelcnn is for train-pixelcnn; there are full_resolution, original, s"
    ):
        preset_layer("pixelcnn", VQVAEConfig)
    with pytest.raises(UsageError, match=r"^preset smoke is for train-vqvae; there are pixelcnn$"):
        preset_layer("smoke", PixelCNNConfig)


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no preset 'smok'; there are .*smoke; did you mean smoke"):
        preset_layer("smok")


def dataclasses_of(kind: type[Any]) -> set[type[Any]]:
    found = {kind}
    for hint in get_type_hints(kind).values():
        if isinstance(hint, type) and is_dataclass(hint):
            found |= dataclasses_of(hint)
    return found


ALL = sorted({cls for kind in STAGES.values() for cls in dataclasses_of(kind)}, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_setting_has_a_default_and_is_described(cls: type[Any]) -> None:
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    described = {
        line.target.id
        for line, after in zip(body.body, body.body[1:], strict=False)
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(after, ast.Expr)
    }
    own = {name for name in cls.__annotations__ if not is_dataclass(get_type_hints(cls)[name])}
    assert own - described == set()
    assert all(field.default is not MISSING for field in fields(cls))
    assert cls.__doc__


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        OptimConfig().lr = 3.0  # type: ignore[misc]  # it is frozen


def test_json_and_back_is_the_same() -> None:
    config = make({"optim.milestones": [10, 20], "tracking.tags": ["a"], "model.quantizer.kind": "gradient"})
    assert compose(VQVAEConfig, Layer("config.json", to_json(config))) == config


@given(st.floats(0.0001, 0.9999), st.integers(1, 10**6))
def test_a_share_is_at_least_one_step_and_never_beyond_the_end(share: float, steps: int) -> None:
    assert 1 <= to_steps(share, steps) <= steps


VALUES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=6
)


@given(st.dictionaries(st.sampled_from("abc"), VALUES), st.dictionaries(st.sampled_from("abc"), VALUES))
def test_merging_keeps_every_value_that_is_not_overridden(below: dict[str, Any], above: dict[str, Any]) -> None:
    merged = flatten(merge(below, above))
    assert flatten(above).items() <= merged.items()
    assert set(merged) <= set(flatten(below)) | set(flatten(above))


@pytest.mark.parametrize("module", ["vqvae_dist.config_io", "vqvae_dist.run_folder", "vqvae_dist.cli", "jobs.status"])
def test_plans_and_status_need_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'accelerate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_settings_are_all_exported() -> None:
    assert {cls.__name__ for cls in ALL} | {"TrainConfig", "STAGES", "RESULT_VERSION"} <= set(settings.__all__)
