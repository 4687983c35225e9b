"""Where a file holds data: worth a sparse entry, or not."""

from __future__ import annotations

import errno
import os

# A sparse entry costs two or three blocks of headers, and not every tool reads one: only for a real saving.
_MIN_SAVING_BYTES = 64 << 10
# The map must not depend on how the file system allocates: holes count from here, aligned to this.
_MIN_HOLE_BYTES = 64 << 10
_ALIGN = 4096
_MAX_PARTS = 10_000


def parts(fd: int, info: os.stat_result) -> list[tuple[int, int]] | None:
    """(offset, length) of the data, ascending, the last one reaching the end; None when it had better be stored whole.

    Source: lseek(2), SEEK_DATA and SEEK_HOLE.
    """
    size = info.st_size
    if size - info.st_blocks * 512 < _MIN_SAVING_BYTES:
        return None
    found: list[tuple[int, int]] = []
    position = saved = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA) & -_ALIGN
            stop = min(size, -(-os.lseek(fd, max(start, position), os.SEEK_HOLE) // _ALIGN) * _ALIGN)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            if error.errno == errno.EINVAL:
                return None
            raise
        if found and start - sum(found[-1]) < _MIN_HOLE_BYTES:
            last = found.pop()
            found.append((last[0], stop - last[0]))
        else:
            found.append((start, stop - start))
            if len(found) > _MAX_PARTS:
                return None
        position = max(stop, position + 1)
    end = 0
    for start, length in found:
        saved += start - end
        end = start + length
    saved += size - end
    if saved < _MIN_SAVING_BYTES:
        return None
    # GNU tar ends every map at the file's size, so that a reader knows it from the map alone.
    if end < size:
        found.append((size, 0))
    return found
