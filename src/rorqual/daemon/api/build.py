"""Routes of builds. Source: Engine API 1.56, ImageBuild."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from rorqual.api import codec
from rorqual.api.config import HostConfig, Ulimit
from rorqual.api.system import PruneBuildCacheResponse
from rorqual.daemon import web
from rorqual.daemon.api.http import Call, Lines, Route, json_response
from rorqual.daemon.services import clock
from rorqual.daemon.services.build import context
from rorqual.daemon.services.build.builder import Builder
from rorqual.daemon.services.build.caches import Caches, selected
from rorqual.daemon.services.build.fetching import Fetcher
from rorqual.daemon.services.build.options import BuildOptions
from rorqual.daemon.services.build.stage import CommandFailed
from rorqual.daemon.services.build.telling import Classic
from rorqual.daemon.services.buildkit.direct import Direct
from rorqual.daemon.services.buildkit.exporting import Export
from rorqual.daemon.services.buildkit.sources import UPLOAD
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.pieces import nothing
from rorqual.distribution.credentials import ANONYMOUS, Credentials, parse_header
from rorqual.errdefs import Error, InvalidArgument, NotImplementedHere, ResourceExhausted
from rorqual.oci import platform as platforms
from rorqual.oci import reference as references
from rorqual.oci.reference import Reference

_DOCKERFILE_MAX = 4 << 20
_REGISTRY_CONFIG_MAX = 1 << 20
_RECORD_KEYS = frozenset(("id", "type", "description", "shared", "private", "inuse", "parent"))
_PRUNE_KEYS = _RECORD_KEYS | {
    "until",
    "unused-for",
    "label",
    "label!",
}  # `system prune` passes labels on, of no use here
_DOCKER_HUB = ("index.docker.io", "docker.io")
_GIT = ("git://", "git@", "github.com/")


@dataclass(frozen=True, slots=True)
class BuildRoutes:
    """The services these routes call. `scratch`: a directory of the daemon's own."""

    builder: Builder
    fetcher: Fetcher
    direct: Direct
    caches: Caches
    scratch: str

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("POST", "/build", self.build),
            Route("POST", "/build/cancel", self.cancel),
            Route("POST", "/build/prune", self.prune),
        ]

    async def build(self, call: Call) -> web.StreamResponse:
        """POST /build: a tar of files, or `remote`, becomes an image."""
        if call.text("version") == "2":
            return await self._with_session(call)
        options = _options(call)
        lines = Lines(call)
        said: list[Mapping[str, Any]] = []

        async def line(message: Mapping[str, Any]) -> None:
            if not options.quiet:
                await lines.send(message)
            elif "stream" in message:
                said.append(message)  # told when something goes wrong

        try:
            async with AsyncExitStack() as stack:
                body, text = await self._body(call, stack)
                files = await stack.enter_async_context(context.received(body, self.scratch, options.dockerfile, text))
                id = await self.builder.build(files, options, Classic(line))
            if options.quiet:
                await lines.send({"stream": f"{id}\n"})
        except CommandFailed as e:
            for message in said:
                await lines.send(message)
            await lines.send({"errorDetail": {"code": e.code, "message": str(e)}, "error": str(e)})
        except Error as e:
            return await lines.finish(e)
        return await lines.finish()

    async def _with_session(self, call: Call) -> web.StreamResponse:
        """As BuildKit's clients ask for it, their files in a session, or in a request of their own."""
        name = call.text("buildid")
        if name.startswith(f"{UPLOAD}:"):
            await self.direct.upload(name.removeprefix(f"{UPLOAD}:"), aiter(call.request.content.iter_any()))
            return web.Response()
        await call.body()
        if not call.text("session"):
            raise InvalidArgument("a build with BuildKit (version=2) needs a session")
        lines = Lines(call)
        try:
            await self.direct.build(name, call.text("session"), _attributes(call), _exports(call), lines.send)
        except Error as e:
            return await lines.finish(e)
        return await lines.finish()

    async def cancel(self, call: Call) -> web.StreamResponse:
        """POST /build/cancel"""
        await call.body()
        self.direct.cancel(call.text("id"))
        return web.Response()

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /build/prune: directories of cache mounts. What else is kept are images, which image prune removes."""
        filters = Filters.parse(call.text("filters"), _PRUNE_KEYS)
        until = [clock.parse_when(value) for value in (*filters.get("until"), *filters.get("unused-for"))]
        keep = call.number("reserved-space") or call.number("keep-storage") or 0
        removed = await self.caches.prune(
            keep_bytes=keep, unused_since_ns=min(until, default=None), wanted=selected(_selecting(filters))
        )
        names = tuple(record.id for record in removed)
        return json_response(PruneBuildCacheResponse(names or None, sum(record.size for record in removed)))

    async def _body(self, call: Call, stack: AsyncExitStack) -> tuple[AsyncIterator[bytes], bytes | None]:
        """The context's tar, or the text of a Dockerfile that is all there is."""
        remote = call.text("remote")
        if not remote or remote == "client-session":
            return aiter(call.request.content.iter_any()), None
        if remote.startswith(_GIT) or remote.partition("#")[0].endswith(".git"):
            raise NotImplementedHere("a git repository as context is not offered: clone it and send its files")
        if not remote.startswith(("http://", "https://")):
            raise InvalidArgument(f"remote URL {remote} is neither an HTTP(S) URL nor a git repository")
        response = await stack.enter_async_context(self.fetcher.response(remote))
        if not response.kind.startswith("text/"):
            return response.pieces, None
        text = b""
        async for piece in response.pieces:
            text += piece
            if len(text) > _DOCKERFILE_MAX:
                raise ResourceExhausted(f"{remote}: a Dockerfile of more than {_DOCKERFILE_MAX} bytes")
        return nothing(), text


def _options(call: Call) -> BuildOptions:
    """Raises: InvalidArgument."""
    if call.flag("squash"):
        raise InvalidArgument("squash is only supported with experimental mode")
    kind = call.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind not in ("", "application/x-tar", "application/octet-stream", "application/tar", "text/plain"):
        raise InvalidArgument(f"Content-Type {kind} is not supported: must be 'application/x-tar'")
    platform = call.text("platform")
    return BuildOptions(
        dockerfile=call.text("dockerfile") or "Dockerfile",
        tags=tuple(_tag(text) for text in call.request.query.getall("t")),
        target=call.text("target"),
        arguments=_map(call, "buildargs", type(None)),
        labels=_map(call, "labels"),
        host=_host(call),
        platform=platforms.normalize(platforms.parse(platform)) if platform else None,
        cache=not call.flag("nocache"),
        cache_from=_texts(call, "cachefrom"),
        pull=call.flag("pull"),
        quiet=call.flag("q"),
        remove=call.flag("rm", default=True),
        force_remove=call.flag("forcerm"),
        credentials=_lookup(_credentials(call.request.headers.get("X-Registry-Config", ""))),
    )


def _attributes(call: Call) -> dict[str, str]:
    """The frontend's attributes of a request. Source: moby's builder-next. Raises: InvalidArgument."""
    remote = call.text("remote")
    found = {
        "filename": call.text("dockerfile"),
        "target": call.text("target"),
        "platform": call.text("platform"),
        "context": "" if remote == "client-session" else remote,
        "force-network-mode": call.text("networkmode") if call.text("networkmode") != "default" else "",
        "add-hosts": ",".join(line.replace(":", "=", 1) for line in _host(call).extra_hosts or ()),
        "shm-size": call.text("shmsize"),
        "cgroup-parent": call.text("cgroupparent"),
        "ulimit": ",".join(f"{one.name}={one.soft}:{one.hard}" for one in _host(call).ulimits or ()),
    }
    if call.flag("nocache"):
        found["no-cache"] = ""
    if call.flag("pull"):
        found["image-resolve-mode"] = "pull"
    found |= {
        f"build-arg:{name}": value for name, value in _map(call, "buildargs", type(None)).items() if value is not None
    }
    return found | {f"label:{name}": value for name, value in _map(call, "labels").items()}


def _exports(call: Call) -> list[Export]:
    """The client's `outputs`; without any, the image stays here. Raises: InvalidArgument."""
    found: list[Export] = []
    for one in _json(call, "outputs") or []:
        if not isinstance(one, dict) or not isinstance(one.get("Type"), str):
            raise InvalidArgument("error reading outputs: not a list of exports")
        found.append((one["Type"], one.get("Attrs") or {}))
    names = ",".join(str(_tag(text)) for text in call.request.query.getall("t"))
    return found or [("moby", {"name": names})]


def _json(call: Call, name: str) -> Any:
    """A query parameter that is JSON, None when it is not given. Raises: InvalidArgument."""
    try:
        return json.loads(call.text(name) or "null")
    except (ValueError, RecursionError) as e:
        raise InvalidArgument(f"error reading {name}: {e}") from e


def _texts(call: Call, name: str) -> tuple[str, ...]:
    value = _json(call, name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidArgument(f"error reading {name}: not a JSON list of texts")
    return tuple(value)


def _map(call: Call, name: str, nothing: type | None = None) -> dict[str, Any]:
    """Texts by name; with `nothing` None may stand for a text."""
    value = _json(call, name) or {}
    allowed = (str,) if nothing is None else (str, nothing)
    if not isinstance(value, dict) or not all(isinstance(item, allowed) for item in value.values()):
        raise InvalidArgument(f"error reading {name}: not a JSON object of texts")
    return value


def _tag(text: str) -> Reference:
    try:
        reference = references.parse(text)
    except InvalidArgument as e:
        raise InvalidArgument(f"invalid tag {json.dumps(text)}: {e}") from e
    if reference.digest is not None:
        raise InvalidArgument("build tag cannot contain a digest")
    return reference.with_default_tag()


def _host(call: Call) -> HostConfig:
    ulimits = call.text("ulimits")
    extra = [line for text in call.request.query.getall("extrahosts") for line in text.split(",") if line]
    try:
        limits = codec.from_json(tuple[Ulimit, ...], json.loads(ulimits)) if ulimits not in ("", "null") else None
    except ValueError as e:
        raise InvalidArgument(f"error reading ulimits: {e}") from e
    return HostConfig(
        memory=call.number("memory") or 0,
        memory_swap=call.number("memswap") or 0,
        cpu_shares=call.number("cpushares") or 0,
        cpu_period=call.number("cpuperiod") or 0,
        cpu_quota=call.number("cpuquota") or 0,
        cpuset_cpus=call.text("cpusetcpus"),
        cpuset_mems=call.text("cpusetmems"),
        shm_size=call.number("shmsize") or 0,
        cgroup_parent=call.text("cgroupparent"),
        network_mode=call.text("networkmode") or "default",
        extra_hosts=tuple(extra) or None,
        security_opt=_texts(call, "securityopt") or None,
        isolation=call.text("isolation"),
        ulimits=limits,
    )


def _selecting(filters: Filters) -> list[str]:
    """The filters that are of records, in BuildKit's words. Source: moby's builder-next. Raises: InvalidArgument."""
    found: list[str] = []
    for key in sorted(_RECORD_KEYS):
        values = filters.get(key)
        if len(values) > 1:
            raise InvalidArgument(f"filter {key} takes one value")
        found += [f"{key}{'~=' if key == 'id' else '=='}{value}" for value in values]
    return [",".join(found)] if found else []


def _lookup(known: Mapping[str, Credentials]) -> Callable[[str], Awaitable[Credentials]]:
    async def find(domain: str) -> Credentials:
        return known.get(domain, ANONYMOUS)

    return find


def _credentials(header: str) -> dict[str, Credentials]:
    """Of X-Registry-Config: base64 of JSON, {registry: credentials}. Raises: InvalidArgument."""
    if not header:
        return {}
    if len(header) > _REGISTRY_CONFIG_MAX:
        raise InvalidArgument("invalid X-Registry-Config header: too long")
    text = header.strip().rstrip("=").replace("+", "-").replace("/", "_")
    try:
        document = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True) or b"{}")
    except (binascii.Error, ValueError, RecursionError) as e:
        raise InvalidArgument("invalid X-Registry-Config header: must be base64url-encoded JSON") from e
    if not isinstance(document, dict):
        raise InvalidArgument("invalid X-Registry-Config header: not an object")
    found: dict[str, Credentials] = {}
    for name, value in document.items():
        domain = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
        encoded = base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
        found["docker.io" if domain in _DOCKER_HUB else domain] = parse_header(encoded)
    return found
