"""Swarm and nodes: Engine API sections Swarm and Node."""

from __future__ import annotations

from rorqual.client.containers import encode_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rorqual.client.engine import Client

    JSON = dict[str, Any]


class Swarm:
    """`Client.swarm`. Raises: as `Client.request`."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    def inspect(self) -> JSON:
        answer: JSON = self._client.json("GET", "/swarm")
        return answer

    def init(self, request: JSON) -> str:
        """The node's id."""
        answer: str = self._client.json("POST", "/swarm/init", body=request)
        return answer

    def leave(self, *, force: bool = False) -> None:
        self._client.request("POST", "/swarm/leave", query={"force": True if force else None})

    def update(
        self, version: int, spec: JSON, *, worker: bool = False, manager: bool = False, unlock_key: bool = False
    ) -> None:
        """Change the settings; rotate the tokens and the unlock key where asked to."""
        query = {
            "version": version,
            "rotateWorkerToken": "true" if worker else "false",
            "rotateManagerToken": "true" if manager else "false",
            "rotateManagerUnlockKey": "true" if unlock_key else "false",
        }
        self._client.json("POST", "/swarm/update", query=query, body=spec)

    def unlock_key(self) -> str:
        """ "" while the swarm is not locked at rest."""
        answer: JSON = self._client.json("GET", "/swarm/unlockkey")
        return str(answer["UnlockKey"])

    def unlock(self, key: str) -> None:
        self._client.json("POST", "/swarm/unlock", body={"UnlockKey": key})


class Nodes:
    """`Client.nodes`. Raises: as `Client.request`."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, filters: Mapping[str, Iterable[str]] | None = None) -> list[JSON]:
        answer: list[JSON] = self._client.json("GET", "/nodes", query={"filters": encode_filters(filters)})
        return answer

    def inspect(self, id: str) -> JSON:
        answer: JSON = self._client.json("GET", f"/nodes/{id}")
        return answer

    def inspect_raw(self, id: str) -> bytes:
        return self._client.request("GET", f"/nodes/{id}")

    def update(self, id: str, version: int, spec: JSON) -> None:
        self._client.json("POST", f"/nodes/{id}/update", query={"version": version}, body=spec)

    def remove(self, id: str, *, force: bool = False) -> None:
        self._client.request("DELETE", f"/nodes/{id}", query={"force": True if force else None})
