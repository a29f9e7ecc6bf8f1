"""What ``submit --dry-run`` shows: the members, what they need, and what would be submitted."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from data_tools.console import CommandError, counted, say, warn
from jobs.executors import array_executors, dependency_of, sbatch_text, stage_executor
from jobs.folder import PlannedMember
from jobs.machine import resolve, visible_gpus
from jobs.snapshot import snapshot_path
from jobs.submit import Proposal
from jobs.tables import duration_text


def show(proposal: Proposal) -> None:
    """Print what submitting would do."""
    for line in describe(proposal):
        say(line)


def describe(proposal: Proposal) -> Iterator[str]:
    """The lines of a dry run."""
    plan, rows = proposal.plan, {row.unit: row for row in proposal.rows}
    missing = set(proposal.missing)  # of tens of thousands, asked for each of them
    width = max(len(member.run_id) for member in plan.members)
    yield f"{plan.name}: {counted(len(plan.current), 'member')} of {plan.stage}, in {proposal.folder.path}"
    for member in plan.current:
        word = "to run" if member.run_id in missing else rows[member.run_id].state
        yield f"  {member.run_id:{width}}  {word:9}  {counted(member.steps, 'step')}  {member.label}"
    yield f"stages after them: {', '.join(proposal.stages) or 'none to run'}"
    yield from _cost(proposal)
    yield ""
    if plan.profile.executor == "local":
        profile = resolve(plan.profile, visible_gpus() if plan.profile.gpus_per_node else ())
        what = counted(profile.gpus, "GPU") if profile.gpus else "CPUs only"
        processes = counted(profile.processes_per_node, "process", "processes")
        yield f"here: {profile.array_parallelism} at a time, {processes} each, {what}"
    else:
        yield from _sbatch(proposal)


def _cost(proposal: Proposal) -> Iterator[str]:
    """Time from the speed of members that have run; a guess needs a measurement."""
    profile, to_run = proposal.plan.profile, set(proposal.missing)
    members = {member.run_id for member in proposal.plan.members}
    speeds = [row.slices_per_second for row in proposal.rows if row.unit in members and row.slices_per_second]
    missing = [member for member in proposal.plan.current if member.run_id in to_run]
    if not missing:
        return
    if not speeds:
        yield "cost: unknown before a member has run (submit a short one first, and ask again)"
        return
    speed = statistics.median(speeds)
    hours = sum(_slices(member) for member in missing) / speed / 3600
    longest = max(_slices(member) for member in missing) / speed
    devices = profile.nodes * profile.processes_per_node
    unit = "GPU-hours" if profile.gpus else "process-hours"
    yield (
        f"cost: about {hours * devices:.3g} {unit}; the longest member {duration_text(longest)} "
        f"(measured {speed:.4g} slices/s a member, median of {len(speeds)})"
    )


def _slices(member: PlannedMember) -> int:
    return member.steps * member.batch_size


def _array_size(proposal: Proposal) -> int:
    """The longest array; where Slurm doesn't answer, all members are shown as one, with a warning."""
    try:
        return proposal.plan.slurm.max_array_size()
    except CommandError as error:
        warn(
            f"{error}. Not known here: MaxArraySize (a longer array goes in parts), and where jobs stand that were "
            "submitted before; paths are those of this machine"
        )
        return max(1, len(proposal.missing))


def _sbatch(proposal: Proposal) -> Iterator[str]:
    """The text of each sbatch file, in order of submission."""
    plan, folder = proposal.plan, proposal.folder
    code = snapshot_path(folder)
    size = _array_size(proposal)
    for part, executor in array_executors(folder, plan, len(proposal.missing), code=code, size=size):
        yield f"# sbatch: {counted(part.stop - part.start, 'member')}"
        yield sbatch_text(executor, part.stop - part.start)
    before = "ARRAY"
    for stage in plan.pipeline:
        if stage.name in proposal.stages:
            yield f"# sbatch: {stage.name}"
            after = dependency_of(stage, [before], first=before == "ARRAY")
            yield sbatch_text(stage_executor(folder, plan, stage, after=after, code=code), 1)
            before = stage.name.upper()
