"""What a figure stands beside: the machine, the libraries and the commit it was measured with."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def machine() -> str:
    """One line about the processor and the accelerator."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    flags = next((line for line in _cpuinfo() if line.startswith("flags")), "")
    bf16 = ", avx512_bf16" if "avx512_bf16" in flags else ""
    text = f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.processor()}{bf16}"
    return f"{text}; {_gpu()}" if _gpu() else text


def commit() -> str:
    """The commit of the checkout, with ``-dirty`` where it was edited; results that were just written don't count.

    Where only the files are, without git, $COMMIT says it.
    """
    if not (ROOT / ".git").exists():
        return os.environ.get("COMMIT", "unknown")
    found = _git("rev-parse", "--short=12", "HEAD")
    return f"{found}-dirty" if _git("status", "--porcelain", "--", ".", ":!docs/results") else found


def provenance(command: str) -> dict[str, Any]:
    """The fields that every committed result carries."""
    from importlib.metadata import version

    return {"command": command, "machine": machine(), "commit": commit(), "torch": version("torch")}


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
