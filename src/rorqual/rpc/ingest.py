"""The client of containerd's ingest socket: a blob's bytes go to disk, and unpacked, in one pass.

    client                                  rorqual-containerd / its worker
    {"ns","ref","digest","size",...}\\n  ->
                                        <-  {"offset": n}\\n  or  {"exists": true, "diff_id": ..}\\n
    blob[n:] ... shutdown(SHUT_WR)      ->  file + sha256 + unpack, as it arrives
                                        <-  {"ok": true, "diff_id": .., "size": n}\\n

Protocol: docs/architecture.md. Used by rorquald's image service, on its event loop.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from rorqual import errdefs
from rorqual.rpc import codes, unixsock

LINE_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Unpack:
    """Apply the layer below a new parentless active snapshot `key`."""

    snapshotter: str
    key: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is going to be sent. `size` in bytes (0: unknown); `lease` holds the blob and the snapshot.

    `digest` "": not known yet, the result tells it. Such bytes cannot be resumed, and `ref` must be used once. Under
    the media type of a plain tar they must be one: they are hashed once, as what they unpack to.

    `part`: the bytes are appended to the write `ref` and stay there, unchecked; the content service's Write commits it.
    """

    ns: str
    ref: str
    digest: str
    size: int = 0
    media_type: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    lease: str = ""
    unpack: Unpack | None = None
    part: bool = False

    def to_line(self) -> bytes:
        """The request line."""
        unpack = {"snapshotter": self.unpack.snapshotter, "key": self.unpack.key} if self.unpack else None
        body = {
            "ns": self.ns,
            "ref": self.ref,
            "digest": self.digest,
            "size": self.size,
            "media_type": self.media_type,
            "labels": dict(self.labels),
            "lease": self.lease,
            "unpack": unpack,
            "part": self.part,
        }
        return json.dumps(body).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """The request in a line. Raises InvalidArgument."""
        try:
            body = json.loads(line)
            unpack = body.get("unpack")
            request = cls(
                ns=body["ns"],
                ref=body["ref"],
                digest=body["digest"],
                size=int(body.get("size") or 0),
                media_type=body.get("media_type") or "",
                labels=body.get("labels") or {},
                lease=body.get("lease") or "",
                unpack=Unpack(unpack["snapshotter"], unpack["key"]) if unpack else None,
                part=body.get("part") is True,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise errdefs.InvalidArgument(f"ingest: malformed request: {e}") from e
        texts = (request.ns, request.ref, request.digest, request.media_type, request.lease)
        if not all(isinstance(t, str) for t in texts) or not request.ns or not request.ref or request.size < 0:
            raise errdefs.InvalidArgument("ingest: malformed request")
        return request


@dataclass(frozen=True, slots=True)
class Result:
    """`diff_id` of the unpacked layer, None without `unpack`; `size` of the blob in bytes, and its digest."""

    diff_id: str | None
    size: int
    digest: str


class Writer:
    """One blob on its way. `offset`: the first byte to send; `existing`: set when there is nothing to send.

    Use: `async with await open_ingest(path, request) as w: ... await w.write(data) ...; result = await w.commit()`.
    Leaving the block without commit aborts; what arrived is kept, to be resumed under the same ref.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock: socket.socket | None = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self.offset = 0
        self.existing: Result | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.abort()

    async def begin(self, request: Request) -> None:
        """Send the request and read the first answer. Raises the server's error."""
        await self._loop.sock_sendall(self._need(), request.to_line())
        answer = await self._line()
        if answer.get("exists"):
            self.existing = Result(answer.get("diff_id"), int(answer.get("size") or request.size), request.digest)
            self.abort()
        else:
            self.offset = int(answer["offset"])

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send the next bytes; waits while the disk is behind. Raises the server's error when it gave up."""
        try:
            await self._loop.sock_sendall(self._need(), data)
        except (BrokenPipeError, ConnectionResetError) as e:
            await self._line()  # raises what the server said
            raise errdefs.Unavailable("ingest: connection lost") from e
        self.offset += len(data)

    async def commit(self) -> Result:
        """All bytes are sent: the result, once digest and size were checked and the data is on disk."""
        if self.existing is not None:
            return self.existing
        try:
            self._need().shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has closed already; its answer is still to be read
        answer = await self._line()
        self.abort()
        return Result(answer.get("diff_id"), int(answer["size"]), answer.get("digest") or "")

    def abort(self) -> None:
        """Close the connection. A second call does nothing."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _need(self) -> socket.socket:
        if self._sock is None:
            raise errdefs.Conflict("ingest: the writer is closed")
        return self._sock

    async def _line(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            try:
                data = await self._loop.sock_recv(self._need(), 65536)
            except OSError:
                data = b""
            if not data or len(self._buffer) > LINE_MAX:
                raise errdefs.Unavailable("ingest: connection lost")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise codes.error_named(str(answer.get("code") or ""), str(answer["error"]))
        return answer


async def open_ingest(path: str, request: Request) -> Writer:
    """A writer for the blob, its `offset` or `existing` set. Raises Unavailable and the server's errors.

    Waits while as many other blobs as there are workers are under way.
    """
    try:
        sock = unixsock.connect(path)
    except OSError as e:
        raise errdefs.Unavailable(f"ingest: {path}: {e.strerror}") from e
    sock.setblocking(False)
    writer = Writer(sock)
    try:
        await writer.begin(request)
    except BaseException:
        writer.abort()
        raise
    return writer
