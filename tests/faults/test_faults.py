from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import soak


@pytest.mark.slow
def test_damage_is_never_taken_silently(tmp_path: Path) -> None:
    """Some of the faults that ``python -m tests.faults`` injects by the thousand."""
    result = soak(tmp_path, faults=70, seed=1)
    assert result["bad"] == []
    refused = sum(found.get("refused", 0) for found in result["verdicts"].values())
    aloud = sum(found.get("undone aloud", 0) for found in result["verdicts"].values())
    assert refused > 20, "most damage must be noticed, not happen to be harmless"
    assert aloud > 0
    whole = {
        name: sum(found.get(verdict, 0) for verdict in ("undone aloud", "harmless"))
        for name, found in result["verdicts"].items()
    }
    assert all(whole[name] for name in whole if name.startswith("run")), "a trial that never succeeds shows nothing"
