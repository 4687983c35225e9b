"""The ingest socket's server: checks the request, hands the client to a worker, records what it made.

Protocol: docs/architecture.md; client: rorqual.rpc.ingest.

    loop: request line, lease, lock of the ref, rows      worker: offset, bytes, digest, unpack
    loop: file sealed and named, rows, durable, answer
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from rorqual import errdefs
from rorqual.containerd.content.store import ContentStore
from rorqual.containerd.identifiers import check_digest, check_identifier, check_labels
from rorqual.containerd.metadata.leases import Leases
from rorqual.containerd.metadata.records import ContentInfo, Pending, Resource, Usage
from rorqual.containerd.snapshotters.tree import TreeSnapshotter
from rorqual.containerd.workers import WorkerPool
from rorqual.rpc.ingest import LINE_MAX, Request, Unpack

log = logging.getLogger(__name__)

# errors that the same bytes would give again, and a full disk, which the bytes so far only make fuller
_FINAL = (errdefs.DataLoss, errdefs.InvalidArgument, errdefs.ResourceExhausted)
UNCOMPRESSED_LABEL = "containerd.io/uncompressed"  # containerd's own: the diff ID of a layer blob


class IngestServer:
    """Serves until `close`. Each connection is one blob."""

    def __init__(
        self,
        content: ContentStore,
        leases: Leases,
        snapshotters: Mapping[str, TreeSnapshotter],
        workers: WorkerPool,
    ) -> None:
        self._content = content
        self._leases = leases
        self._snapshotters = snapshotters
        self._workers = workers

    async def serve(self, listener: socket.socket) -> None:
        """Accept until cancelled; takes the socket over."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        with listener:
            async with asyncio.TaskGroup() as connections:
                while True:
                    sock, _ = await loop.sock_accept(listener)
                    connections.create_task(self._connection(sock))

    async def _connection(self, sock: socket.socket) -> None:
        with sock:
            try:
                answer = await self._answer(sock)
            except errdefs.Error as e:
                answer = {"error": str(e), "code": type(e).__name__}
            except Exception as e:
                log.exception("ingest")
                answer = {"error": f"{type(e).__name__}: {e}", "code": "Internal"}
            try:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(sock, json.dumps(answer).encode() + b"\n")
                await _read_to_end(sock)
            except OSError:
                return  # the client is gone; what it asked for is done and recorded

    async def _answer(self, sock: socket.socket) -> dict[str, Any]:
        sock.setblocking(False)
        if os.geteuid() != (uid := _peer_uid(sock)):
            raise errdefs.PermissionDenied(f"ingest: uid {uid} is not allowed")
        request = Request.from_line(await _read_line(sock))
        check_identifier(request.ns, "namespace")
        if request.digest:
            check_digest(request.digest)
        check_labels(dict(request.labels))
        if request.lease and request.digest:
            self._leases.hold(request.ns, request.lease, Resource("content", request.digest))
        with self._content.locked(request.ns, request.ref):
            if request.part:
                return await self._append(request, sock)
            if request.unpack is None:
                return await self._store(request, sock)
            return await self._store_and_unpack(request, request.unpack, sock)

    async def _append(self, request: Request, sock: socket.socket) -> dict[str, Any]:
        ingest = self._content.table.begin(request.ns, request.ref, "", 0)
        sock.setblocking(True)
        job = {"kind": "append", "path": self._content.blobs.ingest_path(ingest.id)}
        result = await self._workers.run(job, [sock.fileno()])
        return {"ok": True, "diff_id": None, "size": result["size"], "digest": ""}

    async def _store(self, request: Request, sock: socket.socket) -> dict[str, Any]:
        existing = self._existing(request)
        if existing is not None:
            diff_id = existing.labels.get(UNCOMPRESSED_LABEL)
            return {"exists": True, "diff_id": diff_id, "size": existing.size}
        result = await self._receive(request, "", sock)
        return {"ok": True, "diff_id": None, "size": result["size"], "digest": result["digest"]}

    def _existing(self, request: Request) -> ContentInfo | None:
        if not request.digest:
            return None
        return self._content.adopt(request.ns, request.digest, request.labels)

    async def _store_and_unpack(self, request: Request, unpack: Unpack, sock: socket.socket) -> dict[str, Any]:
        snapshotter = self._snapshotters.get(unpack.snapshotter)
        if snapshotter is None:
            raise errdefs.NotFound(f"snapshotter {unpack.snapshotter} was not found: not found")
        ns, key = request.ns, unpack.key
        if request.lease:
            self._leases.hold(ns, request.lease, Resource(f"snapshots/{snapshotter.name}", key))
        await snapshotter.prepare(ns, key, "", {}, pinned=not request.lease, transient=True)
        try:
            directory = snapshotter.driver.layer(snapshotter.stat(ns, key).id)
            existing = self._content.adopt(ns, request.digest, request.labels)
            if existing is not None:
                path = self._content.blobs.path(request.digest)
                job = {"kind": "apply", "path": path, "directory": directory, "whiteouts": "overlay"}
                result = {**await self._workers.run(job, []), "size": existing.size, "digest": request.digest}
                label = {UNCOMPRESSED_LABEL: result["diff_id"]}
                self._content.table.update(ns, request.digest, label, [f"labels.{UNCOMPRESSED_LABEL}"])
            else:
                result = await self._receive(request, directory, sock)
            usage = Usage(result["unpacked_size"], result["entries"] + 1)
            snapshotter.table.unpacked(ns, key, usage, Pending.of(result))
        except BaseException:
            await snapshotter.remove(ns, key)
            raise
        word = "exists" if existing is not None else "ok"
        return {word: True, "diff_id": result["diff_id"], "size": result["size"], "digest": result["digest"]}

    async def _receive(self, request: Request, directory: str, sock: socket.socket) -> dict[str, Any]:
        """The client's bytes to a blob, through a worker; the ingest is dropped when more of it cannot help."""
        ns, ref = request.ns, request.ref
        ingest = self._content.table.begin(ns, ref, request.digest, request.size)
        if ingest.expected != request.digest:
            raise errdefs.Conflict(f"ref {ref} is a write of {ingest.expected}, not {request.digest}")
        path = self._content.blobs.ingest_path(ingest.id)
        job = {
            "kind": "ingest",
            "path": path,
            "digest": request.digest,
            "size": request.size,
            "directory": directory,
            "plain": request.media_type.endswith(".tar"),
        }
        sock.setblocking(True)  # the flag is the open socket's, which the worker shares
        try:
            result = await self._workers.run(job, [sock.fileno()])
        except errdefs.Error as e:
            if isinstance(e, _FINAL) or not request.digest:
                self._content.table.end(ns, ref)
                self._content.remove_ingest_files([ingest.id])
            raise
        if request.lease:
            self._leases.hold(ns, request.lease, Resource("content", result["digest"]))
        labels = dict(request.labels)
        if result["diff_id"]:
            labels[UNCOMPRESSED_LABEL] = result["diff_id"]
        try:
            await self._content.finish(ns, ref, ingest, result["digest"], result["size"], labels)
        except errdefs.AlreadyExists:
            pass  # another ref's writer was faster with the same bytes
        return result


def _peer_uid(sock: socket.socket) -> int:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


async def _read_line(sock: socket.socket) -> bytes:
    """The request. The client sends nothing behind it before it was answered."""
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\n"):
        data = await loop.sock_recv(sock, 65536)
        line += data
        if not data or len(line) > LINE_MAX or (b"\n" in line and not line.endswith(b"\n")):
            raise errdefs.InvalidArgument("ingest: no request line")
    return line


async def _read_to_end(sock: socket.socket) -> None:
    """Let the client read the answer: closing with unread bytes would reset the connection."""
    loop = asyncio.get_running_loop()
    sock.shutdown(socket.SHUT_WR)
    try:
        async with asyncio.timeout(2):
            while await loop.sock_recv(sock, 1 << 20):
                pass
    except TimeoutError:
        return
