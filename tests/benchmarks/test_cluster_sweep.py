from __future__ import annotations

from benchmarks.cluster_sweep import own_jobs


def test_accounting_is_asked_for_the_jobs_of_this_sweep_alone() -> None:
    rows = [{"job_id": job} for job in ("48_0", "48_10", "9", None, "100")]
    assert own_jobs(rows) == ["9", "48", "100"]
