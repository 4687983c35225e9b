"""One repository of one registry, read: manifests and blobs, checked, retried, resumed.

Every manifest and blob that leaves here as bytes has its digest and size checked. `stream` leaves the digest to the
consumer, which has to hash anyway, and checks the size. Source: distribution-spec "Pull".
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from rorqual.distribution import endpoints, errors
from rorqual.distribution.credentials import ANONYMOUS, Credentials
from rorqual.distribution.endpoints import Endpoint, RegistryOptions
from rorqual.distribution.errors import RegistryError, Transient
from rorqual.distribution.retry import RetryPolicy
from rorqual.distribution.transport import Transport, connection_errors
from rorqual.errdefs import DataLoss, Error, NotFound, ResourceExhausted, Unavailable
from rorqual.oci import digest as digests
from rorqual.oci import manifest as manifests
from rorqual.oci import mediatypes
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.oci.fields import Fields
from rorqual.oci.manifest import MAX_MANIFEST_BYTES, Index
from rorqual.oci.reference import Reference

if TYPE_CHECKING:
    import aiohttp

_T = TypeVar("_T")
_MAX_TAGS = 100_000
_NEXT = re.compile(r'\s*<([^>]+)>;\s*rel="?next"?')
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
# Called before a wait: (seconds).
OnRetry = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class RawManifest:
    """A manifest's bytes as served, their digest (checked) and the media type that the registry said."""

    raw: bytes
    media_type: str
    digest: Digest


class Repository:
    """`reference`'s repository. Cheap to make; the transport (connections, tokens) is shared and the caller's."""

    def __init__(
        self,
        transport: Transport,
        reference: Reference,
        credentials: Credentials = ANONYMOUS,
        options: RegistryOptions | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._transport = transport
        self._reference = reference
        self._credentials = credentials
        self._policy = policy or RetryPolicy()
        self._endpoints = endpoints.for_domain(reference.domain, options or RegistryOptions())
        self._scope = f"repository:{reference.path}:pull"

    async def manifest(self, target: str, *, on_retry: OnRetry | None = None) -> RawManifest:
        """The manifest or index of `target`, a tag or a digest.

        Raises: NotFound, Unauthenticated, Unavailable, DataLoss, ResourceExhausted, InvalidArgument, in Docker's words.
        """
        return await self._anywhere(lambda endpoint: self._manifest(endpoint, target), on_retry)

    async def tags(self, *, on_retry: OnRetry | None = None) -> list[str]:
        """Every tag, in the registry's order. Raises: as `manifest`; ResourceExhausted beyond 100,000."""
        found: list[str] = []
        path = f"/v2/{self._reference.path}/tags/list"
        while path:
            at = path

            async def page(endpoint: Endpoint, at: str = at) -> tuple[list[str], str]:
                return await self._tags_page(endpoint, at)

            more, path = await self._anywhere(page, on_retry)
            found += more
            if len(found) > _MAX_TAGS:
                raise ResourceExhausted(f"{self._reference.familiar_name}: more than {_MAX_TAGS} tags")
        return found

    async def _tags_page(self, endpoint: Endpoint, path: str) -> tuple[list[str], str]:
        """Tags, and the path of the next page, "" at the end (RFC 5988)."""
        raw, headers = await self._document(endpoint, path, {})
        fields = Fields.load(raw, "tags", MAX_MANIFEST_BYTES)
        link = _NEXT.match(headers.get("Link", ""))
        target = urlsplit(link[1]) if link is not None else None
        following = f"{target.path}?{target.query}" if target is not None else ""
        return [tag for tag in fields.texts("tags") if tag], following if following != path else ""

    async def referrers(self, digest: Digest, *, on_retry: OnRetry | None = None) -> list[Descriptor]:
        """What the registry has that refers to the manifest `digest`; by its tag where it lacks the API.

        Raises: as `manifest`.
        """
        try:
            return await self._anywhere(lambda endpoint: self._referrers(endpoint, digest), on_retry)
        except NotFound:
            pass
        try:
            served = await self.manifest(digest.replace(":", "-", 1), on_retry=on_retry)
        except NotFound:
            return []
        index = manifests.parse(served.raw, served.media_type)
        return list(index.manifests) if isinstance(index, Index) else []

    async def _referrers(self, endpoint: Endpoint, digest: Digest) -> list[Descriptor]:
        path = f"/v2/{self._reference.path}/referrers/{digest}"
        raw, headers = await self._document(endpoint, path, {"Accept": mediatypes.OCI_INDEX})
        media_type = headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type != mediatypes.OCI_INDEX:
            # A registry without the API may answer this path with anything.
            raise NotFound(f"{path}: the registry answers {media_type!r}")
        index = manifests.parse(raw, media_type)
        return list(index.manifests) if isinstance(index, Index) else []

    async def blob(self, descriptor: Descriptor, *, max_bytes: int, on_retry: OnRetry | None = None) -> bytes:
        """A small blob (a config), checked. Raises: as `manifest`."""
        if descriptor.size > max_bytes:
            raise ResourceExhausted(f"{descriptor.digest}: {descriptor.size} bytes, at most {max_bytes} are allowed")
        verifier = digests.Verifier(descriptor.digest, descriptor.size)
        pieces: list[bytes] = []
        async with contextlib.aclosing(self.stream(descriptor, on_retry=on_retry)) as stream:
            async for piece in stream:
                verifier.update(piece)
                pieces.append(piece)
        verifier.check()
        return b"".join(pieces)

    async def stream(
        self, descriptor: Descriptor, offset: int = 0, *, on_retry: OnRetry | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from `offset` to its size, exactly; after a cut or a stall it goes on where it was.

        Raises: as `manifest`. The digest is the consumer's to check.
        """
        failures = 0
        while offset < descriptor.size:
            start = offset
            try:
                async with contextlib.aclosing(self._pieces(descriptor, offset)) as pieces:
                    async for piece in pieces:
                        offset += len(piece)
                        if offset > descriptor.size:
                            raise DataLoss(
                                f"{descriptor.digest}: more than the {descriptor.size} bytes promised were received"
                            )
                        yield piece
                if offset < descriptor.size:
                    raise Transient(
                        f"{descriptor.digest}: the connection ended after {offset} of {descriptor.size} bytes"
                    )
            except Transient as error:
                # Progress starts the count anew: a long download may be cut often.
                failures = 1 if offset > start else failures + 1
                await self._wait(failures, error, on_retry)

    async def _pieces(self, descriptor: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = await self._open_blob(descriptor, headers)
        try:
            skip = _to_skip(response, offset, descriptor)
            async for piece in response.content.iter_any():
                if skip:
                    head = min(skip, len(piece))
                    skip -= head
                    if head == len(piece):
                        continue
                    yield piece[head:]
                else:
                    yield piece
        except connection_errors() as error:
            raise errors.of_connection(
                error, "GET", str(response.url.with_query(None)), response.url.host or ""
            ) from error
        finally:
            # Left early, the rest of the body would have to be read to use the connection again.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def _open_blob(self, descriptor: Descriptor, headers: dict[str, str]) -> aiohttp.ClientResponse:
        path = f"/v2/{self._reference.path}/blobs/{descriptor.digest}"

        async def attempt(endpoint: Endpoint) -> aiohttp.ClientResponse:
            return await self._transport.get(
                endpoint, path, scope=self._scope, credentials=self._credentials_for(endpoint), headers=headers
            )

        try:
            return await self._first(attempt)
        except RegistryError as error:
            foreign = mediatypes.is_foreign(descriptor.media_type)
            for url in descriptor.urls if foreign else ():
                if url.startswith("https://"):
                    return await self._transport.get_elsewhere(url, headers)
            raise self._told(error) from error

    async def _manifest(self, endpoint: Endpoint, target: str) -> RawManifest:
        path = f"/v2/{self._reference.path}/manifests/{target}"
        accepted = {"Accept": ", ".join(mediatypes.ACCEPT_MANIFEST)}
        raw, headers = await self._document(endpoint, path, accepted)
        media_type = headers.get("Content-Type", "").partition(";")[0].strip()
        return RawManifest(raw, media_type, _checked(raw, target, headers.get("Docker-Content-Digest")))

    async def _document(
        self, endpoint: Endpoint, path: str, headers: dict[str, str]
    ) -> tuple[bytes, Mapping[str, str]]:
        """A JSON document and the answer's headers."""
        response = await self._transport.get(
            endpoint, path, scope=self._scope, credentials=self._credentials_for(endpoint), headers=headers
        )
        try:
            raw = await _body(response, MAX_MANIFEST_BYTES)
        except connection_errors() as error:
            raise errors.of_connection(error, "GET", str(response.url.with_query(None)), endpoint.host) from error
        finally:
            response.close()
        return raw, response.headers

    async def _anywhere(self, action: Callable[[Endpoint], Awaitable[_T]], on_retry: OnRetry | None) -> _T:
        """`action` on the first endpoint that answers, tried again while that may help."""
        failures = 0
        while True:
            try:
                return await self._first(action)
            except Transient as error:
                failures += 1
                await self._wait(failures, error, on_retry)
            except RegistryError as error:
                raise self._told(error) from error

    async def _first(self, action: Callable[[Endpoint], Awaitable[_T]]) -> _T:
        """`action` on each endpoint until one answers: a mirror that fails in any way is passed over."""
        for endpoint in self._endpoints[:-1]:
            try:
                return await action(endpoint)
            except Error:
                continue
        return await action(self._endpoints[-1])

    async def _wait(self, failures: int, error: Transient, on_retry: OnRetry | None) -> None:
        """Sleeps before the next attempt. Raises: Unavailable when there is none."""
        delay_s = self._policy.delay_s(failures, error.retry_after_s)
        if delay_s is None:
            raise Unavailable(str(error)) from error
        if on_retry is not None:
            on_retry(delay_s)
        await asyncio.sleep(delay_s)

    def _credentials_for(self, endpoint: Endpoint) -> Credentials:
        # The user's password is for the registry, not for whoever mirrors it.
        return ANONYMOUS if endpoint.mirror else self._credentials

    def _told(self, error: RegistryError) -> Error:
        return errors.of_pull(error, self._reference)


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    if (response.content_length or 0) > limit:
        raise ResourceExhausted(f"manifest: {response.content_length} bytes, at most {limit} are allowed")
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > limit:
            raise ResourceExhausted(f"manifest: more than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _checked(raw: bytes, target: str, header: str | None) -> Digest:
    """The digest of `raw`: the one asked for, or for a tag the one the registry says, if it says one.

    Raises: DataLoss when they differ.
    """
    if ":" in target:
        wanted = digests.parse(target)
        if digests.of(raw, digests.algorithm(wanted)) != wanted:
            raise DataLoss(f"manifest verification failed for digest {wanted}")
        return wanted
    if header:
        told = digests.parse(header)
        if digests.of(raw, digests.algorithm(told)) != told:
            raise DataLoss(f"manifest verification failed for digest {told}")
    return digests.of(raw)


def _to_skip(response: aiohttp.ClientResponse, offset: int, descriptor: Descriptor) -> int:
    """How many of the body's first bytes we have already: all before `offset` when the server ignored the Range.

    Raises: DataLoss when the server tells another size than the manifest.
    """
    if response.status == 200:
        length = response.content_length
        if length is not None and length != descriptor.size:
            raise DataLoss(f"{descriptor.digest}: the registry offers {length} bytes, {descriptor.size} were promised")
        return offset
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) > offset or match[3] not in ("*", str(descriptor.size)):
        raise DataLoss(
            f"{descriptor.digest}: unusable range {response.headers.get('Content-Range')!r} from the registry"
        )
    return offset - int(match[1])
