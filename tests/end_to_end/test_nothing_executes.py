"""Nothing that a user gives is ever run: no pickle is loaded, no shell sees a name, no library is told to trust."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from data_tools.console import CommandError, UsageError
from tests.data_tools.slices import Save, brain
from vqvae_dist.training import logged_config

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for package in ("data_tools", "vqvae_dist", "jobs") for path in sorted((ROOT / package).rglob("*.py"))]

FORBIDDEN = {
    "pickle": {"load", "loads"},
    "cloudpickle": {"load", "loads"},
    "dill": {"load", "loads"},
    "joblib": {"load"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "yaml": {"load", "unsafe_load", "full_load"},
    "os": {"system", "popen"},
    "builtins": {"eval", "exec", "compile", "__import__"},
}
UNPICKLER = ROOT / "jobs" / "enter.py"
"""The one file that has an unpickler of its own, which refuses every name but two."""


def calls(path: Path) -> Iterator[tuple[str, str, ast.Call]]:
    """(module or object, function, call) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name):
                    yield "builtins", name, node
                case ast.Attribute(value=ast.Name(id=owner), attr=name):
                    yield owner, name, node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    for owner, name, call in calls(path):
        where = f"{path}:{call.lineno}: {owner}.{name}"
        options = {keyword.arg: keyword.value for keyword in call.keywords}
        safe = owner == "yaml" and ast.unparse(options.get("Loader", ast.Constant(None))) == "_Loader"
        assert name not in FORBIDDEN.get(owner, ()) or safe, where
        if owner == "torch" and name == "load":
            weights_only = options.get("weights_only")
            assert isinstance(weights_only, ast.Constant), where
            assert weights_only.value is True, where
        for option, right in (("shell", False), ("allow_pickle", False), ("trust_remote_code", False)):
            assert option not in options or ast.literal_eval(options[option]) is right, where
    text = path.read_text()
    assert "Unpickler" not in text or path == UNPICKLER


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    for line in ("import pickle\npickle.load(x)", "eval('1')", "torch.load('x')", "subprocess.run('x', shell=True)"):
        (tmp_path / "bad.py").write_text(line)
        with pytest.raises(AssertionError):
            test_no_source_runs_what_it_reads(tmp_path / "bad.py")


def test_the_yaml_of_wandb_is_read_by_a_safe_loader(tmp_path: Path) -> None:
    assert issubclass(logged_config._Loader, yaml.SafeLoader)
    bombs = "a: &a [x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
    )
    loop = "stage: &a {b: *a}\n"
    for text in (f'!!python/object/apply:pathlib.Path.touch ["{tmp_path}/mark"]', bombs, loop, "[" * 100_000, "\0"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(CommandError, match=f"{tmp_path}/config.yaml: neither JSON nor YAML"):
            logged_config.read_logged_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("stage: 2026-01-01\n")
    with pytest.raises(CommandError, match="neither JSON nor YAML"):
        logged_config.read_logged_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("stage: {1: {2: 3}}\n")
    with pytest.raises(UsageError, match="not the config of a"):
        logged_config.read_logged_config(tmp_path / "config.yaml")
    for text in ('{"stage": []}', "3", '{"stage": {"value": ["a"]}}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UsageError, match="not the config of a"):
            logged_config.read_logged_config(tmp_path / "config.json")
    assert not (tmp_path / "mark").exists()


NASTY = [
    "a; touch canary",
    "$(touch canary)",
    "`touch canary`",
    "' && touch canary '",
    '" | touch canary "',
    "&touch canary",
]


@pytest.mark.parametrize("name", NASTY)
def test_names_of_files_reach_no_shell(name: str, save: Save, tmp_path: Path) -> None:
    folder = save(f"{name}.png", brain())
    work = tmp_path / name
    work.mkdir()
    command = [sys.executable, "-m", "data_tools", "pack", str(folder), "--output", f"{name}.h5"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in work.iterdir()) == sorted([f"{name}.h5", f"{name}.report.json"])
    assert not list(tmp_path.rglob("canary"))
