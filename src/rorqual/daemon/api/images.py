"""Routes of images. Source: Engine API 1.56, Image."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import partial

from rorqual.api import codec
from rorqual.api.config import ContainerConfig
from rorqual.api.image import ImageSummary, PruneImagesResponse
from rorqual.daemon import web
from rorqual.daemon.api import http
from rorqual.daemon.api.http import Call, Lines, Route
from rorqual.daemon.api.kept import Entry, Kept
from rorqual.daemon.background import Background
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.images.attestations import Attestations
from rorqual.daemon.services.images.commit import CommitOptions, Committer
from rorqual.daemon.services.images.importer import Importer
from rorqual.daemon.services.images.load import Loader
from rorqual.daemon.services.images.save import Saver
from rorqual.daemon.services.images.search import FILTER_KEYS as SEARCH_KEYS
from rorqual.daemon.services.images.search import Search
from rorqual.daemon.services.images.service import Images
from rorqual.daemon.services.images.transfers import Transfers
from rorqual.daemon.services.images.views import FILTER_KEYS, Views
from rorqual.distribution.credentials import parse_header
from rorqual.errdefs import Error, Internal, InvalidArgument, PermissionDenied, Unauthenticated
from rorqual.oci import platform as platforms
from rorqual.oci import reference as references
from rorqual.oci.fields import Fields
from rorqual.oci.platform import Platform
from rorqual.oci.reference import Reference

_PRUNE_KEYS = frozenset({"dangling", "until", "label", "label!"})


# What older versions of the API show otherwise. Source: moby, the versions' history.
_NAMES_OF_NAMELESS, _VIRTUAL_SIZE, _MADE_FROM, _NO_DESCRIPTOR = (1, 43), (1, 44), (1, 45), (1, 48)
_COMPOSE_1 = "docker-compose/1."
# Fields of an inspected image's config that were there before, empty or not.
_CONFIG_FIELDS: dict[tuple[int, int], dict[str, object]] = {
    (1, 52): {
        "Cmd": None, "Entrypoint": None, "Env": None, "Labels": None, "OnBuild": None, "User": "", "Volumes": None,
        "WorkingDir": "",
    },
    (1, 50): {
        "AttachStderr": False, "AttachStdin": False, "AttachStdout": False, "Domainname": "", "Hostname": "",
        "Image": "", "OpenStdin": False, "StdinOnce": False, "Tty": False,
    },
}  # fmt: skip


def _as_known_to(version: tuple[int, int], summary: ImageSummary) -> ImageSummary:
    if version < _NAMES_OF_NAMELESS:
        summary = _with_placeholders(summary)
    if version < _VIRTUAL_SIZE:
        summary = replace(summary, virtual_size=summary.size)
    return replace(summary, descriptor=None) if version < _NO_DESCRIPTOR else summary


@dataclass(frozen=True, slots=True)
class ImageRoutes:
    """The services these routes call."""

    images: Images
    views: Views
    transfers: Transfers
    search_: Search
    importer: Importer
    committer: Committer
    loader: Loader
    saver: Saver
    attestations_: Attestations
    registry: Registry
    background: Background
    kept: Kept

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/images/json", self.list),
            Route("POST", "/images/create", self.create),
            Route("POST", "/images/prune", self.prune),
            Route("POST", "/commit", self.commit),
            Route("POST", "/images/load", self.load),
            Route("GET", "/images/get", self.save),
            Route("GET", "/images/{name:path}/get", self.save),
            Route("GET", "/images/{name:path}/json", self.inspect),
            Route("GET", "/images/{name:path}/history", self.history),
            Route("GET", "/images/{name:path}/attestations", self.attestations),
            Route("GET", "/images/search", self.search),
            Route("POST", "/images/{name:path}/push", self.push),
            Route("POST", "/images/{name:path}/tag", self.tag),
            Route("DELETE", "/images/{name:path}", self.remove),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /images/json."""
        filters = Filters.parse(call.text("filters"), FILTER_KEYS)
        if call.text("filter"):
            # Before API 1.41.
            filters = filters.plus("reference", call.text("filter"))
        manifests = call.version >= (1, 47) and call.flag("manifests")
        identity = call.version >= (1, 54) and call.flag("identity")
        if identity and not manifests:
            raise InvalidArgument("conflicting options: identity requires manifests=1")
        found = await self.views.summaries(
            filters,
            everything=call.flag("all"),
            shared=call.version >= (1, 42) and call.flag("shared-size"),
            manifests=manifests,
            identity=identity,
        )
        version = call.version
        shape = sum(version >= change for change in (_NAMES_OF_NAMELESS, _VIRTUAL_SIZE, _NO_DESCRIPTOR))
        return http.json_bytes(
            self.kept.array([Entry((one.id, shape), one, partial(_as_known_to, version, one)) for one in found])
        )

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /images/create: pull, or import with fromSrc."""
        lines = Lines(call)
        try:
            if call.text("fromSrc"):
                await self._import(call, lines)
            else:
                credentials = parse_header(call.request.headers.get("X-Registry-Auth"))
                reference = _pulled(call.text("fromImage"), call.text("tag"))
                if reference.familiar_name == "scratch":
                    raise PermissionDenied("'scratch' is a reserved name")
                await self.transfers.pull(reference, call.text("platform"), credentials, lines.send)
        except Unauthenticated as e:
            # As dockerd: 401 would be the API's own refusal, and the CLI would ask for a password of Docker Hub.
            return await lines.finish(Internal(str(e)))
        except Error as e:
            return await lines.finish(e)
        return await lines.finish()

    async def _import(self, call: Call, lines: Lines) -> None:
        name = _pulled(call.text("repo"), call.text("tag")) if call.text("repo") else None
        if name is not None and name.digest is not None:
            raise InvalidArgument("cannot import digest reference")
        changes = call.request.query.getall("changes")
        async with contextlib.AsyncExitStack() as stack:
            if call.text("fromSrc") == "-":
                body = aiter(call.request.content.iter_any())
            else:
                url, body = await stack.enter_async_context(self.importer.fetched(call.text("fromSrc")))
                await lines.send({"status": f"Downloading from {url}"})
            message = call.text("message") or f"Imported from {call.text('fromSrc')}"
            id = await self.importer.import_tar(body, name, changes, message, call.text("platform"))
        await lines.send({"status": id})

    async def commit(self, call: Call) -> web.StreamResponse:
        """POST /commit: an image of a container's changes."""
        config = await call.json(ContainerConfig, optional=True) if call.request.has_body else None
        name = None
        if call.text("repo"):
            name = references.parse(call.text("repo"))
            if name.digest is not None:
                raise InvalidArgument("cannot import digest reference")
            name = (name.with_tag(call.text("tag")) if call.text("tag") else name).with_default_tag()
        options = CommitOptions(
            name,
            author=call.text("author"),
            comment=call.text("comment"),
            changes=tuple(call.request.query.getall("changes")),
            pause=call.flag("pause", default=True),
            config=None if config == ContainerConfig() else config,
        )
        container = self.registry.get(call.text("container"))
        return http.json_response({"Id": await self.committer.commit(container, options)}, status=201)

    async def load(self, call: Call) -> web.StreamResponse:
        """POST /images/load: an archive of images."""
        wanted = _platforms(call, since=(1, 48))
        lines = Lines(call)
        body = aiter(call.request.content.iter_any())
        try:
            await self.loader.load(body, lines.send, quiet=call.flag("quiet", default=True), wanted=wanted)
        except Error as e:
            # As dockerd: the answer has begun by then, whatever the error.
            text = str(e)
            await lines.send({"errorDetail": {"message": text}, "error": text})
        return await lines.finish()

    async def save(self, call: Call) -> web.StreamResponse:
        """GET /images/get and /images/{name}/get: an archive of images."""
        names = [call.params["name"]] if "name" in call.params else call.request.query.getall("names")
        wanted = _platforms(call, since=(1, 48))
        chosen = await self.saver.choose([part for name in names for part in name.split(",")], wanted)
        response = await http.stream(call, "application/x-tar")
        async for piece in self.saver.archive(chosen):
            await response.write(piece)
        await response.write_eof()
        return response

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/json."""
        manifests = call.version >= (1, 48) and call.flag("manifests")
        platform = _platform(call, since=(1, 49))
        if manifests and platform is not None:
            raise InvalidArgument("conflicting options: manifests and platform options cannot both be set")
        identity = call.version >= (1, 53)
        found = await self.views.inspect(call.params["name"], platform=platform, manifests=manifests, identity=identity)
        if call.version < _VIRTUAL_SIZE:
            found = replace(found, virtual_size=found.size)
        if call.version < _NO_DESCRIPTOR:
            found = replace(found, descriptor=None)
        # docker-compose 1 asks for the newest version there is, and for the image's volumes in the field that is gone.
        # An image that was committed tells it whatever the version: docker-py, too, looks there.
        made_from = call.version < _MADE_FROM or call.request.headers.get("User-Agent", "").startswith(_COMPOSE_1)
        document = codec.to_json(found)
        for change, fields in _CONFIG_FIELDS.items():
            if call.version < change:
                document["Config"] = {**fields, **document["Config"]}
        if made_from:
            document = {"Container": "", "ContainerConfig": document["Config"], **document}
        return http.json_response(document)

    async def history(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/history."""
        return http.json_response(await self.views.history(call.params["name"], _platform(call, since=(1, 48))))

    async def attestations(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/attestations: in-toto statements of the image."""
        texts = call.request.query.getall("platform")
        if len(texts) > 1:
            raise InvalidArgument("only one platform value is currently supported")
        types = [type.strip() for type in call.request.query.getall("type") if type.strip()]
        found = await self.attestations_.of(
            call.params["name"],
            _decoded(texts[0]) if texts and texts[0] else None,
            types,
            bodies=call.flag("statement"),
        )
        return http.json_response(found)

    async def search(self, call: Call) -> web.StreamResponse:
        """GET /images/search."""
        filters = Filters.parse(call.text("filters"), SEARCH_KEYS)
        credentials = parse_header(call.request.headers.get("X-Registry-Auth"))
        found = await self.search_.search(call.text("term"), call.number("limit"), filters, credentials)
        return http.json_response(found)

    async def push(self, call: Call) -> web.StreamResponse:
        """POST /images/{name}/push."""
        reference = references.parse(call.params["name"])
        if reference.digest is not None:
            raise InvalidArgument("cannot push a digest reference")
        if call.text("tag"):
            reference = reference.with_tag(call.text("tag"))
        credentials = parse_header(call.request.headers.get("X-Registry-Auth"))
        lines = Lines(call)
        try:
            await self.transfers.push(reference, _platform(call, since=(1, 46)), credentials, lines.send)
        except Error as e:
            return await lines.finish(e)
        return await lines.finish()

    async def tag(self, call: Call) -> web.StreamResponse:
        """POST /images/{name}/tag."""
        if call.text("repo") == "sha256":
            raise InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
        work = self.images.tag(call.params["name"], call.text("repo"), call.text("tag"))
        await self.background.whole(work, "tag")
        return http.empty(201)

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /images/{name}."""
        if not call.params["name"].strip():
            raise InvalidArgument("image name cannot be blank")
        texts = call.request.query.getall("platforms") if call.version >= (1, 50) else []
        work = self.images.remove(
            call.params["name"],
            force=call.flag("force"),
            prune=not call.flag("noprune"),
            platforms=[_decoded(text) for text in texts],
        )
        return http.json_response(await self.background.whole(work, "remove image"))

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /images/prune."""
        filters = Filters.parse(call.text("filters"), _PRUNE_KEYS)
        items, freed = await self.background.whole(self.images.prune(filters), "prune images")
        return http.json_response(PruneImagesResponse(tuple(items) or None, freed))


def _platform(call: Call, since: tuple[int, int]) -> Platform | None:
    """`platform`, None when it is not given or the client speaks an API older than `since`. Raises: InvalidArgument."""
    text = call.text("platform") if call.version >= since else ""
    return _decoded(text) if text else None


def _platforms(call: Call, since: tuple[int, int]) -> list[Platform]:
    """Each `platform`; one at most before API 1.52. Raises: InvalidArgument."""
    texts = call.request.query.getall("platform") if call.version >= since else []
    if len(texts) > 1 and call.version < (1, 52):
        raise InvalidArgument(
            "multiple platform parameters are not supported in this API version; use API version 1.52 or later"
        )
    return [_decoded(text) for text in texts]


def _decoded(text: str) -> Platform:
    """A platform as the API has it: JSON of OCI's. Raises: InvalidArgument with Docker's texts."""
    platform = Platform.from_fields(Fields.load(text.encode(), "failed to parse platform", 4096))
    if not platform.os or not platform.architecture:
        if not platform.os and not platform.architecture and (platform.variant or platform.os_version):
            raise InvalidArgument("optional platform fields provided, but OS and Architecture are missing")
        raise InvalidArgument("both OS and Architecture must be provided")
    return platforms.normalize(platform)


def _pulled(name: str, tag: str) -> Reference:
    """`fromImage` with `tag`, which may be a digest. Raises: InvalidArgument."""
    if not name:
        raise InvalidArgument("invalid reference format")
    if tag and ":" in tag:
        return references.parse(name).with_digest(tag)
    return references.parse(f"{name}:{tag}" if tag else name)


def _with_placeholders(summary: ImageSummary) -> ImageSummary:
    """Before API 1.43 an image without names had names that said so."""
    if summary.repo_tags or summary.repo_digests:
        return summary
    return replace(summary, repo_tags=("<none>:<none>",), repo_digests=("<none>@<none>",))
