"""mallopt(3) for long-running processes: no arena a thread, and what a free heap keeps."""

import ctypes

M_TRIM_THRESHOLD = -1
M_ARENA_MAX = -8

_libc = ctypes.CDLL(None)


def one_arena() -> None:
    """All threads share one arena: ours allocate little and seldom at once. Without glibc, nothing happens."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def keep_free(size_bytes: int) -> None:
    """The heap gives nothing back while less than that is free at its end; children inherit it.

    glibc's own 128 KiB make a loop with buffers of that size grow and shrink the heap at each turn, by brk(2) and page
    faults. Without glibc, nothing happens.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, size_bytes)


def trim() -> None:
    """Give free pages at the heap's ends back, e.g. after start-up."""
    malloc_trim = getattr(_libc, "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
