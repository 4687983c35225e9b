"""Manifests, tags, referrers, and the catalog."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from rorqual.distribution.serve.answers import Refused, digest_of, page
from rorqual.distribution.serve.store import NewManifest, Store
from rorqual.errdefs import InvalidArgument
from rorqual.oci import digest as digests
from rorqual.oci import manifest as manifests
from rorqual.oci import mediatypes
from rorqual.oci.digest import Digest
from rorqual.oci.reference import check_tag

_REFERRERS_MAX_BYTES = 4 << 20


class Manifests:
    """The handlers; `name` is the repository, `reference` a tag or a digest."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, request: web.Request, name: str, reference: str) -> web.StreamResponse:
        found = await self._store.manifest(name, self._reference(reference))
        raw = await self._store.raw(found.digest) if found is not None else None
        if found is None or raw is None:
            raise Refused("MANIFEST_UNKNOWN", f"manifest unknown: {reference}")
        headers = {
            "Content-Type": found.media_type,
            "Docker-Content-Digest": found.digest,
            "ETag": f'"{found.digest}"',
        }
        if request.headers.get("If-None-Match", "").strip() == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=raw, headers=headers)

    async def put(self, request: web.Request, name: str, reference: str) -> web.StreamResponse:
        raw = await self._body(request)
        by_digest = ":" in reference
        algorithm = digest_of(reference).partition(":")[0] if by_digest else "sha256"
        try:
            parsed = manifests.parse(raw, request.headers.get("Content-Type", ""), algorithm)
        except InvalidArgument as e:
            raise Refused("MANIFEST_INVALID", str(e)) from e
        if by_digest and parsed.digest != reference:
            raise Refused("DIGEST_INVALID", "provided digest did not match uploaded content")
        needs = await self._needs(name, parsed)
        subject = _subject(raw)
        tag = "" if by_digest else self._tag(reference)
        await self._store.put_manifest(name, tag, NewManifest(parsed.descriptor, raw, needs, subject))
        headers = {"Location": f"/v2/{name}/manifests/{parsed.digest}", "Docker-Content-Digest": parsed.digest}
        if subject:
            headers["OCI-Subject"] = subject
        return web.Response(status=201, headers=headers)

    async def delete(self, request: web.Request, name: str, reference: str) -> web.StreamResponse:
        if ":" in reference:
            found = await self._store.delete_manifest(name, digest_of(reference))
        else:
            found = await self._store.delete_tag(name, self._tag(reference))
        if not found:
            raise Refused("MANIFEST_UNKNOWN", f"manifest unknown: {reference}")
        return web.Response(status=202)

    async def tags(self, request: web.Request, name: str) -> web.StreamResponse:
        tags = await self._store.tags(name)
        if tags is None:
            raise Refused("NAME_UNKNOWN", "repository name not known to registry")
        shown, headers = page(sorted(tags), request)
        return web.json_response({"name": name, "tags": shown}, headers=headers)

    async def catalog(self, request: web.Request) -> web.StreamResponse:
        shown, headers = page(sorted(await self._store.repositories()), request)
        return web.json_response({"repositories": shown}, headers=headers)

    async def referrers(self, request: web.Request, name: str, digest: str) -> web.StreamResponse:
        wanted = request.query.get("artifactType", "")
        entries: list[dict[str, Any]] = []
        size = 0
        for found in await self._store.referrers(name, digest_of(digest)):
            raw = await self._store.raw(found.digest)
            if raw is None:
                continue  # deleted meanwhile
            document = json.loads(raw)
            kind = document.get("artifactType") or (document.get("config") or {}).get("mediaType") or ""
            if wanted and kind != wanted:
                continue
            entry = {"mediaType": found.media_type, "digest": found.digest, "size": found.size}
            entry |= {"artifactType": kind} if kind else {}
            entry |= {"annotations": document["annotations"]} if document.get("annotations") else {}
            size += len(json.dumps(entry))
            if size > _REFERRERS_MAX_BYTES:
                break  # as much as clients take of an index
            entries.append(entry)
        index = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": entries}
        headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        headers["Content-Type"] = mediatypes.OCI_INDEX
        return web.Response(body=json.dumps(index).encode(), headers=headers)

    async def _body(self, request: web.Request) -> bytes:
        raw = bytearray()
        async for data in request.content.iter_any():
            raw += data
            if len(raw) > manifests.MAX_MANIFEST_BYTES:
                raise Refused("MANIFEST_INVALID", f"more than {manifests.MAX_MANIFEST_BYTES} bytes", 413)
        return bytes(raw)

    async def _needs(self, name: str, parsed: manifests.Manifest | manifests.Index) -> dict[str, Digest]:
        """What it refers to, all of it there. Raises: Refused."""
        if isinstance(parsed, manifests.Index):
            needs = {f"m.{number}": entry.digest for number, entry in enumerate(parsed.manifests)}
            for digest in needs.values():
                if await self._store.manifest(name, digest_of(digest)) is None:
                    raise Refused("MANIFEST_BLOB_UNKNOWN", f"manifest {digest} is not in the repository")
            return needs
        # layers with URLs are elsewhere
        here = [layer for layer in parsed.layers if not layer.urls]
        needs = {"config": parsed.config.digest} | {f"l.{n}": layer.digest for n, layer in enumerate(here)}
        for digest in needs.values():
            if await self._store.blob(name, digest_of(digest)) is None:
                raise Refused("MANIFEST_BLOB_UNKNOWN", f"blob {digest} is not in the repository")
        return needs

    @staticmethod
    def _reference(text: str) -> str:
        return digest_of(text) if ":" in text else Manifests._tag(text)

    @staticmethod
    def _tag(text: str) -> str:
        try:
            return check_tag(text)
        except InvalidArgument as e:
            raise Refused("MANIFEST_INVALID", str(e)) from e


def _subject(raw: bytes) -> str:
    """The digest of the document's subject. Raises: Refused."""
    subject = json.loads(raw).get("subject")
    if subject is None:
        return ""
    if not isinstance(subject, dict) or not isinstance(subject.get("digest"), str):
        raise Refused("MANIFEST_INVALID", "subject is not a descriptor")
    try:
        return digests.parse(subject["digest"])
    except InvalidArgument as e:
        raise Refused("MANIFEST_INVALID", f"subject: {e}") from e
