"""A sweep's folder, ROOT/NAME: its files by name, and the plan that says what belongs to the sweep."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from data_tools.console import CommandError, UsageError
from data_tools.hints import did_you_mean
from jobs.config import Profile, Selection, Settings, read_strictly
from jobs.pipeline import PipelineFolder, PipelineStage
from jobs.slurm_query import Slurm
from jobs.stage_options import OPTIONS
from jobs.sweep import NAME, Member, Sweep
from vqvae_dist.config import STAGES, check, config
from vqvae_dist.config_io import flatten, to_json
from vqvae_dist.files import write_file, write_json
from vqvae_dist.json_files import NUMBER, check_kinds, read_json
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.toml_files import read_toml


@config
class PlannedMember:
    """A member as the plan holds it; its settings are in members/RUN_ID.toml."""

    run_id: str
    label: str
    point: Settings
    steps: int
    batch_size: int
    dropped: bool = False
    """No longer in the sweep file: shown and kept, but not a candidate for best."""

    def __post_init__(self) -> None:
        check(NAME.fullmatch(self.run_id) is not None, "run_id", repr(self.run_id), "a name of a folder")


@config
class Plan:
    """plan.json: what was submitted, resolved, for every later command and for the jobs themselves."""

    name: str
    stage: str
    select: str
    data_path: str
    members: tuple[PlannedMember, ...]
    pipeline: tuple[PipelineStage, ...]
    profile: Profile
    schema: int = 1

    def __post_init__(self) -> None:
        check(NAME.fullmatch(self.name) is not None, "name", repr(self.name), "a name of a folder")
        check(self.stage in STAGES, "stage", repr(self.stage), f"one of {', '.join(STAGES)}")
        Selection.read(self.select)
        for stage in self.pipeline:
            check(stage.name in OPTIONS, "pipeline", repr(stage.name), f"one of {', '.join(OPTIONS)}")

    @property
    def selection(self) -> Selection:
        """``select``, read."""
        return Selection.read(self.select)

    @property
    def slurm(self) -> Slurm:
        """The cluster of the profile."""
        return Slurm(self.profile.slurm_conf, job_name=self.name)

    @property
    def current(self) -> tuple[PlannedMember, ...]:
        """The members the sweep file still names."""
        return tuple(member for member in self.members if not member.dropped)

    def member(self, run_id: str) -> PlannedMember | None:
        """The member of this run id, if there is one."""
        return next((member for member in self.members if member.run_id == run_id), None)


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's files by name."""

    path: Path

    @property
    def sweep_file(self) -> Path:
        """The sweep file as submitted, byte for byte."""
        return self.path / "sweep.toml"

    @property
    def plan_file(self) -> Path:
        """The plan."""
        return self.path / "plan.json"

    @property
    def events_file(self) -> Path:
        """What happened, a JSON object a line; only ever appended to."""
        return self.path / "events.jsonl"

    @property
    def best_file(self) -> Path:
        """The chosen member, why, and who else was there."""
        return self.path / "best.json"

    @property
    def logs(self) -> Path:
        """What jobs printed, and what submitit hands over to them."""
        return self.path / "logs"

    @property
    def code(self) -> Path:
        """Snapshots of the code that was submitted."""
        return self.path / "code"

    @property
    def lock_file(self) -> Path:
        """Locked by the process that feeds a local sweep, for as long as it lives."""
        return self.path / "feeder.lock"

    @property
    def feeder_log(self) -> Path:
        """What a detached ``submit`` printed."""
        return self.path / "submit.log"

    @property
    def report_html(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def report_csv(self) -> Path:
        """The report's table."""
        return self.path / "report.csv"

    def member_settings(self, run_id: str) -> Path:
        """The resolved settings of a member, as its job reads them."""
        return self.path / "members" / f"{run_id}.toml"

    def run(self, run_id: str) -> RunFolder:
        """A member's run folder."""
        return RunFolder(self.path / "runs" / run_id)

    def pipeline(self, run_id: str) -> PipelineFolder:
        """What came of a member that was chosen."""
        return PipelineFolder(self.path / "pipeline" / run_id)

    def log_file(self, job_id: str, rank: int = 0) -> Path:
        """What a process of a job printed."""
        return self.logs / f"{job_id}_{rank}_log.out"

    def read_plan(self) -> Plan:
        """The plan; CommandError where there is none."""
        if not self.plan_file.is_file():
            raise CommandError(f"{self.path}: not a sweep (no plan.json); `submit` makes one")
        return read_strictly(Plan, read_json(self.plan_file), str(self.plan_file))

    def read_choice(self) -> str | None:
        """The run id that best.json chooses, or None before there is one."""
        if not self.best_file.is_file():
            return None
        best = read_json(self.best_file)
        check_kinds(self.best_file, best, {"choice": str, "metric": str, "value": NUMBER, "step": int, "label": str})
        if not NAME.fullmatch(best["choice"]):
            raise CommandError(f"{self.best_file}: damaged, choice is not a name of a run: {best['choice']!r}")
        return str(best["choice"])

    def write_plan(self, plan: Plan) -> None:
        """Replace the plan."""
        write_json(self.plan_file, asdict(plan))


def find_sweep(text: str, root: Path) -> SweepFolder:
    """The sweep called ``text`` under ``root``, or in the folder ``text``; UsageError names those there are."""
    for folder in (root / text, Path(text)):
        if (folder / "plan.json").is_file():
            return SweepFolder(folder.resolve())
    known = sorted(path.parent.name for path in root.glob("*/plan.json"))
    there = (
        f"there are {', '.join(known)}" if known else "there are none yet; python -m jobs submit SWEEP.toml makes one"
    )
    what = f"{text} is not the folder of a sweep (no plan.json), nor" if Path(text).is_dir() else f"no sweep {text!r}"
    raise UsageError(f"{what} under {root}; {there}{did_you_mean(text, known)}")


def make_plan(sweep: Sweep, profile: Profile, old: Plan | None) -> Plan:
    """The plan of a sweep file; members of an ``old`` plan that it no longer names stay, as dropped."""
    members = [_planned(member) for member in sweep.members]
    kept = {member.run_id for member in members}
    dropped = [replace(member, dropped=True) for member in (old.members if old else ()) if member.run_id not in kept]
    return Plan(
        name=sweep.name,
        stage=sweep.stage,
        select=str(sweep.select),
        data_path=sweep.data_path,
        members=(*members, *dropped),
        pipeline=sweep.pipeline,
        profile=profile,
    )


def write_sweep(folder: SweepFolder, sweep: Sweep, plan: Plan) -> None:
    """Put the sweep file, the members' settings and the plan into the sweep's folder; the plan last."""
    folder.logs.mkdir(parents=True, exist_ok=True)
    folder.member_settings("").parent.mkdir(exist_ok=True)
    for member in sweep.members:
        file = folder.member_settings(member.run_id)
        settings = {key: value for key, value in flatten(to_json(member.config)).items() if key != "output_dir"}
        write_file_once(file, to_toml(settings).encode())
    write_file_once(folder.sweep_file, sweep.source.read_bytes())
    folder.write_plan(plan)


def write_file_once(file: Path, content: bytes) -> None:
    """Write a file, unless it holds just that already."""
    if not file.is_file() or file.read_bytes() != content:
        write_file(file, content)


def to_toml(settings: Settings) -> str:
    """Dotted settings as TOML; JSON values are TOML values but for null, which settings don't hold."""
    lines = [f"{json.dumps(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def read_member_settings(folder: SweepFolder, run_ids: Iterable[str]) -> dict[str, Settings]:
    """The flat settings of members."""
    return {run_id: read_toml(folder.member_settings(run_id)) for run_id in run_ids}


def _planned(member: Member) -> PlannedMember:
    schedule = member.config.schedule
    return PlannedMember(
        run_id=member.run_id,
        label=member.label,
        point=member.point,
        steps=schedule.steps,
        batch_size=schedule.batch_size,
    )
