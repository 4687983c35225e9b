"""Routes of execs. Source: Engine API 1.56, Exec."""

from __future__ import annotations

from dataclasses import dataclass

from rorqual.api.exec import ExecConfig, ExecStartConfig
from rorqual.daemon import web
from rorqual.daemon.api import hijack, http
from rorqual.daemon.api.containers import sizes
from rorqual.daemon.api.http import Call, Route
from rorqual.daemon.background import Background
from rorqual.daemon.services.containers.execs import Execs
from rorqual.daemon.services.containers.record import Container, Exec
from rorqual.daemon.services.containers.registry import Registry
from rorqual.errdefs import Error

_STDOUT_HEADER = b"\x01\x00\x00\x00"


@dataclass(frozen=True, slots=True)
class ExecRoutes:
    """The services these routes call."""

    registry: Registry
    execs: Execs
    background: Background

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("POST", "/containers/{id}/exec", self.create),
            Route("POST", "/exec/{id}/start", self.start),
            Route("POST", "/exec/{id}/resize", self.resize),
            Route("GET", "/exec/{id}/json", self.inspect),
        ]

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/exec."""
        container = self.registry.get(call.params["id"])
        wanted = await call.json(ExecConfig)
        return http.json_response({"Id": await self.execs.create(container, wanted)}, 201)

    async def start(self, call: Call) -> web.StreamResponse:
        """POST /exec/{id}/start: with a client its connection becomes the exec's streams."""
        start = await call.json(ExecStartConfig, optional=True)
        run, container = self.execs.get(call.params["id"])
        if start.detach:
            await self.background.whole(self.execs.start(run, container, start, None), "exec start")
            return http.empty(200)
        await self.background.whole(self._start_with_client(call, run, container, start), "exec start")
        return hijack.Hijacked()

    async def _start_with_client(self, call: Call, run: Exec, container: Container, start: ExecStartConfig) -> None:
        connection: hijack.Connection | None = None

        def connect() -> hijack.Connection:
            nonlocal connection
            connection = hijack.Connection(call, hijack.content_type(call, tty=start.tty))
            return connection

        try:
            await self.execs.start(run, container, start, connect)
        except Error as e:
            if connection is None:
                raise
            connection.write(_framed(f"{e}\r\n", raw=start.tty))
        finally:
            if connection is not None:
                connection.close()

    async def resize(self, call: Call) -> web.StreamResponse:
        """POST /exec/{id}/resize."""
        height, width = sizes(call)
        await self.execs.resize(call.params["id"], height, width)
        return http.empty(200)

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /exec/{id}/json."""
        return http.json_response(await self.execs.inspect(call.params["id"]))


def _framed(text: str, *, raw: bool) -> bytes:
    """An error where the output would have been, on stdout as dockerd's: HTTP's status is sent already."""
    data = text.encode()
    return data if raw else _STDOUT_HEADER + len(data).to_bytes(4, "big") + data
