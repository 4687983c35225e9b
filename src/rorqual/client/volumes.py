"""Volumes: Engine API section Volume."""

from __future__ import annotations

from rorqual.client.containers import encode_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rorqual.client.engine import Client

    JSON = dict[str, Any]


class Volumes:
    """`Client.volumes`. Raises: as `Client.request`."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, filters: Mapping[str, Iterable[str]] | None = None) -> JSON:
        """{"Volumes": [...] | None, "Warnings"}"""
        answer: JSON = self._client.json("GET", "/volumes", query={"filters": encode_filters(filters)})
        return answer

    def inspect(self, name: str) -> JSON:
        answer: JSON = self._client.json("GET", f"/volumes/{name}")
        return answer

    def inspect_raw(self, name: str) -> bytes:
        return self._client.request("GET", f"/volumes/{name}")

    def create(self, config: JSON) -> JSON:
        answer: JSON = self._client.json("POST", "/volumes/create", body=config)
        return answer

    def update(self, name: str, version: int, spec: JSON) -> None:
        self._client.json("PUT", f"/volumes/{name}", query={"version": version}, body={"Spec": spec})

    def remove(self, name: str, *, force: bool = False) -> None:
        self._client.request("DELETE", f"/volumes/{name}", query={"force": True if force else None})

    def prune(self, filters: Mapping[str, Iterable[str]] | None = None) -> JSON:
        answer: JSON = self._client.json("POST", "/volumes/prune", query={"filters": encode_filters(filters)})
        return answer
