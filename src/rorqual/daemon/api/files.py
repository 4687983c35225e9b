"""Routes of containers' files and figures: archive, changes, export, stats. Source: Engine API 1.56, Container."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from rorqual.daemon import web
from rorqual.daemon.api import http
from rorqual.daemon.api.http import Call, Route
from rorqual.daemon.background import Background
from rorqual.daemon.services.containers.archive import Archives, PathStat
from rorqual.daemon.services.containers.changes import ContainerChanges
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.containers.stats import StatsReader
from rorqual.errdefs import InvalidArgument

_STAT_HEADER = "X-Docker-Container-Path-Stat"


@dataclass(frozen=True, slots=True)
class FileRoutes:
    """The services these routes call."""

    registry: Registry
    archives: Archives
    stats: StatsReader
    container_changes: ContainerChanges
    background: Background

    def routes(self) -> list[Route]:
        """All of them."""
        c = "/containers/{id}"
        return [
            Route("HEAD", f"{c}/archive", self.stat_archive),
            Route("GET", f"{c}/archive", self.get_archive),
            Route("PUT", f"{c}/archive", self.put_archive),
            Route("GET", f"{c}/changes", self.changes),
            Route("GET", f"{c}/export", self.export),
            Route("GET", f"{c}/stats", self.figures),
        ]

    def _get(self, call: Call) -> Container:
        return self.registry.get(call.params["id"])

    async def stat_archive(self, call: Call) -> web.StreamResponse:
        """HEAD /containers/{id}/archive."""
        found = await self.archives.stat(self._get(call), _path(call))
        response = http.empty(200)
        response.headers[_STAT_HEADER] = _encoded(found)
        return response

    async def get_archive(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/archive."""
        async with self.archives.get(self._get(call), _path(call)) as (found, pieces):
            return await _tar(call, pieces, {_STAT_HEADER: _encoded(found)})

    async def put_archive(self, call: Call) -> web.StreamResponse:
        """PUT /containers/{id}/archive."""
        work = self.archives.put(
            self._get(call),
            _path(call),
            call.request.content.iter_any(),
            keep_kinds=call.flag("noOverwriteDirNonDir"),
            own=call.flag("copyUIDGID"),
        )
        await self.background.whole(work, "extract")
        return http.empty(200)

    async def changes(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/changes."""
        container = self._get(call)
        return http.json_response(await self.container_changes.of(container) or None)

    async def export(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/export."""
        async with self.archives.export(self._get(call)) as pieces:
            return await _tar(call, pieces, {})

    async def figures(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/stats."""
        container = self._get(call)
        if not call.flag("stream", True):
            one_shot = call.flag("one-shot")
            return http.json_response(await self.stats.once(container, one_shot=one_shot))
        if call.flag("one-shot"):
            raise InvalidArgument("cannot have stream=true and one-shot=true")
        response = await http.stream(call, "application/json")
        async for sample in self.stats.stream(container):
            await response.write(json.dumps(sample, separators=(",", ":")).encode() + b"\n")
        await response.write_eof()
        return response


def _path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidArgument("bad parameter: path cannot be empty")
    if "\0" in path:
        raise InvalidArgument("bad parameter: path holds a NUL byte")
    return path


def _encoded(found: PathStat) -> str:
    return base64.b64encode(json.dumps(found.to_json(), separators=(",", ":")).encode()).decode()


async def _tar(call: Call, pieces: AsyncIterator[bytes], headers: dict[str, str]) -> web.StreamResponse:
    """The stream. An error before its first byte still has a status; a later one breaks the connection, so that
    nobody takes half an archive for a whole one."""
    first = await anext(pieces, b"")
    response = await http.stream(call, "application/x-tar", headers=headers)
    await response.write(first)
    async for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response
