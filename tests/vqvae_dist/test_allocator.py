"""Memory that was freed stays with the process, so that using it again costs no page faults."""

from __future__ import annotations

import multiprocessing
import sys

import pytest

from tests.page_faults import LARGE, TIMES, faulted, faulted_when_kept


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        assert pool.apply(faulted) > (TIMES - 1) * LARGE
        assert pool.apply(faulted_when_kept) < LARGE
