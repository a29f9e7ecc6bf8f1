"""A run that is killed, again and again, at every phase, ends bit for bit where an unbroken run ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kills.harness import CASES, Kill, differences, hits, run_through
from tests.kills.phases import PHASES

LAST_SAVE = 6
"""Of 24 steps with a checkpoint every 4."""

TABLE = {
    "vqvae": [
        *(Kill(phase=phase) for phase in list(PHASES)[:2]),
        Kill(phase="noted which rows count"),
        Kill(phase="before a step", call=2),
        Kill(phase="logged a row", call=3),
        *(Kill(phase=phase) for phase in PHASES if phase.startswith("saving")),
        Kill(phase="saved, not yet exported"),
        Kill(phase="exported, no summary yet"),
        Kill(phase="writing the summary", call=3),
    ],
    "vqvae, bf16, worker": [Kill(phase="drawing"), Kill(phase="restoring"), Kill(seconds=0.02), Kill(seconds=0.0)],
    "vqvae, 2 processes, accumulation": [
        Kill(phase="validating"),
        Kill(phase="after a step", call=2),
        Kill(seconds=0.02),
    ],
    "vqvae, gradient codebook": [
        Kill(phase="saving: before the rename", call=2),
        Kill(phase="saving: renamed, not yet latest", call=LAST_SAVE - 1),  # nothing is saved after it
    ],
    "pixelcnn, accumulation": [Kill(phase="cutting metrics"), Kill(phase="validating", call=2), Kill(seconds=0.02)],
    "pixelcnn, 2 processes": [Kill(phase="saving: tensors", call=2)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_killed_run_ends_like_an_unbroken_one(tmp_path: Path, packed: Path, codes: Path, name: str) -> None:
    case = CASES[name]
    data = packed if case.stage == "train-vqvae" else codes
    run_through(case, data, tmp_path / "unbroken", [])
    landed = run_through(case, data, tmp_path / "killed", TABLE[name])
    assert len(landed) == len(TABLE[name]), "the run completed before every kill had come"
    assert hits(tmp_path / "killed") == [kill.phase for kill in TABLE[name] if kill.phase]
    assert differences(tmp_path / "unbroken" / "run", tmp_path / "killed" / "run") == []


def test_the_table_hits_every_phase() -> None:
    assert {kill.phase for kills in TABLE.values() for kill in kills if kill.phase} == set(PHASES)
    assert sum(map(len, TABLE.values())) >= 20
