"""A container's runtime-spec, from its record and the facts of this start. Pure but for reading device nodes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rorqual.api.config import ContainerConfig, HostConfig
from rorqual.daemon.config import check_cgroup_parent
from rorqual.daemon.spec import capabilities, cdi, devices, merge, mounts, resources, security
from rorqual.errdefs import InvalidArgument
from rorqual.oci import defaults, runtime

INIT_TARGET = "/sbin/docker-init"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a spec is made from. Namespace paths are "" for a new one and "host" for none; files "" when not used."""

    id: str
    config: ContainerConfig
    host: HostConfig
    path: str
    args: tuple[str, ...]
    hostname: str
    mounts: Sequence[runtime.Mount]
    cgroup_parent: str
    cgroup_driver: str
    network_namespace: str = ""
    ipc_namespace: str = ""
    pid_namespace: str = ""
    hostname_file: str = ""
    hosts_file: str = ""
    resolv_file: str = ""
    init_path: str = ""
    link_env: tuple[str, ...] = ()
    default_ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    default_shm_size: int = 64 << 20
    no_new_privileges: bool = False
    seccomp_profile: str = ""
    cdi_directories: Sequence[str] = cdi.DIRECTORIES


def build(given: Inputs) -> runtime.Spec:
    """Raises: InvalidArgument."""
    host = given.host
    options = security.parse(
        host.security_opt or (), no_new_privileges=given.no_new_privileges, seccomp=given.seccomp_profile
    )
    caps = capabilities.effective(host.cap_add or (), host.cap_drop or (), privileged=host.privileged)
    nodes, rules = _devices(host)
    cdi_edits = cdi.edits(host.device_requests or (), given.cdi_directories)
    unmasked = host.privileged or options.unmasked
    return runtime.Spec(
        process=_process(given, caps, cdi_edits, no_new_privileges=options.no_new_privileges),
        root=runtime.Root("rootfs", host.readonly_rootfs),
        hostname="" if host.uts_mode == "host" else given.hostname,
        domainname="" if host.uts_mode == "host" else given.config.domainname,
        mounts=(*_mounts(given), *cdi_edits.mounts),
        hooks=cdi.hooks(cdi_edits.hooks),
        annotations=dict(host.annotations) if host.annotations else None,
        linux=runtime.Linux(
            sysctl=_sysctls(given) or None,
            resources=resources.resources(host, (*rules, *cdi_edits.rules)),
            cgroups_path=cgroup_path(host.cgroup_parent or given.cgroup_parent, given.id, given.cgroup_driver),
            namespaces=tuple(_namespaces(given)),
            devices=(*nodes, *cdi_edits.devices),
            seccomp=None if host.privileged else security.seccomp_profile(options, caps),
            rootfs_propagation=_rootfs_propagation(given.mounts),
            masked_paths=() if unmasked else _paths(host.masked_paths, defaults.MASKED_PATHS),
            readonly_paths=() if unmasked else _paths(host.readonly_paths, defaults.READONLY_PATHS),
        ),
    )


def cgroup_path(parent: str, id: str, driver: str) -> str:
    """The cgroup of a container; for systemd slice, prefix and name of its unit (docker-ID.scope, as dockerd names it).

    Raises: InvalidArgument for a parent that the driver can't have.
    """
    check_cgroup_parent(parent, driver)
    if driver == "systemd":
        return f"{parent}:docker:{id}"
    return f"/{parent.strip('/')}/{id}" if parent.strip("/") else f"/{id}"


def exec_process(
    config: ContainerConfig,
    host: HostConfig,
    hostname: str,
    *,
    cmd: tuple[str, ...],
    env: Sequence[str],
    user: str,
    cwd: str,
    tty: bool,
    privileged: bool,
    console_size: tuple[int, ...] | None = None,
    default_ulimits: Mapping[str, tuple[int, int]] | None = None,
) -> runtime.Process:
    """The process of an exec in a container. Raises: InvalidArgument."""
    own = dict(entry.partition("=")[::2] for entry in merge.environment(replace(config, tty=tty), hostname))
    caps = capabilities.effective(host.cap_add or (), host.cap_drop or (), privileged=privileged or host.privileged)
    options = security.parse(host.security_opt or ())
    return runtime.Process(
        cwd=_cwd(cwd or config.working_dir),
        args=cmd,
        env=merge.override(own, env),
        terminal=tty,
        console_size=_console(console_size),
        user=_user(user or config.user, host),
        capabilities=runtime.Capabilities(caps, caps, caps),
        rlimits=resources.rlimits(host, dict(default_ulimits or {})),
        no_new_privileges=options.no_new_privileges,
        oom_score_adj=host.oom_score_adj or None,
    )


def _process(given: Inputs, caps: tuple[str, ...], edits: cdi.Edits, *, no_new_privileges: bool) -> runtime.Process:
    argv = (given.path, *given.args)
    if given.init_path:
        argv = (INIT_TARGET, "--", *argv)
    return runtime.Process(
        cwd=_cwd(given.config.working_dir),
        args=argv,
        env=(*merge.environment(given.config, given.hostname, given.link_env), *edits.env),
        terminal=given.config.tty,
        console_size=_console(given.host.console_size),
        user=_user(given.config.user, given.host, edits.groups),
        capabilities=runtime.Capabilities(caps, caps, caps),
        rlimits=resources.rlimits(given.host, dict(given.default_ulimits)),
        no_new_privileges=no_new_privileges,
        oom_score_adj=given.host.oom_score_adj or None,
    )


def _cwd(path: str) -> str:
    if not path:
        return "/"
    if not path.startswith("/"):
        raise InvalidArgument(f"the working directory '{path}' is invalid, it needs to be an absolute path")
    return path


def _user(text: str, host: HostConfig, groups: Sequence[int] = ()) -> runtime.User:
    return runtime.User(username=text, additional_groups=(*(host.group_add or ()), *map(str, groups)))


def _console(size: Sequence[int] | None) -> runtime.ConsoleSize | None:
    if not size or len(size) < 2 or not (size[0] or size[1]):
        return None
    return runtime.ConsoleSize(height=size[0], width=size[1])


def _paths(own: tuple[str, ...] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    return default if own is None else own


def _devices(host: HostConfig) -> tuple[list[runtime.Device], list[runtime.DeviceRule]]:
    if host.privileged:
        return devices.host_devices(), [runtime.DeviceRule(True, access="rwm")]
    nodes: list[runtime.Device] = []
    rules = list(defaults.DEVICE_RULES)
    for mapping in host.devices or ():
        more, allowed = devices.mapped(mapping)
        nodes += more
        rules += allowed
    rules += devices.cgroup_rules(host.device_cgroup_rules or ())
    return nodes, rules


def _namespaces(given: Inputs) -> list[runtime.Namespace]:
    spaces = [runtime.Namespace("mount")]
    if given.host.uts_mode != "host":
        spaces.append(runtime.Namespace("uts"))
    for kind, path in (
        ("network", given.network_namespace),
        ("ipc", given.ipc_namespace),
        ("pid", given.pid_namespace),
    ):
        if path != "host":
            spaces.append(runtime.Namespace(kind, path))
    if given.host.cgroupns_mode == "private":
        spaces.append(runtime.Namespace("cgroup"))
    return spaces


def _mounts(given: Inputs) -> list[runtime.Mount]:
    user = list(given.mounts)
    taken = {m.destination for m in user}
    mode = "ro" if given.host.readonly_rootfs else "rw"
    files = (
        (given.resolv_file, "/etc/resolv.conf"),
        (given.hostname_file, "/etc/hostname"),
        (given.hosts_file, "/etc/hosts"),
    )
    for source, target in files:
        if source and target not in taken:
            user.append(runtime.Mount(target, "bind", source, ("rbind", "rprivate", mode)))
    if given.init_path:
        user.append(runtime.Mount(INIT_TARGET, "bind", given.init_path, ("bind", "ro")))
    shm_size = given.host.shm_size or given.default_shm_size
    ipc = "none" if given.host.ipc_mode == "none" else ("host" if given.ipc_namespace == "host" else "")
    return mounts.with_defaults(user, shm_size=shm_size, privileged=given.host.privileged, ipc=ipc)


def _rootfs_propagation(user: Sequence[runtime.Mount]) -> str:
    """A shared or slave mount can only be made where the root passes it on."""
    wanted = {o for m in user for o in m.options}
    if wanted & {"shared", "rshared"}:
        return "shared"
    return "rslave" if wanted & {"slave", "rslave"} else ""


_IPC_SYSCTLS = frozenset(
    {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"}
) | {"kernel.shmmni", "kernel.shm_rmid_forced"}


def check_sysctls(host: HostConfig) -> None:
    """Only what belongs to a namespace of the container's own. Raises: InvalidArgument."""
    for name in host.sysctls or {}:
        if name.startswith("net."):
            if host.network_mode == "host":
                raise InvalidArgument(f"sysctl '{name}' not allowed in host network namespace")
        elif name.startswith("fs.mqueue.") or name in _IPC_SYSCTLS:
            if host.ipc_mode == "host":
                raise InvalidArgument(f"sysctl '{name}' not allowed in host ipc namespace")
        elif name not in ("kernel.domainname", "kernel.hostname"):
            raise InvalidArgument(f"sysctl '{name}' is not allowed")


def _sysctls(given: Inputs) -> dict[str, str]:
    values: dict[str, str] = {}
    mode = given.host.network_mode
    if given.network_namespace != "host" and not mode.startswith("container:"):
        # As Docker: who is root of a network namespace of its own needs no capability for low ports and ping.
        values["net.ipv4.ip_unprivileged_port_start"] = "0"
        if os.path.exists("/proc/sys/net/ipv4/ping_group_range"):
            values["net.ipv4.ping_group_range"] = "0 2147483647"
    values.update(given.host.sysctls or {})
    return values
