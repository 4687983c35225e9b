"""The text of a sandbox's /etc/hosts and /etc/resolv.conf. Pure, but for reading the host's own resolv.conf."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from rorqual import errdefs
from rorqual.libnetwork.model import Sandbox, SandboxConfig

HOST_GATEWAY = "host-gateway"
# What Docker falls back to when the host's own servers are all on its loopback, where a container cannot reach them.
FALLBACK_DNS = ("8.8.8.8", "8.8.4.4")

_DEFAULT_HOSTS = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What of a resolv.conf is taken over into containers."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def hosts_text(sandbox: Sandbox, host_gateway: str) -> str:
    """/etc/hosts: the usual names, --add-host's, links', and the sandbox's own addresses.

    Raises errdefs.InvalidArgument for `host-gateway` where there is no such address.
    """
    config = sandbox.config
    lines = [f"{address}\t{names}" for address, names in _DEFAULT_HOSTS]
    for name, address in config.extra_hosts:
        if address == HOST_GATEWAY:
            if not host_gateway:
                raise errdefs.InvalidArgument(
                    "unable to derive the IP value for host-gateway, check that the default bridge network is enabled"
                )
            address = host_gateway
        lines.append(f"{address}\t{name}")
    for endpoint in sandbox.endpoints:
        lines += [f"{address}\t{names}" for address, names in endpoint.links]
    if config.hostname:
        own = config.hostname
        if config.domainname:
            own = f"{config.hostname}.{config.domainname} {config.hostname}"
        for endpoint in sandbox.endpoints:
            lines += [f"{address}\t{own}" for address in (endpoint.ip, endpoint.ip6) if address]
    return "\n".join(lines) + "\n"


def parse_resolv_conf(text: str) -> ResolvConf:
    """Reads resolv.conf(5); of several search (or domain) lines the last counts, options add up."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0].startswith(("#", ";")):
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(words[1:])
        elif words[0] == "options":
            options += words[1:]
    return ResolvConf(tuple(servers), search, tuple(options))


def reachable(servers: Sequence[str], *, ipv6: bool) -> tuple[str, ...]:
    """The servers that a container with a stack of its own can ask: not the host's loopback, no IPv6 without IPv6."""
    found = []
    for server in servers:
        try:
            address = ip_address(server.partition("%")[0])
        except ValueError:
            continue
        # A zone (fe80::1%eth0) names an interface of the host.
        if address.is_loopback or (address.version == 6 and (not ipv6 or "%" in server)):
            continue
        found.append(server)
    return tuple(found)


def resolv_conf_text(config: SandboxConfig, host: ResolvConf, *, ipv6: bool = False) -> str:
    """/etc/resolv.conf of a container: each of servers, search and options is the container's own where given, else
    the host's; a search of `.` means none."""
    servers = config.dns or reachable(host.nameservers, ipv6=ipv6) or FALLBACK_DNS
    search = tuple(domain for domain in config.dns_search or host.search if domain != ".")
    options = config.dns_options or host.options
    lines = [f"nameserver {server}" for server in servers]
    if search:
        lines.append("search " + " ".join(search))
    if options:
        lines.append("options " + " ".join(options))
    return "\n".join(lines) + "\n"


EMBEDDED = "127.0.0.11"


def forwarded_servers(config: SandboxConfig) -> tuple[tuple[str, bool], ...]:
    """Whom the embedded DNS asks for this sandbox, as (address, whether from the host's namespace): its own servers
    from its own; of the host's, those on the host's loopback from there, where alone they can be reached."""
    if config.dns:
        return tuple((server, False) for server in _addresses(config.dns) if server != EMBEDDED)
    servers = _addresses(host_resolv_conf(config.origin_resolv_conf_path, stub=True).nameservers)
    found = tuple((server, ip_address(server.partition("%")[0]).is_loopback) for server in servers)
    return found or tuple((server, False) for server in FALLBACK_DNS)


def _addresses(servers: Sequence[str]) -> tuple[str, ...]:
    """Those that are addresses: a name could only be asked for at the very server that it names."""
    found = []
    for server in servers:
        try:
            ip_address(server.partition("%")[0])
        except ValueError:
            continue
        found.append(server)
    return tuple(found)


def embedded_resolv_conf_text(config: SandboxConfig, host: ResolvConf) -> str:
    """/etc/resolv.conf of a container that asks the embedded DNS. ndots:0 as Docker has it: a container's name has no
    dot and is to be asked for as it is first."""
    search = tuple(domain for domain in config.dns_search or host.search if domain != ".")
    options = config.dns_options or host.options
    if not any(option.startswith("ndots:") for option in options):
        options = (*options, "ndots:0")
    lines = [f"nameserver {EMBEDDED}"]
    if search:
        lines.append("search " + " ".join(search))
    lines.append("options " + " ".join(options))
    forwarded = " ".join(f"host({a})" if from_host else a for a, from_host in forwarded_servers(config))
    lines.append(f"# ExtServers: [{forwarded}]")
    return "\n".join(lines) + "\n"


def host_resolv_conf(path: str = "", *, stub: bool = False) -> ResolvConf:
    """The host's servers. systemd-resolved's stub is of no use to containers: then what it forwards to is read, unless
    the `stub` itself can be asked."""
    conf = _read(path or "/etc/resolv.conf")
    upstream = "/run/systemd/resolve/resolv.conf"
    if not path and not stub and conf.nameservers == ("127.0.0.53",) and os.path.exists(upstream):
        return _read(upstream)
    return conf


def _read(path: str) -> ResolvConf:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return parse_resolv_conf(file.read(1 << 16))
    except FileNotFoundError:
        return ResolvConf()
