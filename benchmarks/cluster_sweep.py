"""A 3 x 3 sweep with its pipeline on the Slurm of slurm/one_machine, by one ``submit``; writes its transcript.

    slurm/one_machine/start.sh && python -m benchmarks.cluster_sweep

Runs docs/sweeps/cluster.toml with the profile one_machine (4 nodes, 4 members at a time, 2 made-up GPUs each, gloo),
asks squeue meanwhile how many members run, and puts what the commands printed into docs/slurm.md, between its two
marks. Writes docs/results/cluster_sweep.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, provenance

PAGE = ROOT / "docs" / "slurm.md"
MARKS = ("<!-- transcript -->\n", "<!-- end of transcript -->\n")
RESULT = ROOT / "docs" / "results" / "cluster_sweep.json"
WORK = ROOT / "runs" / "cluster_sweep"
PROFILE = "one_machine"
LOOK_AT = 20
"""The step at which the queue and the sweep's status are shown."""
DRY_RUN_LINES = 48


def main() -> None:
    """Run the sweep, check what it left, and write the page and the JSON."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "sweeps" / "cluster.toml", WORK)
    transcript = Transcript(environment())
    transcript.run("python -m data_tools phantom slices --subjects 12 --slices 8 --size 64")
    transcript.run("python -m data_tools pack slices --output phantoms.h5")
    transcript.run("sinfo --partition=low --Format=partition,nodes,statecompact,gres,cpus")
    transcript.run(f"python -m jobs submit cluster.toml --profile {PROFILE} --dry-run", lines=DRY_RUN_LINES)
    began = time.monotonic()
    transcript.run(f"python -m jobs submit cluster.toml --profile {PROFILE}")
    submitted = time.monotonic() - began
    most = watch(transcript)
    seconds = time.monotonic() - began
    transcript.run("python -m jobs status cluster")
    transcript.run("python -m jobs best cluster")
    transcript.run("ls runs/cluster runs/cluster/pipeline/*/ runs/cluster/pipeline/*/Pic")
    rows = json.loads(transcript.quietly("python -m jobs status cluster --json"))
    jobs = ",".join(own_jobs(rows))
    transcript.run(f"sacct -X --jobs={jobs} --format=JobID%8,JobName%24,NodeList%8,AllocTRES%44,State%10,Elapsed")
    states = {row["state"] for row in rows}
    pictures = [*WORK.glob("runs/cluster/pipeline/*/Pic/PixelCNN_generate.jpg"), WORK / "runs/cluster/report.html"]
    if states != {"completed"} or len(pictures) != 2 or not pictures[1].is_file():
        sys.exit(f"not as it should be: states {states}, files {pictures}")
    result = {
        "members": sum(row["stage"] == "train-vqvae" for row in rows),
        "stages": sum(row["stage"] != "train-vqvae" for row in rows),
        "most_members_at_once": most,
        "submit_seconds": round(submitted, 2),
        "seconds": round(seconds, 1),
        **provenance("slurm/one_machine/start.sh && python -m benchmarks.cluster_sweep"),
    }
    RESULT.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    about = (
        f"{result['machine']}, commit {result['commit']}: {result['seconds']:.0f} s, at most {most} members at once."
    )
    insert(f"```text\n{transcript.text}```\n\n{about}\n")
    print(json.dumps(result, indent=2))


def own_jobs(rows: list[dict[str, Any]]) -> list[str]:
    """Ids of the sweep's own jobs, arrays as a whole: accounting remembers other sweeps of the same name."""
    return sorted({row["job_id"].partition("_")[0] for row in rows if row["job_id"]}, key=int)


def environment() -> dict[str, str]:
    """Ours, with the cluster's slurm.conf and this Python first."""
    command = ["bash", "-uc", "source slurm/one_machine/env.sh; echo $SLURM_CONF"]
    conf = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"SLURM_CONF": conf, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "140"}


class Transcript:
    """Commands, and what they printed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment, self.text = environment, ""

    def run(self, command: str, *, lines: int | None = None) -> None:
        """Run a shell command and keep what it printed, at most ``lines`` of it; its failure ends everything."""
        printed = self.quietly(command).replace(f"{ROOT}/", "").replace(str(ROOT), ".")
        said = [line.rstrip() for line in printed.splitlines()]
        if lines and len(said) > lines:
            said = [*said[:lines], f"... {len(said) - lines} more lines"]
        self.text += "\n".join([f"$ {command}", *said, ""]) + "\n"

    def quietly(self, command: str) -> str:
        """Run a shell command; return what it printed."""
        done = subprocess.run(
            command, shell=True, cwd=WORK, env=self.environment, stdout=-1, stderr=-2, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{command}: exit status {done.returncode}\n{done.stdout}")
        return done.stdout


def watch(transcript: Transcript) -> int:
    """Wait until all has ended; return the most members that ran at a time. One look at the queue is kept."""
    most, shown = 0, False
    while True:
        queue = transcript.quietly("squeue --noheader --array --name=cluster --states=RUNNING -o %i").split()
        most = max(most, len(queue))
        rows: list[dict[str, Any]] = json.loads(transcript.quietly("python -m jobs status cluster --json"))
        if not shown and len(queue) == 4 and max(row["step"] or 0 for row in rows) >= LOOK_AT:
            transcript.run("squeue --array --format='%.10i %.24j %.9T %.5D %.22R'")
            transcript.run("python -m jobs status cluster")
            shown = True
        if not {row["state"] for row in rows} & {"pending", "running", "requeued"}:
            return most
        time.sleep(2)


def insert(text: str) -> None:
    """Put the transcript between its marks in the page."""
    before, rest = PAGE.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    PAGE.write_text(before + MARKS[0] + text + MARKS[1] + after)


if __name__ == "__main__":
    main()
