"""Keeps the C library's allocator from holding memory for every thread."""

import ctypes

M_ARENA_MAX = -8
"""See mallopt(3)."""
MAX_ARENAS = 2
"""The heap and one more: the threads hold the interpreter's lock while they allocate."""


def limit_arenas() -> None:
    """Limit malloc to MAX_ARENAS arenas; to be called before threads start.

    By default glibc gives each thread an arena of its own, up to eight for each processor, and
    keeps in each what one large request body needed. Another C library has no such setting, and
    nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, MAX_ARENAS)
