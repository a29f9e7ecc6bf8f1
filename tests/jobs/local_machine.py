"""A machine that runs a sweep whose units only leave the marks of trainings."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.config import Profile
from jobs.folder import Plan, SweepFolder
from jobs.ledger import Ledger
from jobs.local import Feeder
from jobs.machine import Share
from jobs.processes import ProcessName
from jobs.status import read_status
from tests.jobs.sweep_files import make_sweep

ROOT = Path(__file__).parents[2]

UNIT = """
import json, os, signal, sys, time
from pathlib import Path
from jobs.folder import SweepFolder
from jobs.ledger import Ledger
from vqvae_dist.files import write_sealed
folder, unit, how = SweepFolder(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
ledger, job_id = Ledger(folder.events_file), str(os.getpid())
def end(state, reason=""):
    ledger.append("ended", unit=unit, job_id=job_id, state=state, reason=reason)
    sys.exit(state != "completed")
if how == "silent": sys.exit(1)
if how == "late": time.sleep(60)
ledger.append("started", unit=unit, job_id=job_id, restart=0, step=0)
signal.signal(signal.SIGTERM, lambda *_: end("stopped", "stopped on request"))
if how == "killed": os.kill(os.getpid(), signal.SIGKILL)
if how == "failed": end("failed", "the loss is not finite")
time.sleep(60 if how == "long" else 0.4)
run = folder.run(unit)
run.path.mkdir(parents=True, exist_ok=True)
best = {"metric": "validate/ssim_foreground", "value": 0.5, "step": 40}
write_sealed(run.summary_file, {"state": "completed", "step": 40, "steps": 40, "best": best})
end("completed")
"""
"""A unit without a training: leaves the marks that a real one would."""


@dataclass
class Started:
    """A unit's process."""

    process: subprocess.Popen[bytes]
    unit: str
    share: Share

    def done(self) -> bool:
        return self.process.poll() is not None


class Machine:
    """A feeder on a sweep, whose units are small programs that do as they are told."""

    def __init__(self, folder: SweepFolder, plan: Plan, *, gpus: tuple[int, ...] = ()) -> None:
        self.folder, self.plan, self.gpus = folder, plan, gpus
        self.how: dict[str, str] = {}
        self.started: list[Started] = []
        self.most_at_once = 0

    def launch(self, folder: SweepFolder, plan: Plan, unit: str, share: Share) -> Started:
        alive = [started for started in self.started if not started.done()]
        taken = [gpu for started in alive for gpu in started.share.gpus]
        assert not set(taken) & set(share.gpus), "a GPU was given away twice"
        command = [sys.executable, "-c", UNIT, str(folder.path), unit, self.how.get(unit, "completed")]
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
        self.started.append(Started(process, unit, share))
        self.most_at_once = max(self.most_at_once, len(alive) + 1)
        Ledger(folder.events_file).append(
            "submitted",
            unit=unit,
            job_id=str(process.pid),
            executor="local",
            gpus=share.gpus,
            process=ProcessName.of(process.pid).as_json(),
        )
        return self.started[-1]

    def feed(self) -> int:
        return Feeder(self.folder, self.gpus, self.launch).run()

    def states(self) -> dict[str, str]:
        return {row.unit: row.state for row in read_status(self.folder, self.plan)}


def machine(tmp_path: Path, packed: Path, *, rest: str = "", slots: int = 2, **profile: Any) -> Machine:
    rates = '[grid]\n"optim.lr" = [1e-2, 1e-3, 1e-4, 1e-5]\n'
    local = Profile(executor="local", array_parallelism=slots, **profile)
    return Machine(
        *make_sweep(tmp_path, packed, rates + rest, profile=local),
        gpus=tuple(range(profile.get("gpus_per_node", 0) * slots)),
    )
