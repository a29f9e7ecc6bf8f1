"""Does any test notice? Changes one operator, number or keyword at a time and runs a module's own tests.

    pip install cosmic-ray
    python -m benchmarks.mutation --output docs/results/mutation.json
    python -m benchmarks.mutation --output docs/results/mutation.json --again   # after new tests: the survivors alone

The mutants are cosmic-ray's. Each is tested in a fork of this process, which has the heavy libraries loaded already,
so that a mutant costs seconds. Annotations are left alone: nothing evaluates them.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, Literal, NamedTuple

import tyro

from benchmarks.machine import provenance

QUANTIZER_TESTS = (
    "tests/vqvae_dist/models/test_nearest.py",
    "tests/vqvae_dist/models/test_quantizer.py",
    "tests/vqvae_dist/models/test_quantizer_update.py",
)
TARGETS: dict[str, tuple[str, ...]] = {
    "vqvae_dist/training/checkpoint.py": (
        "tests/vqvae_dist/training/test_checkpoint.py",
        "tests/vqvae_dist/training/test_damaged_checkpoint.py",
        "tests/vqvae_dist/training/test_export.py",
    ),
    "vqvae_dist/data/order.py": ("tests/vqvae_dist/data/test_order.py",),
    "vqvae_dist/models/quantizer.py": QUANTIZER_TESTS,
    "vqvae_dist/models/nearest.py": QUANTIZER_TESTS,
    "vqvae_dist/models/gradients.py": QUANTIZER_TESTS,
    "jobs/ledger.py": ("tests/jobs/test_ledger.py",),
}
"""Files that a silent mistake would hurt most, and the tests of each."""

PRELOADED = ("torch", "accelerate", "safetensors.torch", "h5py", "hypothesis", "pytest", "submitit", "scipy", "wandb")
OWN = ("data_tools", "vqvae_dist", "jobs", "tests", "benchmarks")

Outcome = Literal["killed", "timeout", "survived"]


@dataclass(frozen=True)
class Mutant:
    """One change to a file, and what its tests made of it."""

    operator: str
    line: int
    before: str
    after: str
    outcome: Outcome


class Change(NamedTuple):
    """A changed source, where it differs, and by which of cosmic-ray's operators."""

    operator: str
    line: int
    code: str


def changes(path: Path) -> Iterator[Change]:
    """All of cosmic-ray's changes to a file, but those of annotations and those that change nothing."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = path.read_text()
    tree, ignored = get_ast(source), _annotations(source)
    for name in sorted(operator_names()):
        kind = get_operator(name)
        if kind.arguments() or name.endswith("/NoOp"):
            continue
        places = (place for node in ast_nodes(tree) for place, _ in kind().mutation_positions(node))
        for occurrence, place in enumerate(places):
            try:
                code = mutate_code(source, kind(), occurrence)
            except AttributeError:  # cosmic-ray replaces names in `except (A, B)`, and finds none in `*NAMES`
                continue
            if code is not None and code != source and not any(start <= place < end for start, end in ignored):
                yield Change(name.removeprefix("core/"), place[0], code)


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations stand, as (line, column) of beginning and end."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            found.append(node.returns)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)) for node in found if node
    ]


def run_tests(module: str, path: Path, code: str | None, tests: Sequence[str], *, limit_s: float) -> Outcome:
    """Run tests in a fork where ``module`` has ``code`` instead of its own."""
    child = os.fork()
    if child == 0:
        os.setsid()
        _become_tester(module, path, code, tests)
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _become_tester(module: str, path: Path, code: str | None, tests: Sequence[str]) -> None:
    """Never returns: ends this process with the exit status of its tests."""
    status = 70
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        if code is not None:
            sys.meta_path.insert(0, _Finder(module, path, code))
        import pytest

        status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *tests]))
    finally:
        os._exit(status)


class _Loader(SourceFileLoader):
    def __init__(self, module: str, path: Path, code: str) -> None:
        super().__init__(module, str(path))
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        """Compile the changed source."""
        return compile(self._code, self.path, "exec", dont_inherit=True)


class _Finder:
    def __init__(self, module: str, path: Path, code: str) -> None:
        self._module, self._path, self._loader = module, path, _Loader(module, path, code)

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        """Find the changed module; leave all others to Python."""
        if fullname != self._module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self._loader)


def tested_mutants(
    name: str, tests: Sequence[str], survivors: Sequence[Mapping[str, Any]] | None, *, every: int
) -> list[Mutant]:
    """Test every change to a file, or those that were ``survivors`` before; its unchanged tests must pass."""
    again = None if survivors is None else {(one["operator"], one["line"], one["after"]) for one in survivors}
    path = Path(name)
    module, source = name.removesuffix(".py").replace("/", "."), path.read_text()
    began = time.monotonic()
    if run_tests(module, path, source, tests, limit_s=600) != "survived":
        sys.exit(f"{name}: its tests fail without any change")
    limit_s = 10 + 5 * (time.monotonic() - began)
    mutants = []
    for change in itertools.islice(changes(path), 0, None, every):
        before, after = _different_lines(source, change.code)
        if again is not None and (change.operator, change.line, after) not in again:
            continue
        outcome = run_tests(module, path, change.code, tests, limit_s=limit_s)
        mutants.append(Mutant(change.operator, change.line, before, after, outcome))
        if outcome == "survived":
            print(f"{name}:{change.line} {change.operator}\n  - {before}\n  + {after}", flush=True)
    if again is not None and again != {(mutant.operator, mutant.line, mutant.after) for mutant in mutants}:
        sys.exit(f"{name}: it has changed since its survivors were written; run it without --again")
    return mutants


def _different_lines(before: str, after: str) -> tuple[str, str]:
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    return next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("", ""))


def main(output: Path, only: tuple[str, ...] = (), again: bool = False, every: int = 1) -> None:
    """Test the mutants of all files, or of those that contain a text of ``only``; write what came out.

    With ``again`` only those that survived are tested anew: for new tests of a file that is as it was.
    ``every`` n-th mutant alone is a sample for a machine with little time.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    loaded = [name for name in sys.modules if name.partition(".")[0] in OWN and name.partition(".")[0] != "benchmarks"]
    assert not loaded, f"a changed module would not be loaded anew: {loaded}"
    results = json.loads(output.read_text())["files"] if output.is_file() else {}
    for name, tests in TARGETS.items():
        if only and not any(text in name for text in only):
            continue
        before = results.get(name) if again else None
        began = time.monotonic()
        mutants = tested_mutants(name, tests, before and before["survivors"], every=every)
        survivors = [asdict(mutant) for mutant in mutants if mutant.outcome == "survived"]
        count = before["mutants"] if before else len(mutants)
        earlier = before or {"of_these_by_time": 0, "seconds": 0}
        results[name] = {
            **provenance(f"python -m benchmarks.mutation --output {output} --only {name}"),
            "tests": list(tests),
            "mutants": count,
            "every": before.get("every", 1) if before else every,
            "killed": count - len(survivors),
            "of_these_by_time": earlier["of_these_by_time"] + sum(mutant.outcome == "timeout" for mutant in mutants),
            "share_killed": round(1 - len(survivors) / count, 4),
            "seconds": earlier["seconds"] + round(time.monotonic() - began),
            "survivors": survivors,
        }
        print(f"{name}: {count - len(survivors)} of {count} killed", flush=True)
        about = {"command": f"python -m benchmarks.mutation --output {output}"}
        output.write_text(json.dumps({**about, "files": results}, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
