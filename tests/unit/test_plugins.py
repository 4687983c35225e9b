"""Finding and calling plugins; the plugin here is a small server of its own."""

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from rorqual import errdefs, plugins


class Server(socketserver.ThreadingUnixStreamServer):
    """Answers every call with `status` and `body`, whose default is what a volume plugin says of itself."""

    daemon_threads = True
    status = 200
    body = b'{"Implements": ["VolumeDriver"]}'


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        return

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def directories(tmp_path: Path) -> Path:
    for name in ("run", "etc", "lib"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def server(directories: Path) -> Iterator[Server]:
    with Server(str(directories / "run" / "far.sock"), _Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def find(directories: Path, name: str, protocol: str = "VolumeDriver") -> plugins.Plugin:
    specs = (str(directories / "etc"), str(directories / "lib"))
    return plugins.find(name, protocol, 5.0, (str(directories / "run"),), specs)


def test_a_plugin_that_is_nowhere(directories: Path) -> None:
    for name in ("nosuch", "../run", "", "a" * 200):
        with pytest.raises(errdefs.NotFound, match="not found"):
            find(directories, name)


def test_where_plugins_are_looked_for(directories: Path, server: Server) -> None:
    (directories / "etc" / "path.spec").write_text(f"{directories}/run/far.sock\n")
    (directories / "lib" / "deep").mkdir()
    (directories / "lib" / "deep" / "deep.json").write_text(json.dumps({"Addr": f"unix://{directories}/run/far.sock"}))
    for name in ("far", "path", "deep"):
        assert find(directories, name).name == name


def test_files_that_lead_nowhere(directories: Path) -> None:
    (directories / "etc" / "one.spec").write_text("tcp://127.0.0.1:1\n")
    (directories / "lib" / "two.json").write_text(json.dumps({"Addr": "unix:///nowhere/two.sock"}))
    (directories / "lib" / "three.json").write_text("{")
    (directories / "lib" / "six.json").write_text("[" * 60_000)
    (directories / "etc" / "four.spec").write_text("gopher://x\n")
    (directories / "etc" / "five.spec").mkdir()
    for name, text in (("one", "refused"), ("two", "No such file"), ("four", "unsupported address")):
        with pytest.raises(errdefs.Unavailable, match=text):
            find(directories, name)
    for name, text in (("three", r"three\.json"), ("five", "Is a directory"), ("six", r"six\.json")):
        with pytest.raises(errdefs.InvalidArgument, match=text):
            find(directories, name)


def test_a_plugin_of_another_kind_is_none(directories: Path, server: Server) -> None:
    with pytest.raises(errdefs.NotFound, match='plugin "far" not found'):
        find(directories, "far", "NetworkDriver")


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (200, b'{"Err": "full"}', errdefs.Internal, "X.Do: full"),
        (200, b'{"Error": "full"}', errdefs.Internal, "X.Do: full"),
        (500, b"out of racks\n", errdefs.Internal, "X.Do: out of racks"),
        (404, b"", errdefs.Internal, "X.Do: status 404"),
        (200, b"what?", errdefs.Unavailable, "does not answer X.Do"),
        (200, b"[]", errdefs.Unavailable, "with list, not an object"),
        (200, b'{"Err": ["odd", 1]}', errdefs.Internal, r'X.Do: \["odd", 1\]'),
        (200, b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}", errdefs.Unavailable, "nested more than 64 deep"),
        (200, b'{"a": ' + b"[" * 200_000, errdefs.Unavailable, "does not answer X.Do"),
    ],
)
def test_answers_that_are_failures(
    directories: Path, server: Server, status: int, body: bytes, error: type[Exception], text: str
) -> None:
    plugin = find(directories, "far")
    server.status, server.body = status, body
    with pytest.raises(error, match=text):
        plugin.call("X.Do", {})
    server.status, server.body = 200, b" \n"
    assert plugin.call("X.Do", {}) == {}
