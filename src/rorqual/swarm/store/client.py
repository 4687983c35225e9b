"""What the state asks of etcd's v3 API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from rorqual.errdefs import Unavailable
from rorqual.rpc.channel import UnixChannel
from rorqual.rpc.proto import etcd_grpc, etcd_pb2
from rorqual.rpc.status import translated
from rorqual.swarm.store.process import START_TIMEOUT_S

_SERVER = "etcd"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value, None where it was deleted; `revision` is the store's when that was."""

    key: bytes
    value: bytes | None
    revision: int


class Etcd:
    """All methods raise Unavailable (status.ConnectionLost) when etcd goes away, or does not come back."""

    def __init__(self, address: str) -> None:
        self._channel = UnixChannel(address, patience_s=START_TIMEOUT_S)
        # Apart: who follows the changes has etcd started again, and must not wait for it.
        self._watch_channel = UnixChannel(address)
        self._kv = etcd_grpc.KVStub(self._channel)
        self._watch = etcd_grpc.WatchStub(self._watch_channel)

    def close(self) -> None:
        """Let go of it."""
        self._channel.close()
        self._watch_channel.close()

    async def load(self, prefix: bytes) -> tuple[list[Entry], int]:
        """All below `prefix`, and the store's revision at that moment."""
        with translated(_SERVER):
            answer = await self._kv.Range(etcd_pb2.RangeRequest(key=prefix, range_end=_after(prefix)))
        return [Entry(kv.key, kv.value, kv.mod_revision) for kv in answer.kvs], answer.header.revision

    async def commit(
        self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes], expected: Mapping[bytes, int]
    ) -> int | None:
        """Write all of it, or nothing (None) unless each of the `expected` keys was last changed in that revision, 0
        for one that must not be there. The revision of the change."""
        compare = [
            etcd_pb2.Compare(result=etcd_pb2.Compare.EQUAL, target=etcd_pb2.Compare.MOD, key=key, mod_revision=revision)
            for key, revision in expected.items()
        ]
        success = [
            etcd_pb2.RequestOp(request_put=etcd_pb2.PutRequest(key=key, value=value)) for key, value in puts.items()
        ]
        success += [etcd_pb2.RequestOp(request_delete_range=etcd_pb2.DeleteRangeRequest(key=key)) for key in deletes]
        with translated(_SERVER):
            answer = await self._kv.Txn(etcd_pb2.TxnRequest(compare=compare, success=success))
        return answer.header.revision if answer.succeeded else None

    async def watch(self, prefix: bytes, start: int) -> AsyncIterator[list[Entry]]:
        """The changes below `prefix` from revision `start` on, in order, those of one revision together.

        Raises: Unavailable, also when `start` is not kept any more.
        """
        create = etcd_pb2.WatchCreateRequest(key=prefix, range_end=_after(prefix), start_revision=start)
        with translated(_SERVER):
            async with self._watch.Watch.open() as stream:
                await stream.send_message(etcd_pb2.WatchRequest(create_request=create))
                async for answer in stream:
                    if answer.canceled:
                        raise Unavailable(f"etcd: watch cancelled: {answer.cancel_reason or answer.compact_revision}")
                    if answer.events:
                        yield [_entry(event) for event in answer.events]
        raise Unavailable("etcd: watch ended")


def _entry(event: etcd_pb2.Event) -> Entry:
    deleted = event.type == etcd_pb2.Event.DELETE
    return Entry(event.kv.key, None if deleted else event.kv.value, event.kv.mod_revision)


def _after(prefix: bytes) -> bytes:
    """The first key that does not begin with `prefix`."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
