"""Layers of every kind: fetched, told, kept as they are, and passed on only where that is allowed."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zstandard
from aiohttp import web
from integration.distribution.test_push import Push
from support.engine import Engine
from support.image import OCI_MANIFEST, BuiltImage, build, busybox_layers, digest_of, layer_tar
from support.pulling import Client
from support.registry import Registry, make_certificates, push_built
from support.scripted_registry import ScriptedRegistry
from support.upload_registry import UploadRegistry

from rorqual import errdefs
from rorqual.distribution.endpoints import RegistryOptions

pytestmark = pytest.mark.root

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
CHUNKED = {"io.github.containers.zstd-chunked.manifest-checksum": digest_of(b"toc")}


def changed(image: BuiltImage, number: int, **fields: object) -> BuiltImage:
    """The image with fields of one layer's descriptor set."""
    manifest = json.loads(image.manifest)
    manifest["layers"][number] |= fields
    return BuiltImage(json.dumps(manifest).encode(), image.manifest_type, image.config, image.layers, image.diff_ids)


@asynccontextmanager
async def elsewhere(blob: bytes, directory: Path) -> AsyncIterator[str]:
    """The https address of a server that has `blob`; its CA is in `directory`/certs.d for it."""
    certificate, key = make_certificates(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def answer(request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.Response(body=blob)

    app = web.Application()
    app.router.add_get("/layer", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    address = f"127.0.0.1:{runner.addresses[0][1]}"
    place = directory / "certs.d" / address
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes((directory / "ca.crt").read_bytes())
    try:
        yield f"https://{address}/layer"
    finally:
        await runner.cleanup()


def without_blob(digest: str) -> object:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=404) if request.path.endswith(digest) else None

    return bend


@pytest.mark.parametrize("foreign", [True, False])
async def test_only_a_foreign_layer_is_fetched_from_its_own_address(foreign: bool, tmp_path: Path) -> None:
    plain = build([layer_tar({"a": b"1"})])
    digest = digest_of(plain.layers[0])
    async with elsewhere(plain.layers[0], tmp_path) as url:
        kind = {"mediaType": FOREIGN} if foreign else {}
        image = changed(plain, 0, urls=["http://127.0.0.1:1/unencrypted", url], **kind)
        options = RegistryOptions(certs_dirs=(str(tmp_path / "certs.d"),))
        async with (
            ScriptedRegistry(image, bend=without_blob(digest)) as registry,  # type: ignore[arg-type]
            Client(options, attempts=1) as client,
        ):
            if foreign:
                await client.pull(registry.reference)
                assert client.layers.blobs[digest] == plain.layers[0]  # type: ignore[index]
            else:
                with pytest.raises(errdefs.NotFound):
                    await client.pull(registry.reference)
                client.check_nothing_named()


async def test_a_foreign_layer_that_is_another_is_refused(tmp_path: Path) -> None:
    plain = build([layer_tar({"a": b"1"})])
    other = bytes(reversed(plain.layers[0]))
    async with elsewhere(other, tmp_path) as url:
        image = changed(plain, 0, mediaType=FOREIGN, urls=[url])
        options = RegistryOptions(certs_dirs=(str(tmp_path / "certs.d"),))
        bend = without_blob(digest_of(plain.layers[0]))
        async with ScriptedRegistry(image, bend=bend) as registry, Client(options) as client:  # type: ignore[arg-type]
            with pytest.raises(errdefs.DataLoss):
                await client.pull(registry.reference)
            client.check_nothing_named()


async def test_a_foreign_layer_is_not_passed_on() -> None:
    image = build([layer_tar({"a": b"1"}), layer_tar({"b": b"2"})])
    image = changed(image, 0, mediaType=FOREIGN, urls=["https://elsewhere.test/layer"])
    async with UploadRegistry() as registry, Push() as push:
        push.blobs.image = image
        await push(f"{registry.address}/image:1")
        assert push.said("Skipped foreign layer") == 1
        assert ("image", digest_of(image.layers[0])) not in registry.blobs
        assert registry.blobs[("image", digest_of(image.layers[1]))] == image.layers[1]
        assert registry.manifests[("image", "1")] == image.manifest


def test_packed_in_every_way_an_image_runs_and_keeps_its_digest(tmp_path: Path) -> None:
    base, motd = busybox_layers()
    plain = layer_tar({"plain": b"3"})
    chunked = zstandard.compress(motd) + (0x184D2A50).to_bytes(4, "little") + (9).to_bytes(4, "little") + b"skipped!!"
    blobs = (build([base]).layers[0], chunked, plain)
    kinds = ("tar+gzip", "tar+zstd", "tar")
    built = build([base, motd, plain])
    entries = [
        {"mediaType": f"application/vnd.oci.image.layer.v1.{kind}", "size": len(blob), "digest": digest_of(blob)}
        for kind, blob in zip(kinds, blobs, strict=True)
    ]
    entries[1]["annotations"] = CHUNKED
    manifest = json.loads(built.manifest) | {"mediaType": OCI_MANIFEST, "layers": entries}
    manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
    image = BuiltImage(json.dumps(manifest).encode(), OCI_MANIFEST, built.config, blobs, built.diff_ids)
    with Registry(tmp_path / "r") as registry, Engine(own_network=False, image=False) as engine:
        docker, name = engine.docker, f"{registry.address}/kinds:1"
        push_built(registry, "kinds", image, "1")
        docker("pull", name)
        layers = docker.out("image", "inspect", "-f", "{{range .RootFS.Layers}}{{.}} {{end}}", name).split()
        assert layers == list(built.diff_ids)
        assert docker.out("run", "--rm", name, "cat", "/etc/motd", "/plain") == "a second layer\n3"
        # What came from a registry goes to the next one, and through an archive, byte for byte, annotations too.
        docker("tag", name, f"{registry.address}/again:1")
        docker("push", f"{registry.address}/again:1")
        archive = engine.api("GET", f"/images/get?names={name}").body
        docker("rmi", name, f"{registry.address}/again:1")
        docker("load", stdin=archive)
        for known in (name, f"{registry.address}/again:1"):
            docker("pull", known)
            assert docker.out("image", "inspect", "-f", "{{.Descriptor.Digest}}", known) == image.digest
