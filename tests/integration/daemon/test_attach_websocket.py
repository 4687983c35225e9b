"""attach over a WebSocket."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest
from support.covers import covers
from support.engine import Engine

from rorqual.daemon.api import websocket

pytestmark = pytest.mark.root


class Client:
    """A WebSocket to a container's streams."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file: BinaryIO = sock.makefile("rb")

    def request(self, path: str, key: str = "dGhlIHNhbXBsZSBub25jZQ==") -> tuple[int, dict[str, str]]:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        self._sock.sendall(head.encode())
        status = int(self._file.readline().split()[1])
        fields = dict(line.decode().strip().split(": ", 1) for line in iter(self._file.readline, b"\r\n"))
        return status, fields

    def send(self, payload: bytes) -> None:
        frame = websocket.frame(websocket.BINARY, payload)
        self._sock.sendall(bytes((frame[0], frame[1] | 0x80)) + bytes(4) + frame[2:])  # a mask of zeros

    def receive(self) -> tuple[int, bytes]:
        head = self._file.read(2)
        size = head[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(self._file.read(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, self._file.read(size)

    def until_closed(self) -> bytes:
        data = b""
        while (frame := self.receive())[0] != websocket.CLOSE:
            data += frame[1]
        assert self._file.read() == b""
        return data


@contextmanager
def client(engine: Engine) -> Iterator[Client]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(engine.socket))
        yield Client(sock)


@covers("ContainerAttachWebsocket stream", "ContainerAttachWebsocket stdin", "ContainerAttachWebsocket stdout")
def test_input_and_output_pass_as_messages(engine: Engine) -> None:
    engine.docker("run", "-d", "-i", "--name", "echo", "busybox", "sh", "-c", "read x; echo got $x; read y; exit 0")
    with client(engine) as ws:
        status, fields = ws.request("/containers/echo/attach/ws?stream=1&stdin=1&stdout=1")
        assert (status, fields["Sec-WebSocket-Accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        ws.send(b"hello\n")
        assert ws.receive() == (websocket.BINARY, b"got hello\n")
        ws.send(b"\n")
        assert ws.until_closed() == b""


def test_an_attach_before_the_start_sees_everything(engine: Engine) -> None:
    engine.docker("create", "--name", "many", "busybox", "sh", "-c", "seq 1 200000")
    with client(engine) as ws:
        assert ws.request("/containers/many/attach/ws?stream=1&stdout=1")[0] == 101
        engine.docker("start", "many")
        assert ws.until_closed().count(b"\n") == 200_000


@covers("ContainerAttachWebsocket logs")
def test_the_log_of_an_ended_container_is_sent(engine: Engine) -> None:
    engine.docker("run", "--name", "ended", "busybox", "echo", "logged")
    with client(engine) as ws:
        ws.request("/containers/ended/attach/ws?logs=1&stdout=1")
        assert ws.until_closed() == b"logged\n"


@covers("ContainerAttachWebsocket stderr", "ContainerAttachWebsocket detachKeys")
def test_one_stream_alone_and_keys_that_are_none(engine: Engine) -> None:
    engine.docker("run", "--name", "both", "busybox", "sh", "-c", "echo out; echo err >&2")
    with client(engine) as ws:
        assert ws.request("/containers/both/attach/ws?logs=1&stderr=1")[0] == 101
        assert ws.until_closed() == b"err\n"
    with client(engine) as ws:
        assert ws.request("/containers/both/attach/ws?stream=1&detachKeys=odd")[0] == 400


def test_a_request_without_a_handshake_is_refused(engine: Engine) -> None:
    engine.docker("create", "--name", "plain", "busybox", "true")
    answer = engine.api("GET", "/containers/plain/attach/ws?stream=1&stdout=1")
    assert (answer.status, answer.message) == (400, "not a websocket handshake")
