"""A TLS connection of the client's, whose own direction can be ended while it goes on reading.

Python's SSLSocket can't do that: its `shutdown` ends the TCP stream without close_notify, its `unwrap` waits for the
peer's. `echo hi | rorqual run -i` over TLS needs it.
"""

from __future__ import annotations

import socket
import ssl

from rorqual.client.errors import ConnectionFailed

_READ_BYTES = 256 * 1024
_RECORD_BYTES = 16 * 1024


class TLSSocket:
    """Owns `sock`, whose handshake is done on return. Raises: OSError, ssl.SSLError."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._read = bytearray()  # decrypted and not taken yet
        self._ended = False
        self._sealed = memoryview(b"")  # encrypted and not sent yet
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                if not self._fill():
                    raise ConnectionFailed("the engine closed the connection during the TLS handshake") from None
        self._flush()

    def fileno(self) -> int:
        return self._sock.fileno()

    def settimeout(self, timeout: float | None, /) -> None:
        self._sock.settimeout(timeout)

    def pending(self) -> int:
        """Bytes that a read would get at once, of which a poll of the socket knows nothing."""
        self._decrypt()
        return len(self._read) or int(self._ended)

    def recv(self, size: int, /) -> bytes:
        """At least one byte, or b"" at the end. Raises: OSError."""
        while not self._read and not self._ended:
            self._decrypt()
            if not self._read and not self._ended and not self._fill():
                self._decrypt()
                self._ended = True
        data = bytes(self._read[:size])
        del self._read[:size]
        return data

    def recv_into(self, buffer: bytearray, /) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """How many bytes were taken. Raises: BlockingIOError with MSG_DONTWAIT while the last ones are on their way."""
        self._push(flags)
        taken = self._tls.write(memoryview(data)[:_RECORD_BYTES])
        try:
            self._push(flags)
        except BlockingIOError:
            return taken  # with the next call
        return taken

    def _push(self, flags: int) -> None:
        if not self._sealed:
            self._sealed = memoryview(self._outgoing.read())
        while self._sealed:
            self._sealed = self._sealed[self._sock.send(self._sealed, flags) :]

    def sendall(self, data: bytes | memoryview, /) -> None:
        """Raises: OSError."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
            self._flush()

    def shutdown(self, how: int, /) -> None:
        """End our direction (SHUT_WR): close_notify, and reading goes on."""
        self._decrypt()  # OpenSSL refuses to be ended while it holds data
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # the peer's close_notify comes when it has written all
        self._flush()

    def close(self) -> None:
        self._sock.close()

    def _fill(self) -> bool:
        data = self._sock.recv(_READ_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)

    def _decrypt(self) -> None:
        try:
            while not self._ended:
                data = self._tls.read(_READ_BYTES)
                self._read += data
                self._ended = not data
        except ssl.SSLWantReadError:
            self._flush()
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._ended = True

    def _flush(self) -> None:
        while self._sealed or self._outgoing.pending:
            self._push(0)
