"""Questions that are not about containers, sent on to the servers of the sandbox, one after the other.

Each goes out by a socket of its own, connected: its port is as unpredictable as the kernel's, the kernel drops what
others send to it, and the answer has to repeat id and question. It leaves from the sandbox's own namespace, so that it
can reach nothing that the container could not reach itself (CVE-2024-29018: one on an internal network nothing);
only servers on the host's loopback, which the host itself uses, are asked from the host's.
"""

import ctypes
import os
import select
import socket
import time

from rorqual.libnetwork.dns import message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S = 3.0  # a server has that long
SERVERS_MAX = 3  # as many as resolv.conf(5) looks at
PENDING_MAX = 1024
ANSWER_MAX = 65535
_CLONE_NEWNET = 0x40000000
_IP_RECVERR, _IPV6_RECVERR = 11, 25

_libc = ctypes.CDLL(None, use_errno=True)
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


class Question:
    """One that is on its way. `reply` gets the answer's bytes, with the asker's id."""

    __slots__ = ("attempts", "data", "deadline", "netns", "question", "received", "reply", "sent", "sock", "stream")

    def __init__(
        self,
        data: bytes,
        question: bytes,
        servers: "list[tuple[str, bool]]",
        netns: int,
        stream: bool,
        reply: "Callable[[bytes], None]",
    ) -> None:
        self.data, self.question = data, question
        self.attempts = servers[:SERVERS_MAX]
        self.netns, self.stream, self.reply = netns, stream, reply
        self.deadline = 0.0
        self.sock: socket.socket | None = None
        self.sent = b""  # of a TCP question: what is not written yet
        self.received = b""


class Forwarder:
    """The questions on their way. `watch(fd, events, handler)` and `unwatch(fd)` are the loop's."""

    def __init__(
        self, watch: "Callable[[int, int, Callable[[int], None]], None]", unwatch: "Callable[[int], None]"
    ) -> None:
        self._watch, self._unwatch = watch, unwatch
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._pending: dict[int, Question] = {}  # by fd, the oldest deadline first

    def __len__(self) -> int:
        return len(self._pending)

    def ask(self, question: Question) -> None:
        """Send it to the first of its servers; the reply is called now or later, once."""
        if len(self._pending) >= PENDING_MAX:
            question.reply(_failed(question))
            return
        self._next(question)

    def _next(self, question: Question) -> None:
        while question.attempts:
            server, from_host = question.attempts.pop(0)
            try:
                question.sock = self._connect(question, server, from_host)
            except OSError:
                continue  # no route from there, or no such family: the next one
            fd = question.sock.fileno()
            question.deadline = time.monotonic() + TIMEOUT_S
            question.received = b""
            self._pending[fd] = question
            events = select.EPOLLIN | (select.EPOLLOUT if question.stream else 0)
            self._watch(fd, events, lambda got: self._ready(question, got))
            return
        question.reply(_failed(question))

    def _connect(self, question: Question, server: str, from_host: bool) -> socket.socket:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        kind = socket.SOCK_STREAM if question.stream else socket.SOCK_DGRAM
        away = not from_host and question.netns >= 0
        if away:
            _setns(question.netns)
        try:
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        finally:
            if away:
                _setns(self._home)
        try:
            # A network that cannot be reached is told at once, not by silence.
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            address, _, zone = server.partition("%")
            scope = int(zone) if zone.isdigit() else 0
            where = (address, 53, 0, scope) if family == socket.AF_INET6 else (address, 53)
            try:
                sock.connect(where)
            except BlockingIOError:
                pass  # TCP: EPOLLOUT tells
            # An id of our own: the asker's may be guessed by others in its sandbox.
            ident = os.urandom(2)
            question.data = ident + question.data[2:]
            if question.stream:
                question.sent = len(question.data).to_bytes(2, "big") + question.data
            else:
                sock.send(question.data)
        except BaseException:
            sock.close()
            raise
        return sock

    def _ready(self, question: Question, events: int) -> None:
        assert question.sock is not None
        try:
            answer = self._stream(question, events) if question.stream else question.sock.recv(ANSWER_MAX)
        except BlockingIOError:
            return
        except OSError:
            answer = b""  # refused, or a connection that broke
        if answer is None:
            return
        if answer and not _fits(question, answer):
            if not question.stream:
                return  # somebody guesses: go on waiting for the real one
            answer = b""
        useless = not answer or (message.rcode(answer) in (message.SERVFAIL, message.REFUSED) and question.attempts)
        self._end(question)
        if useless:
            self._next(question)
        else:
            question.reply(answer)

    def _stream(self, question: Question, events: int) -> bytes | None:
        """Write and read what can be; the answer when it is whole, None when it is not yet, b"" when it will not be."""
        sock = question.sock
        assert sock is not None
        if question.sent and events & select.EPOLLOUT:
            question.sent = question.sent[sock.send(question.sent) :]
            if not question.sent:
                self._watch(sock.fileno(), select.EPOLLIN, lambda got: self._ready(question, got))
        if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return None
        data = sock.recv(ANSWER_MAX)
        if not data:
            return b""
        question.received += data
        if len(question.received) < 2:
            return None
        length = int.from_bytes(question.received[:2], "big")
        return question.received[2 : 2 + length] if len(question.received) >= 2 + length else None

    def _end(self, question: Question) -> None:
        if question.sock is not None:
            self._pending.pop(question.sock.fileno(), None)
            self._unwatch(question.sock.fileno())
            question.sock.close()
            question.sock = None

    def expire(self, now: float) -> float | None:
        """Go on to the next server where one did not answer in time; seconds until the next such moment."""
        while self._pending:
            question = next(iter(self._pending.values()))
            if question.deadline > now:
                return question.deadline - now
            self._end(question)
            self._next(question)
        return None

    def forget(self, netns: int) -> None:
        """Drop the questions of a sandbox that ends: their sockets would keep its namespace."""
        for question in [q for q in self._pending.values() if q.netns == netns]:
            self._end(question)


def _fits(question: Question, answer: bytes) -> bool:
    """Whether it is an answer to this question: same id, same question, whatever its letters' case."""
    return (
        len(answer) >= 12
        and answer[:2] == question.data[:2]
        and bool(answer[2] & 0x80)
        and answer[12 : 12 + len(question.question)].lower() == question.question.lower()
    )


def _failed(question: Question) -> bytes:
    return message.failure(question.data, question.question, message.SERVFAIL)
