"""What glibc's heap keeps, seen from a process of its own."""

import subprocess
import sys

import pytest

_SCRIPT = """
import ctypes, sys
from rorqual.linux import malloc
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes, libc.sbrk.argtypes = [ctypes.c_size_t], [ctypes.c_void_p], [ctypes.c_ssize_t]
malloc.keep_free(int(sys.argv[1]))
malloc.trim()
blocks = [libc.malloc(100_000) for _ in range(4)]
high = libc.sbrk(0)
for block in reversed(blocks):
    libc.free(block)
kept = libc.sbrk(0)
malloc.trim()
print(high - kept, kept - libc.sbrk(0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_the_heap_keeps_what_it_is_told_to_until_it_is_trimmed() -> None:
    def run(kept: int) -> list[int]:
        return [int(n) for n in subprocess.check_output([sys.executable, "-c", _SCRIPT, str(kept)]).split()]

    given_back, by_trim = run(1 << 20)
    assert given_back == 0 and by_trim > 300_000
    assert run(64 * 1024)[0] > 200_000
