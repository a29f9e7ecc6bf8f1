"""``python -m jobs COMMAND``: submit a sweep, follow it, and take its results."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from data_tools.arguments import COMPLETION, check_command, parse, print_completion, usage
from data_tools.console import run_command

COMMANDS = {
    "submit": "run what a sweep file adds, here or on Slurm",
    "status": "where each member stands",
    "logs": "what members print",
    "cancel": "stop members, or all",
    "retry": "run failed and lost members again",
    "report": "report.html and report.csv",
    "sync": "upload offline W&B runs",
    "dashboard": "the W&B runs in a browser, without a server",
    "best": "choose the best member",
    "prune": "delete what is not needed any more",
    "run": "train inside an allocation: srun ... python -m jobs run -- train-vqvae ...",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    return run_command(_main, arguments)


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage("python -m jobs", "vqvae-jobs", COMMANDS))
        return 0 if arguments else 2
    if arguments[0] == COMPLETION:
        functions = {name: getattr(import_module("jobs.commands"), name, _run) for name in COMMANDS}
        print_completion(functions, arguments, prog="vqvae-jobs")
        return 0
    name, rest = arguments[0], arguments[1:]
    check_command(name, COMMANDS, prog="python -m jobs")
    if name == "run":
        from jobs.allocation import run_in_allocation

        return run_in_allocation(rest)
    # Positional arguments may stand anywhere; tyro takes them as they come.
    return int(parse(getattr(import_module("jobs.commands"), name), rest, prog=f"python -m jobs {name}"))


def _run() -> None:
    """For a shell's completion: what stands after ``run --`` is completed by nobody."""
