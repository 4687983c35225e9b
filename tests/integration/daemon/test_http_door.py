"""The HTTP door of a real rorquald: versions, headers, errors, hijacked connections, clients that go away."""

import json
import os
import socket
import time
from pathlib import Path

import pytest
from support.engine import Engine

pytestmark = pytest.mark.root


def daemon_fds(engine: Engine) -> int:
    return len(os.listdir(f"/proc/{engine.pids('rorquald')[0]}/fd"))


def raw(engine: Engine, request: bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(engine.socket))
    except BaseException:
        sock.close()
        raise
    sock.settimeout(20)
    sock.sendall(request)
    return sock


def head_of(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(1)
        assert piece, data
        data += piece
    return data


def test_bare_and_versioned_paths_answer_with_the_engines_headers(engine: Engine) -> None:
    for path in ("/_ping", "/v1.24/_ping", "/v1.56/_ping"):
        answer = engine.api("GET", path)
        assert (answer.status, answer.body) == (200, b"OK")
        headers = {name.lower(): value for name, value in answer.headers.items()}
        assert headers["api-version"] == "1.56"
        assert headers["ostype"] == "linux"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/v1.23/version", "client version 1.23 is too old. Minimum supported API version is 1.24"),
        ("/v1.99/version", "client version 1.99 is too new. Maximum supported API version is 1.56"),
    ],
)
def test_versions_out_of_range_are_told_so(engine: Engine, path: str, text: str) -> None:
    answer = engine.api("GET", path)
    assert answer.status == 400
    assert text in answer.message


def test_an_unknown_path_is_not_found(engine: Engine) -> None:
    answer = engine.api("GET", "/no/such/thing")
    assert (answer.status, answer.message) == (404, "page not found")


def test_an_oversized_body_is_refused(engine: Engine) -> None:
    request = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with raw(engine, request + b"Content-Length: 999999999\r\n\r\n") as sock:
        try:
            for _ in range(40):
                sock.sendall(b" " * (1 << 20))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server stopped reading, which is the point
        assert b"400" in head_of(sock).split(b"\r\n")[0]


def test_attach_and_start_over_raw_http(engine: Engine) -> None:
    body = {"Image": "busybox", "Cmd": ["cat"], "OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
    id = engine.api("POST", "/containers/create", body).json["Id"]
    request = (
        f"POST /v1.50/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\n"
        "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    # The client speaks before the container runs: the bytes wait for it.
    with raw(engine, request) as sock:
        head = head_of(sock)
        assert head.startswith(b"HTTP/1.1 101 UPGRADED")
        assert b"application/vnd.docker.multiplexed-stream" in head
        sock.sendall(b"early\n")
        assert engine.api("POST", f"/containers/{id}/start").status == 204
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while piece := sock.recv(4096):
            data += piece
    assert data == b"\x01\0\0\0\0\0\0\x06early\n"
    assert engine.api("POST", f"/containers/{id}/wait").json["StatusCode"] == 0


def test_a_thousand_aborted_attaches_and_waits_leave_no_descriptor(engine: Engine) -> None:
    id = engine.api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]}).json["Id"]
    before = daemon_fds(engine)
    for verb in ("attach?stream=1&stdout=1", "wait?condition=next-exit"):
        for _ in range(500):
            request = f"POST /containers/{id}/{verb} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
            if verb.startswith("attach"):
                request += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
            raw(engine, request.encode() + b"\r\n").close()
    deadline = time.monotonic() + 10
    while daemon_fds(engine) > before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert daemon_fds(engine) <= before + 2


def test_a_removed_containers_files_are_gone_even_after_a_kill(fresh_engine: Engine) -> None:
    id = fresh_engine.api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]}).json["Id"]
    assert fresh_engine.api("POST", f"/containers/{id}/start").status == 204
    fresh_engine.api("POST", f"/containers/{id}/wait")
    assert fresh_engine.api("DELETE", f"/containers/{id}").status == 204
    fresh_engine.kill("rorquald")
    fresh_engine.start()
    deadline = time.monotonic() + 10
    directory = Path(fresh_engine.data) / "containers" / id
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not directory.exists()
    assert json.loads(fresh_engine.api("GET", "/containers/json?all=1").body) == []
