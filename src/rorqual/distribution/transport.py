"""HTTP to registries: which scheme answers, authentication, redirects; one request, one response, no retries.

aiohttp below, errors with Docker's texts above. It is imported with the first request: its 11 MB and 0.1 s are for who
pulls, not for a daemon that idles. Authorization goes to the registry's own origin only, never along a redirect to a
storage host. Source: distribution-spec; RFC 9110.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from rorqual.distribution import challenge as challenges
from rorqual.distribution import endpoints, errors
from rorqual.distribution.challenge import Challenge
from rorqual.distribution.credentials import Credentials
from rorqual.distribution.endpoints import Endpoint, RegistryOptions
from rorqual.distribution.errors import RegistryError, Transient
from rorqual.distribution.retry import retry_after_s
from rorqual.distribution.tokens import Answer, TokenCache
from rorqual.errdefs import Error, InvalidArgument, Unauthenticated, Unavailable
from rorqual.version import __version__

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

# Of an answer that is an error: enough for its JSON.
_ERROR_BYTES = 64 << 10
_MAX_TOKEN_ANSWER = 1 << 20
_MAX_REDIRECTS = 10
# 256 KiB is what asyncio reads of a socket at once; the buffer holds a few of them.
_READ_BUFFER = 1 << 20
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
# A registry hashes a whole blob before it answers the PUT that ends an upload.
_COMMIT_S = 300.0
# A body, made anew for each attempt.
Pieces = Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a ping found out about an endpoint."""

    base: str
    challenges: tuple[Challenge, ...]


class Transport:
    """An HTTP client for all registries of a process. `close()` it, or use `async with`.

    A session that is passed in stays the caller's (it must not decompress bodies: auto_decompress=False).
    """

    def __init__(self, options: RegistryOptions, session: aiohttp.ClientSession | None = None) -> None:
        self._options = options
        self._session = session
        self._owned = session is None
        self._origins: dict[Endpoint, _Origin] = {}
        self._contexts: dict[Endpoint, ssl.SSLContext] = {}
        self._tokens = TokenCache(self)
        self._proxies = options.proxies.over()

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._owned and self._session is not None:
            await self._session.close()
            self._session = None

    async def get(
        self, endpoint: Endpoint, path: str, *, scope: str, credentials: Credentials, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """The response (200 or 206) to GET `path` (`/v2/…`); the caller releases it. Raises: as `request`."""
        return await self.request(
            endpoint, "GET", path, scope=scope, credentials=credentials, headers=headers, accept=(200, 206)
        )

    async def request(
        self,
        endpoint: Endpoint,
        method: str,
        target: str,
        *,
        scope: str,
        credentials: Credentials,
        headers: Mapping[str, str],
        accept: Sequence[int],
        body: bytes | Pieces | None = None,
    ) -> aiohttp.ClientResponse:
        """The response, of a status in `accept`; the caller releases it.

        `target` is a path (`/v2/…`) or a whole URL that the registry gave, which gets Authorization only on the
        registry's own origin. `body` as a function is called for each attempt; its headers must tell its length, and
        its caller watches for stalls.

        Raises: RegistryError for any other status; Transient for 429, 5xx and what a broken connection may heal;
        Unavailable, Unauthenticated.
        """
        origin = await self._origin(endpoint)
        url = target if "://" in target else origin.base + endpoint.prefix + target
        own = _origin_of(url) == _origin_of(origin.base)
        if not own and endpoint.verify and not url.startswith("https:"):
            raise RegistryError("", f"{origin.base} names an unencrypted address: refused", 502)
        authorization = None
        if own:
            authorization = await self._authorization(endpoint, origin.challenges, scope, credentials, url)
        for attempt in (0, 1):
            try:
                response = await self._follow(endpoint, method, url, headers, authorization, body)
            except Unavailable:
                # It may come back speaking another scheme: ask it again.
                self._origins.pop(endpoint, None)
                raise
            if response.status != 401 or attempt or not own:
                break
            offered = tuple(challenges.parse(response.headers.getall("WWW-Authenticate", [])))
            answer = await _error_body(response)
            if not offered:
                raise errors.of_response(401, answer, [], url, method)
            refused = (authorization or "").removeprefix("Bearer ")
            fresh = await self._authorization(endpoint, offered, scope, credentials, url, refused)
            if fresh is None or fresh == authorization:
                raise errors.of_response(401, answer, list(offered), url, method)
            authorization = fresh
        if response.status in accept:
            return response
        await _raise_for(response, url, method)
        raise AssertionError("unreachable")

    async def identity_token(self, endpoint: Endpoint, credentials: Credentials) -> str:
        """What the registry's token server takes instead of the password from now on; "" when there is no such thing.

        Raises: as `request`.
        """
        secure = endpoint.verify and "https" in endpoint.schemes
        for challenge in (await self._origin(endpoint)).challenges:
            if challenge.scheme == "bearer":
                return await self._tokens.identity(challenge, credentials, secure=secure)
        return ""

    async def base(self, endpoint: Endpoint) -> str:
        """`scheme://host` that the endpoint answers on. Raises: as `request`."""
        return (await self._origin(endpoint)).base

    async def get_elsewhere(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """GET an absolute URL without authentication: a foreign layer's own address. Raises: as `get`."""
        host = urlsplit(url).netloc
        endpoint = endpoints.Endpoint(host, ("https",), verify=True, certs_name=host)
        response = await self._follow(endpoint, "GET", url, headers, None, None)
        if response.status in (200, 206):
            return response
        await _raise_for(response, url, "GET")
        raise AssertionError("unreachable")

    async def exchange(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        """For TokenCache: one request to a token server."""
        host = urlsplit(url).netloc
        insecure = endpoints.is_insecure(host, self._options.insecure)
        endpoint = endpoints.Endpoint(host, (urlsplit(url).scheme,), verify=not insecure, certs_name=host)
        response = await self._send(endpoint, method, url, headers, body)
        try:
            data = await _bounded(response, _MAX_TOKEN_ANSWER)
        finally:
            response.release()
        if response.status == 429 or response.status >= 500:
            failure = Transient(f"token server {host}: unexpected status {response.status}")
            failure.retry_after_s = retry_after_s(response.headers.get("Retry-After"))
            raise failure
        return Answer(response.status, data)

    async def _origin(self, endpoint: Endpoint) -> _Origin:
        """The endpoint's base URL and challenges, by GET /v2/ once a process."""
        known = self._origins.get(endpoint)
        if known is not None:
            return known
        failure: Error | None = None
        for scheme in endpoint.schemes:
            base = f"{scheme}://{endpoint.host}"
            try:
                response = await self._send(endpoint, "GET", f"{base}{endpoint.prefix}/v2/", {}, None)
            except (Unavailable, Transient) as error:
                failure = error
                continue
            offered: tuple[Challenge, ...] = ()
            if response.status == 401:
                offered = tuple(challenges.parse(response.headers.getall("WWW-Authenticate", [])))
            status, retry_after = response.status, response.headers.get("Retry-After")
            # Read, not dropped: an unread body costs the connection.
            await _error_body(response)
            if status == 429 or status >= 500:
                trouble = Transient(f"received unexpected HTTP status from {base}/v2/: {status}")
                trouble.retry_after_s = retry_after_s(retry_after)
                raise trouble
            self._origins[endpoint] = _Origin(base, offered)
            return self._origins[endpoint]
        raise failure or InvalidArgument(f"no way to reach {endpoint.host}")

    async def _authorization(
        self,
        endpoint: Endpoint,
        offered: tuple[Challenge, ...],
        scope: str,
        credentials: Credentials,
        url: str,
        refused: str = "",
    ) -> str | None:
        """The Authorization header that answers the first challenge we know; None when none was asked for."""
        if credentials.registry_token:
            return f"Bearer {credentials.registry_token}"
        for challenge in offered:
            if challenge.scheme == "bearer":
                wanted = challenge.parameters.get("scope") or scope
                secure = endpoint.verify and "https" in endpoint.schemes
                token = await self._tokens.get(challenge, wanted, credentials, secure=secure, refused=refused)
                return f"Bearer {token}" if token else None
            if challenge.scheme == "basic":
                if credentials.basic is None:
                    raise Unauthenticated(f'Get "{url}": no basic auth credentials')
                return credentials.basic
        return None

    async def _follow(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None,
        body: bytes | Pieces | None,
    ) -> aiohttp.ClientResponse:
        """One request; of GET and HEAD, redirects are followed, with Authorization only while on the first origin."""
        origin = _origin_of(url)
        for _ in range(_MAX_REDIRECTS + 1):
            sent = dict(headers)
            if authorization is not None and _origin_of(url) == origin:
                sent["Authorization"] = authorization
            response = await self._send(endpoint, method, url, sent, body)
            if response.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return response
            target = urljoin(url, response.headers.get("Location", ""))
            await _error_body(response)
            if urlsplit(target).scheme not in ("http", "https") or not urlsplit(target).hostname:
                raise RegistryError("", f"{url} redirects to an invalid address", 502)
            if endpoint.verify and url.startswith("https:") and not target.startswith("https:"):
                raise RegistryError("", f"{url} redirects to an unencrypted address: refused", 502)
            url = target
        raise RegistryError("", f"stopped after {_MAX_REDIRECTS} redirects from {origin}", 502)

    async def _send(
        self, endpoint: Endpoint, method: str, url: str, headers: Mapping[str, str], body: bytes | Pieces | None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            await asyncio.to_thread(importlib.import_module, "aiohttp")
        if self._session is None:  # another may have been faster
            self._session = self._new_session()
        context: ssl.SSLContext | bool = True
        if url.startswith("https:"):
            context = await self._context(endpoint, url)
        try:
            return await self._session.request(
                method,
                _verbatim(url),
                data=body() if callable(body) else body,
                headers={"Accept-Encoding": "identity", **headers},
                allow_redirects=False,
                ssl=context,
                proxy=self._proxies.choose(url),
                timeout=self._timeout(
                    None if callable(body) else _COMMIT_S if method == "PUT" else self._options.stall_s
                ),
            )
        except connection_errors(ValueError) as error:
            # Without the query, which may hold a signature or a user's name.
            raise errors.of_connection(error, method, url.partition("?")[0], endpoint.host) from error

    def _timeout(self, stall_s: float | None) -> aiohttp.ClientTimeout:
        import aiohttp  # see the module

        return aiohttp.ClientTimeout(total=None, sock_connect=self._options.connect_s, sock_read=stall_s)

    def _new_session(self) -> aiohttp.ClientSession:
        import aiohttp

        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._options.connect_s, sock_read=self._options.stall_s
        )
        return aiohttp.ClientSession(
            timeout=timeout,
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"rorqual/{__version__}"},
        )

    async def _context(self, endpoint: Endpoint, url: str) -> ssl.SSLContext:
        host = urlsplit(url).netloc
        # A storage host behind a redirect has a name, and certificates, of its own.
        key = endpoint if host == endpoint.host else endpoints.Endpoint(host, ("https",), endpoint.verify)
        context = self._contexts.get(key)
        if context is None:
            # Reads some 140 CA certificates: 20 ms.
            context = await asyncio.to_thread(endpoints.tls_context, key, self._options)
            if len(self._contexts) > 64:
                self._contexts.clear()
            self._contexts[key] = context
        return context


def connection_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What a request or a body's reader raises when the connection is at fault, and `others`."""
    import aiohttp

    return (aiohttp.ClientError, TimeoutError, OSError, *others)


def _verbatim(url: str) -> URL:
    """`url` with its percent-encoding as it is: a signed address is signed over its bytes."""
    from yarl import URL

    return URL(url, encoded=url.isascii() and url.isprintable() and " " not in url)


def _origin_of(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


async def _bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, cut off at `limit` bytes; a body that breaks off is as much as came."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in response.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size >= limit:
                response.close()
                break
    except connection_errors():
        response.close()
    return b"".join(pieces)[:limit]


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await _bounded(response, _ERROR_BYTES)
    finally:
        response.release()


async def _raise_for(response: aiohttp.ClientResponse, url: str, method: str) -> None:
    """Raises what a response other than 200 and 206 means."""
    body = await _error_body(response)
    offered = challenges.parse(response.headers.getall("WWW-Authenticate", []))
    error = errors.of_response(response.status, body, offered, url, method)
    if response.status == 429 or response.status >= 500:
        transient = Transient(str(error))
        transient.retry_after_s = retry_after_s(response.headers.get("Retry-After"))
        raise transient from error
    raise error
