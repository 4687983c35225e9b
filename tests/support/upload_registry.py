"""A registry in the test's own event loop that takes uploads, and whose every answer a test can bend."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class UploadRegistry:
    """`async with` it. `bend` is asked first for every request: what it answers (not None) is the answer."""

    def __init__(self, *, bend: Handler | None = None) -> None:
        self.bend = bend
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.seen: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        # Bytes of a longer PATCH's body after which the connection is cut, once each.
        self.cuts: list[int] = []
        self._serial = itertools.count(1)

    async def __aenter__(self) -> "UploadRegistry":
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        self.counts[request.method] += 1
        if self.bend is not None and (bent := await self.bend(request)) is not None:
            return bent
        path = request.path
        if path == "/v2/":
            return web.json_response({})
        name, _, rest = path.removeprefix("/v2/").rpartition("/blobs/")
        if rest.startswith("uploads/"):
            return await self._upload(request, name, rest.removeprefix("uploads/"))
        if name:
            blob = self.blobs.get((name, rest))
            return web.Response(status=404 if blob is None else 200)
        name, _, tag = path.removeprefix("/v2/").rpartition("/manifests/")
        self.manifests[(name, tag)] = raw = await request.read()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        return web.Response(status=201, headers={"Docker-Content-Digest": digest})

    async def _upload(self, request: web.Request, name: str, id: str) -> web.StreamResponse:
        if request.method == "POST":
            source = (request.query.get("from", ""), request.query.get("mount", ""))
            if source in self.blobs:
                self.blobs[(name, source[1])] = self.blobs[source]
                return web.Response(status=201)
            id = str(next(self._serial))
            self.uploads[id] = bytearray()
            return web.Response(status=202, headers=self._where(name, id))
        data = self.uploads.get(id)
        if data is None:
            return web.Response(status=404)
        if request.method == "GET":
            return web.Response(status=204, headers=self._where(name, id))
        if request.method == "PATCH":
            start = int(request.headers["Content-Range"].partition("-")[0])
            if start != len(data):
                return web.Response(status=416, headers=self._where(name, id))
            long = bool(self.cuts) and (request.content_length or 0) > self.cuts[0]
            limit = self.cuts.pop(0) if long else None
            async for piece in request.content.iter_any():
                data += piece
                if limit is not None and len(data) - start >= limit:
                    assert request.transport is not None
                    request.transport.abort()
                    return web.Response(status=500)
            return web.Response(status=202, headers=self._where(name, id))
        digest = request.query["digest"]
        if digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
            return web.json_response({"errors": [{"code": "DIGEST_INVALID", "message": "bad"}]}, status=400)
        self.blobs[(name, digest)] = bytes(data)
        return web.Response(status=201)

    def _where(self, name: str, id: str) -> dict[str, str]:
        end = max(len(self.uploads[id]) - 1, 0)
        return {"Location": f"/v2/{name}/blobs/uploads/{id}?state=x", "Range": f"0-{end}"}
