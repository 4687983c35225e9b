"""fluentd-request-ack: what the receiver does not acknowledge is sent again, in order, and holds the container back."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from rorqual.shim import leftovers, logdrivers
from rorqual.shim.logdrivers.acked import CHUNK_CHARS
from rorqual.shim.loop import Loop

INFO = {"id": "ab" * 32, "name": "web", "image_id": "", "image": "i", "command": "c", "created": "2026-01-01T00:00:00Z"}
MESSAGE = re.compile(rb"\x94.*?\xa3log.{1,3}?(line \d+).*?\x81\xa5chunk\xb6(.{%d})" % CHUNK_CHARS, re.DOTALL)


class Side:
    """The driver on its loop, and the receiver's listener."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.loop = Loop()
        config = {"fluentd-address": f"127.0.0.1:{self.server.getsockname()[1]}", "fluentd-request-ack": "true"}
        options = {"driver": "fluentd", "config": config, "tag": "x", "info": INFO}
        driver = logdrivers.open_driver(options, self.loop)
        assert driver is not None
        self.driver = driver
        self.client = self.accept()

    def accept(self) -> socket.socket:
        self.server.settimeout(10)
        client, _ = self.server.accept()
        client.settimeout(10)
        return client

    def turn(self, seconds: float = 0.01) -> None:
        self.loop._running = True
        self.loop.call_later(seconds, self.loop.stop)
        self.loop.run()

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            self.turn()

    def write(self, *numbers: int, filler: bytes = b"") -> None:
        for number in numbers:
            self.driver.write("stdout", b"line %d %s\n" % (number, filler), 1_700_000_000_000_000_000)
        self.turn()

    def received(self, count: int) -> list[tuple[bytes, bytes]]:
        """(text, chunk) of the next messages on the present connection."""
        data = b""
        while len(found := MESSAGE.findall(data)) < count:
            piece = self.client.recv(65536)
            assert piece, f"the connection ended after {found}"
            data += piece
        assert len(found) == count
        return found


def answer(chunk: bytes) -> bytes:
    return b"\x81\xa3ack\xb6" + chunk


@pytest.fixture
def side() -> Iterator[Side]:
    side = Side()
    yield side
    side.driver.close()
    side.driver._sender._end()  # type: ignore[attr-defined]
    side.client.close()
    side.server.close()
    side.loop.close()


def test_each_message_asks_and_an_answer_takes_it_off(side: Side) -> None:
    side.write(1, 2)
    messages = side.received(2)
    assert [text for text, _ in messages] == [b"line 1", b"line 2"]
    assert len({chunk for _, chunk in messages}) == 2
    side.client.sendall(answer(messages[0][1])[:9])  # answers come in pieces, too
    side.turn()
    side.client.sendall(answer(messages[0][1])[9:] + answer(messages[1][1]))
    side.until(lambda: side.driver._sender.waiting_bytes == 0)  # type: ignore[attr-defined]
    side.driver.close()
    assert not side.loop.last_words


def test_what_was_not_acknowledged_is_sent_again_and_nothing_else(side: Side) -> None:
    side.write(1, 2, 3)
    first = side.received(3)
    side.client.sendall(answer(first[0][1]))
    side.until(lambda: len(side.driver._sender._unacked) == 2)  # type: ignore[attr-defined]
    side.client.close()
    side.turn(0.4)
    side.client = side.accept()
    side.write(4)
    side.turn(0.1)
    again = side.received(3)
    assert again[:2] == first[1:]  # with their chunks, by which the receiver knows them
    assert again[2][0] == b"line 4"


@pytest.mark.parametrize("words", [b"\x81\xa3ack\xb6" + b"?" * CHUNK_CHARS, b"x" * 64])
def test_an_answer_that_names_nothing_of_ours_ends_the_connection(side: Side, words: bytes) -> None:
    side.write(1)
    first = side.received(1)
    side.client.sendall(words)
    side.turn(0.5)
    side.client.close()
    side.client = side.accept()
    side.turn(0.1)
    assert side.received(1) == first


def test_a_receiver_that_never_acknowledges_holds_the_container_back(side: Side) -> None:
    number = 0
    while not side.driver.full:
        number += 1
        assert number < 1000
        side.write(number, filler=b"x" * 10_000)
    room: list[bool] = []
    side.driver.on_room = lambda: room.append(True)
    for _, chunk in side.received(number):
        side.client.sendall(answer(chunk))
        side.turn(0)
    side.until(lambda: room and not side.driver.full)


def test_the_end_waits_for_the_last_answers(side: Side) -> None:
    side.write(1, 2)
    messages = side.received(2)
    side.driver.close()
    side.turn(0.1)
    assert side.loop.last_words
    side.client.sendall(answer(messages[1][1]) + answer(messages[0][1]))
    side.until(lambda: not side.loop.last_words)


def test_after_the_shims_end_a_child_waits_for_them(side: Side) -> None:
    side.write(1)
    [(_, chunk)] = side.received(1)
    side.driver.close()
    leftovers.finish([(words, fd()) for words, fd in side.loop.last_words.items()])
    side.client.sendall(answer(chunk))
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    assert time.monotonic() - began < 2, "it waited on though all was acknowledged"
