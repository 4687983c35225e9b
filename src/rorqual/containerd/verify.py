"""Whether bytes are what they should be. Runs in a worker process: a blob against its digest, a layer against its blob.

A layer is what its blob unpacks to: every file's kind, size and bytes are compared with what is in the snapshot's own
directory. Modes, owners and times are not: they can be changed without a trace of damage. Of an entry that a later one
replaces, the later one counts.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Any

from rorqual.distribution.unpack import tar
from rorqual.distribution.unpack.limits import DEFAULT_LIMITS
from rorqual.distribution.unpack.pipeline import Pipeline
from rorqual.errdefs import Error
from rorqual.linux import paths

_READ_SIZE = 1 << 20
_SHOWN_MAX = 20
_WHITEOUT = b".wh."
_KINDS = {
    tar.REGULAR: stat.S_IFREG,
    tar.DIRECTORY: stat.S_IFDIR,
    tar.SYMLINK: stat.S_IFLNK,
    tar.CHAR: stat.S_IFCHR,
    tar.BLOCKDEV: stat.S_IFBLK,
    tar.FIFO: stat.S_IFIFO,
}


def hash_blob(path: str, digest: str) -> dict[str, Any]:
    """{"digest", "size"} of the file's bytes, by the algorithm of `digest`."""
    hasher = hashlib.new(digest.partition(":")[0])
    size = 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_READ_SIZE):
            hasher.update(data)
            size += len(data)
    return {"digest": f"{digest.partition(':')[0]}:{hasher.hexdigest()}", "size": size}


def compare_layer(path: str, directory: str) -> dict[str, Any]:
    """{"differs": what does, at most 20, "entries"}."""
    differs: dict[bytes, str] = {}
    entries = 0
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(path, "rb", buffering=0) as file, Pipeline(file, DEFAULT_LIMITS) as pipeline:
            reader = tar.TarReader(tar.Feed(pipeline.next_chunk), DEFAULT_LIMITS)
            for entry in reader:
                entries += 1
                name = entry.name.strip(b"/")
                if not name or name.rpartition(b"/")[2].startswith(_WHITEOUT):
                    continue
                problem = _compare(root, name, entry, reader)
                if problem:
                    differs[name] = problem
                else:
                    differs.pop(name, None)
    except Error as e:
        return {"differs": [f"its blob cannot be read: {e}"], "entries": entries}
    finally:
        os.close(root)
    return {
        "differs": [f"{tar.show(name)}: {why}" for name, why in list(differs.items())[:_SHOWN_MAX]],
        "entries": entries,
    }


def _compare(root: int, name: bytes, entry: tar.Entry, reader: tar.TarReader) -> str:
    """What is wrong; "" for nothing."""
    try:
        fd = paths.open_in_root(root, name, os.O_PATH | os.O_NOFOLLOW)
    except OSError as e:
        return e.strerror or str(e)
    try:
        info = os.fstat(fd)
        wanted = _KINDS.get(entry.kind)
        if wanted is None:
            return ""  # a hard link: its file is another entry
        if stat.S_IFMT(info.st_mode) != wanted:
            return "another kind of file"
        if wanted == stat.S_IFLNK and os.readlink(b"", dir_fd=fd) != entry.link:
            return "the link leads elsewhere"
        if wanted != stat.S_IFREG:
            return ""
        if info.st_size != entry.size:
            return f"{info.st_size} bytes instead of {entry.size}"
        with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:
            return "" if _same(file.fileno(), entry, reader.data()) else "other bytes"
    finally:
        os.close(fd)


def _same(fd: int, entry: tar.Entry, pieces: Iterator[memoryview]) -> bool:
    """All pieces are read whatever comes out. Of a sparse file the parts that the archive has count."""
    parts = iter(entry.sparse if entry.sparse is not None else [(0, entry.size)])
    offset = left = 0
    same = True
    for piece in pieces:
        while piece:
            while not left:
                offset, left = next(parts)
            count = min(left, len(piece))
            same = same and os.pread(fd, count, offset) == piece[:count]
            piece = piece[count:]
            offset += count
            left -= count
    return same
