"""containerd.services.content.v1: blobs read and written in streams."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from google.protobuf.empty_pb2 import Empty

from rorqual.containerd.content.store import ContentStore, Writer
from rorqual.containerd.events import Exchange
from rorqual.containerd.filters import labels_lookup, select
from rorqual.containerd.gc import Collector
from rorqual.containerd.identifiers import check_digest, check_labels
from rorqual.containerd.metadata.content import Ingest
from rorqual.containerd.metadata.leases import Leases
from rorqual.containerd.metadata.records import ContentInfo, Resource
from rorqual.containerd.services.calls import Scope, need_namespace, receive, scope_of, timestamp, unary
from rorqual.errdefs import AlreadyExists, InvalidArgument, NotFound
from rorqual.rpc.proto import content_events_pb2 as events
from rorqual.rpc.proto import content_pb2 as pb
from rorqual.rpc.proto.content_grpc import ContentBase

_LIST_CHUNK = 100


class ContentService(ContentBase):
    """Over the content store."""

    def __init__(self, store: ContentStore, leases: Leases, exchange: Exchange, collector: Collector) -> None:
        self._store = store
        self._leases = leases
        self._exchange = exchange
        self._collector = collector

    @unary
    async def Info(self, scope: Scope, request: pb.InfoRequest) -> pb.InfoResponse:
        return pb.InfoResponse(info=_info(self._store.table.get(scope.ns, check_digest(request.digest))))

    @unary
    async def Update(self, scope: Scope, request: pb.UpdateRequest) -> pb.UpdateResponse:
        labels = check_labels(dict(request.info.labels))
        digest = check_digest(request.info.digest)
        info = self._store.table.update(scope.ns, digest, labels, list(request.update_mask.paths))
        self._collector.schedule()
        return pb.UpdateResponse(info=_info(info))

    async def List(self, stream: Any) -> None:
        scope = need_namespace(scope_of(stream))
        filters = (await receive(stream)).filters
        found = [_info(i) for i in select(filters, self._store.table.all(scope.ns), _field)]
        for start in range(0, len(found), _LIST_CHUNK):
            await stream.send_message(pb.ListContentResponse(info=found[start : start + _LIST_CHUNK]))

    @unary
    async def Delete(self, scope: Scope, request: pb.DeleteContentRequest) -> Empty:
        self._store.delete(scope.ns, request.digest)
        self._exchange.publish(scope.ns, "/content/delete", events.ContentDelete(digest=request.digest))
        self._collector.schedule()
        return Empty()

    async def Read(self, stream: Any) -> None:
        scope = need_namespace(scope_of(stream))
        request = await receive(stream)
        offset = request.offset
        async for data in self._store.read(scope.ns, request.digest, offset, request.size):
            await stream.send_message(pb.ReadContentResponse(offset=offset, data=data))
            offset += len(data)

    @unary
    async def Status(self, scope: Scope, request: pb.StatusRequest) -> pb.StatusResponse:
        ingest = self._store.table.ingest(scope.ns, request.ref)
        if ingest is None:
            raise NotFound(f"ingest ref {request.ref}: not found")
        return pb.StatusResponse(status=self._status(ingest))

    @unary
    async def ListStatuses(self, scope: Scope, request: pb.ListStatusesRequest) -> pb.ListStatusesResponse:
        found = select(request.filters, self._store.table.ingests(scope.ns), _ingest_field)
        return pb.ListStatusesResponse(statuses=map(self._status, found))

    @unary
    async def Abort(self, scope: Scope, request: pb.AbortRequest) -> Empty:
        await self._store.abort(scope.ns, request.ref)
        return Empty()

    async def Write(self, stream: Any) -> None:
        """A session for one ref: stat, write and commit requests, one answer each; commit ends it."""
        scope = need_namespace(scope_of(stream))
        request = await receive(stream)
        if not request.ref:
            raise InvalidArgument("first message must have a reference")
        if request.expected:
            check_digest(request.expected)
        with ExitStack() as stack:
            stack.enter_context(self._store.locked(scope.ns, request.ref))
            if scope.lease:
                self._leases.hold(scope.ns, scope.lease, Resource("ingests", request.ref))
            if request.expected:
                self._refuse_existing(scope, request)
            ingest = self._store.table.begin(scope.ns, request.ref, request.expected, request.total)
            writer = Writer(self._store, scope.ns, request.ref, ingest)
            stack.callback(writer.close)
            await writer.open()
            while request is not None:
                await stream.send_message(await self._step(scope, writer, request))
                if request.action == pb.COMMIT:
                    return
                request = await stream.recv_message()

    def _refuse_existing(self, scope: Scope, request: pb.WriteContentRequest) -> None:
        if self._store.adopt(scope.ns, request.expected, dict(request.labels)) is not None:
            self._hold(scope, request.expected)
            raise AlreadyExists(f"content {request.expected}: already exists")

    async def _step(self, scope: Scope, writer: Writer, request: pb.WriteContentRequest) -> pb.WriteContentResponse:
        position = writer.position
        self._expect(writer, request)
        answer = pb.WriteContentResponse(
            action=request.action,
            started_at=timestamp(writer.ingest.started_ns),
            updated_at=timestamp(writer.ingest.updated_ns),
            total=position.total,
        )
        if request.action in (pb.WRITE, pb.COMMIT):
            if request.offset and request.offset != position.offset:
                raise InvalidArgument(f"write @{request.offset} must occur at current offset {position.offset}")
            if request.offset == 0 and position.offset > 0 and request.data:
                await writer.truncate()
            if request.data:
                await writer.write(request.data)
        answer.offset = position.offset
        if request.action == pb.COMMIT:
            answer.digest = await self._commit(scope, writer, request)
        elif request.action == pb.STAT:
            answer.digest = writer.digest()
        return answer

    def _expect(self, writer: Writer, request: pb.WriteContentRequest) -> None:
        position = writer.position
        if request.total > 0:
            if position.total and request.total != position.total:
                raise InvalidArgument(f"commit total {request.total} differs from the write's {position.total}")
            position.total = request.total
        if request.expected:
            if position.expected and request.expected != position.expected:
                raise InvalidArgument(f"commit digest {request.expected} differs from the write's {position.expected}")
            position.expected = check_digest(request.expected)

    async def _commit(self, scope: Scope, writer: Writer, request: pb.WriteContentRequest) -> str:
        digest = writer.digest()
        self._hold(scope, digest)
        position = writer.position
        info = await writer.commit(request.total or position.total, position.expected, dict(request.labels))
        self._exchange.publish(scope.ns, "/content/create", events.ContentCreate(digest=digest, size=info.size))
        return digest

    def _hold(self, scope: Scope, digest: str) -> None:
        if scope.lease:
            self._leases.hold(scope.ns, scope.lease, Resource("content", digest))

    def _status(self, ingest: Ingest) -> pb.Status:
        return pb.Status(
            started_at=timestamp(ingest.started_ns),
            updated_at=timestamp(ingest.updated_ns),
            ref=ingest.ref,
            offset=self._store.blobs.ingest_size(ingest.id),
            total=ingest.total,
            expected=ingest.expected,
        )


def _info(info: ContentInfo) -> pb.Info:
    return pb.Info(
        digest=info.digest,
        size=info.size,
        created_at=timestamp(info.created_ns),
        updated_at=timestamp(info.updated_ns),
        labels=info.labels,
    )


def _ingest_field(ingest: Ingest, path: Sequence[str]) -> str | None:
    return ingest.ref if path == ["ref"] else None


def _field(info: ContentInfo, path: Sequence[str]) -> str | None:
    match path:
        case ["digest"]:
            return info.digest
        case ["size"]:
            return str(info.size)
        case ["labels", *key]:
            return labels_lookup(info.labels, key)
    return None
