"""The stdio hub: pipes, clients, backpressure, ends."""

import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from rorqual.shim import stdio as module
from rorqual.shim.loop import Loop
from rorqual.shim.stdio import STDERR, STDOUT, Client, Stdio


class Harness:
    def __init__(self) -> None:
        self.loop = Loop()
        self.hub = Stdio(self.loop, tty=False, close_stdin=True)
        self.peers: list[socket.socket] = []

    def attach(self, *, stdin: bool = False, mux: bool = True, keys: bytes = b"") -> tuple[socket.socket, Client]:
        ours, theirs = socket.socketpair()
        fd = theirs.detach()
        client = Client(self.hub, fd, fd, streams=frozenset((STDOUT, STDERR)), stdin=stdin, mux=mux, detach_keys=keys)
        self.hub.attach(client)
        ours.settimeout(5)
        self.peers.append(ours)
        return ours, client

    def output(self, stream: int = STDOUT) -> int:
        read_fd, write_fd = os.pipe()
        self.hub.add_output(read_fd, stream)
        return write_fd

    def stdin(self) -> int:
        read_fd, write_fd = os.pipe()
        self.hub.set_stdin(write_fd)
        os.set_blocking(read_fd, False)
        return read_fd

    def spin(self, until: Callable[[], bool] = lambda: False, rounds: int = 400) -> None:
        for _ in range(rounds):
            if until():
                return
            self.loop.call_later(0.002, self.loop.stop)
            self.loop._running = True
            self.loop.run()


@pytest.fixture
def h() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.hub.close()
    for client in list(harness.hub.clients):
        client.end("closed")
    for peer in harness.peers:
        peer.close()
    harness.loop._epoll.close()


def test_what_a_process_leaves_behind_cannot_keep_the_shim_reading(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers that outlive it fill the pipe as fast as it is read; its clients take nothing."""
    _, client = h.attach()
    h.output()
    total = 0

    def endless(_fd: int, size: int) -> bytes:
        nonlocal total
        total += size
        assert total < 64 << 20, "the shim reads for ever"
        return b"x" * size

    ended: list[bool] = []
    monkeypatch.setattr(os, "read", endless)
    h.hub.process_exited(lambda: ended.append(True), timeout_s=0.01)
    monkeypatch.undo()
    assert not ended and client.pending_bytes < 4 << 20
    h.spin(lambda: bool(ended))
    assert ended


def test_output_reaches_every_client_framed(h: Harness) -> None:
    one, _ = h.attach()
    two, _ = h.attach(mux=False)
    out, err = h.output(), h.output(STDERR)
    os.write(out, b"hello")
    h.spin(rounds=3)
    os.write(err, b"oops")
    h.spin(rounds=3)
    assert one.recv(100) == struct.pack(">BxxxI", 1, 5) + b"hello" + struct.pack(">BxxxI", 2, 4) + b"oops"
    assert two.recv(100) == b"hellooops"
    os.close(out)
    os.close(err)


def test_stdin_reaches_the_process_and_half_close_ends_it(h: Harness) -> None:
    peer, client = h.attach(stdin=True)
    peer.sendall(b"before the start ")
    h.spin(rounds=3)
    stdin = h.stdin()
    peer.sendall(b"and after")
    peer.shutdown(socket.SHUT_WR)
    h.spin(rounds=5)
    assert os.read(stdin, 100) == b"before the start and after"
    assert os.read(stdin, 100) == b""
    assert not client.ended  # output may still come
    os.close(stdin)


def test_a_client_that_goes_away_is_forgotten(h: Harness) -> None:
    peer, client = h.attach()
    reasons: list[str] = []
    client.on_end.append(reasons.append)
    peer.close()
    h.spin(lambda: client.ended)
    assert reasons == ["closed"] and not h.hub.clients


def test_detach_keys_end_the_attach_only(h: Harness) -> None:
    h.hub.tty = True
    peer, client = h.attach(stdin=True, mux=False, keys=b"\x10\x11")
    peer.sendall(b"ls\x10")
    h.spin(rounds=3)
    assert not client.ended
    peer.sendall(b"\x11")
    h.spin(lambda: client.ended)
    assert client.reason == "detached" and peer.recv(10) == b""


def test_a_slow_client_stops_the_process_and_loses_nothing(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_MAX", 100_000)
    peer, client = h.attach(mux=False)
    out = h.output()
    os.set_blocking(out, False)
    sent = 0
    for _ in range(400):
        try:
            sent += os.write(out, b"x" * 65536)
        except BlockingIOError:
            h.spin(rounds=1)
    assert client.pending_bytes < 1_000_000
    with pytest.raises(BlockingIOError):
        os.write(out, b"x" * 65536)
    got = 0
    peer.setblocking(False)

    def drained() -> bool:
        nonlocal got
        try:
            got += len(peer.recv(1 << 20))
        except BlockingIOError:
            pass
        return got == sent

    h.spin(drained, rounds=2000)
    assert got == sent
    os.close(out)


def test_output_left_in_the_pipe_is_sent_before_the_end(h: Harness) -> None:
    peer, client = h.attach(mux=False)
    out = h.output()
    os.write(out, b"last words")
    os.close(out)
    done: list[bool] = []
    h.hub.process_exited(lambda: done.append(True))
    assert done
    h.hub.close()
    assert peer.recv(100) == b"last words" and peer.recv(1) == b""
    assert client.reason == "eof"


def test_a_background_writer_is_not_waited_for_for_ever(h: Harness) -> None:
    out = h.output()
    done: list[bool] = []
    h.hub.process_exited(lambda: done.append(True), timeout_s=0.01)
    assert not done
    h.spin(lambda: bool(done))
    assert done
    os.close(out)


def test_a_process_that_closes_its_stdin_costs_nothing(h: Harness) -> None:
    peer, client = h.attach(stdin=True)
    os.close(h.stdin())
    h.spin(rounds=2)
    peer.sendall(b"nobody reads this")
    h.spin(rounds=3)
    assert not client.ended


def test_the_heap_that_much_output_took_is_given_back_once_it_is_quiet(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    trims: list[int] = []
    monkeypatch.setattr(module.malloc, "trim", lambda: trims.append(1))
    monkeypatch.setattr(module, "_CALM_S", 0.05)
    write_fd = h.output()
    os.write(write_fd, b"little")
    h.spin(rounds=50)
    assert not trims
    for _ in range(5):
        os.write(write_fd, bytes(module.READ_SIZE))
        h.spin(rounds=2)
    h.spin(lambda: bool(trims))
    h.spin(rounds=50)
    assert 1 <= len(trims) <= 5
    os.close(write_fd)
