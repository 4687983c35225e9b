"""One blob to a registry: asked for, mounted, or uploaded; an upload that breaks goes on where the registry is.

    HEAD blobs/<digest>               200: nothing to do
    POST blobs/uploads/?mount=&from=  201: mounted from another repository; 202: an upload
    PATCH <upload> from offset        202; after a failure GET <upload> tells the offset
    PUT <upload>?digest=              201

Source: distribution-spec "Push".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

from rorqual.distribution.credentials import Credentials
from rorqual.distribution.endpoints import Endpoint
from rorqual.distribution.errors import RegistryError, Transient
from rorqual.distribution.retry import RetryPolicy
from rorqual.distribution.transport import Transport
from rorqual.errdefs import Error, Unavailable
from rorqual.oci.descriptor import Descriptor

if TYPE_CHECKING:
    import aiohttp

_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
# Between the last byte and the answer to a PATCH a registry may be so many times slower than between two bytes.
_ANSWER_FACTOR = 10

# The blob's bytes from an offset.
Source = Callable[[int], AsyncIterator[bytes]]
# (bytes that the registry has or is getting)
Sent = Callable[[int], None]


class Outcome(Enum):
    """How the blob came to be there."""

    EXISTED = "existed"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


@dataclass(frozen=True, slots=True)
class Target:
    """A repository to push to."""

    endpoint: Endpoint
    path: str
    credentials: Credentials

    @property
    def scope(self) -> str:
        return f"repository:{self.path}:pull,push"


class BlobPusher:
    """Pushes blobs to one repository."""

    def __init__(self, transport: Transport, target: Target, policy: RetryPolicy, stall_s: float) -> None:
        self._transport = transport
        self._target = target
        self._policy = policy
        self._stall_s = stall_s

    async def push(
        self,
        descriptor: Descriptor,
        source: Source,
        mounts: Sequence[str],
        *,
        sent: Sent,
        on_retry: Callable[[float], None],
    ) -> tuple[Outcome, str]:
        """How it got there, and from which of `mounts` (paths of repositories of the same registry).

        Raises: RegistryError, Unavailable, Unauthenticated; what `source` raises.
        """
        failures = 0
        while True:
            try:
                if await self.exists(descriptor):
                    return Outcome.EXISTED, ""
                location, mounted = await self._begin(descriptor, mounts)
                break
            except Transient as error:
                failures += 1
                await self._wait(failures, error, on_retry)
        if mounted:
            return Outcome.MOUNTED, mounted
        await self._upload(descriptor, source, location, sent, on_retry)
        return Outcome.UPLOADED, ""

    async def exists(self, descriptor: Descriptor) -> bool:
        """Whether the repository has the blob."""
        try:
            response = await self._request("HEAD", f"/v2/{self._target.path}/blobs/{descriptor.digest}", (200,))
        except RegistryError as error:
            if error.status == 404:
                return False
            raise
        response.release()
        return True

    async def _begin(self, descriptor: Descriptor, mounts: Sequence[str]) -> tuple[str, str]:
        """The upload's URL and "", or "" and the repository that the blob was mounted from."""
        uploads = f"/v2/{self._target.path}/blobs/uploads/"
        for repository in mounts:
            query = f"?mount={quote(descriptor.digest, safe=':')}&from={quote(repository, safe='/')}"
            scope = f"{self._target.scope} repository:{repository}:pull"
            try:
                response = await self._request("POST", uploads + query, (201, 202), scope=scope)
            except (RegistryError, Unavailable) as error:
                if isinstance(error, Transient):
                    raise
                continue  # no right to read there: upload instead
            response.release()
            if response.status == 201:
                return "", repository
            return await self._location(response), ""
        response = await self._request("POST", uploads, (202,))
        response.release()
        return await self._location(response), ""

    async def _upload(
        self,
        descriptor: Descriptor,
        source: Source,
        location: str,
        sent: Sent,
        on_retry: Callable[[float], None],
    ) -> None:
        failures = offset = 0
        while True:
            start = offset
            progress = _Progress(offset, sent)
            try:
                if offset < descriptor.size:
                    location = await self._patch(descriptor, source, location, offset, progress)
                    offset = descriptor.size
                await self._finish(descriptor, location)
                return
            except Transient as error:
                failure: Error = error
                retry_after_s = error.retry_after_s
            except RegistryError as error:
                # 416: we disagree about the offset; 404: the upload is forgotten.
                if error.status not in (404, 416) or failures >= self._policy.attempts:
                    raise
                failure, retry_after_s = error, None
            failures += 1
            delay_s = self._policy.delay_s(failures, retry_after_s)
            if delay_s is None:
                raise Unavailable(str(failure)) from failure
            on_retry(delay_s)
            await asyncio.sleep(delay_s)
            location, offset = await self._resume(descriptor, location)
            if offset > start:
                # What the registry has is progress, not what went into the network's buffers.
                failures = 0

    async def _patch(
        self, descriptor: Descriptor, source: Source, location: str, offset: int, progress: _Progress
    ) -> str:
        trouble: list[BaseException] = []
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(descriptor.size - offset),
            "Content-Range": f"{offset}-{descriptor.size - 1}",
        }
        try:
            async with asyncio.timeout(self._stall_s) as patience:

                async def pieces() -> AsyncIterator[bytes]:
                    progress.restart(offset)
                    try:
                        async for piece in source(offset):
                            yield piece
                            progress.add(len(piece))
                            self._extend(patience, 1)
                    except Exception as error:
                        # aiohttp would make a broken connection of it.
                        trouble.append(error)
                        raise
                    self._extend(patience, _ANSWER_FACTOR)

                response = await self._request("PATCH", location, (202, 201, 204), headers=headers, body=pieces)
        except TimeoutError as error:
            raise Transient(f"{descriptor.digest}: the registry took no more bytes") from error
        except Error as error:
            if trouble:
                raise trouble[0] from error
            raise
        response.release()
        return await self._location(response)

    def _extend(self, patience: asyncio.Timeout, factor: float) -> None:
        """As bytes go out, or are all out, the end of patience moves on."""
        if not patience.expired():
            patience.reschedule(asyncio.get_running_loop().time() + factor * self._stall_s)

    async def _resume(self, descriptor: Descriptor, location: str) -> tuple[str, int]:
        """Where to go on: the upload's URL and the bytes that it has; a new one when the registry forgot it."""
        try:
            response = await self._request("GET", location, (204, 200, 202))
        except (RegistryError, Unavailable):
            fresh, _ = await self._begin(descriptor, ())
            return fresh, 0
        response.release()
        match = _RANGE.match(response.headers.get("Range", ""))
        # "0-0" is what registries say of one byte, and some of none: the first byte is sent again then.
        offset = int(match[1]) + 1 if match is not None and int(match[1]) else 0
        if offset > descriptor.size or offset == 0:
            fresh, _ = await self._begin(descriptor, ())
            return fresh, 0
        return await self._location(response, location), offset

    async def _finish(self, descriptor: Descriptor, location: str) -> None:
        url = location + ("&" if "?" in location else "?") + f"digest={quote(descriptor.digest, safe=':')}"
        headers = {"Content-Length": "0", "Content-Type": "application/octet-stream"}
        response = await self._request("PUT", url, (201, 204), headers=headers, body=b"")
        response.release()

    async def _location(self, response: aiohttp.ClientResponse, default: str = "") -> str:
        said = response.headers.get("Location", "")
        if not said:
            if default:
                return default
            raise RegistryError("", f"{self._target.endpoint.host}: an upload without a Location", 502)
        return urljoin(await self._transport.base(self._target.endpoint) + "/", said)

    async def _request(
        self,
        method: str,
        target: str,
        accept: Sequence[int],
        *,
        scope: str = "",
        headers: dict[str, str] | None = None,
        body: bytes | Callable[[], AsyncIterator[bytes]] | None = None,
    ) -> aiohttp.ClientResponse:
        return await self._transport.request(
            self._target.endpoint,
            method,
            target,
            scope=scope or self._target.scope,
            credentials=self._target.credentials,
            headers=headers or {},
            accept=accept,
            body=body,
        )

    async def _wait(self, failures: int, error: Transient, on_retry: Callable[[float], None]) -> None:
        delay_s = self._policy.delay_s(failures, error.retry_after_s)
        if delay_s is None:
            raise Unavailable(str(error)) from error
        on_retry(delay_s)
        await asyncio.sleep(delay_s)


class _Progress:
    """How many bytes went out."""

    __slots__ = ("_sent", "current")

    def __init__(self, offset: int, sent: Sent) -> None:
        self.current = offset
        self._sent = sent

    def restart(self, offset: int) -> None:
        self.current = offset

    def add(self, count: int) -> None:
        self.current += count
        self._sent(self.current)
