"""Routes of disk usage and of registries' own view of an image.

Source: Engine API 1.56, SystemDataUsage, Distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

from rorqual.daemon import web
from rorqual.daemon.api import http
from rorqual.daemon.api.http import Call, Route
from rorqual.daemon.services.diskusage import DiskUsages
from rorqual.daemon.services.images.distribution import Distribution
from rorqual.distribution.credentials import parse_header


@dataclass(frozen=True, slots=True)
class DiskUsageRoutes:
    """The services these routes call."""

    usages: DiskUsages
    distribution: Distribution

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/system/df", self.measure),
            Route("GET", "/distribution/{name:path}/json", self.inspect),
        ]

    async def measure(self, call: Call) -> web.StreamResponse:
        """GET /system/df."""
        kinds = [kind for kind in call.request.query.getall("type") if kind]
        return http.json_response(await self.usages.measure(kinds, verbose=call.flag("verbose")))

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /distribution/{name}/json."""
        credentials = parse_header(call.request.headers.get("X-Registry-Auth"))
        return http.json_response(await self.distribution.inspect(call.params["name"], credentials))
