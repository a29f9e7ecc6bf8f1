from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.folder import Plan
from jobs.how_far import how_far, step_bar, time_left
from jobs.status import Status, read_status
from tests.jobs.sweep_files import GRID, make_sweep

STAGES = '[pipeline]\nthen = ["extract-codes", "train-pixelcnn"]\n'


@pytest.fixture
def plan_and_rows(tmp_path: Path, packed: Path) -> tuple[Plan, list[Status]]:
    """Four members of 40 steps and two stages, none of which has begun."""
    folder, plan = make_sweep(tmp_path, packed, GRID + STAGES)
    return plan, read_status(folder, plan)


def changed(rows: list[Status], changes: dict[int, dict[str, Any]]) -> list[Status]:
    return [replace(row, **changes.get(number, {})) for number, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("changes", "share", "said"),
    [
        ({}, 0.0, "0/4 members"),
        ({0: {"state": "running", "step": None}}, 0.0, "0/4 members"),
        # Half a step a second, two at a time: 20 + 30 + 40 + 40 steps are left.
        (
            {0: {"state": "running", "step": 20, "eta_s": 40.0}, 1: {"state": "running", "step": 10, "eta_s": 60.0}},
            0.75 / 6,
            "0/4 members, 2 min left",
        ),
        # The last one holds up the others.
        (
            {
                0: {"state": "completed", "step": 40},
                1: {"state": "failed", "step": 10},
                2: {"state": "running", "step": 10, "eta_s": 60.0},
                3: {"state": "running", "step": 39, "eta_s": 0.1},
            },
            (2 + 0.25 + 0.975) / 6,
            "1/4 members, 1 failed, 60 s left",
        ),
        (
            {
                **{number: {"state": "completed", "step": 40} for number in range(5)},
                5: {"state": "running", "step": 1, "steps": 4, "eta_s": 30.0},
            },
            5.25 / 6,
            "4/4 members, 1/2 stages, 30 s left",
        ),
    ],
)
def test_a_sweep_is_told_in_members_then_stages_with_the_time_left(
    plan_and_rows: tuple[Plan, list[Status]], changes: dict[int, dict[str, Any]], share: float, said: str
) -> None:
    plan, rows = plan_and_rows
    bar = how_far(plan, changed(rows, changes))
    assert bar.said == said
    assert bar.share == pytest.approx(share)


def test_a_member_that_was_lost_is_still_to_come(plan_and_rows: tuple[Plan, list[Status]]) -> None:
    rows = changed(
        plan_and_rows[1][:2], {0: {"state": "lost", "step": 20}, 1: {"state": "running", "step": 20, "eta_s": 20.0}}
    )
    assert time_left(rows) == pytest.approx(40)


def test_nothing_is_said_of_the_time_before_a_speed_is_known(plan_and_rows: tuple[Plan, list[Status]]) -> None:
    rows = changed(plan_and_rows[1], {0: {"state": "running", "step": 40, "eta_s": 0.0}})
    assert time_left(rows) is None
    assert step_bar(rows[1]).said == "step 0/40"
    assert step_bar(rows[4]).said == ""  # a stage without steps
