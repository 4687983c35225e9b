"""Swarm mode's routes, as an engine answers that is in no swarm. Clients ask these to find out whether it is.

Source: Engine API 1.56, Swarm, Node, Service, Task, Secret, Config; texts as moby's cluster component.
"""

from __future__ import annotations

from rorqual.daemon import web
from rorqual.daemon.api.http import Call, Route
from rorqual.errdefs import Unavailable

_LISTS = ("/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs")


def routes() -> list[Route]:
    """All of them."""
    return [Route("POST", "/swarm/leave", _leave), *(Route("GET", path, _no_manager) for path in _LISTS)]


NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


async def _no_manager(call: Call) -> web.StreamResponse:
    raise Unavailable(NO_MANAGER)


async def _leave(call: Call) -> web.StreamResponse:
    raise Unavailable("This node is not part of a swarm")
