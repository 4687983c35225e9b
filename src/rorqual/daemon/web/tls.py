"""TLS under a protocol, with each direction ended by itself: a client may say "no more input" and go on reading.

asyncio's own TLS ends both directions at the peer's close_notify, so that `echo hi | docker run -i` over TLS would lose
its output. Here close_notify, or the end of the TCP stream, is `eof_received`, and the protocol decides as on a plain
socket. Source: RFC 8446 section 6.1.

    raw transport -> TlsProtocol (BIOs of OpenSSL) -> Connection, or who took it over
                     TlsTransport <- what those write
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

log = logging.getLogger(__name__)

HANDSHAKE_S = 60.0
_READ_BYTES = 256 * 1024


class TlsTransport(asyncio.Transport):
    """What the protocol above sees."""

    def __init__(self, below: TlsProtocol) -> None:
        super().__init__()
        self._below = below

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._below.extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._below.above = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._below.above

    def is_closing(self) -> bool:
        return self._below.closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._below.write(data)

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self._below.pause_reading()

    def resume_reading(self) -> None:
        self._below.resume_reading()

    def close(self) -> None:
        self._below.close()

    def abort(self) -> None:
        self._below.abort()


class TlsProtocol(asyncio.Protocol):
    """The server's side of one connection; `above` is told of it once the handshake is done."""

    def __init__(self, context: ssl.SSLContext, above: asyncio.BaseProtocol) -> None:
        self.above = above
        self.closing = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._loop = asyncio.get_running_loop()
        self._raw: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._established = False
        self._ended = False  # the peer's direction
        self._resting = False

    # ---- the raw transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        self._timer = self._loop.call_later(HANDSHAKE_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self._advance()

    def eof_received(self) -> bool:
        self._incoming.write_eof()
        self._advance()
        return self._established and not self.closing

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self._stop_timer()
        if self._established:
            self.above.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._established:
            self.above.pause_writing()

    def resume_writing(self) -> None:
        if self._established:
            self.above.resume_writing()

    # ---- the transport's side

    def extra_info(self, name: str, default: Any) -> Any:
        if name == "ssl_object":
            return self._tls
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.closing or not data:
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._tls.write(rest) :]
        except ssl.SSLError as e:
            log.debug("TLS: %s", e)
            self.abort()
            return
        self._flush()

    def pause_reading(self) -> None:
        if not self._resting and self._raw is not None and not self.closing:
            self._resting = True
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if self._resting and self._raw is not None and not self.closing:
            self._resting = False
            self._raw.resume_reading()
            self._loop.call_soon(self._advance)  # what was decrypted while it rested

    def close(self) -> None:
        """Say close_notify behind what was written, and close."""
        if self.closing or self._raw is None:
            return
        self.closing = True
        try:
            self._tls.unwrap()
        except ssl.SSLError as e:  # the peer's answer is not waited for
            log.debug("TLS: %s", e)
        self._flush()
        self._raw.close()

    def abort(self) -> None:
        self.closing = True
        if self._raw is not None:
            self._raw.abort()

    # ---- TLS

    def _advance(self) -> None:
        """Do what the bytes that came allow."""
        if self.closing:
            return
        try:
            if not self._established:
                self._tls.do_handshake()
                self._established = True
                self._stop_timer()
                self.above.connection_made(TlsTransport(self))
            self._read()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as e:
            log.debug("TLS: %s", e)
            self._flush()  # the alert that says why
            self.closing = True
            if self._raw is not None:
                self._raw.close()

    def _read(self) -> None:
        while not (self._resting or self._ended or self.closing):
            try:
                data = self._tls.read(_READ_BYTES)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                data = b""
            self._flush()
            if data:
                self._deliver(data)
            else:
                self._ended = True
                if not self._above_eof():
                    self.close()

    def _above_eof(self) -> bool:
        above = self.above
        assert isinstance(above, asyncio.Protocol | asyncio.BufferedProtocol)
        return bool(above.eof_received())

    def _deliver(self, data: bytes) -> None:
        above = self.above
        if isinstance(above, asyncio.Protocol):
            above.data_received(data)
            return
        assert isinstance(above, asyncio.BufferedProtocol)
        rest = memoryview(data)
        while rest:
            if self.above is not above:
                self._deliver(bytes(rest))
                return
            buffer = memoryview(above.get_buffer(len(rest)))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            rest = rest[size:]
            above.buffer_updated(size)

    def _flush(self) -> None:
        if self._outgoing.pending and self._raw is not None and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
