"""The commands as typed functions, whose parameters are the flags; each imports what it needs when it is called."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from data_tools.console import UsageError, say
from data_tools.flags import Switch, empty_means

if TYPE_CHECKING:
    from jobs.folder import SweepFolder

ROOT = Path("runs")
SweepFile = Annotated[Positional[Path], arg(metavar="SWEEP.toml")]
SweepName = Annotated[Positional[str], arg(metavar="SWEEP")]
RunId = Annotated[Positional[str], empty_means("the end of each", metavar="[RUN_ID]")]
RunIds = Annotated[Positional[tuple[str, ...]], empty_means("all", metavar="[RUN_ID...]")]
FailedIds = Annotated[Positional[tuple[str, ...]], empty_means("all that failed or were lost", metavar="[RUN_ID...]")]
ProfileName = Annotated[str, empty_means("as before", metavar="PROFILE")]


def submit(
    sweep: SweepFile,
    /,
    *,
    profile: ProfileName = "",
    root: Path = ROOT,
    dry_run: Switch = False,
    detach: Switch = False,
    wait: Switch = False,
) -> int:
    """Run what a sweep file adds: here in the foreground, or on Slurm. Doing it twice adds nothing.

    Args:
        sweep: The sweep file.
        profile: Name or path of a profile; a new sweep without any runs here.
        root: Folder of all sweeps.
        dry_run: Show the members, their resources and what would be submitted.
        detach: Profile local: go on in the background.
        wait: Slurm: come back when everything has ended.
    """
    from jobs.dry_run import show
    from jobs.submit import begin, choose_profile, detach_submit, propose

    if detach and wait:
        raise UsageError("--detach comes back at once and --wait at the end; give one of them")
    chosen = choose_profile(sweep, profile, root)
    proposal = propose(sweep, profile=chosen, root=root)
    if dry_run:
        show(proposal)
        return 0
    if detach and chosen.executor == "local":
        return detach_submit(proposal, profile=profile, root=root)
    return begin(proposal, wait=wait)


def status(sweep: SweepName, /, *, root: Path = ROOT, json: Switch = False) -> int:
    """Where each member of a sweep stands, and each stage of its pipeline.

    Args:
        sweep: Name of a sweep under the root, or its folder.
        root: Folder of all sweeps.
        json: Print JSON.
    """
    from jobs.status import read_status
    from jobs.tables import status_json, status_table

    folder = _find(sweep, root)
    rows = read_status(folder, folder.read_plan())
    say(_json(status_json(rows)) if json else status_table(rows))
    return 0


def logs(
    sweep: SweepName,
    run_id: RunId = "",
    /,
    *,
    follow: Annotated[Switch, arg(aliases=["-f"])] = False,
    rank: int = 0,
    lines: int = 0,
    root: Path = ROOT,
) -> int:
    """What the jobs of a sweep printed: the end of each, or one from its beginning.

    Args:
        sweep: Name of a sweep under the root, or its folder.
        run_id: A member or a stage; a part of its name will do if only one has it.
        follow: Go on as more is printed, until it ends.
        rank: Which process.
        lines: Only so many of the last lines; 0: all.
        root: Folder of all sweeps.
    """
    from jobs.logs import show_logs

    return show_logs(_find(sweep, root), run_id, follow=follow, rank=rank, lines=lines)


def cancel(sweep: SweepName, run_ids: RunIds = (), /, *, root: Path = ROOT) -> int:
    """Stop members or stages, or all of a sweep. They save first; `retry` with their names takes them up again.

    Args:
        sweep: Name of a sweep under the root, or its folder.
        run_ids: Members or stages.
        root: Folder of all sweeps.
    """
    from jobs.cancel import cancel_units

    folder = _find(sweep, root)
    return cancel_units(folder, run_ids, by=f"cancelled by {getpass.getuser()}")


def retry(
    sweep: SweepName,
    run_ids: FailedIds = (),
    /,
    *,
    profile: ProfileName = "",
    root: Path = ROOT,
    wait: Switch = False,
) -> int:
    """Run failed and lost members and stages again; cancelled ones only where they are named.

    Args:
        sweep: Name of a sweep under the root, or its folder.
        run_ids: Members or stages.
        profile: Name or path of another profile, with more memory, say.
        root: Folder of all sweeps.
        wait: Slurm: come back when everything has ended.
    """
    from jobs.profile import read_profile
    from jobs.retry import retry_units

    return retry_units(_find(sweep, root), run_ids, profile=read_profile(profile) if profile else None, wait=wait)


def report(sweep: SweepName, /, *, root: Path = ROOT, json: Switch = False, wandb_workspace: Switch = False) -> int:
    """Write report.html and report.csv from what the runs have left so far.

    Args:
        sweep: Name of a sweep under the root, or its folder.
        root: Folder of all sweeps.
        json: Print the figures as JSON too.
        wandb_workspace: Save a W&B workspace for the sweep instead.
    """
    from jobs.report import report_json, write_report

    folder = _find(sweep, root)
    plan = folder.read_plan()
    if wandb_workspace:
        from jobs.workspace import save_workspace

        return save_workspace(folder)
    write_report(folder, plan)
    say(_json(report_json(folder, plan)) if json else f"{folder.report_html}\n{folder.report_csv}")
    return 0


def sync(sweep: SweepName, /, *, root: Path = ROOT, live: Switch = False) -> int:
    """Upload the offline W&B runs of a sweep; may be run again and again.

    Args:
        sweep: Name of a sweep under the root, or its folder; or a run folder.
        root: Folder of all sweeps.
        live: Follow runs that are still going on to their end, too.
    """
    from jobs.sync import sync as upload

    return upload(_sweep_or_run(sweep, root), live=live)


def dashboard(sweep: SweepName, /, *, root: Path = ROOT) -> int:
    """Make a trackio project of the W&B runs of a sweep, to look at in a browser without a server or an account.

    It is made anew each time, in ``trackio/`` in the sweep's folder; the command that shows it is printed.

    Args:
        sweep: Name of a sweep under the root, or its folder; or a run folder.
        root: Folder of all sweeps.
    """
    from jobs.dashboard import fill

    return fill(_sweep_or_run(sweep, root))


def _find(sweep: str, root: Path) -> SweepFolder:
    """The folder of a sweep; the settings, which it loads, take half of the time in which ``--help`` is there."""
    from jobs.folder import find_sweep

    return find_sweep(sweep, root)


def _sweep_or_run(text: str, root: Path) -> Path:
    """The folder of a sweep, or of one run."""
    return Path(text) if (Path(text) / "wandb").is_dir() else _find(text, root).path


def best(sweep: SweepName, /, *, root: Path = ROOT, json: Switch = False) -> int:
    """Choose the best completed member and write best.json.

    Args:
        sweep: Name of a sweep under the root, or its folder.
        root: Folder of all sweeps.
        json: Print the content of best.json.
    """
    from jobs.collect import choose_best, write_best

    folder = _find(sweep, root)
    chosen = choose_best(folder, folder.read_plan())
    write_best(folder, chosen)
    line = f"{chosen['choice']}: {chosen['metric']} = {chosen['value']:.4f} at step {chosen['step']}"
    say(_json(chosen) if json else f"{line}\n{folder.path / chosen['run']}")
    return 0


def prune(sweep: SweepName, /, *, root: Path = ROOT, dry_run: Switch = False) -> int:
    """Delete what a sweep needs no more: checkpoints of completed members but the best, and leftovers.

    Args:
        sweep: Name of a sweep under the root, or its folder.
        root: Folder of all sweeps.
        dry_run: Only say what would be deleted.
    """
    from jobs.prune import prune_sweep

    return prune_sweep(_find(sweep, root), dry_run=dry_run)


def run() -> None:
    """For a shell's completion: what stands after ``run --`` is completed by nobody."""


def _json(value: object) -> str:
    return json.dumps(value, indent=2, allow_nan=False)
