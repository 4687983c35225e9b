"""Images: Engine API section Image. Each method is one call."""

from __future__ import annotations

from rorqual.client.containers import encode_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from rorqual.client.engine import Client
    from rorqual.client.http1 import Response

    JSON = dict[str, Any]
    # Inside the class `list` is a method.
    JSONs = list[JSON]


class Images:
    """`Client.images`. A `name` is a reference or an id. Raises: as `Client.request`."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self,
        *,
        all: bool = False,
        filters: Mapping[str, Iterable[str]] | None = None,
        digests: bool = False,
        shared_size: bool = False,
        manifests: bool = False,
    ) -> JSONs:
        query = {
            "all": True if all else None,
            "filters": encode_filters(filters),
            "digests": True if digests else None,
            "shared-size": True if shared_size else None,
            "manifests": True if manifests else None,
        }
        answer: JSONs = self._client.json("GET", "/images/json", query=query)
        return answer

    def pull(self, name: str, tag: str, *, platform: str = "", auth: str = "") -> Iterator[JSON]:
        """Progress messages of a pull; `tag` may be a digest, "" pulls all tags; `auth` is X-Registry-Auth."""
        query = {"fromImage": name, "tag": tag or None, "platform": platform or None}
        headers = {"X-Registry-Auth": auth} if auth else None
        return self._client.json_stream("POST", "/images/create", query=query, headers=headers)

    def push(self, name: str, tag: str, *, auth: str, platform: str = "") -> Iterator[JSON]:
        query = {"tag": tag or None, "platform": _wire(platform)}
        # The API demands the header even for anonymous pushes.
        headers = {"X-Registry-Auth": auth or "e30="}
        return self._client.json_stream("POST", f"/images/{name}/push", query=query, headers=headers)

    def import_(self, query: Mapping[str, object], data: Iterable[bytes] | None) -> Iterator[JSON]:
        """Progress of POST /images/create from a tar (fromSrc "-" and `data`) or a URL."""
        headers = {"Content-Type": "application/x-tar"} if data is not None else None
        return self._client.json_stream("POST", "/images/create", query=query, body=data, headers=headers)

    def inspect(self, name: str, *, platform: str = "") -> JSON:
        answer: JSON = self._client.json("GET", f"/images/{name}/json", query={"platform": _wire(platform)})
        return answer

    def inspect_raw(self, name: str, *, platform: str = "") -> bytes:
        return self._client.request("GET", f"/images/{name}/json", query={"platform": _wire(platform)})

    def history(self, name: str, *, platform: str = "") -> JSONs:
        answer: JSONs = self._client.json("GET", f"/images/{name}/history", query={"platform": _wire(platform)})
        return answer

    def tag(self, name: str, repository: str, tag: str) -> None:
        self._client.request("POST", f"/images/{name}/tag", query={"repo": repository, "tag": tag or None})

    def remove(self, name: str, *, force: bool = False, no_prune: bool = False, platforms: Iterable[str] = ()) -> JSONs:
        """[{"Untagged": ref} | {"Deleted": id}]"""
        query = {
            "force": True if force else None,
            "noprune": True if no_prune else None,
            "platforms": [_wire(platform) for platform in platforms] or None,
        }
        answer: JSONs = self._client.json("DELETE", f"/images/{name}", query=query)
        return answer

    def save(self, names: Iterable[str], *, platform: str = "") -> Response:
        query = {"names": list(names), "platform": _wire(platform)}
        return self._client.open("GET", "/images/get", query=query)

    def load(self, data: Iterable[bytes], *, quiet: bool, platform: str = "") -> Response:
        query = {"quiet": quiet, "platform": _wire(platform)}
        return self._client.open(
            "POST", "/images/load", query=query, body=data, headers={"Content-Type": "application/x-tar"}
        )

    def build(self, query: Mapping[str, Any], data: Iterable[bytes] | None, auths: str) -> Iterator[JSON]:
        """`query`: as POST /build takes it; `data` the context's tar; `auths` the X-Registry-Config header."""
        headers = {"Content-Type": "application/x-tar", **({"X-Registry-Config": auths} if auths else {})}
        return self._client.json_stream("POST", "/build", query=query, body=data, headers=headers)

    def prune(self, filters: Mapping[str, Iterable[str]] | None = None) -> JSON:
        answer: JSON = self._client.json("POST", "/images/prune", query={"filters": encode_filters(filters)})
        return answer

    def search(
        self, term: str, *, limit: int | None = None, filters: Mapping[str, Iterable[str]] | None = None, auth: str = ""
    ) -> JSONs:
        query = {"term": term, "limit": limit, "filters": encode_filters(filters)}
        headers = {"X-Registry-Auth": auth} if auth else None
        answer: JSONs = self._client.json("GET", "/images/search", query=query, headers=headers)
        return answer


def _wire(platform: str) -> str | None:
    """`os[/arch[/variant]]` as the API takes it, JSON; None for "". Raises: InvalidArgument."""
    if not platform:
        return None
    # Late: few commands name a platform, and all would wait for the imports.
    import json

    from rorqual.oci import platform as platforms

    return json.dumps(platforms.parse(platform).to_json())
