"""Blobs and uploads. Every byte is streamed: the largest piece in memory is 1 MiB.

POST  …/blobs/uploads/                    202, or 201 with ?digest= and the bytes, or with ?mount=&from=
PATCH …/blobs/uploads/<id>                202: more bytes; Content-Range must continue what is there
PUT   …/blobs/uploads/<id>?digest=        201: the last bytes, checked
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from aiohttp import web

from rorqual.distribution.serve.answers import Refused, digest_of
from rorqual.distribution.serve.store import Blob, Store, Upload
from rorqual.errdefs import DataLoss, Unavailable
from rorqual.oci.digest import Digest

_PIECE_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d{1,18})-(\d{1,18})(?:/.*)?")


class Blobs:
    """The handlers; `name` is the repository."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, request: web.Request, name: str, digest: str) -> web.StreamResponse:
        """The bytes, or those of one range. FileResponse does ranges, conditions and HEAD."""
        blob = await self._find(name, digest_of(digest))
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": blob.digest,
            "Accept-Ranges": "bytes",
            "Cache-Control": "max-age=31536000",
        }
        return web.FileResponse(blob.path, chunk_size=256 << 10, headers=headers)

    async def delete(self, request: web.Request, name: str, digest: str) -> web.StreamResponse:
        if not await self._store.delete_blob(name, digest_of(digest)):
            raise Refused("BLOB_UNKNOWN", "blob unknown to registry")
        return web.Response(status=202)

    async def begin(self, request: web.Request, name: str) -> web.StreamResponse:
        query = request.query
        if "mount" in query:
            digest = digest_of(query["mount"])
            if await self._store.mount(name, query.get("from", ""), digest):
                return self._created(name, digest)
        elif "digest" in query:
            digest = digest_of(query["digest"])
            upload = await self._store.begin(name)
            return await self._finish(request, name, upload, digest)
        upload = await self._store.begin(name)
        await upload.pause()
        return web.Response(status=202, headers=self._where(name, upload.id, 0))

    async def status(self, request: web.Request, name: str, id: str) -> web.StreamResponse:
        offset = await self._store.upload_offset(name, id)
        if offset is None:
            raise Refused("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        return web.Response(status=204, headers=self._where(name, id, offset))

    async def patch(self, request: web.Request, name: str, id: str) -> web.StreamResponse:
        upload = await self._open(name, id)
        try:
            self._check_range(request, name, upload)
            await self._receive(request, upload)
        finally:
            await upload.pause()
        return web.Response(status=202, headers=self._where(name, id, upload.offset))

    async def put(self, request: web.Request, name: str, id: str) -> web.StreamResponse:
        digest = digest_of(request.query.get("digest", ""))
        upload = await self._open(name, id)
        try:
            self._check_range(request, name, upload)
        except BaseException:
            await upload.pause()
            raise
        return await self._finish(request, name, upload, digest)

    async def cancel(self, request: web.Request, name: str, id: str) -> web.StreamResponse:
        upload = await self._open(name, id)
        await upload.cancel()
        return web.Response(status=204)

    async def _find(self, name: str, digest: Digest) -> Blob:
        blob = await self._store.blob(name, digest)
        if blob is None:
            raise Refused("BLOB_UNKNOWN", "blob unknown to registry")
        return blob

    async def _open(self, name: str, id: str) -> Upload:
        try:
            upload = await self._store.upload(name, id)
        except Unavailable as e:
            raise Refused("TOOMANYREQUESTS", "another request has this upload") from e
        if upload is None:
            raise Refused("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        return upload

    def _check_range(self, request: web.Request, name: str, upload: Upload) -> None:
        text = request.headers.get("Content-Range")
        if text is None:
            return
        match = _CONTENT_RANGE.fullmatch(text)
        if match is None:
            raise Refused("BLOB_UPLOAD_INVALID", f"invalid Content-Range {text[:100]!r}")
        start, end = map(int, match.groups())
        length = request.content_length
        if start != upload.offset or end < start:
            where = self._where(name, upload.id, upload.offset)
            raise Refused("BLOB_UPLOAD_INVALID", f"{upload.offset} bytes are here, not {start}", 416, where)
        if length is not None and length != end - start + 1:
            raise Refused("SIZE_INVALID", f"{length} bytes are not those of {text}")

    async def _receive(self, request: web.Request, upload: Upload) -> None:
        pending = bytearray()
        async for data in request.content.iter_any():
            pending += data
            if len(pending) >= _PIECE_BYTES:
                await upload.write(bytes(pending))
                pending.clear()
        if pending:
            await upload.write(bytes(pending))

    async def _finish(self, request: web.Request, name: str, upload: Upload, digest: Digest) -> web.StreamResponse:
        try:
            await self._receive(request, upload)
            await upload.commit(digest)
        except DataLoss as e:
            raise Refused("DIGEST_INVALID", "provided digest did not match uploaded content") from e
        except BaseException:
            await upload.pause()
            raise
        return self._created(name, digest)

    def _created(self, name: str, digest: Digest) -> web.Response:
        headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
        return web.Response(status=201, headers=headers)

    @staticmethod
    def _where(name: str, id: str, offset: int) -> dict[str, str]:
        """`Range` of nothing is 0-0: what clients of Docker's registry expect."""
        return {
            "Location": str(PurePosixPath("/v2") / name / "blobs/uploads" / id),
            "Range": f"0-{max(offset - 1, 0)}",
            "Docker-Upload-UUID": id,
            "OCI-Chunk-Min-Length": "1",
        }
