"""``python -m jobs run -- train-vqvae ...``: train in this process, among those that srun started beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from data_tools.console import UsageError
from jobs.config import Profile
from jobs.place import Place, distributed_environment
from jobs.signals import StopSignals
from jobs.task import prepare_process, run_training
from vqvae_dist.run_folder import Attempt

USAGE = """usage: srun ... python -m jobs run -- COMMAND ...

Runs a vqvae_dist command in every process of an allocation, as one distributed
training:
    srun --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 --cpus-per-task 8 \\
        python -m jobs run -- \\
        train-vqvae --data.path brain.h5 --output-dir runs/a

python -m vqvae_dist --help lists the commands.
"""


def run_in_allocation(arguments: Sequence[str]) -> int:
    """Set the distributed environment from Slurm's and run the command after ``--``; return the exit status."""
    command = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if not arguments or command[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0 if arguments else 2
    if not command:
        raise UsageError("no command after --; for example: python -m jobs run -- train-vqvae --data.path ...")
    place = Place.current(os.environ)
    signals = StopSignals()
    signals.install(deadline_s=Profile(executor="slurm").signal_lead_s, interrupt=False)
    os.environ.update(distributed_environment(os.environ))
    prepare_process(Profile(executor="slurm"))
    state = run_training(command, Attempt(place.job_id, place.restart), signals=signals)
    return 0 if state == "completed" else 1
