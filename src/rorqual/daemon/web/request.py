"""A request as a handler sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Protocol
from urllib.parse import parse_qsl

from rorqual.daemon.web.body import BodyReader
from rorqual.daemon.web.head import Head, Headers


class Sender(Protocol):
    """What a response and a hijacker need of the connection."""

    transport: asyncio.Transport | None

    async def send(self, data: bytes) -> None:
        """Write; returns when the client has taken enough. Raises: ConnectionError when it has gone away."""
        ...

    def hand_over(self) -> bytes:
        """The connection is no longer HTTP: bytes that came after the request. Its transport is the caller's now."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """For who took the transport over: cancels the request's handler."""
        ...

    def end_after_response(self) -> None:
        """The answer has no length: the connection's end is its end."""
        ...


class Query(Mapping[str, str]):
    """Parameters of the query; of one that was given several times the first, as Go's url.Values.Get has it."""

    __slots__ = ("_values",)

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def getall(self, name: str) -> list[str]:
        """All the values, in their order."""
        return list(self._values.get(name, ()))


class Request:
    """Method, path, fields, body; `connection` is for the response and for who takes the connection over. `answering`:
    the head of a streamed answer is sent.
    """

    __slots__ = ("_query", "_query_text", "answering", "connection", "content", "head", "raw_path")

    def __init__(self, head: Head, content: BodyReader, connection: Sender) -> None:
        self.head = head
        self.content = content
        self.connection = connection
        self.answering = False
        self.raw_path, self._query_text = _split(head.target)
        self._query: Query | None = None

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def version(self) -> tuple[int, int]:
        """Of HTTP: (1, 0) or (1, 1)."""
        return self.head.version

    @property
    def headers(self) -> Headers:
        return self.head.headers

    @property
    def has_body(self) -> bool:
        """Whether there is something to read; an empty body is none."""
        return self.head.length != 0

    @property
    def query(self) -> Query:
        if self._query is None:
            self._query = Query(self._query_text)
        return self._query


def _split(target: str) -> tuple[str, str]:
    """(path as it was sent, query) of a target in origin form or absolute form (RFC 9112 section 3.2)."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("#")[0].partition("?")
    return path, query
