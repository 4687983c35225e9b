"""The daemon's configuration: dockerd's flags and daemon.json keys, one table, one frozen result.

A directive given both as a flag and in the file is an error, as in dockerd. Nothing is read on import.
Source: dockerd(8); https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, ip_address
from pathlib import Path
from typing import Any

from rorqual import commandline
from rorqual.commandline import Flag
from rorqual.daemon.configvalues import Option, RuntimeBinary, from_file, from_flag, pair, parse_size
from rorqual.distribution.proxies import Proxies, masked
from rorqual.errdefs import InvalidArgument
from rorqual.version import __version__

DEFAULT_CONFIG_FILE = "/etc/rorqual/daemon.json"
DEFAULT_HOST = "unix:///run/rorqual.sock"
BUILTIN_RUNTIME = "rorqual"
# What scripts written for Docker ask for is the built-in one, unless --add-runtime says otherwise.
BUILTIN_NAMES = (BUILTIN_RUNTIME, "runc", "io.containerd.runc.v2")


CGROUP_DRIVERS = ("cgroupfs", "systemd")


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """Everything the operator can set. Sizes in bytes, times in seconds."""

    hosts: tuple[str, ...] = (DEFAULT_HOST,)
    data_root: Path = Path("/var/lib/rorqual")
    exec_root: Path = Path("/run/rorqual")
    pidfile: str = ""
    group: str = "docker"
    debug: bool = False
    log_level: str = "info"
    containerd: str = ""
    containerd_namespace: str = "moby"
    bridge: str = "rorqual0"
    bip: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    ipv6: bool = False
    ip_forward: bool = True
    host_gateway_ip: str = ""
    swarm_default_advertise_addr: str = ""
    mtu: int = 1500
    icc: bool = True
    ip_masq: bool = True
    ip: str = "0.0.0.0"
    userland_proxy: bool = True
    input_policy: str = "bypass"
    default_address_pools: tuple[Mapping[str, Any], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    image_signatures: tuple[Mapping[str, Any], ...] = ()  # distribution.signatures.policy
    cgroup_parent: str = ""
    exec_opts: tuple[str, ...] = ()
    default_runtime: str = BUILTIN_RUNTIME
    runtimes: Mapping[str, RuntimeBinary] = field(default_factory=dict)
    storage_driver: str = ""  # the best that works: storagedriver.choose
    storage_opts: tuple[str, ...] = ()  # "driver.name=value" each
    default_ulimits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    default_shm_size: int = 64 << 20
    no_new_privileges: bool = False
    seccomp_profile: str = ""
    init: bool = False
    init_path: str = ""
    cdi_spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")
    log_driver: str = "json-file"
    log_opts: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    shutdown_timeout: int = 15
    tls: bool | None = None  # None: nobody said so
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""

    @property
    def state_dir(self) -> Path:
        """containerd's --state, where bundles and sockets are."""
        return self.exec_root / "containerd"

    @property
    def containerd_address(self) -> Path:
        """Its gRPC socket."""
        return Path(self.containerd) if self.containerd else self.state_dir / "containerd.sock"

    @property
    def cgroup_driver(self) -> str:
        """Who makes the containers' groups: "cgroupfs", this engine's runtime by itself, or "systemd"."""
        chosen = [option.partition("=")[2] for option in self.exec_opts]
        return chosen[-1] if chosen else "cgroupfs"

    @property
    def parent_of_groups(self) -> str:
        """The group, or systemd's slice, that containers are put into unless they choose another."""
        return self.cgroup_parent or ("system.slice" if self.cgroup_driver == "systemd" else "/rorqual")

    @property
    def proxies(self) -> Proxies:
        """Those of the configuration: the environment has the others."""
        return Proxies(self.http_proxy, self.https_proxy, self.no_proxy)

    @property
    def snapshotter(self) -> str:
        """The storage driver under containerd's name."""
        return _SNAPSHOTTERS.get(self.storage_driver, self.storage_driver)

    def default_size(self) -> int:
        """Bytes that a container may write that says nothing of it (overlay2.size); 0 for no bound."""
        sizes = [o.partition("=")[2] for o in self.storage_opts if o.lower().startswith("overlay2.size=")]
        return parse_size("overlay2.size", sizes[-1]) if sizes else 0

    def runtime(self, name: str) -> RuntimeBinary:
        """The runtime called `name`; "" is the default. Raises: InvalidArgument with Docker's text."""
        name = name or self.default_runtime
        found = self.runtimes.get(name)
        if found is None and name in BUILTIN_NAMES:
            return RuntimeBinary()
        if found is None:
            raise InvalidArgument(f"unknown or invalid runtime name: {name}")
        return found


# Docker's names of storage drivers that containerd calls otherwise
_SNAPSHOTTERS = {"overlay2": "overlayfs", "overlay": "overlayfs", "vfs": "native", "devicemapper": "devmapper"}
# Options of the daemon that each takes, beside those that containerd checks (dm.*).
_STORAGE_OPTIONS = {
    "overlayfs": ("overlay2.size", "overlay2.override_kernel_check"),
    "btrfs": ("btrfs.min_space",),
}
# of the last three containerd tells why they cannot be had
SNAPSHOTTERS = ("overlayfs", "fuse-overlayfs", "btrfs", "native", "devmapper", "zfs", "aufs")


_OPTIONS = (
    Option("hosts", "hosts", ("-H", "--host"), "list", "socket to listen on (repeatable)"),
    Option("data_root", "data-root", ("--data-root",), "path", "root of persistent state"),
    Option("exec_root", "exec-root", ("--exec-root",), "path", "root of sockets and runtime state"),
    Option("pidfile", "pidfile", ("-p", "--pidfile"), "text", "file to write the process id to"),
    Option("group", "group", ("-G", "--group"), "text", "group of the unix socket"),
    Option("debug", "debug", ("-D", "--debug"), "bool", "log at level debug"),
    Option("log_level", "log-level", ("-l", "--log-level"), "text", "debug, info, warn, error or fatal"),
    Option("containerd", "containerd", ("--containerd",), "text", "socket of a running containerd to adopt"),
    Option("containerd_namespace", "containerd-namespace", ("--containerd-namespace",), "text", "namespace to use"),
    Option("bridge", "bridge", ("-b", "--bridge"), "text", "name of the default bridge; none for no default network"),
    Option("bip", "bip", ("--bip",), "text", "address and prefix of the default bridge"),
    Option("fixed_cidr", "fixed-cidr", ("--fixed-cidr",), "text", "range of the default bridge's containers"),
    Option("fixed_cidr_v6", "fixed-cidr-v6", ("--fixed-cidr-v6",), "text", "IPv6 subnet of the default bridge"),
    Option("ipv6", "ipv6", ("--ipv6",), "bool", "IPv6 on the default bridge"),
    Option("ip_forward", "ip-forward", ("--ip-forward",), "bool", "let the kernel forward packets"),
    Option("host_gateway_ip", "host-gateway-ip", ("--host-gateway-ip",), "text", "what host-gateway stands for"),
    Option(
        "swarm_default_advertise_addr",
        "swarm-default-advertise-addr",
        ("--swarm-default-advertise-addr",),
        "text",
        "the address or interface that `swarm init` advertises when it is given none",
    ),
    Option("mtu", "mtu", ("--mtu",), "int", "MTU of containers' interfaces"),
    Option("icc", "icc", ("--icc",), "bool", "let containers on the default bridge talk to each other"),
    Option("ip_masq", "ip-masq", ("--ip-masq",), "bool", "masquerade containers' addresses"),
    Option("ip", "ip", ("--ip",), "text", "default address of published ports"),
    Option("userland_proxy", "userland-proxy", ("--userland-proxy",), "bool", "serve IPv6 clients of IPv4 containers"),
    Option(
        "input_policy", "input-policy", ("--input-policy",), "text", "published ports bypass or obey the host's own"
    ),
    Option("default_address_pools", "default-address-pools", ("--default-address-pool",), "pools", "base=…,size=…"),
    Option("dns", "dns", ("--dns",), "list", "DNS server of containers (repeatable)"),
    Option("dns_search", "dns-search", ("--dns-search",), "list", "DNS search domain (repeatable)"),
    Option("dns_opts", "dns-opts", ("--dns-opt",), "list", "DNS option (repeatable)"),
    Option("insecure_registries", "insecure-registries", ("--insecure-registry",), "list", "registry without TLS"),
    Option("registry_mirrors", "registry-mirrors", ("--registry-mirror",), "list", "mirror of Docker Hub"),
    Option("max_concurrent_downloads", "max-concurrent-downloads", ("--max-concurrent-downloads",), "int", "a pull"),
    Option("max_concurrent_uploads", "max-concurrent-uploads", ("--max-concurrent-uploads",), "int", "a push"),
    Option("max_download_attempts", "max-download-attempts", ("--max-download-attempts",), "int", "of each request"),
    Option("http_proxy", "http-proxy", ("--http-proxy",), "text", "proxy for registries in http"),
    Option("https_proxy", "https-proxy", ("--https-proxy",), "text", "proxy for registries in https"),
    Option("no_proxy", "no-proxy", ("--no-proxy",), "text", "hosts and networks that need no proxy, by commas"),
    Option("image_signatures", "image-signatures", (), "objects", "which images must be signed, and by whom"),
    Option("cgroup_parent", "cgroup-parent", ("--cgroup-parent",), "text", "parent cgroup of containers"),
    Option("exec_opts", "exec-opts", ("--exec-opt",), "list", "native.cgroupdriver=cgroupfs or systemd (repeatable)"),
    Option("default_runtime", "default-runtime", ("--default-runtime",), "text", "OCI runtime of containers"),
    Option("runtimes", "runtimes", ("--add-runtime",), "runtimes", "name=path of an OCI runtime (repeatable)"),
    Option("storage_driver", "storage-driver", ("-s", "--storage-driver"), "text", "snapshotter"),
    Option("storage_opts", "storage-opts", ("--storage-opt",), "list", "storage driver option (repeatable)"),
    Option("default_ulimits", "default-ulimits", ("--default-ulimit",), "ulimits", "name=soft[:hard]"),
    Option("default_shm_size", "default-shm-size", ("--default-shm-size",), "size", "size of /dev/shm"),
    Option("no_new_privileges", "no-new-privileges", ("--no-new-privileges",), "bool", "by default"),
    Option("seccomp_profile", "seccomp-profile", ("--seccomp-profile",), "text", "file, builtin or unconfined"),
    Option("init", "init", ("--init",), "bool", "run an init in every container"),
    Option("init_path", "init-path", ("--init-path",), "text", "path of docker-init"),
    Option("cdi_spec_dirs", "cdi-spec-dirs", ("--cdi-spec-dir",), "list", "directory of CDI specs (repeatable)"),
    Option("log_driver", "log-driver", ("--log-driver",), "text", "default log driver"),
    Option("log_opts", "log-opts", ("--log-opt",), "map", "default log driver option (repeatable)"),
    Option("labels", "labels", ("--label",), "list", "label of the engine (repeatable)"),
    Option("shutdown_timeout", "shutdown-timeout", ("--shutdown-timeout",), "int", "seconds to finish requests"),
    Option("tls", "tls", ("--tls",), "bool", "use TLS"),
    Option("tlsverify", "tlsverify", ("--tlsverify",), "bool", "use TLS and verify clients"),
    Option("tlscacert", "tlscacert", ("--tlscacert",), "text", "CA of clients' certificates"),
    Option("tlscert", "tlscert", ("--tlscert",), "text", "certificate"),
    Option("tlskey", "tlskey", ("--tlskey",), "text", "its key"),
)

# Docker's keys that mean nothing here or are always so: containers always survive, the firewall is nftables.
_ACCEPTED = frozenset({"live-restore", "iptables", "ip6tables", "features"}) | {
    "experimental",
    "log-format",
    "builder",
    "containerd-plugins-namespace",
    "firewall-backend",
    "raw-logs",
    "selinux-enabled",
}


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The parsed command line: the configuration and what to do with it."""

    config: DaemonConfig
    validate_only: bool


_FLAG_KINDS = {"bool": "bool"} | dict.fromkeys(("list", "map", "runtimes", "ulimits", "pools"), "list")


def parse(argv: Sequence[str]) -> CommandLine:
    """The configuration from flags and file. Raises: InvalidArgument; SystemExit for --help and wrong flags."""
    flags = [
        Flag(("--config-file",), help=f"daemon configuration file (default {DEFAULT_CONFIG_FILE})"),
        Flag(("--validate",), "bool", "check the configuration and exit"),
        Flag(("-v", "--version"), "bool", "print version information and quit"),
        *(Flag(option.flags, _FLAG_KINDS.get(option.kind, "text"), option.help) for option in _OPTIONS if option.flags),
    ]
    given = commandline.parse("rorquald", "A self-sufficient runtime for containers.", flags, argv)
    if "--version" in given:
        sys.stdout.write(f"rorquald version {__version__}\n")
        raise SystemExit(0)
    file_values = _read_file(given.get("--config-file", [None])[-1])
    values: dict[str, Any] = {}
    conflicts: list[str] = []
    for option in _OPTIONS:
        texts, in_file = given.get(max(option.flags, key=len, default="")), option.key in file_values
        if texts is not None and in_file:
            shown = texts if _FLAG_KINDS.get(option.kind) == "list" else texts[-1]
            in_both = f"(from flag: {_shown(shown)}, from file: {_shown(file_values[option.key])})"
            conflicts.append(f"{option.key}: {in_both}")
        elif texts is not None:
            values[option.attr] = from_flag(option, texts)
        elif in_file:
            values[option.attr] = from_file(option, file_values[option.key])
    if conflicts:
        raise InvalidArgument(
            "the following directives are specified both as a flag and in the configuration file: "
            + ", ".join(conflicts)
        )
    config = DaemonConfig(**values)
    _check(config)
    return CommandLine(config, given.get("--validate") == ["true"])


def _read_file(path: str | None) -> dict[str, Any]:
    name = path or DEFAULT_CONFIG_FILE
    try:
        text = Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        if path is not None:
            raise InvalidArgument(f"unable to configure the daemon with file {name}: no such file") from None
        return {}
    except OSError as e:
        raise InvalidArgument(f"unable to configure the daemon with file {name}: {e.strerror}") from e
    try:
        values = json.loads(text) if text.strip() else {}
    except ValueError as e:
        raise InvalidArgument(f"unable to configure the daemon with file {name}: {e}") from e
    if not isinstance(values, dict):
        raise InvalidArgument(f"unable to configure the daemon with file {name}: it must be a JSON object")
    _flatten_proxies(values, name)
    unknown = values.keys() - {o.key for o in _OPTIONS} - _ACCEPTED
    if unknown:
        raise InvalidArgument(
            f"unable to configure the daemon with file {name}: the following directives don't match any "
            f"configuration option: {', '.join(sorted(unknown))}"
        )
    return values


def _flatten_proxies(values: dict[str, Any], name: object) -> None:
    """dockerd's file has the three in one object, `proxies`; its flags have them one by one."""
    proxies = values.pop("proxies", {})
    known = {"http-proxy", "https-proxy", "no-proxy"}
    if not isinstance(proxies, dict):
        raise InvalidArgument(f"configuration key proxies: wrong type {type(proxies).__name__}")
    if unknown := sorted(proxies.keys() - known):
        raise InvalidArgument(
            f"unable to configure the daemon with file {name}: the following directives don't match any "
            f"configuration option: {', '.join(unknown)}"
        )
    values |= {key: proxies[key] for key in known & proxies.keys()}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "[" + " ".join(map(str, value)) + "]"
    # A proxy's password is nobody's who reads the error.
    return masked(value) if isinstance(value, str) and "://" in value else str(value)


def _is_loopback(host: str) -> bool:
    name = host.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _check_storage_option(config: DaemonConfig, option: str) -> None:
    """Raises: InvalidArgument, in Docker's words, for one that the chosen driver doesn't have."""
    name, _ = pair("storage-opt", option)
    driver = config.snapshotter or "overlayfs"
    if driver == "devmapper" and name.lower().startswith("dm."):
        return
    if name.lower() not in _STORAGE_OPTIONS.get(driver, ()):
        raise InvalidArgument(f"{config.storage_driver or 'overlay2'}: unknown option {name}")
    config.default_size()


def check_cgroup_parent(parent: str, driver: str) -> None:
    """Raises: InvalidArgument in dockerd's words of one that the driver can't have."""
    if ".." in parent.split("/"):
        raise InvalidArgument(f"invalid cgroup parent: {parent}")
    if driver == "systemd" and parent and (not parent.endswith(".slice") or "/" in parent or parent == ".slice"):
        raise InvalidArgument('cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"')


def _check_exec_option(option: str) -> None:
    """Raises: InvalidArgument in dockerd's words."""
    key, value = pair("exec-opt", option)
    if key.strip().lower() != "native.cgroupdriver":
        raise InvalidArgument(f"invalid exec-opt: unknown option {key}")
    if value not in CGROUP_DRIVERS:
        raise InvalidArgument(f"native.cgroupdriver option {value} is not supported: cgroupfs or systemd")
    if value == "systemd" and not Path("/run/systemd/system").is_dir():
        raise InvalidArgument("systemd cgroup driver passed, but systemd support for managing cgroups is not available")


def _check(config: DaemonConfig) -> None:
    for option in config.exec_opts:
        _check_exec_option(option)
    check_cgroup_parent(config.parent_of_groups, config.cgroup_driver)
    if config.storage_driver and config.snapshotter not in SNAPSHOTTERS:
        raise InvalidArgument(f"error initializing graphdriver: driver not supported: {config.storage_driver}")
    for option in config.storage_opts:
        _check_storage_option(config, option)
    if config.log_level not in ("debug", "info", "warn", "error", "fatal", "panic"):
        raise InvalidArgument(f'invalid logging level: "{config.log_level}"')
    for label in config.labels:
        if "=" not in label:
            raise InvalidArgument(f"bad attribute format: {label}")
    if config.mtu < 0:
        raise InvalidArgument(f"invalid default MTU: {config.mtu}")
    if config.bip:
        try:
            IPv4Interface(config.bip)
        except ValueError as e:
            raise InvalidArgument(f"invalid value {config.bip!r} for bip: {e}") from e
    if config.input_policy not in ("bypass", "obey"):
        raise InvalidArgument(f"invalid input-policy {config.input_policy!r}: bypass or obey")
    if config.input_policy == "obey" and not config.userland_proxy:
        raise InvalidArgument("input-policy obey needs userland-proxy: it is what then serves published ports")
    if config.max_concurrent_downloads < 1:
        raise InvalidArgument(f"invalid max concurrent downloads: {config.max_concurrent_downloads}")
    if config.max_concurrent_uploads < 1:
        raise InvalidArgument(f"invalid max concurrent uploads: {config.max_concurrent_uploads}")
    if config.max_download_attempts < 1:
        raise InvalidArgument(f"invalid max download attempts: {config.max_download_attempts}")
    if config.image_signatures:
        from rorqual.distribution.signatures import policy  # reads the keys, with what it takes to understand them

        policy.parse(config.image_signatures)
    for host in config.hosts:
        if not host.startswith(("unix://", "tcp://", "fd://")):
            raise InvalidArgument(f"invalid bind address ({host}): unknown protocol")
        if host.startswith("tcp://") and not (config.tlsverify or config.tls is not None or _is_loopback(host)):
            raise InvalidArgument(
                f"{host} without TLS is root on this machine for whoever reaches it: use --tlsverify with "
                "certificates, or --tls=false to have it all the same"
            )
    if config.default_runtime != BUILTIN_RUNTIME:
        try:
            config.runtime(config.default_runtime)
        except InvalidArgument as e:
            raise InvalidArgument(f"specified default runtime '{config.default_runtime}' does not exist") from e
