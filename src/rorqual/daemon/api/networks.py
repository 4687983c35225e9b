"""Routes of networks and volumes. Source: Engine API 1.56, Network and Volume."""

from __future__ import annotations

from dataclasses import dataclass

from rorqual.api.container import PortChange
from rorqual.api.network import (
    EndpointSettings,
    NetworkConnectRequest,
    NetworkCreateRequest,
    NetworkCreateResponse,
    NetworkDisconnectRequest,
    PruneNetworksResponse,
)
from rorqual.api.system import PruneVolumesResponse, VolumeCreateRequest, VolumeListResponse
from rorqual.daemon import web
from rorqual.daemon.api import http
from rorqual.daemon.api.http import Call, Route
from rorqual.daemon.background import Background
from rorqual.daemon.services import networks, volumes
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.networks import Networks
from rorqual.daemon.services.swarm.service import NO_MANAGER
from rorqual.daemon.services.volumes import Volumes
from rorqual.errdefs import Unavailable

_PRUNE_KEYS = frozenset({"until", "label", "label!"})


@dataclass(frozen=True, slots=True)
class NetworkRoutes:
    """The services these routes call."""

    networks: Networks
    background: Background

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/networks", self.list),
            Route("POST", "/networks/create", self.create),
            Route("POST", "/networks/prune", self.prune),
            Route("GET", "/networks/{id}", self.inspect),
            Route("DELETE", "/networks/{id}", self.remove),
            Route("POST", "/networks/{id}/connect", self.connect),
            Route("POST", "/networks/{id}/disconnect", self.disconnect),
            Route("POST", "/containers/{id}/ports", self.change_ports),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /networks."""
        filters = Filters.parse(call.text("filters"), networks.FILTER_KEYS)
        return http.json_response(await self.networks.summaries(filters))

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /networks/{id}."""
        return http.json_response(await self.networks.inspect(call.params["id"], call.text("scope")))

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /networks/create."""
        wanted = await call.json(NetworkCreateRequest)
        id = await self.background.whole(self.networks.create(wanted), "create network")
        return http.json_response(NetworkCreateResponse(id, ""), 201)

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /networks/{id}."""
        await self.background.whole(self.networks.remove(call.params["id"]), "remove network")
        return http.empty()

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /networks/prune."""
        filters = Filters.parse(call.text("filters"), _PRUNE_KEYS)
        names = await self.background.whole(self.networks.prune(filters), "prune networks")
        return http.json_response(PruneNetworksResponse(tuple(names)))

    async def connect(self, call: Call) -> web.StreamResponse:
        """POST /networks/{id}/connect."""
        wanted = await call.json(NetworkConnectRequest)
        work = self.networks.connect(call.params["id"], wanted.container, wanted.endpoint_config or EndpointSettings())
        await self.background.whole(work, "connect")
        return http.empty(200)

    async def disconnect(self, call: Call) -> web.StreamResponse:
        """POST /networks/{id}/disconnect."""
        wanted = await call.json(NetworkDisconnectRequest)
        work = self.networks.disconnect(call.params["id"], wanted.container, force=wanted.force)
        await self.background.whole(work, "disconnect")
        return http.empty(200)

    async def change_ports(self, call: Call) -> web.StreamResponse:
        """POST /containers/{id}/ports, which Docker does not have: publish and close ports of a running container."""
        change = await call.json(PortChange)
        await self.background.whole(self.networks.change_ports(call.params["id"], change), "change ports")
        return http.empty()


@dataclass(frozen=True, slots=True)
class VolumeRoutes:
    """The services these routes call."""

    volumes: Volumes
    background: Background

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/volumes", self.list),
            Route("POST", "/volumes/create", self.create),
            Route("POST", "/volumes/prune", self.prune),
            Route("GET", "/volumes/{name}", self.inspect),
            Route("PUT", "/volumes/{name}", self.update),
            Route("DELETE", "/volumes/{name}", self.remove),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /volumes."""
        found = self.volumes.summaries(Filters.parse(call.text("filters"), volumes.FILTER_KEYS))
        return http.json_response(VolumeListResponse(tuple(found), None))

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /volumes/create."""
        wanted = await call.json(VolumeCreateRequest)
        if wanted.cluster_volume_spec is not None:
            raise Unavailable(NO_MANAGER)
        work = self.volumes.ensure(wanted.name, wanted.driver, wanted.labels, wanted.driver_opts)
        volume = await self.background.whole(work, "create volume")
        return http.json_response(volumes.to_api(volume), 201)

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /volumes/{name}."""
        return http.json_response(volumes.to_api(self.volumes.get(call.params["name"])))

    async def update(self, call: Call) -> web.StreamResponse:
        """PUT /volumes/{name}: only a cluster's volumes can be changed."""
        raise Unavailable(NO_MANAGER)

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /volumes/{name}."""
        work = self.volumes.remove(call.params["name"], force=call.flag("force"))
        await self.background.whole(work, "remove volume")
        return http.empty()

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /volumes/prune."""
        filters = Filters.parse(call.text("filters"), volumes.PRUNE_KEYS)
        names, freed = await self.background.whole(self.volumes.prune(filters), "prune volumes")
        return http.json_response(PruneVolumesResponse(tuple(names), freed))
