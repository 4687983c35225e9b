"""Drivers that send output away: lines become messages, a sender's queue goes out as the receiver takes it.

mode=blocking (the default): while more than a MiB waits, the container's output is not read, so nothing is lost and the
container waits for its log. mode=non-blocking: what does not fit into max-buffer-size is dropped. Neither stops the
shim: attach, exec and the container's end go on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rorqual.errdefs import InvalidArgument
from rorqual.shim.logdrivers.lines import Assembler
from rorqual.shim.logdrivers.sender import Sender
from rorqual.shim.loop import Loop

BLOCKING_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Partial:
    """Where a piece of a line longer than 16 KiB belongs."""

    id: str
    ordinal: int
    last: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output without its newline."""

    stream: str
    text: bytes
    time_ns: int
    partial: Partial | None = None


@dataclass(frozen=True, slots=True)
class Info:
    """What a driver may tell of the container. `config` has the log options as the user gave them."""

    id: str
    name: str
    image_id: str
    image: str
    command: str
    created: str
    tag: str
    attrs: Mapping[str, str]
    config: Mapping[str, str]

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Info:
        """From the task's options. Raises InvalidArgument."""
        try:
            return cls(
                **options["info"],
                tag=options["tag"],
                attrs=dict(options.get("attrs") or {}),
                config=dict(options.get("config") or {}),
            )
        except (KeyError, TypeError) as e:
            raise InvalidArgument(f"log options: {e}") from e


class Encoder(Protocol):
    """What a driver's module makes of the lines."""

    def encode(self, line: Line) -> list[bytes]:
        """The messages of one line: datagrams, or frames of a stream."""


class Remote:
    """A LogDriver over an encoder and a sender; takes the sender over."""

    on_room: Callable[[], None] | None = None

    def __init__(self, encoder: Encoder, sender: Sender, *, limit_bytes: int, drops: bool) -> None:
        self._encoder = encoder
        self._sender = sender
        self._limit = limit_bytes
        self._drops = drops
        self._lines = Assembler()
        self._partials: dict[str, tuple[str, int]] = {}
        self.dropped = 0
        sender.on_room = self._room

    @property
    def full(self) -> bool:
        """See LogDriver."""
        return not self._drops and self._sender.waiting_bytes > self._limit

    def _room(self) -> None:
        if self.on_room is not None and not self.full:
            self.on_room()

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogDriver."""
        for piece in self._lines.feed(stream, data):
            self._send(self._line(stream, piece, time_ns))

    def _line(self, stream: str, piece: bytes, time_ns: int) -> Line:
        last = piece.endswith(b"\n")
        under_way = self._partials.get(stream)
        if last and under_way is None:
            return Line(stream, piece[:-1], time_ns)
        id, ordinal = under_way or (secrets.token_hex(32), 1)
        if last:
            self._partials.pop(stream, None)
        else:
            self._partials[stream] = (id, ordinal + 1)
        return Line(stream, piece[:-1] if last else piece, time_ns, Partial(id, ordinal, last))

    def _send(self, line: Line) -> None:
        if not line.text:
            return  # as Docker's drivers do
        for message in self._encoder.encode(line):
            if self._drops and self._sender.waiting_bytes + len(message) > self._limit:
                self.dropped += 1
                continue
            self._sender.send(message)

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """Nothing comes back."""
        return iter(())

    def close(self) -> None:
        """See LogDriver."""
        import time

        for stream, rest in self._lines.rest():
            self._send(self._line(stream, rest + b"\n", time.time_ns()))
        self._sender.close()


def open_remote(driver: str, options: Mapping[str, Any], loop: Loop) -> Remote:
    """The driver. Raises InvalidArgument for an unknown one, Unavailable when its receiver cannot be reached."""
    info = Info.parse(options)
    encoder: Encoder
    if driver == "syslog":
        from rorqual.shim.logdrivers import syslog

        encoder, sender = syslog.Syslog(info), syslog.sender(info, loop)
    elif driver == "gelf":
        from rorqual.shim.logdrivers import gelf

        encoder, sender = gelf.Gelf(info), gelf.sender(info, loop)
    elif driver == "fluentd":
        from rorqual.shim.logdrivers import fluentd

        encoder, sender = fluentd.Fluentd(info), fluentd.sender(info, loop)
    elif driver == "journald":
        from rorqual.shim.logdrivers import journald

        encoder, sender = journald.Journald(info), journald.sender(loop)
    else:
        raise InvalidArgument(f"logger: no log driver named '{driver}' is registered")
    drops = options.get("mode") == "non-blocking"
    limit = int(options.get("max_buffer_bytes") or BLOCKING_BYTES)
    return Remote(encoder, sender, limit_bytes=limit if drops else BLOCKING_BYTES, drops=drops)
