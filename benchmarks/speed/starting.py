"""Commands that a login node runs: how long until they answer, and whether they import torch."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.speed.row import Options, Row, median_seconds

COMMANDS = (("jobs", "status", "--help"), ("data_tools", "--help"))


def rows(options: Options) -> list[Row]:
    """Wall time of each beside that of an interpreter that does nothing."""
    nothing = seconds("-c", "pass")
    found = []
    for package, *words in COMMANDS:
        if imports_torch(package, *words):
            raise RuntimeError(f"{package} {' '.join(words)} imports torch")
        took = seconds("-m", package, *words)
        found.append(
            Row(f"python -m {package} {' '.join(words)}", took, "s", "python -c pass", nothing, took / nothing, "< 0.5")
        )
    return found


def seconds(*words: str) -> float:
    """Median of five."""
    command = [sys.executable, *words]
    return median_seconds(lambda: subprocess.run(command, check=True, capture_output=True), repeat=5)


def imports_torch(package: str, *words: str) -> bool:
    """Whether ``python -m package words`` has torch loaded when it ends."""
    code = f"import sys, runpy, atexit; sys.argv = {[package, *words]!r}; "
    code += "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
    code += f"runpy.run_module({package!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.strip().endswith("True")
