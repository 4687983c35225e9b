"""`Client`: one engine, its API version, its connections; the resources hang from it.

The first request is made in this client's version; an engine that finds it too new is asked for its own with HEAD
/_ping on the same connection, so a command costs one connection. A second concurrent exchange (attach, wait, events)
gets a connection of its own.
"""

from __future__ import annotations

import os

from rorqual.client import transport
from rorqual.client.errors import ConnectionFailed, ProtocolError
from rorqual.client.http1 import Connection, Response
from rorqual.oci import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Any

    from rorqual.client.containers import Containers
    from rorqual.client.http1 import Socket
    from rorqual.client.images import Images
    from rorqual.client.networks import Networks
    from rorqual.client.swarm import Nodes, Swarm
    from rorqual.client.system import System
    from rorqual.client.volumes import Volumes

    Query = Mapping[str, object]

DEFAULT_HOST = "unix:///run/rorqual.sock"
API_VERSION = "1.51"
# An engine that sends no Api-Version header is taken for the oldest that has version negotiation.
FALLBACK_VERSION = "1.24"
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~/")


def version_tuple(version: str) -> tuple[int, ...]:
    """ "1.41" as (1, 41); anything unreadable as ()."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(p.isdecimal() for p in parts) else ()


class Client:
    """An engine. Not thread-safe; make one a thread. Use it as a context manager, or call `close`.

    `host`: unix:///path, tcp://host:port, ssh://[user@]host; None takes RORQUAL_HOST, then DOCKER_HOST, then the
    default. `version`: pin the API version ("1.43") instead of negotiating (DOCKER_API_VERSION does it too).
    Raises: InvalidArgument for a malformed host. Nothing is connected before the first request.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        tls: transport.TLSOptions | None = None,
        version: str | None = None,
        headers: Mapping[str, str] | None = None,
        user_agent: str = "rorqual-client",
    ) -> None:
        self.host = host or os.environ.get("RORQUAL_HOST") or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self.address = transport.parse_host(self.host, tls=tls is not None)
        self._dial: Callable[[], Socket] = transport.connector(self.address, tls)
        self._headers = {
            "Host": self.address.host if self.address.scheme == "tcp" else "api.rorqual.localhost",
            "User-Agent": user_agent,
            **(headers or {}),
        }
        self._idle: Connection | None = None
        pinned = version or os.environ.get("DOCKER_API_VERSION", "")
        self._version = pinned.removeprefix("v")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def dial(self) -> Socket:
        """A new connection to the engine, the caller's own. Raises: ConnectionFailed."""
        return self._dial()

    # The resources. Each module is imported when it is first used.

    @property
    def containers(self) -> Containers:
        from rorqual.client.containers import Containers

        return Containers(self)

    @property
    def images(self) -> Images:
        from rorqual.client.images import Images

        return Images(self)

    @property
    def networks(self) -> Networks:
        from rorqual.client.networks import Networks

        return Networks(self)

    @property
    def volumes(self) -> Volumes:
        from rorqual.client.volumes import Volumes

        return Volumes(self)

    @property
    def swarm(self) -> Swarm:
        from rorqual.client.swarm import Swarm

        return Swarm(self)

    @property
    def nodes(self) -> Nodes:
        from rorqual.client.swarm import Nodes

        return Nodes(self)

    @property
    def system(self) -> System:
        from rorqual.client.system import System

        return System(self)

    # Version

    @property
    def api_version(self) -> str:
        """The API version in use; negotiates when that has not happened.

        Raises: ConnectionFailed.
        """
        if not self._version:
            connection = self._take()
            self._negotiate(connection)
            self._give_back(connection)
        return self._version

    def at_least(self, version: str) -> bool:
        """Whether the API version in use is `version` or newer."""
        return version_tuple(self.api_version) >= version_tuple(version)

    def _negotiate(self, connection: Connection) -> None:
        connection.send_request("HEAD", self.address.base_path + "/_ping", self._headers)
        response = connection.read_response("HEAD")
        response.read()
        theirs = response.headers.get("api-version") or FALLBACK_VERSION
        ours_is_newer = version_tuple(theirs) < version_tuple(API_VERSION)
        self._version = theirs if ours_is_newer else API_VERSION

    # Exchanges

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request, read the whole answer.

        Raises: ResponseError for a status of 400 and more (and 304), ConnectionFailed, ProtocolError.
        """
        response = self.open(method, path, query=query, body=body, headers=headers)
        data = response.read()
        self._release(response)
        return data

    def json(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Like `request`, with a JSON body (None: no body) and the JSON answer decoded (None when empty)."""
        data = None if body is None else jsontext.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})} if data is not None else headers
        answer = self.request(method, path, query=query, body=data, headers=sent)
        if not answer.strip():
            return None
        try:
            return jsontext.loads(answer)
        except ValueError as e:
            raise ProtocolError(f"engine sent malformed JSON for {method} {path}: {e}") from e

    def open(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        checked: bool = True,
    ) -> Response:
        """Send a request, return its response with the body unread. Close it, or read it to its end.

        Raises: as `request`.
        """
        connection = self._take()
        try:
            response = self._exchange(connection, method, path, query, body, headers)
            if checked:
                self._check(response)
        except BaseException:
            if connection.reusable:
                self._give_back(connection)
            else:
                connection.close()
            raise
        return response

    def hijack(
        self, path: str, *, query: Query | None = None, body: object = None, upgrade: str = "tcp"
    ) -> tuple[Socket, bytes, str]:
        """POST and take the connection over: (socket, bytes already received, content type).

        The caller owns the socket. Raises: as `request`.
        """
        connection = self._take(fresh=True)
        headers = {"Connection": "Upgrade", "Upgrade": upgrade}
        data = None
        if body is not None:
            data = jsontext.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            response = self._exchange(connection, "POST", path, query, data, headers)
            self._check(response)
        except BaseException:
            connection.close()
            raise
        sock, rest = connection.hijack()
        return sock, rest, response.headers.get("content-type", "")

    def json_stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The objects of a stream of JSON objects (progress, events, stats), one by one as they come."""
        response = self.open(method, path, query=query, body=body, headers=headers)
        try:
            yield from decode_objects(response.chunks())
        except BaseException:
            response.close()
            raise
        self._release(response)

    def _exchange(
        self,
        connection: Connection,
        method: str,
        path: str,
        query: Query | None,
        body: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str] | None,
    ) -> Response:
        if self._version:
            return self._send(connection, self._version, method, path, query, body, headers)
        if body is None or isinstance(body, bytes):
            # Asked for in our version at once, which spares a round trip. An older engine refuses that as too new.
            response = self._send(connection, API_VERSION, method, path, query, body, headers)
            older = version_tuple(response.headers.get("api-version", "")) < version_tuple(API_VERSION)
            if response.status != 400 or not older or response.headers.get("connection", "").lower() == "close":
                self._version = API_VERSION
                return response
            response.read()
        self._negotiate(connection)
        return self._send(connection, self._version, method, path, query, body, headers)

    def _send(
        self,
        connection: Connection,
        version: str,
        method: str,
        path: str,
        query: Query | None,
        body: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str] | None,
    ) -> Response:
        target = f"{self.address.base_path}/v{version}{quote(path)}"
        if query:
            target += encode_query(query)
        sent = {**self._headers, **headers} if headers else self._headers
        try:
            connection.send_request(method, target, sent, body)
        except ConnectionFailed:
            # The engine may refuse an upload before its end; its answer says why, so look for it.
            connection.sock.settimeout(1)
            return connection.read_response(method)
        return connection.read_response(method)

    def _check(self, response: Response) -> None:
        if response.status < 400 and response.status != 304:
            return
        from rorqual.client.refusals import error_for

        data = response.read()
        message = ""
        if response.headers.get("content-type", "").startswith("application/json"):
            try:
                decoded = jsontext.loads(data)
                message = decoded.get("message", "") if isinstance(decoded, dict) else ""
            except ValueError:
                message = ""
        if not message:
            message = data.decode("utf-8", "replace").strip() or response.reason
        raise error_for(response.status, message.strip())

    def _take(self, *, fresh: bool = False) -> Connection:
        if self._idle is not None and not fresh:
            connection, self._idle = self._idle, None
            if not connection.stale():
                return connection
            connection.close()
        return Connection(self._dial())

    def _give_back(self, connection: Connection) -> None:
        if connection.reusable and self._idle is None:
            self._idle = connection
        else:
            connection.close()

    def _release(self, response: Response) -> None:
        self._give_back(response._connection)


def quote(path: str) -> str:
    """A path with everything but unreserved characters and "/" percent-encoded."""
    data = path.encode("utf-8", "surrogateescape")
    if _SAFE.issuperset(data):
        return path
    return "".join(chr(b) if b in _SAFE else f"%{b:02X}" for b in data)


def encode_query(query: Query) -> str:
    """`?a=b&c=d`: None is left out, booleans are 1 and 0, dicts JSON, lists repeat the key."""
    parts = []
    for key, value in query.items():
        if value is None:
            continue
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, bool):
                text = "1" if item else "0"
            elif isinstance(item, dict):
                text = jsontext.dumps(item)
            else:
                text = str(item)
            parts.append(f"{key}={quote(text).replace('/', '%2F')}")
    return "?" + "&".join(parts) if parts else ""


def decode_objects(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """JSON objects out of a byte stream, however it is cut; whitespace or nothing may stand between them.

    Raises: ProtocolError for what is not JSON.
    """
    pending = b""
    for piece in pieces:
        pending += piece
        # Engines end each object with a newline; a newline inside of one would be escaped or indentation.
        end = pending.rfind(b"\n")
        if end < 0 and not pending.rstrip().endswith(b"}"):
            continue
        text = pending.decode("utf-8", "replace") if end < 0 else pending[: end + 1].decode("utf-8", "replace")
        tail = b"" if end < 0 else pending[end + 1 :]
        position, size = 0, len(text)
        while position < size:
            if text[position].isspace():
                position += 1
                continue
            try:
                value, position = jsontext.scan(text, position)
            except ValueError:
                break
            yield value
        pending = text[position:].encode() + tail
    if pending.strip():
        try:
            yield jsontext.loads(pending)
        except ValueError as e:
            raise ProtocolError(f"engine sent malformed JSON: {pending[:80]!r}") from e
