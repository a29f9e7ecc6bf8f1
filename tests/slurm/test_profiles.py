"""slurm/profiles: every shipped file is valid, explains itself, and the manual names every key."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from jobs.config import Profile
from jobs.profile import read_profile

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "slurm" / "profiles").glob("*.toml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_shipped_profile_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/cluster/slurm.conf")  # for one_machine, which else has to be running
    profile = read_profile(str(path))
    assert profile.executor == ("local" if path.stem == "local" else "slurm")


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_key_of_a_shipped_profile_is_explained(path: Path) -> None:
    text = path.read_text()
    for key, value in tomllib.loads(text).items():
        line = rf"^\[{key}\] +# " if isinstance(value, dict) else rf"^{key} += .*# "
        assert re.search(line, text, re.MULTILINE), f"{key} has no comment"


def test_manual_names_every_key() -> None:
    manual = (ROOT / "docs" / "slurm.md").read_text()
    named = set(re.findall(r"`\[?(\w+)\]?`", manual))
    assert {field.name for field in fields(Profile)} <= named
