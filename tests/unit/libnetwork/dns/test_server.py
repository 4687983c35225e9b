"""The resolver process serves every sandbox of an engine: one of them must not take what the others need."""

import socket
import struct
from collections.abc import Iterator
from typing import cast

import pytest

from rorqual.libnetwork.dns import message
from rorqual.libnetwork.dns import server as module
from rorqual.libnetwork.dns.forward import PENDING_MAX, Forwarder, Question
from rorqual.libnetwork.dns.server import Server
from rorqual.libnetwork.dns.zone import View

QUESTION = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + message.encode_name("example.org") + b"\0\1\0\1"


class Silent:
    """Other servers that never answer."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def __len__(self) -> int:
        return len(self.asked)

    def ask(self, question: Question) -> None:
        assert len(self.asked) < PENDING_MAX
        self.asked.append(question)


@pytest.fixture
def server() -> Iterator[Server]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        made = Server(listener)
        made._forwarder = cast(Forwarder, Silent())
        yield made
        made._epoll.close()


def test_hostile_sandboxes_leave_room_for_the_questions_of_another(server: Server) -> None:
    view = View({"networks": [], "links": {}, "servers": [["192.0.2.1", False]], "forward": True})
    with socket.socket() as unused:
        hostile = [module._Sandbox(view, unused, unused, -1) for _ in range(50)]
        other = module._Sandbox(view, unused, unused, -1)
        for _ in range(PENDING_MAX):
            for one in hostile:
                server._question(one, QUESTION, lambda _answer: None, stream=False)
        before = len(server._forwarder)
        refused: list[bytes] = []
        for _ in range(5):
            server._question(other, QUESTION, refused.append, stream=False)
    assert not refused and len(server._forwarder) == before + 5
    assert min(one.forwarding for one in hostile) >= 5
