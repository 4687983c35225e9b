"""Networks: Engine API section Network."""

from __future__ import annotations

from rorqual.client.containers import encode_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rorqual.client.engine import Client

    JSON = dict[str, Any]


class Networks:
    """`Client.networks`. Raises: as `Client.request`."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, filters: Mapping[str, Iterable[str]] | None = None) -> list[JSON]:
        answer: list[JSON] = self._client.json("GET", "/networks", query={"filters": encode_filters(filters)})
        return answer

    def inspect(self, id: str, *, verbose: bool = False) -> JSON:
        answer: JSON = self._client.json("GET", f"/networks/{id}", query={"verbose": True if verbose else None})
        return answer

    def inspect_raw(self, id: str, *, verbose: bool = False) -> bytes:
        return self._client.request("GET", f"/networks/{id}", query={"verbose": True if verbose else None})

    def create(self, config: JSON) -> JSON:
        answer: JSON = self._client.json("POST", "/networks/create", body=config)
        return answer

    def remove(self, id: str) -> None:
        self._client.request("DELETE", f"/networks/{id}")

    def connect(self, id: str, container: str, endpoint: JSON) -> None:
        self._client.json("POST", f"/networks/{id}/connect", body={"Container": container, "EndpointConfig": endpoint})

    def disconnect(self, id: str, container: str, *, force: bool = False) -> None:
        self._client.json("POST", f"/networks/{id}/disconnect", body={"Container": container, "Force": force})

    def prune(self, filters: Mapping[str, Iterable[str]] | None = None) -> JSON:
        answer: JSON = self._client.json("POST", "/networks/prune", query={"filters": encode_filters(filters)})
        return answer
