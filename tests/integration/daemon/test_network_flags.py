"""Every flag of `network` and every networking flag of `run` and `create`, by both command lines: each is shown by what
it did to real traffic: what arrived, what a name led to, what was refused. With `test_networks`, no row of the table is
without a case."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest
from integration.daemon import test_networks
from integration.daemon.test_networks import SERVER, fetched, from_host, inspect, looked_up, networks_end, web
from support.covers import covers, uncovered, unknown
from support.engine import Cli, Engine
from support.processes import wait_for

from rorqual.libnetwork.dns import message

pytestmark = pytest.mark.root

__all__ = ["networks_end"]  # a fixture of every test here too

# The stock command line's table (version 28.2.2): flags of the commands of this group, networking flags of the others.
TABLE = {
    "network connect": "alias driver-opt gw-priority ip ip6 link link-local-ip",
    "network create": "attachable aux-address config-from config-only driver gateway ingress internal ip-range "
    "ipam-driver ipam-opt ipv4 ipv6 label opt scope subnet",
    "network disconnect": "force",
    "network inspect": "format verbose",
    "network ls": "filter format no-trunc quiet",
    "network prune": "filter force",
    "network rm": "force",
    **dict.fromkeys(
        ("run", "create"),
        "add-host dns dns-option dns-search domainname expose hostname ip ip6 link link-local-ip mac-address network "
        "network-alias publish publish-all sysctl",
    ),
}
ROWS = [
    row for command, flags in TABLE.items() for row in (command, *(f"{command} --{flag}" for flag in flags.split()))
]
ROWS += ["port", "update --publish-add", "update --publish-rm"]


def both(*flags: str) -> tuple[str, ...]:
    """The rows of `run` and `create` with these flags."""
    return tuple(f"{command} --{flag}" for command in ("run", "create") for flag in flags)


@pytest.fixture(params=["run", "create"])
def verb(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def started(cli: Cli, verb: str, name: str, *flags: str, command: tuple[str, ...] = ("sleep", "600")) -> None:
    """A container in the background, by either command."""
    if verb == "run":
        cli("run", "-d", "--name", name, *flags, "busybox", *command)
    else:
        cli("create", "--name", name, *flags, "busybox", *command)
        cli("start", name)


def served(cli: Cli, verb: str, name: str, *flags: str) -> None:
    """One that answers `hello` on port 80."""
    started(cli, verb, name, *flags, command=("sh", "-c", SERVER))


def pinged(cli: Cli, name: str, target: str, *flags: str) -> str:
    """What `ping` in that container says of one packet, "" when nothing came back."""
    result = cli("exec", name, "ping", "-c", "1", "-W", "3", *flags, target, code=None)
    return result.out if result.code == 0 else ""


@contextmanager
def name_server(engine: Engine, address: str) -> Iterator[list[str]]:
    """Answers in the engine's host: printer.example.com is 192.0.2.9, nothing else is anything. What it was asked."""
    asked: list[str] = []
    with engine.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(0.1)
    sock.bind((address, 53))
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            try:
                data, client = sock.recvfrom(4096)
            except TimeoutError:
                continue
            query = message.parse(data)
            assert query is not None
            asked.append(query.name)
            known = query.name == "printer.example.com" and query.qtype == message.A
            found = [ip_address("192.0.2.9").packed] if known else []
            code = message.NOERROR if query.name == "printer.example.com" else message.NXDOMAIN
            sock.sendto(message.answer(query, found, code=code), client)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield asked
    finally:
        ended.set()
        thread.join(5)
        sock.close()


@covers("run", "create", *both("dns", "dns-search", "dns-option"))
def test_names_are_asked_of_the_servers_that_were_given(cli: Cli, engine: Engine, verb: str) -> None:
    with name_server(engine, "172.31.77.1") as asked:
        flags = ("--dns", "172.31.77.1", "--dns-search", "example.com")
        for network in ((), ("--network", "red")):
            if network:
                cli("network", "create", "red")
            started(cli, verb, f"asker{len(network)}", *flags, *network)
            assert "(192.0.2.9)" in cli("exec", f"asker{len(network)}", "ping", "-c1", "-W1", "printer", code=None).out
        # Without the options a server that is none would be waited for ten seconds.
        options = ("--dns", "192.0.2.1", "--dns-option", "timeout:1", "--dns-option", "attempts:1")
        started(cli, verb, "hasty", *options)
        begun = time.monotonic()
        cli("exec", "hasty", "ping", "-c1", "nosuch.example", code=1)
        assert time.monotonic() - begun < 9
        del asked[:]
        started(cli, verb, "dotted", *flags, "--dns-option", "ndots:3")
        cli("exec", "dotted", "ping", "-c1", "-W1", "a.b", code=1)
        assert asked[0] == "a.b.example.com"  # with one dot it would be asked as it is first


@covers(*both("add-host", "hostname", "domainname"))
def test_names_that_were_given_lead_there(cli: Cli, verb: str) -> None:
    cli("network", "create", "--internal", "red")
    served(cli, verb, "web", "--network", "red", "--hostname", "box", "--domainname", "example.org")
    assert cli.out("exec", "web", "hostname") == "box" and cli.out("exec", "web", "hostname", "-f") == "box.example.org"
    assert fetched(cli, "box", "--network", "red") == "hello"
    address = json.loads(cli.out("inspect", "web", "--format", "{{json .NetworkSettings.Networks.red.IPAddress}}"))
    started(cli, verb, "client", "--network", "red", "--add-host", f"there:{address}")
    assert f"({address})" in pinged(cli, "client", "there")
    started(cli, verb, "guest", "--add-host", "gate:host-gateway")
    assert "(172.31.77.1)" in pinged(cli, "guest", "gate")


@covers(*both("ip", "ip6", "mac-address", "link-local-ip", "network", "network-alias"))
def test_an_endpoint_is_what_was_asked_for(cli: Cli, verb: str) -> None:
    cli("network", "create", "--subnet", "10.91.0.0/24", "--subnet", "fd91::/64", "--ipv6", "red")
    flags = ["--ip", "10.91.0.7", "--ip6", "fd91::7", "--mac-address", "02:00:00:00:00:77"]
    served(cli, verb, "web", "--network", "red", *flags, "--link-local-ip", "169.254.9.7", "--network-alias", "www")
    for address in ("10.91.0.7", "fd91::7", "www"):
        assert fetched(cli, address, "--network", "red") == "hello", address
    assert fetched(cli, "169.254.9.7", "--network", "red", "--link-local-ip", "169.254.9.8") == "hello"
    started(cli, verb, "near", "--network", "red")
    assert pinged(cli, "near", "10.91.0.7") and "02:00:00:00:00:77" in cli.out("exec", "near", "cat", "/proc/net/arp")
    # The long form says the same, of several networks.
    cli("network", "create", "--internal", "--subnet", "10.93.0.0/24", "blue")
    long = "name=red,alias=one,alias=two,ip=10.91.0.9,ip6=fd91::9,mac-address=02:00:00:00:00:99,gw-priority=5"
    more = "name=blue,ip=10.93.0.9,link-local-ip=169.254.9.9,"
    more += "driver-opt=com.docker.network.endpoint.ifname=blue0"
    served(cli, verb, "both", "--network", long, "--network", more)
    for address, network in (("one", "red"), ("two", "red"), ("fd91::9", "red"), ("10.93.0.9", "blue")):
        assert fetched(cli, address, "--network", network) == "hello", address
    assert "blue0" in cli.out("exec", "both", "ip", "route", "get", "10.93.0.1")


@covers(*both("link"))
def test_a_link_is_a_name_for_one_container_only(cli: Cli, verb: str) -> None:
    web(cli, "web")
    started(cli, verb, "client", "--link", "web:db")
    started(cli, verb, "other")
    request = ("sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 db 80 | grep hello")
    wait_for(lambda: cli("exec", "client", *request, code=None).code == 0, "the server answers by the link")
    assert cli("exec", "other", *request, code=None).code != 0


@covers(*both("publish", "publish-all", "expose"), "port")
def test_ports_that_are_published_answer_and_others_do_not(cli: Cli, engine: Engine, verb: str) -> None:
    served(cli, verb, "web", "-p", "127.0.0.1:18120:80", "--expose", "81")
    wait_for(lambda: from_host(engine, 18120) == "hello", "the server answers")
    assert from_host(engine, 18120, "172.31.77.1") == ""  # the other address of the host
    assert cli.out("port", "web") == "80/tcp -> 127.0.0.1:18120"
    served(cli, verb, "all", "--publish-all", "--expose", "80", "--expose", "90-91/udp")
    shown = cli.out("port", "all").splitlines()
    assert [line.split()[0] for line in shown] == ["80/tcp"] * 2 + ["90/udp"] * 2 + ["91/udp"] * 2
    port = int(shown[0].rpartition(":")[2])
    wait_for(lambda: from_host(engine, port) == "hello", "the server answers")
    assert from_host(engine, port, "[::1]") == "hello"
    served(cli, verb, "none", "--expose", "80")
    assert cli.out("port", "none") == ""


@covers(*both("sysctl"))
def test_a_sysctl_of_the_network_is_the_containers_own(cli: Cli, verb: str) -> None:
    started(cli, verb, "far", "--sysctl", "net.ipv4.ip_default_ttl=9")
    started(cli, verb, "deaf", "--sysctl", "net.ipv4.icmp_echo_ignore_all=1")
    started(cli, verb, "near")
    address = {
        name: cli.out("inspect", name, "--format", "{{.NetworkSettings.Networks.bridge.IPAddress}}")
        for name in ("far", "deaf")
    }
    assert "ttl=9 " in pinged(cli, "near", address["far"]) and not pinged(cli, "near", address["deaf"])


@covers(
    "network create",
    *(f"network create --{flag}" for flag in ("subnet", "ip-range", "gateway", "aux-address", "ipv6", "label")),
)
def test_addresses_are_where_they_may_be(cli: Cli) -> None:
    where = ("--subnet", "10.94.0.0/24", "--ip-range", "10.94.0.64/29", "--gateway", "10.94.0.66")
    cli("network", "create", *where, "--aux-address", "printer=10.94.0.65", "--label", "a=b", "red")
    for name, address in (("one", "10.94.0.64"), ("two", "10.94.0.67")):
        started(cli, "run", name, "--network", "red")
        assert f"{address}/24" in cli.out("exec", name, "ip", "addr", "show", "eth0")
    assert pinged(cli, "one", "10.94.0.67") and pinged(cli, "one", "10.94.0.66")
    assert "default via 10.94.0.66" in cli.out("exec", "one", "ip", "route")
    taken = cli("run", "--network", "red", "--ip", "10.94.0.65", "busybox", "true", code=125).err
    assert "Address already in use" in taken
    assert cli.out("network", "ls", "-q", "--filter", "label=a=b") == cli.out("network", "ls", "-qf", "name=red")
    cli("network", "create", "--ipv6", "six")
    web(cli, "web", "--network", "six")
    address = cli.out("inspect", "web", "--format", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}")
    assert fetched(cli, address, "--network", "six") == "hello"


@covers("network create --ipv4")
def test_a_network_without_ipv4_has_none(cli: Cli) -> None:
    cli("network", "create", "--ipv4=false", "--ipv6", "--subnet", "fd95::/64", "six")
    web(cli, "web", "--network", "six", "--ip6", "fd95::7")
    assert fetched(cli, "fd95::7", "--network", "six") == "hello" == fetched(cli, "web", "--network", "six")
    assert " inet " not in cli.out("exec", "web", "ip", "addr", "show", "eth0")


@covers("network create --driver", "network create --opt", "network create --internal")
def test_drivers_and_their_options_say_who_reaches_whom(cli: Cli) -> None:
    cli("network", "create", "--driver", "macvlan", "--subnet", "10.96.0.0/24", "lan")
    cli("network", "create", "--opt", "com.docker.network.bridge.enable_icc=false", "--subnet", "10.97.0.0/24", "shy")
    cli("network", "create", "--internal", "--subnet", "10.98.0.0/24", "vault")
    for network, prefix, reached in (("lan", "10.96", True), ("shy", "10.97", False), ("vault", "10.98", True)):
        started(cli, "run", f"{network}1", "--network", network, "--ip", f"{prefix}.0.8")
        started(cli, "run", f"{network}2", "--network", network, "--ip", f"{prefix}.0.9")
        assert bool(pinged(cli, f"{network}1", f"{prefix}.0.9")) == reached, network
    two = ("--subnet", "10.101.0.0/24", "--subnet", "10.102.0.0/24")
    assert "bridge driver doesn't support multiple subnets" in cli("network", "create", *two, "no", code=1).err
    cli("network", "create", "--driver", "macvlan", *two, "lans")
    pools = {pool["Subnet"] for pool in inspect(cli, "lans")["IPAM"]["Config"]}
    assert pools == {"10.101.0.0/24", "10.102.0.0/24"}  # the stock command line sends them in any order
    assert "10.102.0.7/24" in cli.out("run", "--rm", "--network", "lans", "--ip", "10.102.0.7", "busybox", "ip", "addr")
    outside = {network: bool(pinged(cli, f"{network}1", "172.31.77.1")) for network in ("lan", "shy", "vault")}
    assert outside == {"lan": False, "shy": True, "vault": False}


@covers(
    *(f"network create --{flag}" for flag in ("ipam-driver", "ipam-opt", "attachable", "scope", "ingress")),
)
def test_what_only_others_can_do_is_kept_or_refused(cli: Cli) -> None:
    cli("network", "create", "--ipam-driver", "null", "--internal", "bare")
    assert " inet " not in cli.out("run", "--rm", "--network", "bare", "busybox", "ip", "addr", "show", "eth0")
    assert "could not find plugin nosuch" in cli("network", "create", "--ipam-driver", "nosuch", "red", code=1).err
    cli("network", "create", "--ipam-opt", "a=b", "--attachable", "--scope", "local", "red")
    shown = inspect(cli, "red")
    assert shown["IPAM"]["Options"] == {"a": "b"} and shown["Attachable"] and shown["Scope"] == "local"
    for flags in (("--scope", "swarm"), ("--ingress",)):
        assert "not a swarm manager" in cli("network", "create", *flags, "blue", code=1).err


@covers("network create --config-only", "network create --config-from")
def test_a_network_by_a_configuration_has_its_addresses(cli: Cli) -> None:
    cli("network", "create", "--config-only", "--subnet", "10.99.0.0/24", "--gateway", "10.99.0.9", "plan")
    cli("network", "create", "--config-from", "plan", "--driver", "bridge", "real")
    started(cli, "run", "one", "--network", "real")
    assert pinged(cli, "one", "10.99.0.9")
    assert "cannot connect" in cli("run", "--rm", "--network", "plan", "busybox", "true", code=125).err
    cli("rm", "-f", "one")
    cli("network", "rm", "real", "plan")


@covers("network connect", *(f"network connect --{flag}" for flag in TABLE["network connect"].split()))
@pytest.mark.parametrize("running", [True, False])
def test_a_container_joins_as_it_was_asked_to(cli: Cli, running: bool) -> None:
    cli("network", "create", "--subnet", "10.92.0.0/24", "--subnet", "fd92::/64", "--ipv6", "red")
    served(cli, "run", "web")
    served(cli, "run", "peer", "--network", "red")
    if not running:
        cli("stop", "-t", "0", "web")
    flags = ["--ip", "10.92.0.7", "--ip6", "fd92::7", "--link-local-ip", "169.254.9.7", "--alias", "www"]
    flags += ["--link", "peer:friend", "--gw-priority", "9", "--driver-opt", "com.docker.network.endpoint.ifname=red0"]
    cli("network", "connect", *flags, "red", "web")
    if not running:
        cli("start", "web")
    for address in ("10.92.0.7", "fd92::7", "www", "web"):
        assert fetched(cli, address, "--network", "red") == "hello", address
    assert fetched(cli, "169.254.9.7", "--network", "red", "--link-local-ip", "169.254.9.8") == "hello"
    assert pinged(cli, "web", "friend") and looked_up(cli, "friend", "--network", "red") == ""
    assert "dev red0" in cli.out("exec", "web", "ip", "route", "get", "198.51.100.1")


@covers("network disconnect", "network disconnect --force")
def test_a_container_that_left_is_not_reached_any_more(cli: Cli, engine: Engine) -> None:
    cli("network", "create", "--internal", "red")
    for flags in ((), ("--force",)):
        name = f"web{len(flags)}"
        served(cli, "run", name, "--network", "red", "--network-alias", "www")
        assert fetched(cli, "www", "--network", "red") == "hello"
        cli("network", "disconnect", *flags, "red", name)
        assert looked_up(cli, "www", "--network", "red") == "" and "eth0" not in cli.out("exec", name, "ip", "link")
    cli("rm", "-f", "web0")
    assert "No such container: web0" in cli("network", "disconnect", "--force", "red", "web0", code=1).err


@covers("network inspect", "network inspect --format", "network inspect --verbose")
def test_inspect_tells_who_is_there(cli: Cli) -> None:
    cli("network", "create", "--subnet", "10.100.0.0/24", "red")
    started(cli, "run", "one", "--network", "red")
    shown = cli.out("network", "inspect", "--format", "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}", "red")
    assert shown == "one 10.100.0.2/24"
    assert json.loads(cli.out("network", "inspect", "--verbose", "red"))[0]["Containers"]
    assert "network nosuch not found" in cli("network", "inspect", "nosuch", code=1).err


@covers("network prune", "network prune --filter", "network prune --force", "network rm", "network rm --force")
def test_what_is_removed_is_gone_with_its_bridge(cli: Cli, engine: Engine) -> None:
    assert engine.network is not None
    bridges = {}
    for name, labels in (("red", ("--label", "keep=1")), ("blue", ()), ("green", ())):
        bridges[name] = f"br-{cli.out('network', 'create', *labels, name)[:12]}"
    assert set(bridges.values()) <= engine.network.links()
    cli("network", "rm", "green")
    cli("network", "prune", "--force", "--filter", "label!=keep=1")
    assert set(bridges.values()) & engine.network.links() == {bridges["red"]}
    assert "network green not found" in cli("network", "rm", "green", code=1).err
    cli("network", "rm", "--force", "green")
    assert cli("network", "prune", stdin=b"n\n", code=None).out.count("red") == 0
    assert bridges["red"] in engine.network.links()  # who does not say yes removes nothing
    cli("network", "prune", stdin=b"y\n")
    assert bridges["red"] not in engine.network.links()


@covers("update --publish-add", "update --publish-rm")
def test_a_running_containers_ports_change(engine: Engine) -> None:
    cli = engine.rorqual
    served(cli, "run", "web", "-p", "18130:80")
    wait_for(lambda: from_host(engine, 18130) == "hello", "the server answers")
    cli("update", "--publish-add", "18131:80", "--publish-rm", "18130:80", "web")
    assert from_host(engine, 18131) == "hello" and from_host(engine, 18130) == ""
    # By the API, as the stock command line's users have it.
    change = {"Add": {"80/tcp": [{"HostPort": "18132"}]}, "Remove": {"80/tcp": [{"HostPort": "18131"}]}}
    assert engine.api("POST", "/containers/web/ports", change).status in (200, 204)
    assert from_host(engine, 18132) == "hello" and from_host(engine, 18131) == ""
    assert engine.docker.out("port", "web").splitlines()[0] == "80/tcp -> 0.0.0.0:18132"


def test_no_row_is_without_a_case() -> None:
    modules = (sys.modules[__name__], test_networks)
    assert uncovered(ROWS, *modules) == [] and unknown(ROWS, *modules) == []
