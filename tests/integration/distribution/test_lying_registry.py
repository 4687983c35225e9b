"""Registries that cut, stall, redirect, lie and ask for tokens."""

import asyncio
import base64
import json
import os

import pytest
from aiohttp import web
from support.image import BuiltImage, build, digest_of, layer_tar
from support.pulling import Client
from support.scripted_registry import ScriptedRegistry, index_of, send_part

from rorqual import errdefs
from rorqual.distribution.credentials import Credentials
from rorqual.distribution.endpoints import RegistryOptions
from rorqual.oci.digest import Digest


@pytest.fixture(scope="module")
def image() -> BuiltImage:
    return build([layer_tar({"file": os.urandom(600_000)})], level=0)


def is_layer(request: web.Request, image: BuiltImage) -> bool:
    return request.path.endswith(digest_of(image.layers[0]))


async def test_a_cut_download_goes_on_where_it_was(image: BuiltImage) -> None:
    blob = image.layers[0]

    async def bend(request: web.Request) -> web.StreamResponse | None:
        if is_layer(request, image) and "Range" not in request.headers:
            return await send_part(request, blob[:250_000], len(blob))
        return None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        await client.pull(registry.reference)
        assert client.layers.blobs[Digest(digest_of(blob))] == blob and client.layers.written == len(blob)
        assert [request.headers.get("Range") for request in registry.seen if is_layer(request, image)][1] != "bytes=0-"
        assert any("Retrying in 1 second" in str(line["status"]) for line in client.lines)


async def test_a_server_that_ignores_range_is_read_from_the_start(image: BuiltImage) -> None:
    blob = image.layers[0]

    async def bend(request: web.Request) -> web.StreamResponse | None:
        if not is_layer(request, image):
            return None
        if "Range" not in request.headers:
            return await send_part(request, blob[:250_000], len(blob))
        return web.Response(body=blob)

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        await client.pull(registry.reference)
        assert client.layers.blobs[Digest(digest_of(blob))] == blob and client.layers.written == len(blob)


async def test_a_connection_that_is_always_cut_ends_in_an_error(image: BuiltImage) -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        return await send_part(request, b"", len(image.layers[0])) if is_layer(request, image) else None

    async with ScriptedRegistry(image, bend=bend) as registry, Client(attempts=3) as client:
        with pytest.raises(errdefs.Unavailable):
            await client.pull(registry.reference)
        assert len([request for request in registry.seen if is_layer(request, image)]) >= 3
        client.check_nothing_named()


async def test_a_stalled_download_times_out_and_goes_on(image: BuiltImage) -> None:
    blob = image.layers[0]

    async def bend(request: web.Request) -> web.StreamResponse | None:
        if not is_layer(request, image) or "Range" in request.headers:
            return None
        response = web.StreamResponse(headers={"Content-Length": str(len(blob))})
        await response.prepare(request)
        await response.write(blob[:100_000])
        await asyncio.sleep(60)
        return response

    async with ScriptedRegistry(image, bend=bend) as registry, Client(RegistryOptions(stall_s=0.3)) as client:
        await client.pull(registry.reference)
        assert client.layers.blobs[Digest(digest_of(blob))] == blob


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_busy_registries_are_asked_again(image: BuiltImage, status: int) -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if request.path != "/v2/" and registry.counts[request.path] < 3:
            return web.Response(status=status, headers={"Retry-After": "0"})
        return None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        await client.pull(registry.reference)
        assert set(registry.counts.values()) == {1, 3}


async def test_too_many_requests_for_long_is_told(image: BuiltImage) -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if "manifests" in request.path:
            error = {"code": "TOOMANYREQUESTS", "message": "You have reached your pull rate limit."}
            return web.json_response({"errors": [error]}, status=429, headers={"Retry-After": "3600"})
        return None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        with pytest.raises(errdefs.Unavailable, match=r"toomanyrequests: You have reached your pull rate limit."):
            await client.pull(registry.reference)
        assert len(registry.paths("manifests")) == 1


async def test_redirects_are_followed_without_authorization(image: BuiltImage) -> None:
    async with ScriptedRegistry(image) as storage:

        async def bend(request: web.Request) -> web.StreamResponse | None:
            if "/blobs/" in request.path and "Authorization" in request.headers:
                raise web.HTTPTemporaryRedirect(f"http://{storage.address}{request.path}?signature=1")
            return None

        async with ScriptedRegistry(image, bend=bend, token=True) as registry, Client() as client:
            await client.pull(registry.reference, Credentials("alice", "secret"))
            assert len(storage.seen) == 2
            assert all("Authorization" not in request.headers for request in storage.seen)


async def test_endless_redirects_end(image: BuiltImage) -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if "/blobs/" in request.path:
            raise web.HTTPFound(request.path)
        return None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        with pytest.raises(errdefs.Error, match="stopped after 10 redirects"):
            await client.pull(registry.reference)


async def test_a_signed_address_is_followed_byte_by_byte(image: BuiltImage) -> None:
    signed = "/storage/a%2Fb%3d%7E?X-Signature=a%2Bb%2f%20c&y=%41"
    raw: list[str] = []

    async def bend(request: web.Request) -> web.StreamResponse | None:
        if is_layer(request, image):
            return web.Response(status=307, headers={"Location": signed})
        if request.path.startswith("/storage/"):
            raw.append(request.raw_path)
            return web.Response(body=image.layers[0])
        return None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        await client.pull(registry.reference)
    assert raw == [signed]


async def test_one_connection_serves_all_requests_of_a_small_pull(image: BuiltImage) -> None:
    async with ScriptedRegistry(image, token=True) as registry, Client() as client:
        await client.pull(registry.reference)
        assert len(registry.peers) == 1


# Lies.


async def test_wrong_layer_digest_is_refused_and_dropped(image: BuiltImage) -> None:
    wrong = image.layers[0][:-600] + bytes(600)[:-1] + b"x"

    async def bend(request: web.Request) -> web.StreamResponse | None:
        return web.Response(body=wrong) if is_layer(request, image) else None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        with pytest.raises(errdefs.DataLoss, match="filesystem layer verification failed for digest sha256:"):
            await client.pull(registry.reference)
        client.check_nothing_named()
        assert client.layers.ingests == {}


@pytest.mark.parametrize("size", [-10, 10])
async def test_wrong_layer_size_is_refused(image: BuiltImage, size: int) -> None:
    blob = image.layers[0]
    wrong = blob[:size] if size < 0 else blob + bytes(size)

    async def bend(request: web.Request) -> web.StreamResponse | None:
        return web.Response(body=wrong) if is_layer(request, image) else None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        with pytest.raises(errdefs.DataLoss, match="were promised"):
            await client.pull(registry.reference)
        client.check_nothing_named()


async def test_an_endless_layer_is_cut_off_at_its_promised_size(image: BuiltImage) -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if not is_layer(request, image):
            return None
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        with pytest.raises(errdefs.DataLoss, match="more than the"):
            await client.pull(registry.reference)


async def test_wrong_config_is_refused(image: BuiltImage) -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith(digest_of(image.config)):
            return web.Response(body=image.config.replace(b"linux", b"Linux"))
        return None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        with pytest.raises(errdefs.DataLoss, match="unexpected digest"):
            await client.pull(registry.reference)
        assert client.content.blobs == {}


async def test_manifest_that_is_not_its_digest_is_refused(image: BuiltImage) -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if "manifests" in request.path:
            headers = {"Content-Type": image.manifest_type, "Docker-Content-Digest": image.digest}
            return web.Response(body=image.manifest + b" ", headers=headers)
        return None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        for name in (f"{registry.reference}@{image.digest}", registry.reference):
            with pytest.raises(errdefs.DataLoss, match=f"manifest verification failed for digest {image.digest}"):
                await client.pull(name)


async def test_manifest_of_an_index_that_is_not_its_digest_is_refused(image: BuiltImage) -> None:
    index = index_of(image)

    async def bend(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith("manifests/latest"):
            return web.Response(body=index, content_type="application/vnd.oci.image.index.v1+json")
        if "manifests" in request.path:
            return web.Response(body=image.manifest[:-1] + b" }", content_type=image.manifest_type)
        return None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        with pytest.raises(errdefs.DataLoss):
            await client.pull(registry.reference)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_huge_manifest_is_refused(image: BuiltImage, announced: bool) -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if "manifests" not in request.path:
            return None
        response = web.StreamResponse(headers={"Content-Type": image.manifest_type})
        if announced:
            response.content_length = 1 << 40
        else:
            response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        with pytest.raises(errdefs.ResourceExhausted, match="manifest: "):
            await client.pull(registry.reference)


async def test_cve_2021_41190_a_manifest_served_as_an_index_is_refused(image: BuiltImage) -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if "manifests" in request.path:
            return web.Response(body=image.manifest, content_type="application/vnd.oci.image.index.v1+json")
        return None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        with pytest.raises(errdefs.InvalidArgument, match="disagrees"):
            await client.pull(registry.reference)


async def test_layers_that_are_not_what_the_config_says_are_refused(image: BuiltImage) -> None:
    other = build([layer_tar({"other": b"x"})], level=0)
    manifest = json.loads(image.manifest)
    manifest["config"].update(digest=digest_of(other.config), size=len(other.config))
    raw = json.dumps(manifest).encode()
    mixed = BuiltImage(raw, image.manifest_type, other.config, image.layers, other.diff_ids)
    async with ScriptedRegistry(mixed) as registry, Client() as client:
        with pytest.raises(errdefs.DataLoss, match="layers from manifest don't match image configuration"):
            await client.pull(registry.reference)
        client.check_nothing_named()


# Tokens.


async def test_anonymous_token(image: BuiltImage) -> None:
    async with ScriptedRegistry(image, token=True) as registry, Client() as client:
        await client.pull(registry.reference)
        (asked,) = registry.paths("/token")
        assert dict(asked.query) == {"service": "tests", "scope": "repository:image:pull"}


async def test_token_for_a_user_and_one_for_all_requests(image: BuiltImage) -> None:
    async with ScriptedRegistry(image, token=True) as registry, Client() as client:
        await client.pull(registry.reference, Credentials("alice", "secret"))
        (asked,) = registry.paths("/token")
        assert asked.query["account"] == "alice"
        assert base64.b64decode(asked.headers["Authorization"].split()[1]) == b"alice:secret"


async def test_wrong_password_is_told(image: BuiltImage) -> None:
    async with ScriptedRegistry(image, token=True) as registry, Client() as client:
        with pytest.raises(errdefs.Unauthenticated, match="unauthorized: incorrect username or password"):
            await client.pull(registry.reference, Credentials("alice", "wrong"))


async def test_identity_token_is_exchanged_by_post(image: BuiltImage) -> None:
    async with ScriptedRegistry(image, token=True) as registry, Client() as client:
        await client.pull(registry.reference, Credentials(identity_token=registry.identity))
        (asked,) = registry.paths("/token")
        assert asked.method == "POST"


async def test_registry_token_is_used_as_it_is(image: BuiltImage) -> None:
    async with ScriptedRegistry(image, token=True) as registry, Client() as client:
        registry.valid_tokens.add("ready")
        await client.pull(registry.reference, Credentials(registry_token="ready"))
        assert registry.paths("/token") == []


async def test_a_refused_token_is_renewed_once(image: BuiltImage) -> None:
    async with ScriptedRegistry(image, token=True) as registry, Client() as client:
        await client.pull(registry.reference)
        registry.valid_tokens.clear()
        client.layers.committed.clear()
        client.content.blobs.clear()
        await client.pull(registry.reference)
        assert len(registry.paths("/token")) == 2


async def test_a_token_that_expires_in_the_middle_of_a_layer_is_renewed_and_the_rest_fetched(image: BuiltImage) -> None:
    blob = image.layers[0]

    async def bend(request: web.Request) -> web.StreamResponse | None:
        if is_layer(request, image) and "Range" not in request.headers:
            answer = await send_part(request, blob[:250_000], len(blob))
            registry.valid_tokens.clear()
            return answer
        return None

    async with ScriptedRegistry(image, bend=bend, token=True) as registry, Client() as client:
        await client.pull(registry.reference)
        assert client.layers.blobs[Digest(digest_of(blob))] == blob and client.layers.written == len(blob)
        assert len(registry.paths("/token")) == 2


async def test_a_registry_is_asked_again_when_it_says(image: BuiltImage) -> None:
    asked: list[float] = []

    async def bend(request: web.Request) -> web.StreamResponse | None:
        if "/manifests/" in request.path:
            asked.append(asyncio.get_running_loop().time())
            if len(asked) == 1:
                return web.Response(status=429, headers={"Retry-After": "1"})
        return None

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        await client.pull(registry.reference)
        # By itself it would have waited for some hundredths of a second.
        assert len(asked) == 2 and asked[1] - asked[0] >= 1.0


async def test_access_denied_is_told_as_docker_does(image: BuiltImage) -> None:
    async def bend(request: web.Request) -> web.StreamResponse | None:
        if "manifests" not in request.path:
            return None
        challenge = f'Bearer realm="http://{registry.address}/token",service="tests",error="insufficient_scope"'
        error = {"code": "UNAUTHORIZED", "message": "authentication required"}
        return web.json_response({"errors": [error]}, status=401, headers={"WWW-Authenticate": challenge})

    async with ScriptedRegistry(image, bend=bend) as registry, Client() as client:
        with pytest.raises(errdefs.NotFound) as caught:
            await client.pull(registry.reference)
        assert str(caught.value) == (
            f"pull access denied for {registry.reference}, repository does not exist or may require 'docker login': "
            "denied: requested access to the resource is denied"
        )


async def test_mirrors_come_first_and_failing_ones_are_passed_over(image: BuiltImage) -> None:
    async def broken(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=500)

    async with (
        ScriptedRegistry(image, name="library/image", bend=broken) as bad,
        ScriptedRegistry(image, name="library/image", token=True) as good,
        Client(RegistryOptions(mirrors=(f"http://{bad.address}", f"http://{good.address}/"))) as client,
    ):
        # Docker Hub itself is never reached: the second mirror answers.
        result = await client.pull("image", Credentials("alice", "secret"))
        assert result.name == "docker.io/library/image:latest" and bad.seen
        assert all("account" not in request.query for request in good.paths("/token")), "credentials went to a mirror"
