"""fluentd: the forward protocol's messages, [tag, time, record] in MessagePack, over TCP, TLS or a unix socket.

Source: https://docs.docker.com/engine/logging/drivers/fluentd/, Fluentd Forward Protocol Specification v1.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from rorqual.errdefs import InvalidArgument
from rorqual.shim.logdrivers.remote import Info, Line
from rorqual.shim.logdrivers.sender import Sender, connect_stream, connect_unix
from rorqual.shim.loop import Loop

_CHUNK_BYTES = 16  # acked.CHUNK_CHARS in base64
_HOST, _PORT = "127.0.0.1", 24224
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})


class Fluentd:
    """Makes messages."""

    def __init__(self, info: Info) -> None:
        self._tag = _text(info.tag)
        self._fixed = {**info.attrs, "container_id": info.id, "container_name": f"/{info.name}"}
        self._acknowledged = info.config.get("fluentd-request-ack", "") in _TRUE
        self._precise = info.config.get("fluentd-sub-second-precision", "") in _TRUE

    def encode(self, line: Line) -> list[bytes]:
        """See Encoder."""
        record: dict[str, bytes | str] = {**self._fixed, "source": line.stream, "log": line.text}
        if line.partial is not None:
            record |= {
                "partial_message": "true",
                "partial_id": line.partial.id,
                "partial_ordinal": str(line.partial.ordinal),
                "partial_last": "true" if line.partial.last else "false",
            }
        event = self._tag + self._time(line.time_ns) + _map(record)
        if not self._acknowledged:
            return [b"\x93" + event]
        return [b"\x94" + event + _map({"chunk": secrets.token_urlsafe(_CHUNK_BYTES)})]

    def _time(self, time_ns: int) -> bytes:
        seconds, nanos = divmod(time_ns, 1_000_000_000)
        if self._precise:
            return b"\xd7\x00" + struct.pack(">II", seconds, nanos)  # EventTime, extension type 0
        return b"\xce" + struct.pack(">I", seconds)


def _map(record: Mapping[str, bytes | str]) -> bytes:
    count = len(record)
    head = bytes((0x80 | count,)) if count < 16 else b"\xde" + struct.pack(">H", count)
    return head + b"".join(_text(key) + _text(value) for key, value in record.items())


def _text(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    size = len(data)
    if size < 32:
        return bytes((0xA0 | size,)) + data
    if size < 256:
        return b"\xd9" + bytes((size,)) + data
    if size < 65536:
        return b"\xda" + struct.pack(">H", size) + data
    return b"\xdb" + struct.pack(">I", size) + data


def sender(info: Info, loop: Loop) -> Sender:
    """Raises InvalidArgument, Unavailable (unless fluentd-async)."""
    lazy = info.config.get("fluentd-async", "") in _TRUE
    acknowledged = info.config.get("fluentd-request-ack", "") in _TRUE

    def made(connect: Callable[[], socket.socket]) -> Sender:
        if acknowledged:
            from rorqual.shim.logdrivers.acked import AckedSender

            return AckedSender(loop, connect, lazy=lazy)
        return Sender(loop, connect, datagrams=False, lazy=lazy)

    address = info.config.get("fluentd-address", "")
    url = urlsplit(address if "://" in address else f"tcp://{address}")
    if url.scheme == "unix":
        return made(lambda: connect_unix(url.path, socket.SOCK_STREAM))
    host, port = url.hostname or _HOST, url.port or _PORT
    if url.scheme == "tls":
        return made(lambda: _connect_tls(host, port))
    if url.scheme != "tcp":
        raise InvalidArgument(f"unsupported scheme: '{url.scheme}'")
    return made(lambda: connect_stream(host, port))


def _connect_tls(host: str, port: int) -> socket.socket:
    import ssl

    return ssl.create_default_context().wrap_socket(connect_stream(host, port), server_hostname=host)
