"""The registry's process over a rorqual-containerd of the tests' own, and requests to it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import secrets
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.containerd.conftest import Containerd

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of the first error; its shape is checked on the way."""
        (error,) = self.json["errors"]
        assert isinstance(error["message"], str)
        return str(error["code"])


class Served:
    """One process; `address` once it listens."""

    def __init__(self, containerd: Containerd, *arguments: str, ca: Path | None = None, user: str = "") -> None:
        self._argv = [sys.executable, "-m", "rorqual.daemon.registry", "--listen=127.0.0.1:0"]
        self._argv += [f"--containerd={containerd.address}", f"--root={containerd.root}", *arguments]
        self._ca = ca
        self.user = user
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("registry on"), line
        self.address = line.split("//")[1].strip()

    def stop(self, signum: int = signal.SIGTERM) -> None:
        self.process.send_signal(signum)
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def connection(self) -> http.client.HTTPConnection:
        if self._ca is None:
            return http.client.HTTPConnection(self.address, timeout=60)
        context = ssl.create_default_context(cafile=str(self._ca))
        return http.client.HTTPSConnection(self.address, timeout=60, context=context)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """`path` below /v2/, or a Location as it was given; header names with _ for -."""
        connection = self.connection()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.user:
            named["Authorization"] = "Basic " + base64.b64encode(self.user.encode()).decode()
        try:
            where = path if path.startswith("/") else f"/v2/{path}"
            connection.request(method, where, body, named, encode_chunked=not isinstance(body, bytes | None))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def push_blob(self, repository: str, data: bytes) -> str:
        digest = digest_of(data)
        where = self("POST", f"{repository}/blobs/uploads/").headers["Location"]
        assert self("PUT", f"{where}?digest={digest}", data).status == 201
        return digest

    def push_image(self, repository: str, reference: str = "", **fields: Any) -> tuple[str, bytes]:
        """(digest, manifest) of a fresh image of one layer; under its digest unless a `reference` is given."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "id": secrets.token_hex(8)}).encode()
        layer = secrets.token_bytes(2000)
        for data in (config, layer):
            self.push_blob(repository, data)
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
                "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar")],
                **fields,
            }
        ).encode()
        digest = digest_of(manifest)
        put = self("PUT", f"{repository}/manifests/{reference or digest}", manifest, Content_Type=MANIFEST)
        assert put.status == 201, put.body
        return digest, manifest

    def memory_peak_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+)", status)
        assert found
        return int(found.group(1))


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


@pytest.fixture(scope="session")
def registry_containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    made = Containerd(tmp_path_factory.mktemp("registry"))
    made.start_now()
    yield made
    made.close()


@pytest.fixture(scope="session")
def registry(registry_containerd: Containerd) -> Iterator[Served]:
    served = Served(registry_containerd)
    yield served
    served.stop()


@pytest.fixture
def name() -> str:
    """A repository of the test's own."""
    return f"test/{secrets.token_hex(6)}/{os.getpid()}"
