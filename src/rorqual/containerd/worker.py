"""A worker process: a blob from a client's socket to its file, hashed and unpacked in one pass; or from its file.

Started by rorqual.containerd.workers with its job socket as stdin. It imports no asyncio, gRPC or database.

    client's socket (or the bytes already on disk) -> sha256, file -> unpack: decompress, sha256 (diff ID), files
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import threading
from typing import Any

from rorqual import errdefs
from rorqual.linux import process as linux_process
from rorqual.linux.sync import begin_writeback, syncfs

_JOB_MAX = 256 * 1024
_READ_SIZE = 1 << 20
_SOCKET_BUFFER = 4 << 20
_WRITEBACK_BYTES = 4 << 20


def main() -> None:
    """Do jobs until the pool closes the socket."""
    linux_process.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        return  # containerd ended before the line above
    linux_process.set_name("rorqual-worker")
    jobs = socket.socket(fileno=0)
    while True:
        data, fds, _flags, _ = socket.recv_fds(jobs, _JOB_MAX, 4)
        if not data:
            return
        try:
            result = _KINDS[json.loads(data)["kind"]](json.loads(data), fds)
        except errdefs.Error as e:
            result = {"error": str(e), "code": type(e).__name__}
        except Exception as e:
            result = {"error": f"{type(e).__name__}: {e}", "code": "Internal"}
        finally:
            for fd in fds:
                os.close(fd)
        jobs.send(json.dumps(result).encode())


class IngestSource:
    """The blob's bytes for whoever reads them: first those on disk, then the client's, which go to disk on the way."""

    def __init__(self, path: str, client: socket.socket, digest: str, size: int, *, plain: bool = False) -> None:
        """`plain`: a tar that is unpacked as it comes, so its diff ID is the digest and need not be made twice."""
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed by close()
        self._replay = self.offset = os.fstat(self._file.fileno()).st_size
        if size and self.offset > size:
            raise errdefs.DataLoss(f"ingest: {self.offset} bytes are on disk, more than the blob's {size}")
        self._file.seek(0)
        self._client = client
        self._hasher = None if plain else hashlib.new(digest.partition(":")[0] or "sha256")
        self._begun = False
        self._written_back = self.offset
        self._digest = digest
        self._size = size
        self._buffer = bytearray(_READ_SIZE)
        self._lock = threading.Lock()

    def read(self, size: int = -1) -> bytes:
        """The next bytes, b"" at the end. Raises DataLoss for more than the announced size."""
        with self._lock:  # after a failed unpack its reader thread may still be in here, beside drain
            return self._read(_READ_SIZE if size <= 0 else min(size, _READ_SIZE))

    def _read(self, size: int) -> bytes:
        if self._replay:
            data = self._file.read(min(size, self._replay))
            self._replay -= len(data)
            return self._passed(data)
        view = memoryview(self._buffer)[:size]
        count = self._client.recv_into(view)
        if not count:
            return b""
        self.offset += count
        if self._size and self.offset > self._size:
            raise errdefs.DataLoss(f"ingest: more than the announced {self._size} bytes were sent")
        got = view[:count]
        rest = got
        while rest:
            rest = rest[self._file.write(rest) :]
        if self.offset - self._written_back >= _WRITEBACK_BYTES:
            begin_writeback(self._file.fileno(), self._written_back)
            self._written_back = self.offset
        return self._passed(bytes(got))

    def _passed(self, data: bytes) -> bytes:
        if self._hasher is not None:
            self._hasher.update(data)
        elif not self._begun:
            from rorqual.distribution.unpack.decompress import is_compressed

            if is_compressed(data[:4]):
                raise errdefs.DataLoss("ingest: compressed bytes under the media type of a plain tar")
        self._begun = True
        return data

    def drain(self) -> None:
        """Read what an unpacker left."""
        while self.read():
            pass

    def check(self, diff_id: str) -> str:
        """The digest, when all was read. Raises Unavailable when the client stopped early (resumable), DataLoss."""
        if self._size and self.offset < self._size:
            raise errdefs.Unavailable(f"ingest: connection ended after {self.offset} of {self._size} bytes")
        digest = diff_id
        if self._hasher is not None:
            digest = f"{self._digest.partition(':')[0] or 'sha256'}:{self._hasher.hexdigest()}"
        if self._digest and digest != self._digest:
            raise errdefs.DataLoss(f"unexpected commit digest {digest}, expected {self._digest}")
        return digest

    def close(self) -> None:
        """Close the file; the socket is the caller's."""
        self._file.close()


def _ingest(job: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """{"path", "digest" ("": not known), "size", "directory" ("": no unpack), "plain"} and the client's socket."""
    client = socket.socket(fileno=os.dup(fds[0]))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
    # Bytes with a digest to keep are hashed as they are, so that a layer that cannot be read tells whose fault it is.
    plain = bool(job["directory"]) and not job["digest"] and job["plain"]
    source = IngestSource(job["path"], client, job["digest"], job["size"], plain=plain)
    try:
        client.sendall(json.dumps({"offset": source.offset}).encode() + b"\n")
        unpacked: dict[str, Any] = {"diff_id": None}
        if job["directory"]:
            try:
                unpacked = _unpack(source, job["directory"], "overlay")
            except errdefs.ResourceExhausted:
                raise  # of a bomb, and on a full disk, no more is wanted
            except errdefs.Error:
                source.drain()  # bytes that are not what they should be explain a layer that cannot be read
                source.check("")
                raise
        source.drain()
        if job["directory"] and source.offset >= _WRITEBACK_BYTES:
            _begin_writeback(job["directory"])
        return {**unpacked, "size": source.offset, "digest": source.check(unpacked["diff_id"] or "")}
    finally:
        source.close()
        client.close()


_writeback: list[threading.Thread] = []


def _begin_writeback(directory: str) -> None:
    """The layer's files on their way to the disk while the next layer comes: whoever names the image waits for them."""
    if _writeback and _writeback[0].is_alive():
        return
    _writeback[:] = [threading.Thread(target=_write_back, args=(directory,), name="writeback", daemon=True)]
    _writeback[0].start()


def _write_back(directory: str) -> None:
    try:
        syncfs(directory)
    except OSError:
        return  # the sync before the name tells of it


def _append(job: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """{"path"} and the client's socket: its bytes behind those that are there, unchecked. {"size"} of all."""
    client = socket.socket(fileno=os.dup(fds[0]))
    buffer = memoryview(bytearray(_READ_SIZE))
    try:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        with open(job["path"], "ab", buffering=0) as file:
            client.sendall(json.dumps({"offset": file.tell()}).encode() + b"\n")
            while count := client.recv_into(buffer):
                rest = buffer[:count]
                while rest:
                    rest = rest[file.write(rest) :]
            return {"size": file.tell()}
    finally:
        client.close()


def _apply(job: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
    """{"path" of a blob, "directory", "whiteouts"}."""
    with open(job["path"], "rb", buffering=0) as file:
        return _unpack(file, job["directory"], job["whiteouts"])


def _unpack(source: Any, directory: str, whiteouts: Any) -> dict[str, Any]:
    from rorqual.distribution import unpack

    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        result = unpack.apply(source, fd, whiteouts=whiteouts)
    finally:
        os.close(fd)
    return {
        "diff_id": result.diff_id,
        "unpacked_size": result.size,
        "entries": result.entries,
        "implied": [os.fsdecode(name) for name in result.implied_dirs],
        "links": [[os.fsdecode(name), os.fsdecode(target)] for name, target in result.links],
    }


def _diff(job: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
    """{"left", "right": [[type, source, [options]]], "media_type", "path" of the file to make}."""
    from rorqual.containerd import differ

    left, right = ([differ.Mounted(t, s, tuple(o)) for t, s, o in job[side]] for side in ("left", "right"))
    return differ.diff(left, right, job["media_type"], job["path"])


def _hash(job: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
    """{"path" of a blob, "digest"}."""
    from rorqual.containerd import verify

    return verify.hash_blob(job["path"], job["digest"])


def _compare(job: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
    """{"path" of a layer's blob, "directory" of its snapshot}."""
    from rorqual.containerd import verify

    return verify.compare_layer(job["path"], job["directory"])


_KINDS = {"ingest": _ingest, "append": _append, "apply": _apply, "diff": _diff, "hash": _hash, "compare": _compare}

if __name__ == "__main__":
    main()
