"""Routes of containers. Source: Engine API 1.56, Container."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from rorqual.api import codec
from rorqual.api.config import HostConfig
from rorqual.api.container import (
    CreateRequest,
    CreateResponse,
    PruneContainersResponse,
    UpdateResponse,
    WaitError,
    WaitResponse,
)
from rorqual.daemon import web
from rorqual.daemon.api import hijack, http, websocket
from rorqual.daemon.api.http import Call, Route
from rorqual.daemon.api.kept import Entry, Kept
from rorqual.daemon.background import Background
from rorqual.daemon.services import clock, detachkeys
from rorqual.daemon.services.containers import links, views
from rorqual.daemon.services.containers.attach import Streams
from rorqual.daemon.services.containers.create import Creator
from rorqual.daemon.services.containers.lifecycle import Lifecycle
from rorqual.daemon.services.containers.logs import LogReader, LogRequest
from rorqual.daemon.services.containers.networking import Networking
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.containers.sizes import ContainerSizes
from rorqual.daemon.services.containers.start import Starter
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.healthwatch import HealthWatch
from rorqual.errdefs import Conflict, Error, InvalidArgument, NotImplementedHere
from rorqual.rpc.stream import Attach

_PRUNE_KEYS = frozenset({"until", "label", "label!"})


@dataclass(frozen=True, slots=True)
class ContainerRoutes:
    """The services these routes call."""

    registry: Registry
    creator: Creator
    starter: Starter
    lifecycle: Lifecycle
    streams: Streams
    networking: Networking
    sizes: ContainerSizes
    listing: views.Listing
    background: Background
    health: HealthWatch
    kept: Kept

    def routes(self) -> list[Route]:
        """All of them."""
        c = "/containers/{id}"
        return [
            Route("GET", "/containers/json", self.list),
            Route("POST", "/containers/create", self.create),
            Route("POST", "/containers/prune", self.prune),
            Route("GET", f"{c}/json", self.inspect),
            Route("GET", f"{c}/logs", self.logs),
            Route("GET", f"{c}/top", self.top),
            Route("POST", f"{c}/start", self.start),
            Route("POST", f"{c}/stop", self.stop),
            Route("POST", f"{c}/kill", self.kill),
            Route("POST", f"{c}/restart", self.restart),
            Route("POST", f"{c}/pause", self.pause),
            Route("POST", f"{c}/unpause", self.unpause),
            Route("POST", f"{c}/rename", self.rename),
            Route("POST", f"{c}/update", self.update),
            Route("POST", f"{c}/resize", self.resize),
            Route("POST", f"{c}/wait", self.wait),
            Route("POST", f"{c}/attach", self.attach),
            Route("GET", f"{c}/attach/ws", self.attach_websocket),
            Route("DELETE", "/containers/{id:path}", self.remove),
        ]

    def _get(self, call: Call) -> Container:
        return self.registry.get(call.params["id"])

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /containers/json."""
        filters = Filters.parse(call.text("filters"), views.FILTER_KEYS)
        limit = call.number("limit") or 0
        selected = self.listing.select(filters, everything=call.flag("all"), limit=limit)
        now_ns = clock.now_ns()
        given = links.given_names(self.registry)
        shown = self.listing.images_of(selected)
        rows = [(c, shown[c.id], now_ns, given.get(c.id, ())) for c in selected]
        if not call.flag("size"):
            entries = [Entry(row[0].id, views.made_of(*row), partial(views.summary, *row)) for row in rows]
            return http.json_bytes(self.kept.array(entries))
        sizes = await asyncio.gather(*(self.sizes.of(c) for c in selected))
        return http.json_response(
            [
                replace(views.summary(*row), size_rw=own, size_rootfs=root)
                for row, (own, root) in zip(rows, sizes, strict=True)
            ]
        )

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /containers/create."""
        request = await call.json(CreateRequest)
        work = self.creator.create(request, call.text("name"), call.text("platform"))
        container, warnings = await self.background.whole(work, "create")
        return http.json_response(CreateResponse(container.id, warnings), 201)

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/json."""
        container = self._get(call)
        self.health.refresh(container)
        answer = views.inspect(container, self.networking, self.registry, self.starter.log_path(container))
        if call.flag("size"):
            own, root = await self.sizes.of(container)
            answer = replace(answer, size_rw=own, size_rootfs=root)
        return http.json_response(answer)

    async def start(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/start."""
        container = self._get(call)
        if call.text("checkpoint"):
            # Docker's own words on a daemon that was not started with --experimental.
            raise InvalidArgument("checkpoint is only supported in experimental mode")
        await self.background.whole(self.starter.start(container), "start")
        return http.empty()

    async def stop(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/stop."""
        await self.lifecycle.stop(self._get(call), call.text("signal"), call.number("t"))
        return http.empty()

    async def kill(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/kill."""
        name = call.params["id"]
        try:
            await self.lifecycle.kill(self._get(call), call.text("signal"))
        except Error as e:
            raise type(e)(f"cannot kill container: {name}: {e}") from e
        return http.empty()

    async def restart(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/restart."""
        container = self._get(call)
        work = self.lifecycle.restart(container, call.text("signal"), call.number("t"))
        await self.background.whole(work, "restart")
        return http.empty()

    async def pause(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/pause."""
        await self.background.whole(self.lifecycle.pause(self._get(call)), "pause")
        return http.empty()

    async def unpause(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/unpause."""
        await self.background.whole(self.lifecycle.unpause(self._get(call)), "unpause")
        return http.empty()

    async def rename(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/rename."""
        container = self._get(call)

        async def whole() -> None:
            await self.lifecycle.rename(container, call.text("name"))
            await self.networking.renamed(container)

        await self.background.whole(whole(), "rename")
        return http.empty()

    async def update(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/update."""
        container = self._get(call)
        wanted = await call.json(HostConfig)
        warnings = await self.background.whole(self.lifecycle.update(container, wanted), "update")
        return http.json_response(UpdateResponse(warnings or None))

    async def resize(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/resize."""
        height, width = sizes(call)
        await self.lifecycle.resize(self._get(call), height, width)
        return http.empty(200)

    async def top(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/top."""
        return http.json_response(await self.lifecycle.top(self._get(call), call.text("ps_args")))

    async def wait(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/wait: the headers go out at once, clients start the container after them."""
        future = self.lifecycle.waiter(self._get(call), call.text("condition"))
        try:
            response = await http.stream(call, "application/json")
            ended = await future
        finally:
            future.cancel()
        answer = WaitResponse(WaitError(ended.error) if ended.error else None, ended.exit_code)
        await response.write(codec.to_bytes(answer) + b"\n")
        await response.write_eof()
        return response

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /containers/{id}; with `link` the id is `parent/alias`, and only that link goes."""
        if call.flag("link"):
            parent, host = links.without(call.params["id"], self.registry)
            await self.background.whole(self.lifecycle.set_host(parent, host), "remove link")
            return http.empty()
        container = self._get(call)
        work = self.lifecycle.remove(container, force=call.flag("force"), volumes=call.flag("v"))
        await self.background.whole(work, "remove")
        return http.empty()

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /containers/prune."""
        filters = Filters.parse(call.text("filters"), _PRUNE_KEYS)
        until = filters.get("until")
        before = clock.parse_when(until[0]) if until else None
        removed: list[str] = []
        freed = 0
        for container in self.registry:
            if container.state.running or container.state.status == "restarting":
                continue
            if before is not None and container.created_ns > before:
                continue
            if not filters.prunable(container.config.labels):
                continue
            size, _ = await self.sizes.of(container)
            try:
                await self.background.whole(self.lifecycle.remove(container, force=False, volumes=False), "prune")
            except Error:
                continue
            removed.append(container.id)
            freed += size
        self.lifecycle.pruned(freed)
        return http.json_response(PruneContainersResponse(tuple(removed), freed))

    async def attach(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/attach."""
        container = self._get(call)
        await call.body()
        tty = container.config.tty
        content_type = hijack.content_type(call, tty=tty)
        return await self._attach(call, container, lambda: hijack.Connection(call, content_type), mux=not tty)

    async def attach_websocket(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/attach/ws: the streams are not told apart."""
        return await self._attach(call, self._get(call), lambda: websocket.Connection(call), mux=False)

    async def _attach(
        self,
        call: Call,
        container: Container,
        take: Callable[[], hijack.Connection | websocket.Connection],
        *,
        mux: bool,
    ) -> web.StreamResponse:
        detachkeys.check(call.text("detachKeys"), "Invalid detach keys ({}) provided")
        stream = call.flag("stream")
        request = Attach(
            stdin=call.flag("stdin") and stream,
            stdout=call.flag("stdout") and stream,
            stderr=call.flag("stderr") and stream,
            logs=call.flag("logs"),
            tty=container.config.tty,
            detach_keys=call.text("detachKeys"),
            mux=mux,
        )
        if container.state.status == "paused":
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        # A running container's log is replayed by its shim, with nothing lost between log and stream.
        from_file = request.logs and not (container.state.running and stream)
        reader = self._log_reader(container, _attach_log(call), mux=mux) if from_file else None
        connection = take()
        if request.logs:
            await connection.head_taken()
        if reader is not None:
            try:
                async for piece in reader.read(lambda: False):
                    await connection.send(piece)
            except BaseException:
                connection.close()
                raise
            request = replace(request, logs=False)
        if not stream:
            self.streams.attached(container)
            connection.close()
            return hijack.Hijacked()
        await self.streams.attach(container, request, connection)
        return hijack.Hijacked()

    def _log_reader(self, container: Container, request: LogRequest, *, mux: bool) -> LogReader:
        source = self.starter.log_source(container)
        if source is None:
            raise NotImplementedHere("configured logging driver does not support reading")
        return LogReader(source, request, mux=mux)

    async def logs(self, call: Call) -> web.StreamResponse:
        """GET /containers/{id}/logs."""
        container = self._get(call)
        tty = container.config.tty
        reader = self._log_reader(container, log_request(call), mux=not tty)
        response = await http.stream(call, hijack.content_type(call, tty=tty))
        async for piece in reader.read(lambda: container.state.running):
            await response.write(piece)
        await response.write_eof()
        return response


def sizes(call: Call) -> tuple[int, int]:
    """(height, width) of h and w. Raises: InvalidArgument."""
    height, width = call.number("h"), call.number("w")
    if height is None or width is None or not 0 <= height < 65536 or not 0 <= width < 65536:
        raise InvalidArgument("invalid resize height or width")
    return height, width


def _attach_log(call: Call) -> LogRequest:
    return LogRequest(stdout=call.flag("stdout"), stderr=call.flag("stderr"))


def log_request(call: Call) -> LogRequest:
    """Raises: InvalidArgument."""
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not stdout and not stderr:
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    tail_text = call.text("tail", "all")
    tail = None if tail_text in ("", "all") or not tail_text.isdigit() else int(tail_text)
    since, until = call.text("since"), call.text("until")
    return LogRequest(
        stdout=stdout,
        stderr=stderr,
        follow=call.flag("follow"),
        since_ns=clock.parse_when(since) if since and since != "0" else 0,
        until_ns=clock.parse_when(until) if until and until != "0" else 0,
        tail=tail,
        timestamps=call.flag("timestamps"),
        details=call.flag("details"),
    )
