"""A registry that answers wrongly in one chosen way; everything else about it is right."""

import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


def _layer() -> tuple[bytes, str]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.size = 300_000
        tar.addfile(info, io.BytesIO(bytes(range(250)) * 1200))
    return gzip.compress(out.getvalue(), mtime=0), "sha256:" + hashlib.sha256(out.getvalue()).hexdigest()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class LyingRegistry:
    """Serves `image:1` on a free port of 127.0.0.1 in the network namespace of the thread that enters it.

    Lies: wrong digest, cut in the middle, wrong size, manifest confusion, unauthorized, unknown; or none.
    """

    def __init__(self, lie: str = "none") -> None:
        self.lie = lie
        layer, diff_id = _layer()
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
        ).encode()
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": _digest(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": _digest(layer),
                    "size": len(layer) + (7 if lie == "wrong size" else 0),
                }
            ],
        }
        if lie == "manifest confusion":
            manifest["manifests"] = [{**manifest["config"], "platform": {"architecture": "amd64", "os": "linux"}}]
        self.blobs = {_digest(config): config, _digest(layer): layer}
        self.manifest = json.dumps(manifest).encode()
        if lie == "wrong digest":
            self.blobs[_digest(layer)] = layer[:-9] + bytes(9)
        self.cut = len(layer) // 2 if lie == "cut in the middle" else None

    def __enter__(self) -> "LyingRegistry":
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Silent: a test prints what it needs."""

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                registry.answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = request.path.split("?")[0].split("/")
        if self.lie == "unauthorized":
            return self._send(request, 401, b'{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}', "application/json")
        if request.path.rstrip("/") == "/v2":
            return self._send(request, 200, b"{}", "application/json")
        kind, what = parts[-2], parts[-1]
        if kind == "manifests" and self.lie != "unknown":
            return self._send(request, 200, self.manifest, "application/vnd.oci.image.manifest.v1+json")
        if kind == "blobs" and what in self.blobs:
            return self._send(request, 200, self.blobs[what], "application/octet-stream", self.cut)
        body = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
        return self._send(request, 404, body, "application/json")

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, media_type: str, cut: int | None = None
    ) -> None:
        request.send_response(status)
        request.send_header("Content-Type", media_type)
        request.send_header("Content-Length", str(len(body)))
        if media_type.endswith("manifest.v1+json"):
            request.send_header("Docker-Content-Digest", _digest(body))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body if cut is None or len(body) < cut else body[:cut])
            if cut is not None and len(body) > cut:
                request.close_connection = True
