"""The HTTP server's core: routes, API versions, errors, bodies. Knows no resource.

Routes are matched by method, then by pattern; `{name}` is one path segment, `{name:path}` may hold slashes.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

from rorqual import browsers, errdefs
from rorqual.api import codec
from rorqual.api.system import ErrorResponse
from rorqual.daemon import web
from rorqual.daemon.web.head import Malformed
from rorqual.version import API_VERSION, MIN_API_VERSION, __version__

log = logging.getLogger(__name__)

T = TypeVar("T")

BODY_MAX = 16 << 20  # bytes of a JSON body; dockerd has no bound, a config of a container is some KiB

_STATUS: dict[type[errdefs.Error], int] = {
    errdefs.InvalidArgument: 400,
    errdefs.Unauthenticated: 401,
    errdefs.PermissionDenied: 403,
    errdefs.NotFound: 404,
    errdefs.Conflict: 409,
    errdefs.AlreadyExists: 409,
    errdefs.NotModified: 304,
    errdefs.NotImplementedHere: 501,
    errdefs.Unavailable: 503,
    errdefs.DeadlineExceeded: 504,
}
_VERSIONED = re.compile(r"^/v(\d{1,4})\.(\d{1,4})(/.*)\Z")


@dataclass(frozen=True, slots=True)
class Call:
    """A request as a handler sees it."""

    request: web.Request
    version: tuple[int, int]
    params: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """A query parameter."""
        return self.query.get(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """As Docker reads booleans: "", 0, no, false and none are false, everything else is true."""
        if name not in self.query:
            return default
        return self.query[name].strip().lower() not in ("", "0", "no", "false", "none")

    def number(self, name: str) -> int | None:
        """A number, None when not given. Raises: InvalidArgument."""
        value = self.query.get(name, "")
        if not value:
            return None
        try:
            return int(value)
        except ValueError:
            raise errdefs.InvalidArgument(f'strconv.Atoi: parsing "{value}": invalid syntax') from None

    async def body(self) -> bytes:
        """The whole body. Raises: InvalidArgument when it is too large."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.request.content.iter_any():
            size += len(chunk)
            if size > BODY_MAX:
                raise errdefs.InvalidArgument("http: request body too large")
            parts.append(chunk)
        return b"".join(parts)

    async def json(self, cls: type[T], *, optional: bool = False) -> T:
        """The body as a wire type. Raises: InvalidArgument with Docker's texts."""
        raw = await self.body()
        if optional and raw.strip() in (b"", b"null"):  # `docker commit` up to 20.10 says null
            return codec.from_json(cls, {})
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if raw and kind != "application/json" and not (kind == "" and self.version < (1, 42)):
            raise errdefs.InvalidArgument(f"unsupported Content-Type header ({kind}): must be 'application/json'")
        return codec.from_bytes(cls, raw)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method, a pattern and what answers."""

    method: str
    pattern: str
    handler: Handler


def _compile(pattern: str) -> re.Pattern[str]:
    def part(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>.+)" if match[2] else f"(?P<{match[1]}>[^/]+)"

    return re.compile("^" + re.sub(r"\{(\w+)(:path)?\}", part, pattern) + r"\Z")


class Router:
    """All routes. Literal paths are found in a dict, the others by trying the patterns of their first segment."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[tuple[str, str], Handler] = {}
        self._patterns: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}
        for route in routes:
            if "{" not in route.pattern:
                self._exact[(route.method, route.pattern)] = route.handler
                continue
            first = route.pattern.split("/", 2)[1]
            self._patterns.setdefault((route.method, first), []).append((_compile(route.pattern), route.handler))

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        """The handler and what the pattern's names stand for."""
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact, {}
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        for pattern, handler in self._patterns.get((method, first), ()):
            match = pattern.match(path)
            if match is not None:
                return handler, {name: unquote(value) for name, value in match.groupdict().items()}
        return None


_HEADERS = {
    "Api-Version": API_VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Rorqual/{__version__} (linux)",
}


class Front:
    """What every request goes through. `handle` is the server's handler."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._router = Router(routes)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The answer; errors become {"message": …} with Docker's status."""
        try:
            return await self._dispatch(request)
        except errdefs.Error as e:
            return error_response(e)
        except Malformed as e:
            return _json_error(e.status, str(e))
        except ConnectionError:
            raise
        except OSError as e:
            log.warning("%s %s: %s", request.method, request.raw_path, e)
            return _json_error(500, f"{e.filename or 'write'}: {(e.strerror or str(e)).lower()}")
        except Exception as e:
            log.exception("%s %s", request.method, request.raw_path)
            return _json_error(500, f"{type(e).__name__}: {e}")

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        _refuse_pages(request)
        path = request.raw_path
        version = _parse_version(API_VERSION)
        match = _VERSIONED.match(path)
        if match is not None:
            version = int(match[1]), int(match[2])
            path = match[3]
            _check_version(version)
        found = self._router.find(request.method, path)
        if found is None:
            raise errdefs.NotFound("page not found")
        handler, params = found
        return await handler(Call(request, version, params, request.query))


def _refuse_pages(request: web.Request) -> None:
    """Raises: PermissionDenied for what a web page made a browser send (rorqual.browsers)."""
    transport = request.connection.transport
    if transport is None:
        return
    tls = transport.get_extra_info("ssl_object") is not None
    reason = browsers.refusal(request.headers, transport.get_extra_info("sockname"), tls=tls)
    if reason:
        raise errdefs.PermissionDenied(reason)


def _parse_version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _check_version(version: tuple[int, int]) -> None:
    text = f"{version[0]}.{version[1]}"
    if version < _parse_version(MIN_API_VERSION):
        raise errdefs.InvalidArgument(
            f"client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade "
            "your client to a newer version"
        )
    if version > _parse_version(API_VERSION):
        raise errdefs.InvalidArgument(
            f"client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )


def status_of(error: errdefs.Error) -> int:
    """The HTTP status of an error."""
    for cls in type(error).__mro__:
        if cls in _STATUS:
            return _STATUS[cls]
    return 500


def error_response(error: errdefs.Error) -> web.Response:
    """{"message": …}; 304 has no body."""
    status = status_of(error)
    if status == 304:
        return web.Response(status=304, headers=_HEADERS)
    if status >= 500:
        log.warning("%s", error)
    return _json_error(status, str(error))


def _json_error(status: int, message: str) -> web.Response:
    return web.Response(
        status=status,
        body=codec.to_bytes(ErrorResponse(message)) + b"\n",
        headers=_HEADERS,
        content_type="application/json",
    )


def json_response(value: Any, status: int = 200) -> web.Response:
    """A wire type, or a plain structure of them, as JSON."""
    return web.Response(
        status=status, body=codec.to_bytes(value) + b"\n", headers=_HEADERS, content_type="application/json"
    )


def json_bytes(body: bytes) -> web.Response:
    """JSON that is encoded already."""
    return web.Response(body=body, headers=_HEADERS, content_type="application/json")


def empty(status: int = 204) -> web.Response:
    """No body."""
    return web.Response(status=status, headers=_HEADERS)


def plain(text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Text, as /_ping answers."""
    return web.Response(
        body=text.encode(), headers={**_HEADERS, **(headers or {})}, content_type="text/plain; charset=utf-8"
    )


async def stream(
    call: Call, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """A chunked answer whose headers are sent now."""
    response = web.StreamResponse(status=status, headers={**_HEADERS, **(headers or {}), "Content-Type": content_type})
    await response.prepare(call.request)
    return response


class Lines:
    """A stream of JSON lines that begins with the first line: an error before it has a status of its own."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._response: web.StreamResponse | None = None

    async def send(self, line: Mapping[str, object]) -> None:
        """One line."""
        if self._response is None:
            self._response = await stream(self._call, "application/json")
        await self._response.write(json.dumps(line, separators=(",", ":")).encode() + b"\r\n")

    async def finish(self, error: errdefs.Error | None = None) -> web.StreamResponse:
        """End the stream; an error after lines were sent is one more line. Raises: the error otherwise."""
        if self._response is None:
            if error is not None:
                raise error
            return await stream(self._call, "application/json")
        if error is not None:
            text = str(error)
            await self.send({"errorDetail": {"message": text}, "error": text})
        await self._response.write_eof()
        return self._response
