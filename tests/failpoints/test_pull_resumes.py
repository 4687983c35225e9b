"""A pull that SIGKILL cut short: the next one fetches what was not finished, from where it was, and nothing else."""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.engine import Engine
from support.image import build, digest_of, layer_tar
from support.processes import wait_for

pytestmark = pytest.mark.root

SMALL, LARGE = os.urandom(1_000_000), os.urandom(12_000_000)
HALF = 6_000_000


def size_of(directory: Path) -> int:
    """The bytes of the files of a directory in which they come and go."""
    total = 0
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


class Halting:
    """A registry of an image of two layers, whose second stops halfway until `go_on` is set; it notes what is asked."""

    def __init__(self) -> None:
        self.image = build([layer_tar({"small": SMALL}), layer_tar({"large": LARGE})], {"Cmd": ["true"]})
        self.small, self.large = map(digest_of, self.image.layers)
        self.go_on = threading.Event()
        self.lost: set[str] = set()
        self.asked: list[tuple[str, int]] = []

    def __enter__(self) -> "Halting":
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Silent."""

            def do_GET(self) -> None:
                registry.answer(self)

            do_HEAD = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.name = f"127.0.0.1:{self._server.server_address[1]}/image:1"
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        what = request.path.rpartition("/")[2]
        body, kind, start = b"{}", "application/json", 0
        if "/manifests/" in request.path:
            body, kind = self.image.manifest, self.image.manifest_type
        elif what in self.image.blobs:
            body, kind = self.image.blobs[what], "application/octet-stream"
            found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
            start = int(found[1]) if found else 0
            self.asked.append((what, start))
        if what in self.lost:
            self.go_on.wait()
            request.send_response(404)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.end_headers()
        try:
            if what == self.large and not self.go_on.is_set():
                request.wfile.write(body[start:HALF])
                request.wfile.flush()
                self.go_on.wait()
                request.close_connection = True
                return
            request.wfile.write(body[start:])
        except OSError:
            request.close_connection = True


@pytest.fixture(scope="module")
def own() -> Iterator[Engine]:
    with Engine(own_network=False) as engine:
        yield engine


@pytest.mark.parametrize("victim", ["rorquald", "containerd", "both"])
def test_only_what_was_not_finished_is_fetched_again(own: Engine, victim: str) -> None:
    with Halting() as registry:
        finished = own.data / "content/blobs/sha256" / registry.small.partition(":")[2]
        ingests = own.data / "content/ingest"
        with own.docker.started("pull", registry.name) as client:

            def halfway() -> bool:
                return finished.exists() and size_of(ingests) > HALF // 2

            wait_for(halfway, "one layer is whole and half of the other is on disk", 30)
            for name in ("rorquald", "containerd") if victim == "both" else (victim,):
                own.kill(name)
            registry.go_on.set()
            client.communicate(timeout=60)
        if not own.pids("rorquald"):
            own.start()
        wait_for(lambda: own.pids("containerd"), "containerd is there")
        own.docker("pull", registry.name)
        again = [start for what, start in registry.asked if what == registry.large][1:]
        assert [start for what, start in registry.asked if what == registry.small] == [0]
        assert again and min(again) > HALF // 2, registry.asked
        assert own.rorqual("system", "check").code == 0
        own.docker("rmi", registry.name)
        wait_for(lambda: not finished.exists(), "the layers are collected")


def test_a_pull_that_failed_keeps_what_it_had_until_it_succeeds_or_is_given_up(own: Engine) -> None:
    with Halting() as registry:
        finished = own.data / "content/blobs/sha256" / registry.small.partition(":")[2]
        for way_out in ("pull", "prune"):
            registry.lost = {registry.large}
            registry.asked.clear()
            registry.go_on.clear()
            with own.docker.started("pull", registry.name) as client:
                assert client.stdout is not None
                while b"Pull complete" not in (line := client.stdout.readline()):
                    assert line, "the first layer was not finished"
                # Only now the registry tells that it has lost the second.
                registry.go_on.set()
                client.communicate(timeout=60)
                assert client.returncode == 1
            own.docker("pull", registry.name, code=1)
            own.restart()
            own.docker("pull", registry.name, code=1)
            assert [what for what, _ in registry.asked].count(registry.small) == 1
            assert own.docker.out("images", "-q", registry.name) == ""
            registry.lost = set()
            if way_out == "pull":
                own.docker("pull", registry.name)
                assert [what for what, _ in registry.asked].count(registry.small) == 1
                own.docker("rmi", registry.name)
            else:
                own.docker("image", "prune", "-f")
            wait_for(lambda: not finished.exists(), f"{way_out}: the layers are collected")


def test_two_engines_pull_one_image_at_once(own: Engine) -> None:
    with Halting() as registry, Engine(own_network=False, image=False) as other:
        with own.docker.started("pull", registry.name) as one, other.docker.started("pull", registry.name) as two:
            wait_for(lambda: len([w for w, _ in registry.asked if w == registry.large]) == 2, "both are at it", 30)
            registry.go_on.set()
            for client in (one, two):
                client.communicate(timeout=60)
                assert client.returncode == 0
        ids = {engine.docker.out("image", "inspect", "-f", "{{.Id}}", registry.name) for engine in (own, other)}
        assert ids == {digest_of(registry.image.config)}
        for engine in (own, other):
            assert engine.rorqual("system", "check").code == 0
            engine.docker("rmi", registry.name)
