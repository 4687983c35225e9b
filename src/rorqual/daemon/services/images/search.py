"""GET /images/search: Docker Hub's search API, or that of another registry.

GET <index>/v1/search?q=<term>&n=<limit>    {"results": [{"name", "description", "star_count", "is_official", ..}]}

Source: Engine API ImageSearch; moby registry/search.go.
"""

from __future__ import annotations

import json
from urllib.parse import quote_plus

from rorqual.api.image import SearchResult
from rorqual.daemon.services.filters import Filters
from rorqual.distribution import endpoints
from rorqual.distribution.credentials import Credentials
from rorqual.distribution.endpoints import Endpoint, RegistryOptions
from rorqual.distribution.errors import RegistryError
from rorqual.distribution.transport import Transport
from rorqual.errdefs import InvalidArgument, Unavailable

FILTER_KEYS = frozenset({"is-automated", "is-official", "stars"})
_HUB = "index.docker.io"
_DEFAULT_LIMIT = 25
_MAX_LIMIT = 100
_MAX_ANSWER_BYTES = 4 << 20


class Search:
    """Asks registries."""

    def __init__(self, transport: Transport, options: RegistryOptions) -> None:
        self._transport = transport
        self._options = options

    async def search(
        self, term: str, limit: int | None, filters: Filters, credentials: Credentials
    ) -> list[SearchResult]:
        """Raises: InvalidArgument, Unavailable, Unauthenticated."""
        wanted = _Wanted(filters)
        count = limit or _DEFAULT_LIMIT
        if not 1 <= count <= _MAX_LIMIT:
            raise InvalidArgument(f"limit {count} is outside the range of [1, {_MAX_LIMIT}]")
        if "://" in term:
            raise InvalidArgument(f"invalid repository name: repository name ({term}) should not have a scheme")
        endpoint, query = self._endpoint(term)
        path = f"/v1/search?q={quote_plus(query)}&n={count}"
        try:
            response = await self._transport.request(
                endpoint,
                "GET",
                path,
                scope="",
                credentials=credentials,
                headers={"X-Docker-Token": "true", "Accept": "application/json"},
                accept=(200,),
            )
        except RegistryError as error:
            raise Unavailable(f"Unexpected status code {error.status}") from error
        try:
            body = await response.content.read(_MAX_ANSWER_BYTES)
            while not response.content.at_eof() and len(body) < _MAX_ANSWER_BYTES:
                body += await response.content.read(_MAX_ANSWER_BYTES - len(body))
        finally:
            response.close()
        return [found for found in _results(body) if wanted.fits(found)]

    def _endpoint(self, term: str) -> tuple[Endpoint, str]:
        """Whom to ask, and for what."""
        first, slash, rest = term.partition("/")
        named = slash and ("." in first or ":" in first or first == "localhost")
        if not named or first in ("docker.io", _HUB):
            query = rest if named else term
            return Endpoint(_HUB, ("https",), verify=True, certs_name="docker.io"), query.removeprefix("library/")
        return endpoints.for_domain(first, self._options)[-1], rest


class _Wanted:
    def __init__(self, filters: Filters) -> None:
        self._official = filters.flag("is-official", False) if "is-official" in filters else None
        self._automated = filters.flag("is-automated", False) if "is-automated" in filters else None
        self._stars = 0
        for value in filters.get("stars"):
            if not value.isdecimal():
                raise InvalidArgument(f"invalid filter 'stars={value}'")
            self._stars = max(self._stars, int(value))

    def fits(self, found: SearchResult) -> bool:
        return (
            (self._official is None or found.is_official == self._official)
            and (self._automated is None or found.is_automated == self._automated)
            and found.star_count >= self._stars
        )


def _results(body: bytes) -> list[SearchResult]:
    try:
        document = json.loads(body)
        return [
            SearchResult(
                star_count=int(entry.get("star_count") or 0),
                is_official=bool(entry.get("is_official")),
                name=str(entry["name"]),
                is_automated=bool(entry.get("is_automated")),
                description=str(entry.get("description") or ""),
            )
            for entry in document["results"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unavailable("the registry's answer to the search cannot be read") from error
