"""gelf: Graylog's format, over UDP (compressed and chunked) or TCP (ended by a zero byte).

Source: https://docs.docker.com/engine/logging/drivers/gelf/, GELF 1.1.
"""

from __future__ import annotations

import json
import secrets
import socket
from urllib.parse import urlsplit

from rorqual.errdefs import InvalidArgument
from rorqual.shim.logdrivers.remote import Info, Line
from rorqual.shim.logdrivers.sender import Sender, connect_datagram, connect_stream
from rorqual.shim.loop import Loop

_LEVEL = {"stdout": 6, "stderr": 3}
_CHUNK = 1420  # bytes of a datagram that pass an Ethernet MTU
_CHUNK_HEADER = 12
_CHUNKS_MAX = 128
_MAGIC = b"\x1e\x0f"


class Gelf:
    """Makes messages."""

    def __init__(self, info: Info) -> None:
        # What the image chose (labels, variables) comes first: it does not replace what is known of the container.
        fields = {key if key.startswith("_") else f"_{key}": value for key, value in info.attrs.items()} | {
            "_container_id": info.id,
            "_container_name": info.name,
            "_image_id": info.image_id,
            "_image_name": info.image,
            "_command": info.command,
            "_tag": info.tag,
            "_created": info.created,
        }
        self._fixed = {"version": "1.1", "host": socket.gethostname(), **fields}
        self._udp = urlsplit(info.config.get("gelf-address", "")).scheme == "udp"
        self._compression = info.config.get("gelf-compression-type", "gzip")
        self._level = int(info.config.get("gelf-compression-level", "1"))

    def encode(self, line: Line) -> list[bytes]:
        """See Encoder."""
        document = {
            **self._fixed,
            "short_message": line.text.decode("utf-8", "replace"),
            "timestamp": line.time_ns // 1_000_000 / 1000,
            "level": _LEVEL[line.stream],
        }
        data = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
        return self._datagrams(data) if self._udp else [data + b"\0"]

    def _datagrams(self, data: bytes) -> list[bytes]:
        import zlib

        if self._compression == "gzip":
            packer = zlib.compressobj(self._level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
            data = packer.compress(data) + packer.flush()
        elif self._compression == "zlib":
            data = zlib.compress(data, self._level)
        if len(data) <= _CHUNK:
            return [data]
        size = _CHUNK - _CHUNK_HEADER
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        if len(parts) > _CHUNKS_MAX:
            return []  # GELF has no way to send more
        id = secrets.token_bytes(8)
        return [_MAGIC + id + bytes((n, len(parts))) + part for n, part in enumerate(parts)]


def sender(info: Info, loop: Loop) -> Sender:
    """Raises InvalidArgument, Unavailable."""
    url = urlsplit(info.config.get("gelf-address", ""))
    if url.hostname is None or url.port is None:
        raise InvalidArgument("gelf: please provide gelf-address as proto://host:port")
    host, port = url.hostname, url.port
    if url.scheme == "udp":
        return Sender(loop, lambda: connect_datagram(host, port), datagrams=True)
    return Sender(loop, lambda: connect_stream(host, port), datagrams=False)
