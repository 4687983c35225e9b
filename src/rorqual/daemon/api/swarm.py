"""Routes of swarms and nodes. Source: Engine API 1.56, Swarm and Node; texts as moby's cluster component."""

from __future__ import annotations

from dataclasses import dataclass

from rorqual.api.swarm import InitRequest, NodeSpec, SwarmSpec, UnlockKey
from rorqual.daemon import web
from rorqual.daemon.api import http
from rorqual.daemon.api.http import Call, Route
from rorqual.daemon.background import Background
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.swarm.networks import SwarmNetworks
from rorqual.daemon.services.swarm.service import NODE_FILTERS, Swarm
from rorqual.errdefs import InvalidArgument

# What a swarm does not have here: clients ask for the lists to find out whether the engine is in one.
_LISTS = ("/services", "/tasks", "/secrets", "/configs")


@dataclass(frozen=True, slots=True)
class SwarmRoutes:
    """The services these routes call."""

    swarm: Swarm
    networks: SwarmNetworks
    background: Background

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/swarm", self.inspect),
            Route("POST", "/swarm/init", self.init),
            Route("POST", "/swarm/leave", self.leave),
            Route("POST", "/swarm/update", self.update),
            Route("GET", "/swarm/unlockkey", self.unlock_key),
            Route("POST", "/swarm/unlock", self.unlock),
            Route("GET", "/nodes", self.nodes),
            Route("GET", "/nodes/{id}", self.node),
            Route("DELETE", "/nodes/{id}", self.remove_node),
            Route("POST", "/nodes/{id}/update", self.update_node),
            *(Route("GET", path, self.nothing) for path in _LISTS),
        ]

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /swarm."""
        return http.json_response(self.swarm.manager.cluster.swarm())

    async def init(self, call: Call) -> web.StreamResponse:
        """POST /swarm/init."""
        wanted = await call.json(InitRequest)

        async def work() -> str:
            node_id = await self.swarm.init(wanted)
            await self.networks.gateway()
            return node_id

        return http.json_response(await self.background.whole(work(), "swarm init"))

    async def leave(self, call: Call) -> web.StreamResponse:
        """POST /swarm/leave."""

        async def work() -> None:
            await self.swarm.leave(force=call.flag("force"))
            await self.networks.forget()

        await self.background.whole(work(), "swarm leave")
        return http.empty(200)

    async def update(self, call: Call) -> web.StreamResponse:
        """POST /swarm/update."""
        wanted = await call.json(SwarmSpec)
        work = self.swarm.manager.cluster.update(
            _version(call),
            wanted,
            worker=call.flag("rotateWorkerToken"),
            manager=call.flag("rotateManagerToken"),
            unlock_key=call.flag("rotateManagerUnlockKey"),
        )
        await self.background.whole(work, "swarm update")
        return http.empty(200)

    async def unlock_key(self, call: Call) -> web.StreamResponse:
        """GET /swarm/unlockkey."""
        return http.json_response(UnlockKey(self.swarm.manager.cluster.get().unlock_key))

    async def unlock(self, call: Call) -> web.StreamResponse:
        """POST /swarm/unlock."""
        wanted = await call.json(UnlockKey)
        await self.background.whole(self.swarm.unlock(wanted.unlock_key), "swarm unlock")
        return http.empty(200)

    async def nodes(self, call: Call) -> web.StreamResponse:
        """GET /nodes."""
        return http.json_response(self.swarm.nodes(Filters.parse(call.text("filters"), NODE_FILTERS)))

    async def node(self, call: Call) -> web.StreamResponse:
        """GET /nodes/{id}."""
        return http.json_response(self.swarm.manager.nodes.get(call.params["id"]))

    async def remove_node(self, call: Call) -> web.StreamResponse:
        """DELETE /nodes/{id}."""
        work = self.swarm.manager.nodes.remove(call.params["id"], force=call.flag("force"))
        await self.background.whole(work, "node remove")
        return http.empty(200)

    async def update_node(self, call: Call) -> web.StreamResponse:
        """POST /nodes/{id}/update."""
        wanted = await call.json(NodeSpec)
        await self.background.whole(self.swarm.update_node(call.params["id"], _version(call), wanted), "node update")
        return http.empty(200)

    async def nothing(self, call: Call) -> web.StreamResponse:
        """A list of what there is none of; outside of a swarm the error that tells so."""
        self.swarm.manager.cluster.get()
        return http.json_response([])


def _version(call: Call) -> int:
    """Raises: InvalidArgument."""
    text = call.text("version")
    if not text.isascii() or not text.isdigit():
        raise InvalidArgument(f"invalid version '{text}': strconv.ParseUint: parsing \"{text}\": invalid syntax")
    return int(text)
