"""Sweep files: read, expanded to members, and checked whole before anything is asked of a cluster."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.console import CommandError, UsageError, warn
from jobs.config import DEFAULT_SELECT, PipelineTable, Selection, Settings, SweepTable, base_layer, read_strictly
from jobs.idle import set_by_base, warn_of_idle
from jobs.pipeline import STAGES_BY_ARRAY, PipelineStage, read_stages
from jobs.setting_text import point_text, value_text
from vqvae_dist.config import STAGES, PixelCNNConfig, TrainConfig, VQVAEConfig
from vqvae_dist.config_io import (
    Layer,
    anchor_paths,
    compose,
    flatten,
    idle_text,
    nest,
    preset_names,
    run_id,
)
from vqvae_dist.toml_files import read_toml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Member:
    """One run of a sweep."""

    run_id: str
    point: Settings
    """What distinguishes it from the others."""

    config: VQVAEConfig | PixelCNNConfig

    @property
    def label(self) -> str:
        """The point in words: ``lr 1e-3 · milestones 6000 9000``."""
        return point_text(self.point)


@dataclass(frozen=True)
class Sweep:
    """A sweep file that was found to be right."""

    name: str
    stage: str
    select: Selection
    members: tuple[Member, ...]
    pipeline: tuple[PipelineStage, ...]
    source: Path

    @property
    def data_path(self) -> str:
        """The packed slices (or codes) of the first member; what evaluation and codes are made from."""
        return self.members[0].config.data.path


def read_sweep(path: Path, *, wandb_mode: str) -> Sweep:
    """Read and check a sweep file; UsageError or CommandError names what is wrong in it.

    ``wandb_mode`` is the profile's, for members whose settings say none.
    """
    values = read_toml(path)
    pipeline = values.pop("pipeline", None)
    table = read_strictly(SweepTable, values, str(path))
    if not NAME.fullmatch(table.name):
        raise UsageError(f"{path}: name must be letters, digits, '.', '_', '-' (it names a folder), got {table.name!r}")
    asked, stages = _read_pipeline(pipeline, table, path)
    layers = [Layer("profile", {"tracking": {"mode": wandb_mode, "group": table.name}}), *_base(table, path)]
    digest = cache(partial(_checked_digest, table.stage, path))  # members mostly share a file
    axes = _axes(table, path)
    members = tuple(
        Member(run_id(config, digest(Path(config.data.path))), point, config)
        for point in _points(axes, path)
        for config in [_compose_member(point, table, layers, asked, path)]
    )
    _refuse_duplicates(members, axes, path)
    points = dict.fromkeys(key for axis in axes for entry in axis.entries for key in flatten(nest(entry)))
    given = {str(path): [*flatten(nest(table.set)), *points]}
    warn_of_idle([member.config for member in members], set_by_base(layers, STAGES[table.stage]) | given)
    return Sweep(table.name, table.stage, _selection(members, table, path), members, stages, path)


def _read_pipeline(values: Any, table: SweepTable, path: Path) -> tuple[str, tuple[PipelineStage, ...]]:
    """``select`` as it is written, and the stages."""
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UsageError(f"{path}: pipeline must be a table of settings, got {json.dumps(values, default=str)}")
    head = {key: value for key, value in values.items() if not isinstance(value, dict)}
    known = read_strictly(PipelineTable, head, f"{path} [pipeline]")
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    return known.select, read_stages(known.then, tables, allowed=STAGES_BY_ARRAY[table.stage], path=path)


def _base(table: SweepTable, path: Path) -> list[Layer]:
    if not table.base:
        return []
    beside = path.parent / table.base
    if table.base not in preset_names() and not table.base.endswith(".toml") and beside.is_file():
        raise UsageError(f"{path}: base {table.base!r} is a file without .toml; name it {table.base}.toml")
    return [base_layer(str(beside) if table.base.endswith(".toml") else table.base, str(path), STAGES[table.stage])]


class Axis(NamedTuple):
    """One of the things that a sweep file varies."""

    where: str
    entries: list[Settings]


def _axes(table: SweepTable, path: Path) -> list[Axis]:
    """The keys of the grid, the rows of the zip, and the points."""
    lengths = {key: len(values) for key, values in table.zip.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"{path}: [zip] walks lists together, but they differ in length: {lengths}")
    known = flatten(STAGES[table.stage]())
    for key, values in {**table.grid, **table.zip}.items():
        if not values:
            raise UsageError(f"{path}: {key} has an empty list: no members")
        if isinstance(known.get(key), tuple) and not all(isinstance(value, list) for value in values):
            example = json.dumps([known[key] or ["this"], known[key] or ["that"]])
            raise UsageError(
                f"{path}: {key} is a list itself, so give a list of lists like {example}, got {json.dumps(values)}"
            )
    rows = [dict(zip(table.zip, values, strict=True)) for values in zip(*table.zip.values(), strict=True)]
    axes = [Axis(f"[grid] {key}", [{key: value} for value in values]) for key, values in table.grid.items()]
    axes += [Axis("[zip]", rows), Axis("[[points]]", list(table.points))]
    return [axis for axis in axes if axis.entries]


def _points(axes: list[Axis], path: Path) -> Iterator[Settings]:
    """Every combination of an entry of each axis; the first axis is the slowest."""
    for parts in itertools.product(*(axis.entries for axis in axes)):
        point: Settings = {}
        for part in parts:
            twice = sorted(point.keys() & part.keys())
            if twice:
                raise UsageError(f"{path}: {twice[0]} is varied in two tables; leave it in one")
            point |= part
        yield point


def _compose_member(
    point: Settings, table: SweepTable, layers: list[Layer], select: str, path: Path
) -> VQVAEConfig | PixelCNNConfig:
    """The settings of one member, checked."""
    own = {**flatten(nest(table.set)), **flatten(nest(point))}
    if own.get("output_dir"):
        raise UsageError(f"{path}: output_dir is the sweep's to choose; leave it out")
    layers = [*layers, Layer(str(path), anchor_paths(nest(own), path.parent.resolve()))]
    config = compose(STAGES[table.stage], *layers)
    own_metric = config.checkpoint.best_metric
    if select and select != (own_metric or DEFAULT_SELECT[table.stage]):
        # A run exports its weights at the best value of one metric: it has to be the one that members are compared by.
        if own_metric:
            raise UsageError(
                f"{path}: pipeline.select {select!r} differs from checkpoint.best_metric {own_metric!r}; leave one out"
            )
        chosen = Layer(f"{path} [pipeline] select", {"checkpoint": {"best_metric": select}})
        try:
            config = compose(STAGES[table.stage], *layers, chosen)
        except UsageError as error:
            raise UsageError(str(error).replace(": checkpoint.best_metric", "", 1)) from None
    _check_milestones(config, own, path)
    return config


def _selection(members: tuple[Member, ...], table: SweepTable, path: Path) -> Selection:
    """The metric by which every member keeps its best checkpoint."""
    metrics = {member.config.checkpoint.best_metric or DEFAULT_SELECT[table.stage] for member in members}
    if len(metrics) > 1:
        raise UsageError(
            f"{path}: members differ in checkpoint.best_metric ({', '.join(sorted(metrics))}); compare one"
        )
    return Selection.read(metrics.pop())


def _check_milestones(config: TrainConfig, own: Settings, path: Path) -> None:
    """Warn of milestones that come too late; UsageError where the sweep file itself sets them and the steps."""
    steps = config.schedule.steps
    late = [milestone for milestone in config.milestones if milestone >= steps]
    if late:
        text = f"{path}: optim.milestones {value_text(late)} must lie below schedule.steps {steps}"
        if {"optim.milestones", "schedule.steps"} <= own.keys():
            raise UsageError(text)
        warn(f"{text}; the learning rate never falls there")


def _checked_digest(stage: str, path: Path, data: Path) -> str:
    """``data_digest`` for a sweep file that names ``data``; an error of the data names the file and the key, too."""
    if str(data) in ("", "."):
        raise UsageError(f"{path}: data.path is missing; put it under [set]")
    from jobs.data_digest import data_digest  # h5py and numpy, for which status and others need not wait

    try:
        return data_digest(stage, data)
    except CommandError as error:
        raise type(error)(f"{path}: data.path: {error}") from None


def _refuse_duplicates(members: tuple[Member, ...], axes: list[Axis], path: Path) -> None:
    """Raise UsageError for members of one run id, naming the entries of the sweep file by which they differ."""
    chosen = itertools.product(*(range(len(axis.entries)) for axis in axes))
    first: dict[str, tuple[Member, tuple[int, ...]]] = {}
    for member, here in zip(members, chosen, strict=True):
        other, there = first.setdefault(member.run_id, (member, here))
        if there is not here:
            texts = [
                f"{axis.where} {_entry(axis, a)} and {_entry(axis, b)}"
                for axis, a, b in zip(axes, there, here, strict=True)
                if a != b
            ]
            differing = [key for key, value in member.point.items() if other.point.get(key) != value]
            reason = idle_text(member.config, differing)
            raise UsageError(f"{path}: two members are the same run: {'; '.join([*texts, *filter(None, [reason])])}")


def _entry(axis: Axis, number: int) -> str:
    return f"entry {number + 1} ({point_text(axis.entries[number])})"
