"""Remote drivers and remote IPAM: a plugin of the test's own, spoken to over its socket."""

import json
import socketserver
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
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

    def __init__(self, lab, name: str = "toy") -> None:
        self.lab, self.calls, self.refuse = lab, [], ""
        self.free = [f"10.66.0.{n}/24" for n in range(2, 255)]
        plugin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
                method = self.path.rpartition(".")[2]
                plugin.calls.append((method, body))
                answer = {"Err": "no, sorry"} if method == plugin.refuse else getattr(plugin, method)(body)
                data = json.dumps(answer or {}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def address_string(self) -> str:
                return "plugin"

            def log_message(self, *_: Any) -> None:
                return

        server = socketserver.ThreadingUnixStreamServer(str(lab.root / f"{name}.sock"), Handler)
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
        return {"PoolID": "p1", "Pool": "10.66.0.0/24"}

    def RequestAddress(self, body):
        if body["Options"]:
            return {"Address": "10.66.0.1/24"}
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
