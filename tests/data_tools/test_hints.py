from __future__ import annotations

import pytest

from data_tools.hints import did_you_mean


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("optim.rl", "; did you mean optim.lr?"),
        ("lr", "; did you mean optim.lr?"),
        ("optim.learning-rate", "; did you mean optim.lr?"),
        ("zebra", ""),
    ],
)
def test_the_nearest_name_is_offered(given: str, said: str) -> None:
    assert did_you_mean(given, ["data.path", "optim.lr"]) == said


def test_two_flags_are_not_alike_by_their_dashes() -> None:
    assert did_you_mean("--lr", ["--help", "--workers"]) == ""
