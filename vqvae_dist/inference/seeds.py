"""The seeds that commands take."""

from __future__ import annotations

from data_tools.console import UsageError


def check_seed(seed: int) -> None:
    """UsageError for a seed that trainings would refuse too."""
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed must be from 0 to 2^63 - 1, got {seed}")
