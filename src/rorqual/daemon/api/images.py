"""Routes of images. Source: Engine API 1.56, Image."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rorqual.api import codec
from rorqual.api.config import ContainerConfig
from rorqual.api.image import ImageSummary, PruneImagesResponse
from rorqual.daemon import web
from rorqual.daemon.api import http
from rorqual.daemon.api.http import Call, Lines, Route
from rorqual.daemon.background import Background
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.filters import Filters
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
from rorqual.errdefs import Error, Internal, InvalidArgument, NotImplementedHere, Unauthenticated
from rorqual.oci import reference as references
from rorqual.oci.fields import Fields
from rorqual.oci.reference import Reference

_PRUNE_KEYS = frozenset({"dangling", "until", "label", "label!"})


class Encoded:
    """JSON of summaries that are asked for again and again: kept as long as the object is the same."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ImageSummary, bytes]] = {}

    def list_of(self, summaries: Sequence[ImageSummary]) -> bytes:
        """The JSON array."""
        if len(self._known) > 2 * len(summaries) + 64:
            self._known.clear()
        return b"[" + b",".join(map(self._one, summaries)) + b"]\n"

    def _one(self, summary: ImageSummary) -> bytes:
        known = self._known.get(summary.id)
        if known is not None and known[0] is summary:
            return known[1]
        encoded = codec.to_bytes(summary)
        self._known[summary.id] = (summary, encoded)
        return encoded


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
    registry: Registry
    background: Background
    encoded: Encoded

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
        found = await self.views.summaries(
            filters,
            everything=call.flag("all"),
            shared=call.flag("shared-size"),
            manifests=call.flag("manifests"),
        )
        if call.version < (1, 43):
            found = [_with_placeholders(summary) for summary in found]
        return http.json_bytes(self.encoded.list_of(found))

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /images/create: pull, or import with fromSrc."""
        lines = Lines(call)
        try:
            if call.text("fromSrc"):
                await self._import(call, lines)
            else:
                credentials = parse_header(call.request.headers.get("X-Registry-Auth"))
                reference = _pulled(call.text("fromImage"), call.text("tag"))
                await self.transfers.pull(reference, _platform(call), credentials, lines.send)
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
            id = await self.importer.import_tar(body, name, changes, call.text("message"), _platform(call))
        await lines.send({"status": id})

    async def commit(self, call: Call) -> web.StreamResponse:
        """POST /commit: an image of a container's changes."""
        config = await call.json(ContainerConfig) if call.request.has_body else None
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
        lines = Lines(call)
        body = aiter(call.request.content.iter_any())
        try:
            await self.loader.load(body, lines.send, quiet=call.flag("quiet"), platform=_platform(call))
        except Error as e:
            # As dockerd: the answer has begun by then, whatever the error.
            text = str(e)
            await lines.send({"errorDetail": {"message": text}, "error": text})
        return await lines.finish()

    async def save(self, call: Call) -> web.StreamResponse:
        """GET /images/get and /images/{name}/get: an archive of images."""
        names = [call.params["name"]] if "name" in call.params else call.request.query.getall("names")
        chosen = await self.saver.choose([part for name in names for part in name.split(",")], _platform(call))
        response = await http.stream(call, "application/x-tar")
        async for piece in self.saver.archive(chosen):
            await response.write(piece)
        await response.write_eof()
        return response

    async def inspect(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/json."""
        name, manifests = call.params["name"], call.flag("manifests")
        return http.json_response(await self.views.inspect(name, platform=_platform(call), manifests=manifests))

    async def history(self, call: Call) -> web.StreamResponse:
        """GET /images/{name}/history."""
        return http.json_response(await self.views.history(call.params["name"], _platform(call)))

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
            await self.transfers.push(reference, _platform(call), credentials, lines.send)
        except Error as e:
            return await lines.finish(e)
        return await lines.finish()

    async def tag(self, call: Call) -> web.StreamResponse:
        """POST /images/{name}/tag."""
        work = self.images.tag(call.params["name"], call.text("repo"), call.text("tag"))
        await self.background.whole(work, "tag")
        return http.empty(201)

    async def remove(self, call: Call) -> web.StreamResponse:
        """DELETE /images/{name}."""
        if call.text("platforms"):
            # Taken for the whole image otherwise, which is not what was asked for.
            raise NotImplementedHere("removing single platforms of an image is not supported: remove the image")
        work = self.images.remove(call.params["name"], force=call.flag("force"), prune=not call.flag("noprune"))
        return http.json_response(await self.background.whole(work, "remove image"))

    async def prune(self, call: Call) -> web.StreamResponse:
        """POST /images/prune."""
        filters = Filters.parse(call.text("filters"), _PRUNE_KEYS)
        items, freed = await self.background.whole(self.images.prune(filters), "prune images")
        return http.json_response(PruneImagesResponse(tuple(items) or None, freed))


def _platform(call: Call) -> str:
    """`platform` as the API has it: JSON of an OCI platform, or text. Raises: InvalidArgument."""
    text = call.text("platform")
    if not text.startswith("{"):
        return text
    fields = Fields.load(text.encode(), "platform", 4096)
    parts = (fields.text("os"), fields.text("architecture"), fields.text("variant"))
    return "/".join(part for part in parts if part)


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
