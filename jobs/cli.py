"""``python -m jobs COMMAND``: submit a sweep, follow it, and take its results."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.console import run_command
from data_tools.program import Command, Program

PROGRAM = Program(
    "jobs",
    "vqvae-jobs",
    {
        "submit": Command("run what a sweep file adds, here or on Slurm", "jobs.commands:submit"),
        "status": Command("where each member stands", "jobs.commands:status"),
        "logs": Command("what members print", "jobs.commands:logs"),
        "cancel": Command("stop members, or all", "jobs.commands:cancel"),
        "retry": Command("run failed and lost members again", "jobs.commands:retry"),
        "report": Command("report.html and report.csv", "jobs.commands:report"),
        "sync": Command("upload offline W&B runs", "jobs.commands:sync"),
        "dashboard": Command("the W&B runs in a browser, without a server", "jobs.commands:dashboard"),
        "best": Command("choose the best member", "jobs.commands:best"),
        "prune": Command("delete what is not needed any more", "jobs.commands:prune"),
        "run": Command(
            "train inside an allocation: srun ... python -m jobs run -- train-vqvae ...",
            "jobs.commands:run",
            unread="jobs.allocation:run_in_allocation",
        ),
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    return run_command(PROGRAM.run, arguments)
