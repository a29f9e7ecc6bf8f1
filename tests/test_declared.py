"""Everything that the packages import is declared in setup.cfg, so that it is installed with them."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_tools", "vqvae_dist", "jobs")


def imported(package: str) -> set[str]:
    """Top-level names of the modules that a package's sources import, wherever the line stands."""
    names = set()
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names


def declared() -> set[str]:
    """What setup.cfg installs with the packages, or with the extra ``workspace``."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = f"{setup['options']['install_requires']}\n{setup['options.extras_require']['workspace']}"
    return {name.lower() for name in re.findall(r"^([A-Za-z0-9-]+)", lines, flags=re.MULTILINE)}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_imported_is_declared(package: str) -> None:
    distributions = packages_distributions()
    foreign = imported(package) - set(PACKAGES) - sys.stdlib_module_names
    known = declared()
    assert not {name for name in foreign if known.isdisjoint(map(str.lower, distributions.get(name, [name])))}


def test_of_data_tools_the_others_see_what_the_architecture_says() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    hidden = re.findall(r"data_tools\.(\w+)", setup["importlinter:contract:slices"]["forbidden_modules"])
    told = (ROOT / "docs" / "architecture.md").read_text().partition("Of `data_tools`, the others see")[2]
    shared = re.findall(r"`(\w+)`", told.partition("Inside `vqvae_dist`")[0])
    assert shared
    modules = {file.stem if file.is_file() else file.name for file in (ROOT / "data_tools").glob("[!_]*")}
    assert sorted([*hidden, *shared]) == sorted(modules - {"py"})
