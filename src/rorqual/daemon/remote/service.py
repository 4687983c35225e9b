"""A service's stub: calls that outlive containerd, errors as errdefs, and what several services speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from rorqual.errdefs import Error
from rorqual.rpc.proto import mount_pb2
from rorqual.rpc.status import ConnectionLost, translated

_LOSSES = 5  # a call that outlives so many containerds is what ends them


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount that makes a snapshot's root filesystem."""

    type: str
    source: str
    options: tuple[str, ...] = ()


def ns(stamp: Timestamp) -> int:
    return stamp.seconds * 1_000_000_000 + stamp.nanos


def mounts_of(mounts: Sequence[mount_pb2.Mount]) -> tuple[Mount, ...]:
    return tuple(Mount(m.type, m.source, tuple(m.options)) for m in mounts)


def mounts_to(mounts: Sequence[Mount]) -> list[mount_pb2.Mount]:
    return [mount_pb2.Mount(type=m.type, source=m.source, options=m.options) for m in mounts]


class Service:
    """A stub, and the metadata of every call."""

    def __init__(self, stub: Any, metadata: Mapping[str, str]) -> None:
        self._stub = stub
        self._metadata = metadata

    async def _call(self, method: str, request: Any) -> Any:
        """A call that may be made twice. Raises: the server's errors, Unavailable."""
        for last in (*[False] * _LOSSES, True):
            try:
                return await self._call_once(method, request)
            except ConnectionLost:
                if last:
                    raise
        raise AssertionError("not reached")

    async def _make(self, method: str, request: Any, *done: type[Error]) -> Any:
        """A call that must not be made twice; None when the connection was lost and the second found it done."""
        try:
            return await self._call_once(method, request)
        except ConnectionLost:
            try:
                return await self._call(method, request)
            except done:
                return None

    async def _call_once(self, method: str, request: Any) -> Any:
        with translated():
            return await getattr(self._stub, method)(request, metadata=self._metadata)
