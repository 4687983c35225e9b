"""Remote drivers and remote IPAM: a plugin of the test's own, spoken to over its socket."""

import asyncio
import json
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import asynccontextmanager, nullcontext
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Network
from typing import Any

import pytest

from rorqual import errdefs
from rorqual.libnetwork import plugins
from rorqual.libnetwork.controller import Controller
from rorqual.libnetwork.model import ControllerOptions, EndpointConfig, NetworkConfig, PortBinding

pytestmark = pytest.mark.root


@asynccontextmanager
async def controller(lab, live=()):
    plugins.SOCKETS = (str(lab.root),)  # this is the laboratory's own process
    c = Controller(lab.db, lab.exec_root, ControllerOptions())
    await c.start(live)
    try:
        yield c
    finally:
        await c.stop()


class Plugin:
    """Networks are bridges `pl0`; its addresses are 10.66.0.0/24's, the last first. It keeps what it was asked."""

    def __init__(self, lab, name: str = "toy", net: str = "10.66.0") -> None:
        self.lab, self.calls, self.refuse, self.odd = lab, [], "", {}
        self.hang, self.drips, self.hung, self.go_on = "", "", threading.Event(), threading.Event()
        self.net, self.free = net, [f"{net}.{n}/24" for n in range(2, 255)]
        plugin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
                method = self.path.rpartition(".")[2]
                plugin.calls.append((method, body))
                answer = {"Err": "no, sorry"} if method == plugin.refuse else getattr(plugin, method)(body)
                data = json.dumps(answer or {}).encode()
                if method in plugin.odd:
                    data = plugin.odd[method]
                if method == plugin.hang:
                    plugin.hung.set()
                    while plugin.drips and not plugin.go_on.wait(0.05):
                        self.wfile.write(b"HTTP/1.0 200 OK\r\n" if plugin.drips == "head" else b"X")
                    plugin.go_on.wait(30)
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def address_string(self) -> str:
                return "plugin"

            def log_message(self, *_: Any) -> None:
                return

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                return  # the client is gone

        server = Server(str(lab.root / f"{name}.sock"), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def names(self) -> list[str]:
        return [method for method, _ in self.calls]

    def Activate(self, _body):
        return {"Implements": ["NetworkDriver", "IpamDriver"]}

    def CreateNetwork(self, _body):
        self.lab.run(None, "ip link add pl0 type bridge && ip link set pl0 up && ip addr add 10.66.0.1/24 dev pl0")

    def DeleteNetwork(self, _body):
        self.lab.run(None, "ip link del pl0")

    def CreateEndpoint(self, _body):
        return {"Interface": {}}

    def Join(self, body):
        name = f"pl{body['EndpointID'][:8]}"
        self.lab.run(None, f"ip link add {name} type veth peer name {name}i && ip link set {name} master pl0 up")
        return {"InterfaceName": {"SrcName": f"{name}i", "DstPrefix": "eth"}, "Gateway": "10.66.0.1"}

    def Leave(self, _body):
        return {}

    DeleteEndpoint = ProgramExternalConnectivity = RevokeExternalConnectivity = ReleasePool = Leave

    def GetDefaultAddressSpaces(self, _body):
        return {"LocalDefaultAddressSpace": "here", "GlobalDefaultAddressSpace": "there"}

    def RequestPool(self, _body):
        return {"PoolID": "p1", "Pool": f"{self.net}.0/24"}

    def RequestAddress(self, body):
        if body["Options"]:
            return {"Address": f"{self.net}.1/24"}
        return {"Address": f"{body['Address']}/24" if body["Address"] else self.free.pop()}

    def ReleaseAddress(self, body):
        self.free.append(f"{body['Address']}/24")


def test_a_plugin_makes_networks_and_its_ipam_gives_the_addresses(lab: Callable) -> None:
    async def body(lab):
        plugin = Plugin(lab)
        async with controller(lab) as c:
            network = await c.create_network(
                NetworkConfig("red", driver="toy", ipam_driver="toy", options={"colour": "red"})
            )
            assert network.subnet == IPv4Network("10.66.0.0/24") and str(network.gateway) == "10.66.0.1"
            sandbox = await c.create_sandbox("c1")
            wish = EndpointConfig(name="c1", port_bindings=(PortBinding(80, host_port=8080),))
            endpoint = await c.connect("c1", "red", wish)
            assert endpoint.ip == "10.66.0.254" and endpoint.gateway == "10.66.0.1"
            lab.serve(sandbox.netns_path, 80)
            assert await lab.call(None, "10.66.0.254", 80) == "hello 10.66.0.1"
            assert "default via 10.66.0.1 dev eth0" in lab.run(sandbox.netns_path, "ip route")
            asked = dict(plugin.calls)
            assert asked["CreateNetwork"]["Options"]["com.docker.network.generic"] == {"colour": "red"}
            assert asked["CreateEndpoint"]["Interface"]["Address"] == "10.66.0.254/24"
            assert asked["ProgramExternalConnectivity"]["Options"]["com.docker.network.portmap"][0]["HostPort"] == 8080
            await c.create_sandbox("c2")
            assert (await c.connect("c2", "red", EndpointConfig(ip="10.66.0.9"))).ip == "10.66.0.9"
            await c.delete_sandbox("c2")
        async with controller(lab, ("c1",)) as c:
            assert plugin.names().count("CreateNetwork") == 1  # it knows its networks
            assert (await c.sandbox("c1")).endpoints[0].ip == "10.66.0.254"
            await c.delete_sandbox("c1")
            await c.remove_network("red")
        ends = ["Leave", "DeleteEndpoint", "ReleaseAddress", "DeleteNetwork", "ReleasePool"]
        assert [name for name in plugin.names()[-8:] if name in ends] == ends

    lab(body)


@pytest.mark.parametrize("method", ["CreateNetwork", "RequestPool"])
def test_a_network_that_a_plugin_refuses_leaves_nothing(lab: Callable, method: str) -> None:
    async def body(lab):
        plugin = Plugin(lab)
        plugin.refuse = method
        async with controller(lab) as c:
            with pytest.raises(errdefs.Internal, match="no, sorry"):
                await c.create_network(NetworkConfig("red", driver="toy", ipam_driver="toy"))
            assert len(await c.networks()) == 3
            assert method == "RequestPool" or plugin.names()[-1] == "ReleasePool"

    lab(body)


@pytest.mark.parametrize("method", ["RequestAddress", "CreateEndpoint", "Join", "ProgramExternalConnectivity"])
def test_an_endpoint_that_a_plugin_refuses_leaves_nothing(lab: Callable, method: str) -> None:
    async def body(lab):
        plugin = Plugin(lab)
        async with controller(lab) as c:
            await c.create_network(NetworkConfig("red", driver="toy", ipam_driver="toy"))
            await c.create_sandbox("c1")
            plugin.refuse = method
            wish = EndpointConfig(name="c1", port_bindings=(PortBinding(80, host_port=8080),))
            with pytest.raises(errdefs.Internal, match="no, sorry"):
                await c.connect("c1", "red", wish)
            assert len(plugin.free) == 253 and not (await c.sandbox("c1")).endpoints
            plugin.refuse = ""
            assert (await c.connect("c1", "red", wish)).ip

    lab(body)


def test_a_plugin_that_is_none_or_does_not_answer_is_said_so(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            for config in (NetworkConfig("red", driver="nosuch"), NetworkConfig("red", ipam_driver="nosuch")):
                with pytest.raises(errdefs.NotFound, match="could not find plugin nosuch in v1 plugin registry"):
                    await c.create_network(config)
            with pytest.raises(errdefs.NotFound):
                await c.create_network(NetworkConfig("red", driver="../../etc/passwd"))
            (lab.root / "dead.sock").touch()
            with pytest.raises(errdefs.Unavailable, match="plugin dead does not answer"):
                await c.create_network(NetworkConfig("red", driver="dead"))

    lab(body)


@pytest.mark.parametrize("method", ["CreateNetwork", "RequestPool", "Join", "RequestAddress"])
def test_a_plugin_that_hangs_holds_up_nobody_else(lab: Callable, method: str) -> None:
    async def body(lab):
        plugin = Plugin(lab)
        Plugin(lab, "other", "10.67.0")
        async with controller(lab) as c:
            if method in ("Join", "RequestAddress"):
                await c.create_network(NetworkConfig("slow", driver="toy", ipam_driver="toy"))
                await c.create_sandbox("c1")
            plugin.hang = method
            if method in ("Join", "RequestAddress"):
                held = asyncio.ensure_future(c.connect("c1", "slow", EndpointConfig(name="c1")))
            else:
                held = asyncio.ensure_future(c.create_network(NetworkConfig("slow", driver="toy", ipam_driver="toy")))
            await asyncio.to_thread(plugin.hung.wait, 10)
            began = time.monotonic()
            await c.create_network(NetworkConfig("red"))
            await c.create_network(NetworkConfig("blue", ipam_driver="other"))
            await c.create_sandbox("c2")
            await c.connect("c2", "red", EndpointConfig(name="c2"))
            await c.connect("c2", "blue", EndpointConfig(name="c2"))
            await c.delete_sandbox("c2")
            await c.remove_network("red")
            assert {"bridge", "blue"} <= {network.name for network in await c.networks()}
            with pytest.raises(errdefs.Conflict):
                await c.create_network(NetworkConfig("slow"))
            assert time.monotonic() - began < 10 and not held.done()
            later = asyncio.ensure_future(c.remove_network("slow"))
            await asyncio.wait([later], timeout=10 if method == "RequestPool" else 0.1)
            assert later.done() == (method == "RequestPool")  # nobody knows of it yet; else it waits for its turn
            plugin.hang = ""
            plugin.go_on.set()
            await asyncio.wait_for(held, 10)
            refused = {"RequestPool": errdefs.NotFound, "CreateNetwork": None}.get(method, errdefs.PermissionDenied)
            with pytest.raises(refused) if refused else nullcontext():
                await later

    lab(body)


@pytest.mark.parametrize("drips", ["", "head", "line"])
def test_a_plugin_has_so_long_for_a_whole_answer(lab: Callable, drips: str) -> None:
    async def body(lab):
        plugins.TIMEOUT_S = 1.0  # this is the laboratory's own process
        plugin = Plugin(lab)
        plugin.hang, plugin.drips = "CreateNetwork", drips
        async with controller(lab) as c:
            began = time.monotonic()
            with pytest.raises(errdefs.Unavailable, match=r"does not answer NetworkDriver\.CreateNetwork"):
                await c.create_network(NetworkConfig("red", driver="toy"))
            assert time.monotonic() - began < 10
            assert [n.name for n in await c.networks() if not n.predefined] == []

    lab(body)


@pytest.mark.parametrize(
    "method,answer",
    [
        ("CreateNetwork", b"[" * 100_000),
        ("CreateNetwork", b"[]"),
        ("CreateNetwork", b"{"),
        ("Activate", b'{"Implements": {"a": 1}}'),
        ("GetDefaultAddressSpaces", b'{"LocalDefaultAddressSpace": ["a"]}'),
        ("RequestPool", b'{"PoolID": "p", "Pool": 7}'),
        ("RequestPool", b'{"PoolID": "\\ud800", "Pool": "10.66.0.0/24"}'),
        ("RequestPool", b'{"PoolID": "p", "Pool": "fd00::/64"}'),
        ("RequestPool", b'{"PoolID": "p", "Pool": "10.66.0.0/24", "Data": [1]}'),
        (
            "RequestPool",
            b'{"PoolID": "p", "Pool": "10.66.0.0/24", "Data": {"com.docker.network.gateway": "10.9.9.9/24"}}',
        ),
        ("RequestAddress", b'{"Address": "nowhere"}'),
    ],
)
def test_a_network_by_odd_answers_is_refused_by_name(lab: Callable, method: str, answer: bytes) -> None:
    async def body(lab):
        plugin = Plugin(lab)
        plugin.odd[method] = answer
        async with controller(lab) as c:
            with pytest.raises((errdefs.Internal, errdefs.Unavailable, errdefs.NotFound), match="plugin toy"):
                await c.create_network(NetworkConfig("red", driver="toy", ipam_driver="toy"))
            assert len(await c.networks()) == 3
            assert plugin.names().count("RequestPool") <= plugin.names().count("ReleasePool") + (
                method == "RequestPool"
            )

    lab(body)


@pytest.mark.parametrize(
    "method,answer",
    [
        ("RequestAddress", b'{"Address": "192.0.2.9/24"}'),
        ("CreateEndpoint", b'{"Interface": [1]}'),
        ("CreateEndpoint", b'{"Interface": {"MacAddress": "purple"}}'),
        ("CreateEndpoint", b'{"Interface": {"AddressIPv6": "10.66.0.7/24"}}'),
        ("Join", b'{"InterfaceName": "eth0"}'),
        ("Join", b'{"InterfaceName": {"SrcName": "../../etc/passwd"}}'),
        ("Join", b'{"InterfaceName": {"SrcName": "nosuch0"}}'),
        ("Join", b'{"Gateway": "fd00::1"}'),
        ("Join", b'{"StaticRoutes": [{"Destination": "everywhere"}]}'),
        ("Join", b'{"StaticRoutes": {}, "Gateway": 5}'),
    ],
)
def test_an_endpoint_by_odd_answers_is_refused_by_name(lab: Callable, method: str, answer: bytes) -> None:
    async def body(lab):
        plugin = Plugin(lab)
        async with controller(lab) as c:
            await c.create_network(NetworkConfig("red", driver="toy", ipam_driver="toy"))
            await c.create_sandbox("c1")
            plugin.odd[method] = answer
            with pytest.raises(errdefs.Internal, match="plugin toy"):
                await c.connect("c1", "red", EndpointConfig(name="c1"))
            plugin.odd.clear()
            assert not (await c.sandbox("c1")).endpoints
            assert (await c.connect("c1", "red", EndpointConfig(name="c1"))).ip

    lab(body)


def test_a_plugins_static_routes_are_the_sandboxs(lab: Callable) -> None:
    async def body(lab):
        plugin = Plugin(lab)
        routes = [
            {"Destination": "192.0.2.0/24", "RouteType": 0, "NextHop": "10.66.0.1"},
            {"Destination": "198.51.100.0/24", "RouteType": 1, "NextHop": ""},
        ]
        join = plugin.Join
        plugin.Join = lambda body: join(body) | {"StaticRoutes": routes}
        async with controller(lab) as c:
            await c.create_network(NetworkConfig("red", driver="toy", ipam_driver="toy"))
            sandbox = await c.create_sandbox("c1")
            await c.connect("c1", "red", EndpointConfig(name="c1"))
            shown = lab.run(sandbox.netns_path, "ip route")
            assert "192.0.2.0/24 via 10.66.0.1 dev eth0" in shown and "198.51.100.0/24 dev eth0 scope link" in shown

    lab(body)


def test_the_daemon_starts_without_its_plugin_and_removes_what_was_the_plugins(lab: Callable) -> None:
    async def body(lab):
        plugin = Plugin(lab)
        async with controller(lab) as c:
            await c.create_network(NetworkConfig("red", driver="toy", ipam_driver="toy"))
            Plugin(lab, "other", "10.67.0")
            await c.create_network(NetworkConfig("blue", ipam_driver="other"))
        plugin.hang = "Activate"
        began = time.monotonic()
        async with controller(lab) as c:
            assert time.monotonic() - began < 10
            for name in ("toy", "other"):
                (lab.root / f"{name}.sock").unlink()
            with pytest.raises(errdefs.NotFound, match="could not find plugin toy"):
                await c.create_sandbox("c1")
                await c.connect("c1", "red", EndpointConfig(name="c1"))
            await c.delete_sandbox("c1")
            for name in ("red", "blue"):
                await c.remove_network(name)
            assert len(await c.networks()) == 3
            plugin.go_on.set()

    lab(body)
