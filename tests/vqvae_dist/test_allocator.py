"""Memory that was freed stays with the process, so that using it again costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

LARGE = 80 << 20
TIMES = 10
USE = f"""
import resource
{{before}}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray({LARGE})  # asked for, filled with zeros, and freed
before = faults()
for _ in range({TIMES}):
    bytearray({LARGE})
print((faults() - before) * resource.getpagesize())
"""
KEEPING = "from vqvae_dist.allocator import keep_freed_memory; keep_freed_memory()"


def bytes_faulted(before: str) -> int:
    """Bytes whose pages the system had to give while a large block was asked for and freed some times."""
    words = [sys.executable, "-c", USE.format(before=before)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    assert bytes_faulted(KEEPING) < LARGE
    assert bytes_faulted("") > (TIMES - 1) * LARGE
