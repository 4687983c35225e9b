"""What a handler answers: a body that is known, or a stream.

A stream is chunked for HTTP/1.1; for HTTP/1.0 the connection's end is its end. 1xx, 204 and 304 have no body, and the
answer to HEAD has the head only (RFC 9110 sections 9.3.2 and 15).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus

from rorqual.daemon.web.request import Request

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_date: tuple[int, str] = (0, "")


def encode_head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and fields. Raises: ValueError for a field that would end the head."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
    for name, value in headers.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"{name}: a header field cannot hold a line end")
        lines.append(f"{name}: {value}")
    lines.append(f"Date: {_now()}\r\n\r\n")
    return "\r\n".join(lines).encode("latin-1", "replace")


def _now() -> str:
    """An HTTP date, made once a second."""
    global _date
    second = int(time.time())
    if _date[0] != second:
        _date = second, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
    return _date[1]


class StreamResponse:
    """A body of unknown length: `prepare`, any number of `write`, `write_eof`."""

    def __init__(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = dict(headers or {})
        self._request: Request | None = None
        self._chunked = False
        self._ended = False

    async def prepare(self, request: Request) -> None:
        """Send the head; a second call does nothing. Raises: ConnectionError."""
        if self._request is not None:
            return
        self._request = request
        request.answering = True
        self._chunked = request.version >= (1, 1)
        headers = self.headers
        if self._chunked:
            headers = headers | {"Transfer-Encoding": "chunked"}
        else:
            headers = headers | {"Connection": "close"}
            request.connection.end_after_response()
        await request.connection.send(encode_head(self.status, headers))

    async def write(self, data: bytes) -> None:
        """Send some of the body; returns when the client has taken enough. Raises: ConnectionError."""
        assert self._request is not None, "prepare first"
        if not data or self._request.method == "HEAD":
            return
        await self._request.connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def write_eof(self) -> None:
        """The end; a second call does nothing. Raises: ConnectionError."""
        assert self._request is not None, "prepare first"
        if not self._ended and self._chunked and self._request.method != "HEAD":
            await self._request.connection.send(b"0\r\n\r\n")
        self._ended = True

    async def complete(self, request: Request) -> None:
        """What the handler left to do; called by the connection."""
        await self.prepare(request)
        await self.write_eof()


class Response(StreamResponse):
    """A whole answer, sent in one piece."""

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> None:
        super().__init__(status, headers)
        self.body = body
        if content_type:
            self.headers["Content-Type"] = content_type

    async def complete(self, request: Request) -> None:
        """Send it. Raises: ConnectionError; also where a stream had begun: only the connection's end can tell of it."""
        if request.answering:
            raise ConnectionAbortedError(f"the answer had begun: {self.status} {self.body[:500]!r}")
        bodyless = self.status in (204, 304)
        headers = self.headers if bodyless else self.headers | {"Content-Length": str(len(self.body))}
        if not request.head.keep_alive:
            headers = headers | {"Connection": "close"}
        head = encode_head(self.status, headers)
        await request.connection.send(head if bodyless or request.method == "HEAD" else head + self.body)
