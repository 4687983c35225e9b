"""Pushes: to Debian's docker-registry, and to one that breaks in every way."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from support.image import BuiltImage, build, layer_tar
from support.pulling import Client
from support.registry import PASSWORD, USERNAME, Registry
from support.upload_registry import UploadRegistry

from rorqual import errdefs
from rorqual.distribution.credentials import ANONYMOUS, Credentials
from rorqual.distribution.endpoints import RegistryOptions
from rorqual.distribution.progress import Event, render
from rorqual.distribution.push import Pushed, Pusher
from rorqual.distribution.retry import RetryPolicy
from rorqual.distribution.transport import Transport
from rorqual.oci import manifest, reference
from rorqual.oci.descriptor import Descriptor

pytestmark = pytest.mark.root

IMAGE = build([layer_tar({"a": os.urandom(3_000_000)}), layer_tar({"b": b"small"})])


class Blobs:
    """BlobSource in memory."""

    def __init__(self, image: BuiltImage = IMAGE) -> None:
        self.image = image
        self.known: dict[tuple[str, str], list[str]] = {}
        self.broken = False

    async def pieces(self, descriptor: Descriptor, offset: int = 0) -> AsyncIterator[bytes]:
        blob = self.image.blobs[descriptor.digest][offset:]
        for start in range(0, len(blob), 100_000):
            if self.broken:
                raise errdefs.NotFound("content is gone")
            yield blob[start : start + 100_000]
            await asyncio.sleep(0)

    async def origins(self, descriptor: Descriptor, host: str) -> list[str]:
        return self.known.get((descriptor.digest, host), [])

    async def note_origin(self, descriptor: Descriptor, host: str, path: str) -> None:
        self.known.setdefault((descriptor.digest, host), []).insert(0, path)


class Push:
    """A pusher and the lines that Docker's clients would see."""

    def __init__(self, *, attempts: int = 5, stall_s: float = 5.0, certs: Path | None = None, uploads: int = 5) -> None:
        self.options = RegistryOptions(stall_s=stall_s, certs_dirs=(str(certs),) if certs else ())
        self.blobs = Blobs()
        self.transport = Transport(self.options)
        policy = RetryPolicy(attempts=attempts, base_s=0.01, cap_s=0.02)
        self.pusher = Pusher(self.transport, self.options, blobs=self.blobs, policy=policy, max_uploads=uploads)
        self.lines: list[dict[str, object]] = []

    async def __aenter__(self) -> "Push":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close()

    def note(self, event: Event) -> None:
        self.lines.append(render(event))

    async def __call__(self, name: str, credentials: Credentials = ANONYMOUS) -> Descriptor:
        document = manifest.parse(self.blobs.image.manifest)
        assert isinstance(document, manifest.Manifest)
        return await self.pusher.push(Pushed(reference.parse(name), (document,)), credentials, self.note)

    def said(self, status: str) -> int:
        return sum(str(line.get("status", "")).startswith(status) for line in self.lines)


async def test_what_is_pushed_can_be_pulled_and_is_not_sent_again(tmp_path: Path) -> None:
    async with Registry(tmp_path) as registry, Push() as push:
        target = await push(f"{registry.address}/some/image:1")
        assert target.digest == IMAGE.digest
        assert push.said("Pushed") == 2
        assert push.lines[-1]["aux"] == {"Tag": "1", "Digest": IMAGE.digest, "Size": len(IMAGE.manifest)}
        assert push.lines[-2] == {"status": f"1: digest: {IMAGE.digest} size: {len(IMAGE.manifest)}"}
        push.lines.clear()
        await push(f"{registry.address}/some/image:2")
        assert (push.said("Layer already exists"), push.said("Pushed")) == (2, 0)
        push.lines.clear()
        await push(f"{registry.address}/other:1")
        assert push.said("Mounted from some/image") == 2
        async with Client() as client:
            result = await client.pull(f"{registry.address}/other:1")
            assert result.target.digest == IMAGE.digest


async def test_a_password_and_tls_are_needed_where_the_registry_says_so(tmp_path: Path) -> None:
    async with Registry(tmp_path / "reg", htpasswd=True, tls=True) as registry:
        certs = tmp_path / "certs" / registry.address
        certs.mkdir(parents=True)
        (certs / "ca.crt").write_bytes(registry.ca_path.read_bytes())
        async with Push(certs=tmp_path / "certs") as push:
            with pytest.raises(errdefs.Unauthenticated):
                await push(f"{registry.address}/image:1")
            with pytest.raises(errdefs.Unauthenticated):
                await push(f"{registry.address}/image:1", Credentials(USERNAME, "wrong"))
            await push(f"{registry.address}/image:1", Credentials(USERNAME, PASSWORD))


async def test_an_upload_that_is_cut_goes_on_where_the_registry_is() -> None:
    async with UploadRegistry() as registry, Push() as push:
        registry.cuts = [1_000_000, 500_000]
        await push(f"{registry.address}/image:1")
        assert push.said("Retrying in") == 2
        for digest, blob in IMAGE.blobs.items():
            assert registry.blobs[("image", digest)] == blob
        # One upload a blob: none was begun again.
        assert registry.counts["POST"] == len(IMAGE.blobs)


async def test_an_upload_that_the_registry_forgot_begins_again() -> None:
    async with UploadRegistry() as registry, Push() as push:
        forgotten: list[str] = []

        async def bend(request: web.Request) -> web.StreamResponse | None:
            if request.method == "GET" and "/uploads/" in request.path and not forgotten:
                forgotten.append(request.path)
                registry.uploads.pop(request.path.rpartition("/")[2])
            return None

        registry.bend = bend
        registry.cuts = [1_000_000]
        await push(f"{registry.address}/image:1")
        assert forgotten and len(registry.blobs) == len(IMAGE.blobs)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_busy_registries_are_asked_again_a_bounded_number_of_times(status: int) -> None:
    failures: dict[str, int] = {}

    async def bend(request: web.Request) -> web.StreamResponse | None:
        key = f"{request.method} {request.path.rpartition('/')[0]}"
        failures[key] = failures.get(key, 0) + 1
        if request.path != "/v2/" and failures[key] <= 1:
            return web.Response(status=status, headers={"Retry-After": "0"})
        return None

    async with UploadRegistry(bend=bend) as registry, Push() as push:
        await push(f"{registry.address}/image:1")
        assert ("image", "1") in registry.manifests

    async def always(request: web.Request) -> web.StreamResponse | None:
        return None if request.path == "/v2/" else web.Response(status=status)

    async with UploadRegistry(bend=always) as registry, Push(attempts=2) as push:
        with pytest.raises(errdefs.Unavailable):
            await push(f"{registry.address}/image:1")


async def test_what_the_registry_refuses_is_told_in_its_words() -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if request.method == "POST":
            error = {"code": "DENIED", "message": "requested access to the resource is denied"}
            return web.json_response({"errors": [error]}, status=403)
        return None

    async with UploadRegistry(bend=bend) as registry, Push() as push:
        with pytest.raises(errdefs.PermissionDenied, match="denied: requested access to the resource is denied"):
            await push(f"{registry.address}/image:1")


async def test_a_registry_that_stores_something_else_is_found_out() -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if request.method == "PUT" and "/manifests/" in request.path:
            return web.Response(status=201, headers={"Docker-Content-Digest": "sha256:" + "0" * 64})
        return None

    async with UploadRegistry(bend=bend) as registry, Push() as push:
        with pytest.raises(errdefs.DataLoss):
            await push(f"{registry.address}/image:1")


async def test_a_registry_that_takes_no_bytes_is_given_up() -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if request.method == "PATCH":
            await asyncio.sleep(60)
        return None

    async with UploadRegistry(bend=bend) as registry, Push(attempts=2, stall_s=0.1) as push:
        with pytest.raises(errdefs.Unavailable):
            await push(f"{registry.address}/image:1")


async def test_no_right_to_mount_means_an_upload() -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if "mount" in request.query:
            return web.json_response({"errors": [{"code": "DENIED"}]}, status=403)
        return None

    async with UploadRegistry(bend=bend) as registry, Push() as push:
        await push(f"{registry.address}/one:1")
        await push(f"{registry.address}/two:1")
        assert push.said("Pushed") == 4


async def test_a_blob_that_vanished_here_is_told_as_such() -> None:
    async with UploadRegistry() as registry, Push() as push:
        push.blobs.broken = True
        with pytest.raises(errdefs.NotFound, match="content is gone"):
            await push(f"{registry.address}/image:1")
        assert not registry.manifests


async def test_two_pushes_of_one_image_send_each_blob_once() -> None:
    async with UploadRegistry() as registry, Push() as push:
        await asyncio.gather(push(f"{registry.address}/image:1"), push(f"{registry.address}/image:2"))
        assert registry.counts["PATCH"] == len(IMAGE.blobs)
        assert set(registry.manifests) == {("image", "1"), ("image", "2")}


async def test_a_cancelled_push_names_nothing_and_can_be_made_again() -> None:
    reached = asyncio.Event()

    async def bend(request: web.Request) -> web.StreamResponse | None:
        if request.method == "PATCH":
            reached.set()
            await asyncio.sleep(0.05)
        return None

    async with UploadRegistry(bend=bend) as registry, Push() as push:
        task = asyncio.create_task(push(f"{registry.address}/image:1"))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not registry.manifests
        registry.bend = None
        await push(f"{registry.address}/image:1")
        assert registry.manifests
