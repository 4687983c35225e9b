"""A registry in the test's own event loop whose every answer a test can bend; otherwise it tells the truth."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web
from support.image import BuiltImage

Handler = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class ScriptedRegistry:
    """`async with` it. `bend` is asked first for every request: what it answers (not None) is the answer."""

    def __init__(
        self, image: BuiltImage, *, name: str = "image", bend: Handler | None = None, token: bool = False
    ) -> None:
        self.image = image
        self.name = name
        self.bend = bend
        self.token = token
        self.seen: list[web.Request] = []
        self.counts: Counter[str] = Counter()
        self.valid_tokens: set[str] = set()
        self.peers: set[object] = set()
        self.users = {"alice": "secret"}
        self.identity = "identity-token"
        self.expires_in = 300

    async def __aenter__(self) -> "ScriptedRegistry":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.address = f"127.0.0.1:{port}"
        self.reference = f"{self.address}/{self.name}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def paths(self, part: str) -> list[web.Request]:
        return [request for request in self.seen if part in request.path]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if request.transport is not None:
            self.peers.add(request.transport.get_extra_info("peername"))
        self.counts[request.path] += 1
        if request.path == "/token":
            return await self._token(request)
        if self.bend is not None and (bent := await self.bend(request)) is not None:
            return bent
        if self.token and (refused := self._unauthorized(request)) is not None:
            return refused
        return self.truth(request)

    def truth(self, request: web.Request) -> web.Response:
        """What an honest registry says."""
        if request.path == "/v2/":
            return web.json_response({})
        prefix = f"/v2/{self.name}/"
        if request.path in (f"{prefix}manifests/latest", f"{prefix}manifests/{self.image.digest}"):
            headers = {"Content-Type": self.image.manifest_type, "Docker-Content-Digest": self.image.digest}
            return web.Response(body=self.image.manifest, headers=headers)
        blob = self.image.blobs.get(request.path.removeprefix(f"{prefix}blobs/"))
        if blob is None:
            error = {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}
            return web.json_response({"errors": [error]}, status=404)
        wanted = request.headers.get("Range")
        if wanted is None:
            return web.Response(body=blob)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        range_header = f"bytes {start}-{len(blob) - 1}/{len(blob)}"
        return web.Response(status=206, body=blob[start:], headers={"Content-Range": range_header})

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") in self.valid_tokens:
            return None
        challenge = f'Bearer realm="http://{self.address}/token",service="tests",scope="repository:{self.name}:pull"'
        error = {"code": "UNAUTHORIZED", "message": "authentication required"}
        return web.json_response({"errors": [error]}, status=401, headers={"WWW-Authenticate": challenge})

    async def _token(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            form = await request.post()
            allowed = form.get("grant_type") == "refresh_token" and form.get("refresh_token") == self.identity
        else:
            header = request.headers.get("Authorization", "")
            user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
            allowed = not header or self.users.get(user) == password
        if not allowed:
            return web.json_response({"details": "incorrect username or password"}, status=401)
        token = f"token-{self.counts['/token']}"
        self.valid_tokens.add(token)
        return web.json_response({"token": token, "expires_in": self.expires_in})


async def send_part(
    request: web.Request, body: bytes, announced: int, status: int = 200, **headers: str
) -> web.StreamResponse:
    """Sends `body` under a Content-Length of `announced` and breaks the connection."""
    response = web.StreamResponse(status=status, headers={"Content-Length": str(announced), **headers})
    await response.prepare(request)
    await response.write(body)
    assert request.transport is not None
    await asyncio.sleep(0.1)  # for the client to take it: what it has not read by then is lost to it
    request.transport.abort()
    return response


def index_of(image: BuiltImage) -> bytes:
    """An index with `image` as its only entry."""
    entry = {
        "mediaType": image.manifest_type,
        "digest": image.digest,
        "size": len(image.manifest),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    kind = "application/vnd.oci.image.index.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
