"""Output that outlives its shim."""

import os
import socket

from rorqual.shim import leftovers


def test_what_is_left_is_sent_after_the_sender_let_go() -> None:
    sender, reader = socket.socketpair()
    data = os.urandom(1 << 20)
    leftovers.send([(sender.fileno(), [memoryview(data[:100]), memoryview(data[100:])])])
    sender.close()
    received = bytearray()
    while piece := reader.recv(1 << 16):
        received += piece
    reader.close()
    assert bytes(received) == data
    os.wait()


def test_a_reader_that_goes_away_ends_the_sending() -> None:
    sender, reader = socket.socketpair()
    leftovers.send([(sender.fileno(), [memoryview(bytes(1 << 20))])])
    sender.close()
    reader.close()
    assert os.wait()[1] == 0


def test_nothing_left_forks_nothing() -> None:
    sender, reader = socket.socketpair()
    leftovers.send([(sender.fileno(), []), (-1, [memoryview(b"x")])])
    sender.close()
    assert reader.recv(1) == b""
    reader.close()


def test_parts_are_cut_at_any_place() -> None:
    parts = [memoryview(b"abc"), memoryview(b"def")]
    assert [bytes(p) for p in leftovers.drop(parts, 4)] == [b"ef"]
    assert leftovers.drop(parts, 6) == []
