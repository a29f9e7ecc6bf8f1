"""What memory costs a process that asks for it again and again."""

from __future__ import annotations

import resource

from vqvae_dist import allocator

LARGE = 80 << 20
TIMES = 10


def faulted() -> int:
    """Bytes whose pages the system had to give while ``LARGE`` bytes were asked for, filled and freed TIMES times."""
    bytearray(LARGE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TIMES):
        bytearray(LARGE)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()


def faulted_when_kept() -> int:
    """The same, after asking that freed memory be kept."""
    allocator.keep_freed_memory()
    return faulted()
