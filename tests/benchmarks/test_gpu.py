from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu


@pytest.fixture
def mri(tmp_path: Path) -> Path:
    folder = tmp_path / "mri"
    words = ["phantom", str(folder / gpu.SOURCE), "--subjects", "12", "--slices", "4", "--size", "48"]
    subprocess.run([sys.executable, "-m", "data_tools", *words], check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_every_part_runs_at_small_size(mri: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    words = ["--mri", mri, "--runs", tmp_path / "runs", "--results", results, "--small"]
    assert gpu.main([*map(str, words), "--only", "quality", "speed", "precision", "prior"]) == 0
    made = {file.name: json.loads(file.read_text()) for file in results.glob("*.json")}
    assert set(made) == {"datasets_24.json", "benchmarks.json", "precision_gpu.json", "prior_gpu.json"}
    assert made["datasets_24.json"][gpu.SOURCE]["training"]["steps"] == 24
    assert set(made["precision_gpu.json"]["rows"]["trained"]) >= {"no", "bf16"}
    assert "unconditional" in made["prior_gpu.json"]["rows"]["models"]


def test_the_commands_of_the_parts_are_those_of_the_suite(mri: Path, tmp_path: Path) -> None:
    """What does not run on a CPU takes the same flags: their parsers read what is given."""
    for words in gpu.parts(mri, tmp_path, tmp_path, gpu.FULL).values():
        module = str(words[0])
        done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
        flags = [str(word) for word in words if str(word).startswith("--")]
        assert flags
        assert [flag for flag in flags if flag not in done.stdout] == []


def test_a_part_that_fails_or_takes_too_long_is_named_and_the_next_goes_on(
    mri: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "asleep.py").write_text("import time; time.sleep(600)")
    (tmp_path / "awake.py").write_text("print('awake')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(gpu, "parts", lambda *_: {"wrong": ["nothing.of.this.name"], "right": ["awake"]})
    assert gpu.main(["--mri", str(mri), "--results", str(tmp_path / "results")]) == 1
    assert gpu.run("long", ["asleep"], time.monotonic() + 0.5) == gpu.LIMIT
    said, warned = capfd.readouterr()
    assert re.search(r"wrong: \d+ s, exit status 1", warned)
    assert re.search(r"awake\n(.*\n)*right: \d+ s, done", said)
    assert re.search(r"long: \d+ s, out of time", warned)
