"""The engine itself: version, info, events, disk usage, registry logins. Engine API section System."""

from __future__ import annotations

from rorqual.client.containers import encode_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from rorqual.client.engine import Client

    JSON = dict[str, Any]


class System:
    """`Client.system`. Raises: as `Client.request`."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    def version(self) -> JSON:
        answer: JSON = self._client.json("GET", "/version")
        return answer

    def info(self) -> JSON:
        answer: JSON = self._client.json("GET", "/info")
        return answer

    def events(
        self,
        *,
        since: str = "",
        until: str = "",
        filters: Mapping[str, Iterable[str]] | None = None,
    ) -> Iterator[JSON]:
        query = {"since": since or None, "until": until or None, "filters": encode_filters(filters)}
        return self._client.json_stream("GET", "/events", query=query)

    def disk_usage(self, types: Iterable[str] = ()) -> JSON:
        answer: JSON = self._client.json("GET", "/system/df", query={"type": list(types) or None})
        return answer

    def check(self) -> Iterator[JSON]:
        """Rorqual's own: {"kind", "subject", "problem", "size"} of everything in the store."""
        return self._client.json_stream("GET", "/system/check")

    def login(self, auth: JSON) -> JSON:
        answer: JSON = self._client.json("POST", "/auth", body=auth)
        return answer

    def prune_build_cache(self, query: Mapping[str, object]) -> JSON:
        answer: JSON = self._client.json("POST", "/build/prune", query=query)
        return answer
