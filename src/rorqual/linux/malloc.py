"""mallopt(3): keeps a long-running process's heap from growing by an arena a thread."""

import ctypes

M_ARENA_MAX = -8

_libc = ctypes.CDLL(None)


def one_arena() -> None:
    """All threads share one arena: ours allocate little and seldom at once. Without glibc, nothing happens."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def trim() -> None:
    """Give free pages at the heap's ends back, e.g. after start-up."""
    malloc_trim = getattr(_libc, "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
