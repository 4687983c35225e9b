"""What is wrong with a create request, before anything is made: Docker's rules and texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rorqual.api.config import ContainerConfig, HostConfig, RestartPolicy
from rorqual.api.network import NetworkingConfig
from rorqual.daemon.config import DaemonConfig
from rorqual.daemon.configvalues import parse_size
from rorqual.daemon.remote import SIZE_LABEL
from rorqual.daemon.services import clock, health, logconfig, signals
from rorqual.daemon.services.containers import networking, ports
from rorqual.daemon.services.containers import state as states
from rorqual.daemon.spec import builder, capabilities, devices, resources, security
from rorqual.errdefs import InvalidArgument

_POLICIES = ("", "no", "always", "on-failure", "unless-stopped")


def host_config(host: HostConfig, config: DaemonConfig) -> HostConfig:
    """`host` with the daemon's defaults filled in. Raises: InvalidArgument."""
    host = replace(
        host,
        network_mode=_network_mode(host.network_mode, config),
        ipc_mode=host.ipc_mode or "private",
        cgroupns_mode=host.cgroupns_mode or ("host" if host.privileged else default_cgroupns()),
        runtime=host.runtime or config.default_runtime,
        shm_size=host.shm_size or config.default_shm_size,
        log_config=host.log_config
        if host.log_config.type
        else replace(host.log_config, type=config.log_driver, config={**config.log_opts, **host.log_config.config}),
        init=host.init if host.init is not None else (True if config.init else None),
        dns=host.dns if host.dns is not None else (),
        dns_options=host.dns_options if host.dns_options is not None else (),
        dns_search=host.dns_search if host.dns_search is not None else (),
        console_size=host.console_size or (0, 0),
        restart_policy=replace(host.restart_policy, name=host.restart_policy.name or "no"),
    )
    restart_policy(host.restart_policy, auto_remove=host.auto_remove)
    config.runtime(host.runtime)
    _modes(host)
    logconfig.check(host.log_config)
    security.parse(host.security_opt or ())
    capabilities.effective(host.cap_add or (), host.cap_drop or (), privileged=host.privileged)
    devices.check_rules(host.device_cgroup_rules or ())
    builder.check_sysctls(host)
    builder.cgroup_path(host.cgroup_parent or config.parent_of_groups, "x", config.cgroup_driver)
    for entry in host.extra_hosts or ():
        networking.parse_extra_host(entry)
    for entry in host.links or ():
        if not entry:
            raise InvalidArgument("empty string specified for links")
        if not entry.partition(":")[0]:
            raise InvalidArgument(f"bad format for links: {entry}")
    storage_labels(host, config)
    if host.isolation not in ("", "default"):
        raise InvalidArgument(f"invalid isolation: \"{host.isolation}\" - linux only supports 'default'")
    return resources.check(host)


def storage_labels(host: HostConfig, config: DaemonConfig) -> dict[str, str]:
    """What --storage-opt asks of the container's snapshot. Raises: InvalidArgument, with Docker's texts."""
    options = host.storage_opt or {}
    if options and config.snapshotter in ("native", "fuse-overlayfs"):
        raise InvalidArgument("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    for key in options:
        if key.lower() != "size":
            raise InvalidArgument(f"Unknown option {key}")
    sizes = [parse_size("storage-opt size", value) for value in options.values()] or [config.default_size()]
    return {SIZE_LABEL: str(sizes[-1])} if sizes[-1] else {}


def default_cgroupns() -> str:
    """As Docker: the host's on cgroup v1, a private one on v2."""
    import os

    return "private" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "host"


def _network_mode(mode: str, config: DaemonConfig) -> str:
    """Without a default bridge, who asks for that, or for nothing, has no network; as Docker's."""
    mode = "bridge" if mode in ("", "default") else mode
    return "none" if mode == "bridge" and config.bridge == "none" else mode


def _modes(host: HostConfig) -> None:
    for value, what, allowed in (
        (host.ipc_mode, "IPC", ("private", "shareable", "host", "none")),
        (host.pid_mode, "PID", ("", "host")),
        (host.uts_mode, "UTS", ("", "host")),
        (host.userns_mode, "userns", ("", "host")),
        (host.cgroupns_mode, "cgroup namespace", ("private", "host")),
    ):
        joins = what in ("IPC", "PID") and value.startswith("container:") and value != "container:"
        if value not in allowed and not joins:
            raise InvalidArgument(f"invalid {what} mode: {value}")
    if host.network_mode.startswith("container:"):
        if host.network_mode == "container:":
            raise InvalidArgument("Invalid network mode: invalid container format container:<name|id>")
        for given, text in (
            (host.links, "conflicting options: container type network can't be used with links"),
            (host.dns, "conflicting options: dns and the network mode"),
            (host.extra_hosts, "conflicting options: custom host-to-IP mapping and the network mode"),
            (host.port_bindings, "conflicting options: port publishing and the container type network mode"),
        ):
            if given:
                raise InvalidArgument(text)
    if host.network_mode == "host" and host.links:
        raise InvalidArgument("conflicting options: host type networking can't be used with links")
    if host.privileged and host.userns_mode not in ("", "host"):
        raise InvalidArgument("privileged mode is incompatible with user namespaces")


def restart_policy(policy: RestartPolicy, *, auto_remove: bool) -> None:
    """Raises: InvalidArgument."""
    if policy.name not in _POLICIES:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")


def restart_delays(labels: Mapping[str, str]) -> tuple[float, float]:
    """The waits before restarts that the labels ask for, in seconds. Raises: InvalidArgument."""
    first, longest = states.DEFAULT_DELAYS_S
    if states.DELAY_LABEL in labels:
        first = clock.parse_duration(labels[states.DELAY_LABEL]) / 1e9
        longest = max(first, longest)
    if states.MAX_DELAY_LABEL in labels:
        longest = clock.parse_duration(labels[states.MAX_DELAY_LABEL]) / 1e9
    if first <= 0 or longest < first:
        raise InvalidArgument(f"invalid restart delays: {first:g} s, at most {longest:g} s")
    return first, longest


def container_config(config: ContainerConfig) -> None:
    """Raises: InvalidArgument."""
    for entry in config.env or ():
        if not entry or entry.startswith("="):
            raise InvalidArgument(f"invalid environment variable: {entry}")
    for port in config.exposed_ports or {}:
        ports.parse_port(port)
    if len(config.hostname) > 63:
        raise InvalidArgument(f"invalid hostname: {config.hostname}")
    if config.stop_signal:
        signals.parse(config.stop_signal)
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    health.check(config.healthcheck)


def endpoints(host: HostConfig, networks: NetworkingConfig | None, config: DaemonConfig) -> None:
    """Raises: InvalidArgument for networks asked for beside a mode that has none."""
    ports.bindings(ContainerConfig(), host)
    wanted = dict(networks.endpoints_config) if networks else {}
    if host.network_mode in ("host", "none") or host.network_mode.startswith("container:"):
        extra = [n for n in wanted if _network_mode(n, config) != host.network_mode]
        if extra:
            raise InvalidArgument(
                f"conflicting options: cannot attach both user-defined and {host.network_mode} networks"
            )
