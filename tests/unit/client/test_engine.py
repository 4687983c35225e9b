"""The client against a small server of the test's own: versions, errors, streams, long socket paths."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual import errdefs
from rorqual.client import Client, ConnectionFailed
from rorqual.client.engine import API_VERSION, decode_objects, encode_query, quote
from rorqual.client.transport import parse_host

PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers requests in order from a script; keeps the heads it got."""

    def __init__(self, path: Path, answers: list[bytes]) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self._answers = answers
        self._socket = socket.socket(socket.AF_UNIX)
        directory = os.open(path.parent, os.O_PATH)
        self._socket.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._answers:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with peer:
                self._one(peer)

    def _one(self, peer: socket.socket) -> None:
        buffer = b""
        while self._answers:
            while b"\r\n\r\n" not in buffer:
                piece = peer.recv(65536)
                if not piece:
                    return
                buffer += piece
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            self.heads.append(head.decode())
            answer = self._answers.pop(0)
            peer.sendall(answer)
            if b"Connection: close" in answer or b"101" in answer[:12]:
                return

    def close(self) -> None:
        self._socket.close()


def answer(body: object, status: str = "200 OK", version: str = API_VERSION) -> bytes:
    data = json.dumps(body).encode()
    return (
        f"HTTP/1.1 {status}\r\nApi-Version: {version}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode() + data


Serve = Callable[[list[bytes]], tuple[Server, Client]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.delenv("DOCKER_API_VERSION", raising=False)
    opened: list[Server | Client] = []

    def make(answers: list[bytes]) -> tuple[Server, Client]:
        path = tmp_path / f"s{len(opened)}.sock"
        server, client = Server(path, answers), Client(f"unix://{path}")
        opened.extend([client, server])
        return server, client

    yield make
    for thing in opened:
        thing.close()


TOO_NEW = answer({"message": "client version is too new. Maximum supported API version is 1.41"}, "400 X", "1.41")


def test_an_older_engine_decides_the_version_and_one_connection_does(serve: Serve) -> None:
    server, client = serve([TOO_NEW, PING, answer([{"Id": "a"}]), answer([])])
    assert client.containers.list() == [{"Id": "a"}]
    assert client.containers.list(all=True) == []
    assert client.api_version == "1.41"
    assert [head.split(" ")[1] for head in server.heads] == [
        f"/v{API_VERSION}/containers/json",
        "/_ping",
        "/v1.41/containers/json",
        "/v1.41/containers/json?all=1",
    ]
    assert server.connections == 1


def test_an_older_engine_that_leaves_after_its_refusal_is_told_of(serve: Serve) -> None:
    _, client = serve([TOO_NEW.replace(b"Content-Type", b"Connection: close\r\nContent-Type")])
    with pytest.raises(errdefs.InvalidArgument, match=r"Maximum supported API version is 1\.41"):
        client.containers.list()


def test_a_body_made_as_it_is_sent_goes_out_once_in_the_right_version(serve: Serve) -> None:
    server, client = serve([PING, answer({})])
    client.request("POST", "/images/load", body=iter([b"a", b"b"]))
    assert [head.split(" ")[1] for head in server.heads] == ["/_ping", "/v1.41/images/load"]


def test_a_newer_engine_gets_our_version(serve: Serve) -> None:
    _, client = serve([PING.replace(b"1.41", b"1.99")])
    assert client.api_version == API_VERSION
    assert client.at_least("1.44")
    assert not client.at_least("1.99")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errdefs.InvalidArgument),
        (401, errdefs.Unauthenticated),
        (403, errdefs.PermissionDenied),
        (404, errdefs.NotFound),
        (409, errdefs.Conflict),
        (500, errdefs.Internal),
        (501, errdefs.NotImplementedHere),
        (503, errdefs.Unavailable),
    ],
)
def test_statuses_become_errors_with_the_engines_words(serve: Serve, status: int, kind: type[Exception]) -> None:
    _, client = serve([answer({"message": "no such thing"}, f"{status} X")])
    with pytest.raises(kind, match="no such thing") as caught:
        client.containers.inspect("x")
    assert getattr(caught.value, "status", 0) == status


def test_an_answer_that_is_no_json_is_shown_as_it_is(serve: Serve) -> None:
    body = b"plain refusal\n"
    head = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
    _, client = serve([head + body])
    with pytest.raises(errdefs.Internal, match="plain refusal"):
        client.system.info()


def test_hijack_gives_the_socket_and_the_early_bytes(serve: Serve) -> None:
    _, client = serve([b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhi"])
    sock, early = client.containers.attach("x", stdin=True)
    while not early.endswith(b"hi"):
        early += sock.recv(10)
    assert early == b"hi"
    sock.close()


def test_nobody_there_has_dockers_words(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed) as caught:
        Client(f"unix://{tmp_path}/none.sock").containers.list()
    assert str(caught.value) == (
        f"Cannot connect to the Rorqual daemon at unix://{tmp_path}/none.sock. Is the rorqual daemon running?"
    )


def test_a_socket_path_may_be_longer_than_sun_path(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    server = Server(directory / "s.sock", [PING])
    with Client(f"unix://{directory}/s.sock") as client:
        assert client.api_version == "1.41"
    server.close()


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port"),
    [
        ("tcp://1.2.3.4:99", "tcp", "1.2.3.4", 99),
        ("1.2.3.4", "tcp", "1.2.3.4", 2375),
        ("tcp://[::1]:5", "tcp", "::1", 5),
        ("ssh://me@box", "ssh", "box", 0),
        ("unix:///a/b", "unix", "", 0),
    ],
)
def test_addresses(text: str, scheme: str, host: str, port: int) -> None:
    address = parse_host(text)
    assert (address.scheme, address.host, address.port) == (scheme, host, port)


@pytest.mark.parametrize("text", ["foo://x", "unix://", "tcp://a:b", "tcp://a:99999"])
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(errdefs.InvalidArgument, match="invalid bind address format"):
        parse_host(text)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=8) | st.integers(), max_size=3), max_size=6))
def test_json_objects_are_found_however_the_stream_is_cut(objects: list[dict[str, object]]) -> None:
    data = b"".join(json.dumps(o).encode() + b"\r\n" for o in objects)
    for cut in (1, 3, 7, 1000):
        pieces = [data[i : i + cut] for i in range(0, len(data), cut)]
        assert list(decode_objects(pieces)) == objects


def test_objects_without_newlines_and_indented_ones() -> None:
    assert list(decode_objects([b'{"a":1}{"b"', b":2}"])) == [{"a": 1}, {"b": 2}]
    assert list(decode_objects([b'{\n "a": 1', b"\n}\n"])) == [{"a": 1}]


def test_queries() -> None:
    assert encode_query({"a": None, "b": True, "c": "x y/é", "d": ["1", "2"], "e": {"k": {"v": True}}}) == (
        "?b=1&c=x%20y%2F%C3%A9&d=1&d=2&e=%7B%22k%22%3A%7B%22v%22%3Atrue%7D%7D"
    )
    assert quote("/containers/a b/json") == "/containers/a%20b/json"


def test_an_idle_connection_that_the_engine_closed_is_not_used(serve: Serve) -> None:
    closing = answer([]).replace(b"Content-Type", b"Connection: close\r\nContent-Type")
    server, client = serve([answer([]), closing, answer([{"Id": "b"}])])
    client.containers.list()
    client.containers.list()
    assert client.containers.list() == [{"Id": "b"}]
    assert server.connections == 2


def test_a_restarted_engine_is_dialled_again(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    first = Server(path, [PING])
    with Client(f"unix://{path}") as client:
        assert client.api_version == "1.41"
        first._thread.join()
        first.close()
        path.unlink()
        second = Server(path, [answer([])])
        assert client.containers.list() == []
        second.close()
