"""How registries are reached: proxies, client certificates, and what is told when they are not."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from support.image import BuiltImage, build, layer_tar
from support.proxy import Proxy
from support.pulling import Client
from support.registry import make_certificates
from support.scripted_registry import ScriptedRegistry

from rorqual import errdefs
from rorqual.distribution.endpoints import RegistryOptions
from rorqual.distribution.proxies import Proxies

HOST = "registry.test"


@pytest.fixture
def image() -> BuiltImage:
    return build([layer_tar({"a": b"1"})])


@pytest.fixture(autouse=True)
def no_proxies_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@asynccontextmanager
async def tls_registry(
    image: BuiltImage, directory: Path, *, clients: bool = False, hosts: tuple[str, ...] = ("localhost",)
) -> AsyncIterator[int]:
    """The port of a registry of `image` in TLS, on 127.0.0.1; with `clients` it asks for a certificate of its CA."""
    certificate, key = make_certificates(directory, hosts=hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(directory / "ca.crt")
    truth = ScriptedRegistry(image)

    async def answer(request: web.Request) -> web.StreamResponse:
        return truth.truth(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def port_of(registry: ScriptedRegistry) -> int:
    return int(registry.address.rpartition(":")[2])


async def test_a_registry_in_http_is_reached_through_its_proxy(image: BuiltImage) -> None:
    async with ScriptedRegistry(image) as registry, Proxy({HOST: port_of(registry)}) as proxy:
        # The https that is tried first has no proxy; not even the registry's name can be looked up here.
        async with Client(RegistryOptions(proxies=Proxies(http=proxy.url)), attempts=1) as client:
            with pytest.raises(errdefs.Unavailable, match=f"dial tcp: lookup {HOST}: (no such host|Temporary failure)"):
                await client.pull(f"{HOST}/image")
        proxies = Proxies(http=proxy.url, https=proxy.url)
        async with Client(RegistryOptions(insecure=(HOST,), proxies=proxies)) as client:
            await client.pull(f"{HOST}/image")
            assert list(client.images.names) == [f"{HOST}/image:latest"]
        assert f"GET http://{HOST}/v2/ HTTP/1.1" in proxy.seen


async def test_a_registry_in_tls_is_verified_through_the_proxys_tunnel(image: BuiltImage, tmp_path: Path) -> None:
    place = tmp_path / "certs.d" / HOST
    place.mkdir(parents=True)
    async with tls_registry(image, tmp_path, hosts=(HOST,)) as port, Proxy({f"{HOST}:443": port}) as proxy:
        options = RegistryOptions(certs_dirs=(str(tmp_path / "certs.d"),), proxies=Proxies(https=proxy.url))
        async with Client(options) as client:
            with pytest.raises(errdefs.Unavailable, match="x509: certificate signed by unknown authority"):
                await client.pull(f"{HOST}/image")
        (place / "ca.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
        async with Client(options) as client:
            await client.pull(f"{HOST}/image")
        assert set(proxy.seen) == {f"CONNECT {HOST}:443 HTTP/1.1"}


async def test_the_environments_proxy_is_used_unless_no_proxy_says_otherwise(
    image: BuiltImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedRegistry(image) as registry, Proxy({HOST: port_of(registry)}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with Client(RegistryOptions(insecure=(HOST,))) as client:
            await client.pull(f"{HOST}/image")
        seen = len(proxy.seen)
        monkeypatch.setenv("NO_PROXY", f"other.test,{HOST}")
        async with Client(RegistryOptions(insecure=(HOST,))) as client:
            with pytest.raises(errdefs.Unavailable, match=f"dial tcp: lookup {HOST}"):
                await client.pull(f"{HOST}/image")
        assert len(proxy.seen) == seen


async def test_a_proxy_is_given_its_password(image: BuiltImage) -> None:
    async with ScriptedRegistry(image) as registry, Proxy({HOST: port_of(registry)}, login="me:secret") as proxy:
        proxies = Proxies(http=proxy.url, https=proxy.url)
        async with Client(RegistryOptions(insecure=(HOST,), proxies=proxies)) as client:
            await client.pull(f"{HOST}/image")
        wrong = proxy.url.replace("secret", "wrong")
        options = RegistryOptions(insecure=(HOST,), proxies=Proxies(http=wrong, https=wrong))
        async with Client(options, attempts=1) as client:
            with pytest.raises(errdefs.Error, match="407") as refused:
                await client.pull(f"{HOST}/image")
            assert "wrong" not in str(refused.value)


async def test_a_proxy_that_is_not_there_or_refuses_is_told_apart() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with Client(RegistryOptions(proxies=Proxies(https=f"http://127.0.0.1:{port}"))) as client:
        text = f"proxyconnect tcp: dial tcp 127.0.0.1:{port}: connect: connection refused"
        with pytest.raises(errdefs.Unavailable, match=text):
            await client.pull(f"{HOST}/image")
    async with Proxy({}) as proxy, Client(RegistryOptions(proxies=Proxies(https=proxy.url))) as client:
        with pytest.raises(errdefs.Unavailable, match="proxyconnect tcp: 502 Bad Gateway"):
            await client.pull(f"{HOST}/image")


async def test_a_client_certificate_of_certs_d_is_shown_to_the_registry_that_wants_one(
    image: BuiltImage, tmp_path: Path
) -> None:
    async with tls_registry(image, tmp_path, clients=True, hosts=(HOST,)) as port:
        address = f"registry.test:{port}"
        async with Proxy({address: port}) as proxy:
            place = tmp_path / "certs.d" / address
            place.mkdir(parents=True, exist_ok=True)
            (place / "ca.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
            options = RegistryOptions(certs_dirs=(str(tmp_path / "certs.d"),), proxies=Proxies(https=proxy.url))
            async with Client(options, attempts=1) as client:
                # asyncio drops the alert that says why (TLS 1.3 sends it after the handshake).
                with pytest.raises(errdefs.Unavailable, match=r"certificate required|EOF"):
                    await client.pull(f"{address}/image")
            make_certificates(tmp_path / "client", hosts=("alice",), ca=tmp_path)
            (place / "client.cert").write_bytes((tmp_path / "client" / "server.crt").read_bytes())
            (place / "client.key").write_bytes((tmp_path / "client" / "server.key").read_bytes())
            async with Client(options) as client:
                await client.pull(f"{address}/image")


async def test_a_connection_that_ends_is_told_as_docker_does(image: BuiltImage) -> None:
    async def ends(request: web.Request) -> web.StreamResponse | None:
        if "/manifests/" in request.path and request.transport is not None:
            request.transport.abort()
            await asyncio.sleep(0)
        return None

    async with ScriptedRegistry(image, bend=ends) as registry, Client(attempts=1) as client:
        text = (
            rf'Get "http://{registry.address}/v2/image/manifests/latest": (EOF|read tcp .*: connection reset by peer)'
        )
        with pytest.raises(errdefs.Unavailable, match=text):
            await client.pull(registry.reference)
