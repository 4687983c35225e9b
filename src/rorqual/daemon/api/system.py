"""Routes of the engine itself, events, volumes, networks and auth. Source: Engine API 1.56."""

from __future__ import annotations

import json
from dataclasses import dataclass

from rorqual.api import codec
from rorqual.api.image import AuthConfig, AuthResponse
from rorqual.daemon import web
from rorqual.daemon.api import http
from rorqual.daemon.api.http import Call, Route
from rorqual.daemon.remote import Checks
from rorqual.daemon.services import clock
from rorqual.daemon.services.events import FILTER_KEYS, Events
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.system import System
from rorqual.errdefs import InvalidArgument

_PING_HEADERS = {
    "Builder-Version": "2",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}


@dataclass(frozen=True, slots=True)
class SystemRoutes:
    """The services these routes call."""

    system: System
    events: Events
    checks: Checks

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/_ping", self.ping),
            Route("HEAD", "/_ping", self.ping),
            Route("GET", "/version", self.version),
            Route("GET", "/info", self.info),
            Route("GET", "/events", self.stream_events),
            Route("POST", "/auth", self.auth),
            Route("GET", "/system/check", self.check),
        ]

    async def ping(self, call: Call) -> web.StreamResponse:
        """GET and HEAD /_ping."""
        return http.plain("OK", _PING_HEADERS)

    async def version(self, call: Call) -> web.StreamResponse:
        """GET /version."""
        return http.json_response(await self.system.version())

    async def info(self, call: Call) -> web.StreamResponse:
        """GET /info."""
        return http.json_response(await self.system.info())

    async def stream_events(self, call: Call) -> web.StreamResponse:
        """GET /events."""
        filters = Filters.parse(call.text("filters"), FILTER_KEYS)
        since, until = call.text("since"), call.text("until")
        since_ns = clock.parse_when(since) if since else None
        until_ns = clock.parse_when(until) if until else None
        if since_ns is not None and until_ns is not None and until_ns < since_ns:
            raise InvalidArgument(f"`since` time ({since}) cannot be after `until` time ({until})")
        events = self.events.stream(since_ns, until_ns, filters)
        response = await http.stream(call, "application/json")
        async for event in events:
            await response.write(codec.to_bytes(event) + b"\n")
        await response.write_eof()
        return response

    async def check(self, call: Call) -> web.StreamResponse:
        """GET /system/check (Rorqual's own): everything in the store hashed again, an object a line."""
        response = await http.stream(call, "application/json")
        async for finding in self.checks.run():
            await response.write(json.dumps(finding).encode() + b"\n")
        await response.write_eof()
        return response

    async def auth(self, call: Call) -> web.StreamResponse:
        """POST /auth: ask the registry whether the credentials are good."""
        given = await call.json(AuthConfig)
        token = await self.system.login(given)
        return http.json_response(AuthResponse(token, "Login Succeeded"))
