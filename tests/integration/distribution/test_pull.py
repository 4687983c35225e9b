"""Pulls from Debian's docker-registry into stores in memory."""

import asyncio
import json
from pathlib import Path

import pytest
from support.image import build, busybox_layers, digest_of, layer_tar
from support.pulling import Client
from support.registry import PASSWORD, USERNAME, Registry, push_built, push_image, push_manifest

from rorqual import errdefs
from rorqual.distribution.credentials import ANONYMOUS, Credentials
from rorqual.distribution.endpoints import Endpoint, RegistryOptions
from rorqual.distribution.transport import Transport
from rorqual.oci.image import chain_ids

ALICE = Credentials(USERNAME, PASSWORD)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory):
    with Registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


async def test_pull_by_tag_gives_a_whole_named_image_and_dockers_lines(registry: Registry) -> None:
    built = push_image(registry, "library/busybox", busybox_layers())
    name = f"{registry.address}/library/busybox"
    async with Client() as client:
        result = await client.pull(name)
        assert result.updated and result.target.digest == built.digest
        assert client.images.names == {f"{name}:latest": built.digest}
        assert client.content.blobs[result.manifest.digest] == built.manifest
        assert client.content.blobs[result.image.digest] == built.config
        assert list(client.layers.committed) == list(result.image.chain_ids) == list(chain_ids(built.diff_ids))
        assert client.layers.unpacked == set() and client.layers.ingests == {}
        assert client.lines[0] == {"status": "Pulling from library/busybox", "id": "latest"}
        assert client.lines[-2:] == [
            {"status": f"Digest: {built.digest}"},
            {"status": f"Status: Downloaded newer image for {name}:latest"},
        ]
        for layer in result.manifest.layers:
            assert client.statuses(layer.digest[7:19]) == [
                "Pulling fs layer",
                "Downloading",
                "Verifying Checksum",
                "Download complete",
                "Extracting",
                "Pull complete",
            ]
        snapshot = client.content.labels[result.image.digest]["containerd.io/gc.ref.snapshot.overlayfs"]
        assert snapshot == result.chain_id
        assert client.content.labels[built.digest]["containerd.io/gc.ref.content.config"] == digest_of(built.config)


async def test_second_pull_fetches_nothing(registry: Registry) -> None:
    push_image(registry, "twice", busybox_layers())
    name = f"{registry.address}/twice"
    async with Client() as client:
        await client.pull(name)
        opened = client.layers.opened
        client.lines.clear()
        result = await client.pull(name)
        assert not result.updated and client.layers.opened == opened
        assert client.lines[-1] == {"status": f"Status: Image is up to date for {name}:latest"}
        assert [line["status"] for line in client.lines if line.get("id") not in (None, "latest")] == [
            "Already exists"
        ] * 2


async def test_pull_by_digest_names_the_image_by_digest(registry: Registry) -> None:
    built = push_image(registry, "pinned", busybox_layers())
    async with Client() as client:
        result = await client.pull(f"{registry.address}/pinned:whatever@{built.digest}")
        assert result.name == f"{registry.address}/pinned@{built.digest}"
        assert client.images.names == {result.name: built.digest}
        assert client.lines[0] == {"status": "Pulling from pinned", "id": result.name}
        assert client.lines[-1] == {"status": f"Status: Downloaded newer image for {result.name}"}


async def test_index_gives_the_platform_asked_for(registry: Registry) -> None:
    entries = []
    for architecture in ("amd64", "arm64"):
        built = build([layer_tar({"arch": architecture.encode()})], architecture=architecture)
        push_built(registry, "multi", built, f"only-{architecture}")
        entries.append(
            {
                "mediaType": built.manifest_type,
                "digest": built.digest,
                "size": len(built.manifest),
                "platform": {"os": "linux", "architecture": architecture},
            }
        )
    kind = "application/vnd.oci.image.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    push_manifest(registry, "multi", "latest", index, kind)
    async with Client() as client:
        result = await client.pull(f"{registry.address}/multi", want="linux/arm64")
        assert result.target.digest == digest_of(index) and result.image.platform.architecture == "arm64"
        with pytest.raises(errdefs.NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
            await client.pull(f"{registry.address}/multi", want="linux/s390x")
        with pytest.raises(errdefs.NotFound, match="does not match the specified platform: wanted linux/arm64"):
            await client.pull(f"{registry.address}/multi:only-amd64", want="linux/arm64")


async def test_unknown_tag_and_repository_are_told_as_docker_does(registry: Registry) -> None:
    push_image(registry, "known", [layer_tar({"a": b"b"})])
    async with Client() as client:
        with pytest.raises(errdefs.NotFound) as caught:
            await client.pull(f"{registry.address}/known:nope")
        assert str(caught.value) == (
            f"manifest for {registry.address}/known:nope not found: manifest unknown: manifest unknown"
        )
        with pytest.raises(errdefs.NotFound, match="not found"):
            await client.pull(f"{registry.address}/unknown")
        # Nothing was said yet, so a daemon can still answer 404.
        assert client.images.names == {} and client.lines == []


async def test_refused_connection_is_told_as_docker_does() -> None:
    async with Client() as client:
        with pytest.raises(errdefs.Unavailable) as caught:
            await client.pull("127.0.0.1:1/x")
        assert str(caught.value) == ('Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused')


async def test_same_blob_twice_in_one_image_is_downloaded_once(registry: Registry) -> None:
    tar = layer_tar({"same": b"same"})
    push_image(registry, "repeated", [tar, tar, tar])
    async with Client() as client:
        result = await client.pull(f"{registry.address}/repeated")
        assert len(client.layers.committed) == 3 and client.layers.written == result.manifest.layers[0].size


async def test_two_pulls_of_one_layer_share_its_download(registry: Registry) -> None:
    base = layer_tar({"base": bytes(300_000)})
    push_image(registry, "shared/one", [base, layer_tar({"one": b"1"})])
    push_image(registry, "shared/two", [base, layer_tar({"two": b"2"})])
    async with Client() as client:
        first, second = await asyncio.gather(
            client.pull(f"{registry.address}/shared/one"), client.pull(f"{registry.address}/shared/two")
        )
        assert client.layers.written == first.manifest.layers[0].size + sum(
            result.manifest.layers[1].size for result in (first, second)
        )


async def test_cancelling_one_of_two_pulls_leaves_the_other(registry: Registry) -> None:
    push_image(registry, "cancel", busybox_layers())
    async with Client() as client:
        client.layers.gate.clear()
        first = asyncio.create_task(client.pull(f"{registry.address}/cancel"))
        second = asyncio.create_task(client.pull(f"{registry.address}/cancel"))
        begun = {"Pulling fs layer", "Waiting"}
        await client.layers.until(lambda: sum(line["status"] in begun for line in client.lines) == 4)
        await client.layers.until(lambda: client.layers.opened == 2)
        for _ in range(5):
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        client.layers.gate.set()
        assert (await second).updated and client.layers.opened == 2


async def test_cancelled_pull_leaves_only_resumable_ingests(registry: Registry) -> None:
    big = layer_tar({"big": bytes(range(256)) * 20_000})
    built = push_image(registry, "resume", [big], level=0)
    async with Client() as client:
        task = asyncio.create_task(client.pull(f"{registry.address}/resume"))
        await client.layers.until(lambda: client.layers.written > 0)
        client.layers.gate.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.images.names == {} and client.layers.unpacked == set() and client.layers.committed == {}
        assert len(asyncio.all_tasks()) == 1
        kept = sum(map(len, client.layers.ingests.values()))
        client.layers.gate.set()
        await client.pull(f"{registry.address}/resume")
        assert client.layers.written == len(built.layers[0]) or kept == 0
        assert client.layers.blobs[digest_of(built.layers[0])] == built.layers[0]


async def test_htpasswd(tmp_path: Path) -> None:
    with Registry(tmp_path / "registry", htpasswd=True) as registry:
        push_image(registry, "private", busybox_layers())
        name = f"{registry.address}/private"
        async with Client() as client:
            with pytest.raises(errdefs.Unauthenticated, match="no basic auth credentials"):
                await client.pull(name)
            with pytest.raises(errdefs.Unauthenticated, match="unauthorized: authentication required"):
                await client.pull(name, Credentials(USERNAME, "wrong"))
            assert (await client.pull(name, ALICE)).updated


async def test_tls_is_verified_with_the_cas_of_certs_d(tmp_path: Path) -> None:
    with Registry(tmp_path / "registry", tls=True) as registry:
        push_image(registry, "secure", busybox_layers())
        # A loopback address needs no verification by itself: ask for it.
        endpoint = Endpoint(registry.address, ("https",), verify=True, certs_name=registry.address)
        asked = {"scope": "", "credentials": ANONYMOUS, "headers": {}}
        certs = tmp_path / "certs.d" / registry.address
        certs.mkdir(parents=True)
        options = RegistryOptions(certs_dirs=(str(tmp_path / "certs.d"),))
        async with Transport(options) as transport:
            with pytest.raises(errdefs.Unavailable, match="x509: certificate signed by unknown authority"):
                await transport.get(endpoint, "/v2/secure/tags/list", **asked)
        (certs / "ca.crt").write_bytes(registry.ca_path.read_bytes())
        async with Transport(options) as transport:
            response = await transport.get(endpoint, "/v2/secure/tags/list", **asked)
            assert (await response.json())["tags"] == ["latest"]
        async with Client() as client:
            assert (await client.pull(f"{registry.address}/secure")).updated


async def test_plain_http_where_tls_is_required_is_told_as_docker_does(registry: Registry) -> None:
    endpoint = Endpoint(registry.address, ("https",), verify=True)
    async with Transport(RegistryOptions()) as transport:
        with pytest.raises(errdefs.Unavailable) as caught:
            await transport.get(endpoint, "/v2/x", scope="", credentials=ANONYMOUS, headers={})
    assert str(caught.value) == (
        f'Get "https://{registry.address}/v2/": http: server gave HTTP response to HTTPS client'
    )
