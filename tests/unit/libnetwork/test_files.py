from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.libnetwork.files import (
    ResolvConf,
    embedded_resolv_conf_text,
    forwarded_servers,
    host_resolv_conf,
    hosts_text,
    parse_resolv_conf,
    reachable,
    resolv_conf_text,
)
from rorqual.libnetwork.model import Endpoint, EndpointID, NetworkID, Sandbox, SandboxConfig, SandboxID


def sandbox(config: SandboxConfig, *addresses: str) -> Sandbox:
    ident = SandboxID("s")
    ends = [Endpoint(EndpointID("e"), "c", NetworkID("n"), "bridge", ident, ip=ip) for ip in addresses]
    return Sandbox(ident, "/x", config, tuple(ends))


def test_hosts_has_localhost_own_names_and_extra_hosts() -> None:
    config = SandboxConfig("web", "example.org", (("db", "10.0.0.9"), ("out", "host-gateway")))
    lines = hosts_text(sandbox(config, "172.17.0.2"), "172.17.0.1").splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-3:] == ["10.0.0.9\tdb", "172.17.0.1\tout", "172.17.0.2\tweb.example.org web"]


def test_host_gateway_without_one_is_an_error() -> None:
    with pytest.raises(errdefs.InvalidArgument, match="host-gateway"):
        hosts_text(sandbox(SandboxConfig(extra_hosts=(("x", "host-gateway"),))), "")


def test_resolv_conf_takes_the_hosts_but_its_loopback() -> None:
    host = parse_resolv_conf(
        "# c\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver fd00::1\nnameserver fe80::1%eth0\n"
        "search old\nsearch a.example b.example\noptions ndots:2\noptions edns0\nnameserver\nnameserver nonsense\n"
    )
    expected = "nameserver 10.0.0.1\nsearch a.example b.example\noptions ndots:2 edns0\n"
    assert resolv_conf_text(SandboxConfig(), host) == expected
    assert reachable(host.nameservers, ipv6=True) == ("10.0.0.1", "fd00::1")


def test_resolv_conf_falls_back_as_docker_does() -> None:
    host = parse_resolv_conf("nameserver 127.0.0.1\n")
    assert resolv_conf_text(SandboxConfig(), host) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_own_dns_settings_win_one_by_one() -> None:
    host = parse_resolv_conf("nameserver 10.0.0.1\nsearch a.example\noptions ndots:2\n")
    own = SandboxConfig(dns=("127.0.0.1",), dns_search=(".",))
    assert resolv_conf_text(own, host) == "nameserver 127.0.0.1\noptions ndots:2\n"


def test_no_resolv_conf_on_the_host(tmp_path: Path) -> None:
    assert host_resolv_conf(str(tmp_path / "absent")).nameservers == ()


def test_whom_the_embedded_dns_asks(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver not.an.address\n")
    hosts = SandboxConfig(origin_resolv_conf_path=str(conf))
    # The host's loopback can be asked only from the host; a name needs a server to be looked up at.
    assert forwarded_servers(hosts) == (("127.0.0.53", True), ("192.0.2.1", False))
    own = SandboxConfig(dns=("127.0.0.1", "ns.example.com", "127.0.0.11", "fd00::53"))
    assert forwarded_servers(own) == (("127.0.0.1", False), ("fd00::53", False))


def test_resolv_conf_of_a_container_that_asks_the_embedded_dns() -> None:
    config = SandboxConfig(dns=("192.0.2.1",), dns_search=("example.com",))
    text = embedded_resolv_conf_text(config, ResolvConf(("192.0.2.9",), ("host.example",), ("edns0",)))
    assert text == ("nameserver 127.0.0.11\nsearch example.com\noptions edns0 ndots:0\n# ExtServers: [192.0.2.1]\n")
    chosen = embedded_resolv_conf_text(SandboxConfig(dns=("192.0.2.1",), dns_options=("ndots:2",)), ResolvConf())
    assert "options ndots:2\n" in chosen
