"""The network commands and the networking flags of run, create and connect, by both command lines: each is shown by
what came of it in real traffic, names or refusals."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from support.covers import covers
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root

SERVER = "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp"


@pytest.fixture(autouse=True)
def networks_end(engine: Engine) -> Iterator[None]:
    """Configuration-only networks are in no prune's way: removed by name."""
    yield
    for container in engine.api("GET", "/containers/json?all=1").json:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for network in engine.api("GET", "/networks?filters=" + '{"type":["custom"]}').json:
        engine.api("DELETE", f"/networks/{network['Id']}")
    engine.api("POST", "/networks/prune")


def web(cli: Cli, name: str, *flags: str) -> str:
    return cli.out("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", SERVER)


def fetched(cli: Cli, address: str, *flags: str) -> str:
    """What a client container gets from there, "" for nothing. The server may just be starting."""
    request = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80 | grep hello"
    command = f"for i in $(seq 25); do {request} && exit 0; usleep 100000; done; exit 1"
    return cli("run", "--rm", *flags, "busybox", "sh", "-c", command, code=None).out.strip()


def looked_up(cli: Cli, name: str, *flags: str) -> str:
    """The address that a container gets for a name, "" for none."""
    out = cli("run", "--rm", *flags, "busybox", "ping", "-c", "1", "-W", "1", name, code=None).out
    found = re.match(r"PING \S+ \(([^)]+)\)", out)
    return found[1] if found else ""


def from_host(engine: Engine, port: int, address: str = "127.0.0.1") -> str:
    assert engine.network is not None
    script = f"import urllib.request as r; print(r.urlopen('http://{address}:{port}/', timeout=10).read().decode())"
    return engine.network.run("python3", "-c", script, check=False).strip()


def connected(engine: Engine, port: int) -> socket.socket:
    """A connection from the engine's host to its loopback, as soon as somebody listens there."""
    made: list[socket.socket] = []

    def connects() -> bool:
        with engine.inside(), suppress(OSError):
            made.append(socket.create_connection(("127.0.0.1", port), timeout=15))
        return bool(made)

    wait_for(connects, f"port {port} is served")
    return made[0]


def said_back(connection: socket.socket, text: bytes) -> bool:
    connection.sendall(text + b"\n")
    return connection.recv(100) == text + b"\n"


def inspect(cli: Cli, name: str) -> dict:
    return json.loads(cli.out("network", "inspect", name))[0]


def test_create_takes_every_flag_and_inspect_tells_them(cli: Cli) -> None:
    flags = ["--attachable", "--internal", "--ipv6", "--label", "a=b", "--opt", "com.docker.network.driver.mtu=1400"]
    flags += [
        "--subnet",
        "10.81.0.0/16",
        "--ip-range",
        "10.81.5.0/24",
        "--gateway",
        "10.81.0.9",
        "--aux-address",
        "printer=10.81.5.0",
    ]
    flags += [
        "--subnet",
        "fd81::/64",
        "--gateway",
        "fd81::9",
        "--driver",
        "bridge",
        "--ipam-driver",
        "default",
        "--scope",
        "local",
    ]
    ident = cli.out("network", "create", *flags, "red")
    red = inspect(cli, "red")
    assert red["Id"] == ident and red["Attachable"] and red["Internal"] and red["EnableIPv6"] and red["EnableIPv4"]
    assert red["Labels"] == {"a": "b"} and red["Scope"] == "local" and red["Driver"] == "bridge"
    four, six = red["IPAM"]["Config"]
    assert (four["Subnet"], four["IPRange"], four["Gateway"]) == ("10.81.0.0/16", "10.81.5.0/24", "10.81.0.9")
    assert four["AuxiliaryAddresses"] == {"printer": "10.81.5.0"}
    assert (six["Subnet"], six["Gateway"]) == ("fd81::/64", "fd81::9")
    shown = cli.out("run", "--rm", "--network", "red", "busybox", "ip", "addr", "show", "eth0")
    assert "10.81.5.1/16" in shown and "fd81::1/64" in shown and "mtu 1400" in shown


@covers("network ls", *(f"network ls --{flag}" for flag in ("filter", "format", "no-trunc", "quiet")))
def test_list_filters_formats_and_removes(cli: Cli) -> None:
    for name, labels in (("red", ["--label", "colour=red"]), ("blue", [])):
        cli("network", "create", *labels, name)
    red = inspect(cli, "red")["Id"]
    for filters, found in (
        (["label=colour=red"], ["red"]),
        (["type=custom"], ["blue", "red"]),
        (["type=builtin", "driver=host"], ["host"]),
        (["name=re"], ["red"]),
        ([f"id={red[:10]}"], ["red"]),
        (["scope=local", "driver=null"], ["none"]),
        (["dangling=true"], ["blue", "red"]),
        (["scope=swarm"], []),
    ):
        arguments = [word for text in filters for word in ("--filter", text)]
        assert cli.out("network", "ls", "--format", "{{.Name}}", *arguments).split() == found
    assert cli.out("network", "ls", "--no-trunc", "-qf", "name=red") == red
    assert cli("network", "rm", "red", "nosuch", code=1).out == "red\n"
    assert cli("network", "rm", "--force", "nosuch", "blue").out == "blue\n"
    assert "invalid filter" in cli("network", "ls", "--filter", "colour=red", code=1).err


def test_prune_keeps_what_a_container_uses(cli: Cli) -> None:
    for name in ("red", "blue"):
        cli("network", "create", name)
    cli("run", "-d", "--network", "red", "busybox", "sleep", "60")
    out = cli("network", "prune", "--force").out
    assert "blue" in out and "red" not in out.split()
    assert "red" in cli.out("network", "ls", "--format", "{{.Name}}")


def test_names_aliases_and_links_are_found_on_their_network_only(cli: Cli) -> None:
    for name in ("red", "blue"):
        cli("network", "create", "--internal", name)  # what is not known is refused at once there
    ident = web(cli, "web", "--network", "red", "--network-alias", "www", "--hostname", "box")
    for name in ("web", "www", "box", ident[:12], "web.red"):
        assert fetched(cli, name, "--network", "red") == "hello", name
    assert looked_up(cli, "www", "--network", "blue") == ""
    assert fetched(cli, "db", "--network", "red", "--link", "web:db") == "hello"
    assert looked_up(cli, "db", "--network", "red") == ""


def test_the_long_form_of_network_joins_several_at_once(cli: Cli) -> None:
    cli("network", "create", "--subnet", "10.82.0.0/24", "red")
    cli("network", "create", "--subnet", "10.83.0.0/24", "--subnet", "fd83::/64", "--ipv6", "blue")
    web(
        cli,
        "web",
        "--network",
        "name=red,alias=a,alias=b,ip=10.82.0.7,mac-address=02:00:00:00:00:07",
        "--network",
        "name=blue,ip=10.83.0.8,ip6=fd83::8,gw-priority=7,link-local-ip=169.254.9.9",
    )
    assert fetched(cli, "b", "--network", "red") == "hello"
    assert fetched(cli, "fd83::8", "--network", "blue") == "hello"
    shown = cli.out("exec", "web", "ip", "addr")
    assert "02:00:00:00:00:07" in shown and "10.83.0.8/24" in shown and "169.254.9.9/16" in shown
    assert "default via 10.83.0.1" in cli.out("exec", "web", "ip", "route")
    settings = json.loads(cli.out("inspect", "web", "--format", "{{json .NetworkSettings.Networks}}"))
    assert settings["blue"]["GlobalIPv6Address"] == "fd83::8" and settings["blue"]["GwPriority"] == 7
    assert settings["red"]["Aliases"] == ["a", "b"] and settings["red"]["MacAddress"] == "02:00:00:00:00:07"


def test_connect_and_disconnect_while_it_runs_and_while_it_does_not(cli: Cli) -> None:
    cli("network", "create", "--internal", "--subnet", "10.84.0.0/24", "red")
    web(cli, "web")
    cli("network", "connect", "--alias", "www", "--ip", "10.84.0.44", "red", "web")
    assert looked_up(cli, "www", "--network", "red") == "10.84.0.44"
    assert fetched(cli, "10.84.0.44", "--network", "red") == "hello"
    assert "127.0.0.11" in cli.out("exec", "web", "cat", "/etc/resolv.conf")
    cli("network", "disconnect", "red", "web")
    assert looked_up(cli, "www", "--network", "red") == "" and "eth1" not in cli.out("exec", "web", "ip", "link")
    cli("stop", "-t", "0", "web")
    cli("network", "connect", "--alias", "later", "red", "web")
    cli("network", "disconnect", "bridge", "web")
    cli("start", "web")
    assert fetched(cli, "later", "--network", "red") == "hello"
    assert "eth1" not in cli.out("exec", "web", "ip", "link")
    text = cli("network", "connect", "red", "web", code=1).err
    assert "endpoint with name web already exists in network red" in text
    assert "is not connected to network bridge" in cli("network", "disconnect", "bridge", "web", code=1).err


def test_a_renamed_container_is_found_by_its_new_name(cli: Cli) -> None:
    cli("network", "create", "--internal", "red")
    web(cli, "web", "--network", "red", "--network-alias", "www")
    cli("rename", "web", "wob")
    assert fetched(cli, "wob", "--network", "red") == "hello" and fetched(cli, "www", "--network", "red") == "hello"
    assert looked_up(cli, "web", "--network", "red") == ""


def test_a_rename_succeeds_whenever_the_container_ends(cli: Cli, engine: Engine) -> None:
    for turn in range(12):
        id = cli.out("run", "-d", "--name", "web", "busybox", "sleep", "1000")
        ending = threading.Thread(target=os.kill, args=(engine.inspect(id)["State"]["Pid"], signal.SIGKILL))
        ending.start()
        time.sleep(turn * 0.001)
        answer = engine.api("POST", f"/containers/{id}/rename?name=wob")
        ending.join()
        assert answer.status == 204, f"turn {turn}: {answer.message}"
        wait_for(lambda: not engine.running("wob"), "its end is seen")
        assert engine.inspect("wob")["NetworkSettings"]["IPAddress"] == ""
        assert engine.api("DELETE", "/containers/wob").status == 204


def test_an_internal_network_reaches_nothing_outside(cli: Cli, engine: Engine) -> None:
    cli("network", "create", "--internal", "vault")
    web(cli, "web", "--network", "vault", "-p", "18081:80")
    assert fetched(cli, "web", "--network", "vault") == "hello"
    assert cli.out("port", "web") == "" and from_host(engine, 18081) == ""
    assert cli("run", "--rm", "--network", "vault", "busybox", "ip", "route").out.count("default") == 0


def test_a_configuration_gives_its_settings_to_networks(cli: Cli, engine: Engine) -> None:
    cli("network", "create", "--config-only", "--subnet", "10.85.0.0/24", "--label", "a=b", "plan")
    cli("network", "create", "--config-from", "plan", "--driver", "bridge", "real")
    real = inspect(cli, "real")
    assert real["ConfigFrom"] == {"Network": "plan"} and real["IPAM"]["Config"][0]["Subnet"] == "10.85.0.0/24"
    assert engine.api("GET", "/networks/real?scope=swarm&verbose=1").status == 404
    assert inspect(cli, "plan")["ConfigOnly"] and real["Labels"] == {"a": "b"}
    assert "is in use" in cli("network", "rm", "plan", code=1).err
    both = cli("network", "create", "--config-from", "plan", "--subnet", "10.86.0.0/24", "other", code=1).err
    assert "user specified configurations are not supported" in both
    assert "does not exist" in cli("network", "create", "--config-from", "nosuch", "other", code=1).err
    cli("run", "--rm", "--network", "plan", "busybox", "true", code=125)


@pytest.mark.parametrize(
    "arguments,text",
    [
        (["create", "host"], "operation is not permitted on predefined host network"),
        (["create", "bridge"], "operation is not permitted on predefined bridge network"),
        (["create", "--driver", "host", "red"], 'only one instance of "host" network is allowed'),
        (["create", "--driver", "nosuch", "red"], "could not find plugin nosuch in v1 plugin registry"),
        (["create", "--driver", "overlay", "red"], "This node is not a swarm manager."),
        (["create", "--subnet", "172.31.77.0/25", "red"], "Pool overlaps with other one on this address space"),
        (["create", "--subnet", "10.1.2.3/16", "red"], "it should be 10.1.0.0/16"),
        (["create", "--gateway", "10.1.0.1", "red"], "must have a corresponding subnet"),
        (["create", "-o", "com.docker.network.bridge.gateway_mode_ipv4=odd", "red"], "unknown gateway mode odd"),
        (["create", "-o", "com.docker.network.driver.mtu=x", "red"], "com.docker.network.driver.mtu"),
        (["rm", "bridge"], "bridge is a pre-defined network and cannot be removed"),
        (["inspect", "nosuch"], "network nosuch not found"),
        (["connect", "nosuch", "nosuch"], "network nosuch not found"),
        (["connect", "bridge", "nosuch"], "No such container: nosuch"),
    ],
)
def test_what_is_refused_is_refused_in_dockers_words(cli: Cli, arguments: list[str], text: str) -> None:
    result = cli("network", *arguments, code=1)
    assert text in result.err + result.out


@pytest.mark.parametrize(
    "flags,text",
    [
        (["--ip", "172.31.77.99"], "user specified IP address is supported on user defined networks only"),
        (["--network", "auto", "--ip", "172.20.0.9"], "only when connecting to networks with user configured subnets"),
        (["--network", "fixed", "--ip", "10.99.0.1"], "It does not belong to any of this network's subnets"),
        (["--network", "fixed", "--ip", "10.87.0.1"], "Address already in use"),
        (["--network", "nosuch"], "network nosuch not found"),
    ],
)
def test_addresses_that_cannot_be_had(cli: Cli, flags: list[str], text: str) -> None:
    cli("network", "create", "auto")
    cli("network", "create", "--subnet", "10.87.0.0/24", "fixed")
    assert text in cli("run", "--rm", *flags, "busybox", "true", code=125).err


def test_a_network_runs_out_of_addresses(cli: Cli) -> None:
    cli("network", "create", "--subnet", "10.88.0.0/30", "tiny")
    cli("run", "-d", "--name", "one", "--network", "tiny", "busybox", "sleep", "60")
    assert "no available IPv4 addresses" in cli("run", "--network", "tiny", "busybox", "true", code=125).err
    assert "has active endpoints" in cli("network", "rm", "tiny", code=1).err
    cli("rm", "-f", "one")
    cli("run", "--rm", "--network", "tiny", "busybox", "true")


def test_every_form_of_publishing(cli: Cli, engine: Engine) -> None:
    web(cli, "web", "-p", "18080:80", "-p", "127.0.0.1:18090-18092:80", "-p", "80", "-p", "18085:80/udp", "-P")
    ports = cli.out("port", "web").splitlines()
    assert "80/tcp -> 0.0.0.0:18080" in ports and "80/udp -> 0.0.0.0:18085" in ports
    chosen = [int(line.rpartition(":")[2]) for line in ports if "127.0.0.1" in line]
    assert len(chosen) == 1 and 18090 <= chosen[0] <= 18092
    wait_for(lambda: from_host(engine, 18080) == "hello", "the server answers")
    assert from_host(engine, chosen[0]) == "hello"
    taken = cli("run", "-d", "-p", "18080:81", "busybox", "sleep", "9", code=125).err
    assert "Bind for 0.0.0.0:18080 failed: port is already allocated (by web)" in taken
    cli("run", "--rm", "-p", "18080-18089:80", "busybox", "true")  # the first free one of the range


def test_ports_are_published_and_closed_while_it_runs(engine: Engine) -> None:
    cli = engine.rorqual
    web(cli, "web", "-p", "18100:80")
    wait_for(lambda: from_host(engine, 18100) == "hello", "the server answers")
    cli("update", "--publish-add", "18101:80", "--publish-rm", "18100:80", "web")
    assert from_host(engine, 18101) == "hello" and from_host(engine, 18100) == ""
    cli("restart", "-t", "0", "web")
    wait_for(lambda: from_host(engine, 18101) == "hello", "the server answers again")
    assert cli.out("port", "web").splitlines() == ["80/tcp -> 0.0.0.0:18101", "80/tcp -> [::]:18101"]
    assert "port 99/tcp is not published" in cli("update", "--publish-rm", "99", "web", code=1).err


def test_names_and_resolver_files(cli: Cli) -> None:
    cli("network", "create", "red")
    flags = [
        "--network",
        "red",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "example.com",
        "--dns-option",
        "timeout:1",
        "--hostname",
        "box",
    ]
    flags += ["--domainname", "example.org", "--add-host", "printer:192.0.2.9", "--add-host", "gw:host-gateway"]
    out = cli.out("run", "--rm", *flags, "busybox", "cat", "/etc/resolv.conf", "/etc/hosts")
    assert "nameserver 127.0.0.11" in out and "search example.com" in out and "options timeout:1 ndots:0" in out
    assert "ExtServers: [192.0.2.53]" in out and "192.0.2.9\tprinter" in out and "172.31.77.1\tgw" in out
    assert "box.example.org box" in out


def test_host_and_none_and_another_containers_network(cli: Cli, engine: Engine) -> None:
    assert engine.bridge in cli.out("run", "--rm", "--network", "host", "busybox", "ip", "link")
    assert "eth0" not in cli.out("run", "--rm", "--network", "none", "busybox", "ip", "link")
    web(cli, "web")
    assert fetched(cli, "127.0.0.1", "--network", "container:web") == "hello"
    cli("run", "-d", "--name", "lone", "--network", "none", "busybox", "sleep", "60")
    assert "private (none) mode" in cli("network", "connect", "bridge", "lone", code=1).err


def test_starts_ends_and_changes_are_told_as_events(cli: Cli) -> None:
    red = cli.out("network", "create", "red")
    cli("run", "--name", "once", "--network", "red", "busybox", "true")
    ident = cli.out("inspect", "-f", "{{.Id}}", "once")
    cli("rm", "once")
    cli("network", "rm", "red")
    until = str(int(time.time()) + 1)  # `0s` is this second's beginning to the stock client
    told = cli.out("events", "--since", "1h", "--until", until, "--filter", f"network={red}", "--format", "{{json .}}")
    events = [json.loads(line) for line in told.splitlines()]
    assert [event["Action"] for event in events] == ["create", "connect", "disconnect", "destroy"]
    assert events[1]["Actor"]["Attributes"] == {"name": "red", "type": "bridge", "container": ident}


def test_the_network_outlives_the_daemon(engine: Engine) -> None:
    cli = engine.docker
    cli("network", "create", "--ipv6", "red")
    web(cli, "web", "--network", "red", "-p", "18110:80")
    cli("run", "-d", "--name", "asker", "--network", "red", "busybox", "sleep", "600")
    wait_for(lambda: from_host(engine, 18110) == "hello", "the server answers")
    assert engine.network is not None
    pid = engine.inspect("asker")["State"]["Pid"]
    root = f"/proc/{pid}/root"
    ask = ["nsenter", f"--net=/proc/{pid}/ns/net", f"--root={root}", "/bin/busybox", "nslookup", "web"]
    serve = ["nc", "-ll", "-p", "7", "-e", "cat"]
    cli("run", "-d", "--name", "echo", "--network", "red", "-p", "18111:7", "busybox", *serve)
    talk = connected(engine, 18111)
    assert said_back(talk, b"before")
    before = engine.network.run("nft", "-s", "list", "ruleset")
    engine.kill("rorquald")
    engine.kill("containerd")
    assert said_back(talk, b"without")
    assert "Address: 172." in engine.network.run(*ask, check=False)
    assert from_host(engine, 18110) == "hello"
    engine.start()
    assert "Address: 172." in engine.network.run(*ask, check=False) and from_host(engine, 18110) == "hello"
    assert engine.network.run("nft", "-s", "list", "ruleset") == before
    assert said_back(talk, b"after")
    talk.close()
    web(cli, "late", "--network", "red")
    assert fetched(cli, "late", "--network", "red") == "hello"
    engine.network.run("nft", "flush", "ruleset")
    # The port answers without the firewall too, by the proxy.
    wait_for(lambda: "changed nftables table" in engine.log.read_text(), "the firewall is repaired")
    wait_for(lambda: from_host(engine, 18110) == "hello", "the port answers")
