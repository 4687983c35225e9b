"""Which request is whose. A request line that is nobody's is 404; a wrong method 405; every error is JSON."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from rorqual import browsers
from rorqual.distribution.serve.answers import Refused
from rorqual.distribution.serve.blobs import Blobs
from rorqual.distribution.serve.htpasswd import Htpasswd
from rorqual.distribution.serve.manifests import Manifests
from rorqual.distribution.serve.store import Store
from rorqual.errdefs import Error, ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

Handler = Callable[..., Awaitable[web.StreamResponse]]

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
# a registry's own name, with its port, may be the first component: images of elsewhere are served under it
_NAME = rf"(?P<name>(?:[a-zA-Z0-9.-]+(?::\d+)?/)?{_COMPONENT}(?:/{_COMPONENT})*)"
_NAME_MAX = 255
_READING = ("GET", "HEAD")


class Registry:
    """The routes. `read_only`: nothing can be pushed or deleted."""

    def __init__(self, store: Store, users: Htpasswd | None, *, read_only: bool) -> None:
        blobs, manifests = Blobs(store), Manifests(store)
        self._users = users
        self._read_only = read_only
        table: tuple[tuple[str, dict[str, Handler]], ...] = (
            (r"/v2/", {"GET": _version, "HEAD": _version}),
            (r"/v2/_catalog", {"GET": manifests.catalog}),
            (rf"/v2/{_NAME}/tags/list", {"GET": manifests.tags, "HEAD": manifests.tags}),
            (rf"/v2/{_NAME}/referrers/(?P<digest>[^/]+)", {"GET": manifests.referrers, "HEAD": manifests.referrers}),
            (
                rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)",
                {"GET": manifests.get, "HEAD": manifests.get, "PUT": manifests.put, "DELETE": manifests.delete},
            ),
            (rf"/v2/{_NAME}/blobs/uploads/?", {"POST": blobs.begin}),
            (
                rf"/v2/{_NAME}/blobs/uploads/(?P<id>[0-9a-f]{{32}})",
                {"GET": blobs.status, "PATCH": blobs.patch, "PUT": blobs.put, "DELETE": blobs.cancel},
            ),
            (
                rf"/v2/{_NAME}/blobs/(?P<digest>[^/]+)",
                {"GET": blobs.get, "HEAD": blobs.get, "DELETE": blobs.delete},
            ),
        )
        self._table = [(re.compile(pattern), methods) for pattern, methods in table]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        try:
            response = await self._route(request)
        except Refused as e:
            response = e.response()
        except (Unavailable, ResourceExhausted) as e:
            log.warning("%s %s: %s", request.method, request.path, e)
            response = Refused("TOOMANYREQUESTS", str(e), 503).response()
        except Error as e:
            log.error("%s %s: %s", request.method, request.path, e)
            response = Refused("UNKNOWN", str(e)).response()
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        if request.can_read_body and not request.content.is_eof() and not response.prepared:
            response.force_close()  # the rest of a body that nobody wants is not read to its end
        return response

    async def _route(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None and (reason := _page(request, request.transport)):
            raise Refused("DENIED", reason, 403)
        if self._users is not None and not await self._users.allows(request.headers.get("Authorization", "")):
            challenge = {"WWW-Authenticate": 'Basic realm="rorqual registry"'}
            raise Refused("UNAUTHORIZED", "authentication required", headers=challenge)
        path = request.path
        if path == "/v2":
            path = "/v2/"
        for pattern, methods in self._table:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            handler = methods.get(request.method)
            if handler is None or (self._read_only and request.method not in _READING):
                raise Refused("UNSUPPORTED", "the operation is unsupported", headers={"Allow": ", ".join(methods)})
            names = match.groupdict()
            if len(names.get("name", "")) > _NAME_MAX:
                raise Refused("NAME_INVALID", f"repository name must not be longer than {_NAME_MAX} characters")
            return await handler(request, **names)
        if path.startswith("/v2/"):
            raise Refused("NAME_INVALID", "invalid repository name or path", 404)
        raise web.HTTPNotFound


def _page(request: web.Request, transport: asyncio.Transport) -> str:
    """Why the request is refused as one that a web page made a browser send; "" when it is none."""
    tls = transport.get_extra_info("ssl_object") is not None
    return browsers.refusal(request.headers, transport.get_extra_info("sockname"), tls=tls)


async def _version(request: web.Request) -> web.StreamResponse:
    return web.json_response({})


def make(store: Store, users: Htpasswd | None = None, *, read_only: bool = False) -> web.Application:
    """The registry, to be run by aiohttp."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", Registry(store, users, read_only=read_only).handle)
    return app
