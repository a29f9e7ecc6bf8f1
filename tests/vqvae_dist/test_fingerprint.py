from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from tests.vqvae_dist.layers import DIGEST, make, size_for
from vqvae_dist.config import STAGES, PixelCNNConfig, PixelCNNModelConfig, TrainConfig, VQVAEConfig
from vqvae_dist.config_io import (
    FREE_KEYS,
    changed_settings,
    fingerprint,
    flatten,
    nest,
    result_settings,
    run_id,
    to_json,
    younger_settings,
)
from vqvae_dist.config_pixelcnn import PRIORS
from vqvae_dist.config_quantizer import CODEBOOK, QUANTIZERS


def test_free_keys_exist() -> None:
    known = set(flatten(VQVAEConfig())) | set(flatten(PixelCNNConfig()))
    assert known >= FREE_KEYS


def test_a_setting_younger_than_a_run_is_taken_as_it_trained() -> None:
    younger = younger_settings(VQVAEConfig)
    assert younger.items() >= {"loss.edges": 0.0, "precision.deterministic": False}.items()
    old, new = make({}), make({"loss.edges": 0.1})
    settings = {key: value for key, value in flatten(to_json(old)).items() if key not in younger}
    stored = {"settings": nest(settings), "resolved": {"milestones": list(old.milestones)}}
    assert changed_settings(stored, old) == []
    assert changed_settings(stored, new) == ["loss.edges 0.0 -> 0.1"]
    stored = {"settings": to_json(new), "resolved": {"milestones": list(new.milestones)}}
    assert changed_settings(stored, old) == ["loss.edges 0.1 -> 0.0"]
    assert fingerprint(old, DIGEST) != fingerprint(new, DIGEST)


def test_fingerprint_and_run_id_are_pinned() -> None:
    """They name folders and W&B runs: a change here orphans what people have trained."""
    config = make({"optim.lr": 3e-4, "optim.milestones": [6000, 10000], "schedule.steps": 12000})
    assert run_id(config, DIGEST) == "lr3e-4_ms6k-10k_2a97d9dd"
    assert fingerprint(config, DIGEST).startswith("2a97d9dd")
    assert fingerprint(PixelCNNConfig(), DIGEST).startswith("5a2df60d")


def test_settings_that_a_kind_of_quantizer_does_not_use_name_no_other_run() -> None:
    grid = {"model.quantizer.kind": "fsq", "model.code_dim": 3}
    flat = flatten(VQVAEConfig())
    assert {f"model.quantizer.{name}" for name in CODEBOOK} < flat.keys()
    for name, value in (("decay", 0.9), ("revive_below", 0.0), ("gradient", "rotation"), ("init", "data")):
        change = {f"model.quantizer.{name}": value}
        assert fingerprint(make(grid | change), DIGEST) == fingerprint(make(grid), DIGEST)
        assert fingerprint(make(change), DIGEST) != fingerprint(make({}), DIGEST)


def test_settings_that_a_kind_of_prior_does_not_use_name_no_other_run() -> None:
    def name(**model: Any) -> str:
        return fingerprint(PixelCNNConfig(model=PixelCNNModelConfig(**model)), DIGEST)

    assert name(kind="single_stack", attention=4) == name(kind="single_stack")
    assert len({name(kind="single_stack"), name(), name(attention=4), name(kind="single_stack", layers=4)}) == 4


def test_readable_part_of_the_run_id() -> None:
    def readable(**values: Any) -> str:
        return run_id(make({"schedule.steps": 2000, **values}), DIGEST).rsplit("_", 1)[0]

    assert readable(**{"optim.lr": 2.5e-3, "optim.milestones": []}) == "lr2.5e-3_msnone"
    assert readable(**{"optim.lr": 1e-2, "optim.milestones": [1500, 1600]}) == "lr1e-2_ms1500-1600"
    assert readable(**{"optim.milestones": [0.5]}) == "lr1e-3_ms1k"


KINDS: dict[type[TrainConfig], list[dict[str, Any]]] = {
    VQVAEConfig: [
        {"model.quantizer.kind": kind} | {f"model.{name}": number for name, number in size_for(kind).items()}
        for kind in QUANTIZERS
    ],
    PixelCNNConfig: [{"model.kind": kind} for kind in PRIORS],
}
"""The settings that choose each kind of quantizer and of prior."""


def another(value: Any, allowed: tuple[Any, ...]) -> Any:
    """A value of the same type, one of ``allowed`` where there are such."""
    if allowed:
        return next(other for other in allowed if other != value)
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else value / 2 + 0.1 if isinstance(value, float) else value + 3


def choices(kind: type[Any], prefix: str = "") -> dict[str, tuple[Any, ...]]:
    """The values that settings may have, of those with a ``Literal``."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, hint in get_type_hints(kind).items():
        if isinstance(hint, type) and is_dataclass(hint):
            found |= choices(hint, f"{prefix}{name}.")
        elif get_origin(hint) is Literal:
            found[prefix + name] = get_args(hint)
    return found


@pytest.mark.parametrize("kind", STAGES.values())
def test_fingerprint_changes_with_every_setting_but_the_free_ones(kind: type[TrainConfig]) -> None:
    """A setting that the default kind of quantizer or prior does not use is changed with one that does."""
    allowed = choices(kind)
    other: dict[str, Any] = {
        "data.train_split": "all", "data.crop": 8, "model.downsample": 8, "model.kernel": 5, "model.dilations": [1],
        "optim.betas": [0.8, 0.9], "optim.milestones": [7], "optim.warmup": 5, "tracking.tags": ["x"],
        "checkpoint.best_metric": f"min validate/{'mse' if kind is VQVAEConfig else 'bits_per_code'}",
    }  # fmt: skip
    for key, value in flatten(to_json(kind())).items():
        used_by = next(chosen for chosen in ({}, *KINDS.get(kind, ())) if key not in make(chosen, kind=kind).idle)
        changed = other[key] if key in other else another(value, allowed.get(key, ()))
        old, new = make(used_by, kind=kind), make(used_by, {key: changed}, kind=kind)
        assert (fingerprint(new, DIGEST) == fingerprint(old, DIGEST)) == (key in FREE_KEYS), key
    assert fingerprint(kind(), "e" * 64) != fingerprint(kind(), DIGEST)


def test_a_share_and_the_steps_it_stands_for_are_one_run() -> None:
    share = make({"schedule.steps": 200, "optim.milestones": [0.5], "optim.warmup": 0.1})
    steps = make({"schedule.steps": 200, "optim.milestones": [100], "optim.warmup": 20})
    assert fingerprint(share, DIGEST) == fingerprint(steps, DIGEST)
    assert result_settings(share) == result_settings(steps)
