"""The flags that run and create share, and what they make of a container: flags -> body of ContainerCreate.

`body` decides and touches nothing but the files that flags name (env files, seccomp profiles).
"""

from __future__ import annotations

from rorqual.cli.errors import CommandError
from rorqual.cli.options import environment, limits, mounts, networks
from rorqual.client import ports, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Flag, Values

    JSON = dict[str, Any]

FLAGS: tuple[Flag, ...] = (
    ("add-host", "", "list", (), "Add a custom host-to-IP mapping (host:ip)"),
    (
        "annotation",
        "",
        "map",
        (),
        "Add an annotation to the container (passed through to the OCI runtime) (default map[])",
    ),
    ("attach", "a", "list", (), "Attach to STDIN, STDOUT or STDERR"),
    ("blkio-weight", "", "uint16", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
    ("blkio-weight-device", "", "list", (), "Block IO weight (relative device weight) (default [])"),
    ("cap-add", "", "list", (), "Add Linux capabilities"),
    ("cap-drop", "", "list", (), "Drop Linux capabilities"),
    ("cgroup-parent", "", "string", "", "Optional parent cgroup for the container"),
    (
        "cgroupns",
        "",
        "string",
        "",
        "Cgroup namespace to use (host|private)\n"
        "'host':    Run the container in the Docker host's cgroup namespace\n"
        "'private': Run the container in its own private cgroup namespace\n"
        "'':        Use the cgroup namespace as configured by the\n"
        "           default-cgroupns-mode option on the daemon (default)",
    ),
    ("cidfile", "", "string", "", "Write the container ID to the file"),
    ("cpu-count", "", "int", 0, "CPU count (Windows only)", True),
    ("cpu-percent", "", "int", 0, "CPU percent (Windows only)", True),
    ("cpu-period", "", "int", 0, "Limit CPU CFS (Completely Fair Scheduler) period"),
    ("cpu-quota", "", "int", 0, "Limit CPU CFS (Completely Fair Scheduler) quota"),
    ("cpu-rt-period", "", "int", 0, "Limit CPU real-time period in microseconds"),
    ("cpu-rt-runtime", "", "int", 0, "Limit CPU real-time runtime in microseconds"),
    ("cpu-shares", "c", "int", 0, "CPU shares (relative weight)"),
    ("cpus", "", "decimal", 0, "Number of CPUs"),
    ("cpuset-cpus", "", "string", "", "CPUs in which to allow execution (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "", "MEMs in which to allow execution (0-3, 0,1)"),
    ("device", "", "list", (), "Add a host device to the container"),
    ("device-cgroup-rule", "", "list", (), "Add a rule to the cgroup allowed devices list"),
    ("device-read-bps", "", "list", (), "Limit read rate (bytes per second) from a device (default [])"),
    ("device-read-iops", "", "list", (), "Limit read rate (IO per second) from a device (default [])"),
    ("device-write-bps", "", "list", (), "Limit write rate (bytes per second) to a device (default [])"),
    ("device-write-iops", "", "list", (), "Limit write rate (IO per second) to a device (default [])"),
    ("dns", "", "list", (), "Set custom DNS servers"),
    ("dns-option", "", "list", (), "Set DNS options"),
    ("dns-search", "", "list", (), "Set custom DNS search domains"),
    ("domainname", "", "string", "", "Container NIS domain name"),
    ("entrypoint", "", "string", "", "Overwrite the default ENTRYPOINT of the image"),
    ("env", "e", "list", (), "Set environment variables"),
    ("env-file", "", "list", (), "Read in a file of environment variables"),
    ("expose", "", "list", (), "Expose a port or a range of ports"),
    ("gpus", "", "gpu-request", (), "GPU devices to add to the container ('all' to pass all GPUs)"),
    ("group-add", "", "list", (), "Add additional groups to join"),
    ("health-cmd", "", "string", "", "Command to run to check health"),
    ("health-interval", "", "duration", 0, "Time between running the check (ms|s|m|h) (default 0s)"),
    ("health-retries", "", "int", 0, "Consecutive failures needed to report unhealthy"),
    (
        "health-start-interval",
        "",
        "duration",
        0,
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    ),
    (
        "health-start-period",
        "",
        "duration",
        0,
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
    ),
    ("health-timeout", "", "duration", 0, "Maximum time to allow one check to run (ms|s|m|h) (default 0s)"),
    ("hostname", "h", "string", "", "Container host name"),
    ("init", "", "bool", False, "Run an init inside the container that forwards signals and reaps processes"),
    ("interactive", "i", "bool", False, "Keep STDIN open even if not attached"),
    ("io-maxbandwidth", "", "bytes", 0, "Maximum IO bandwidth limit for the system drive (Windows only)", True),
    ("io-maxiops", "", "uint", 0, "Maximum IOps limit for the system drive (Windows only)", True),
    ("ip", "", "string", "", "IPv4 address (e.g., 172.30.100.104)"),
    ("ip6", "", "string", "", "IPv6 address (e.g., 2001:db8::33)"),
    ("ipc", "", "string", "", "IPC mode to use"),
    ("isolation", "", "string", "", "Container isolation technology"),
    ("kernel-memory", "", "bytes", 0, "Kernel memory limit"),
    ("label", "l", "list", (), "Set meta data on a container"),
    ("label-file", "", "list", (), "Read in a line delimited file of labels"),
    ("link", "", "list", (), "Add link to another container"),
    ("link-local-ip", "", "list", (), "Container IPv4/IPv6 link-local addresses"),
    ("log-driver", "", "string", "", "Logging driver for the container"),
    ("log-opt", "", "list", (), "Log driver options"),
    ("mac-address", "", "string", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    ("memory", "m", "bytes", 0, "Memory limit"),
    ("memory-reservation", "", "bytes", 0, "Memory soft limit"),
    ("memory-swap", "", "bytes", 0, "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    ("memory-swappiness", "", "int", -1, "Tune container memory swappiness (0 to 100) (default -1)"),
    ("mount", "", "mount", (), "Attach a filesystem mount to the container"),
    ("network", "", "network", (), "Connect a container to a network"),
    ("network-alias", "", "list", (), "Add network-scoped alias for the container"),
    ("no-healthcheck", "", "bool", False, "Disable any container-specified HEALTHCHECK"),
    ("oom-kill-disable", "", "bool", False, "Disable OOM Killer"),
    ("oom-score-adj", "", "int", 0, "Tune host's OOM preferences (-1000 to 1000)"),
    ("pid", "", "string", "", "PID namespace to use"),
    ("pids-limit", "", "int", 0, "Tune container pids limit (set -1 for unlimited)"),
    ("privileged", "", "bool", False, "Give extended privileges to this container"),
    ("publish", "p", "list", (), "Publish a container's port(s) to the host"),
    ("publish-all", "P", "bool", False, "Publish all exposed ports to random ports"),
    ("read-only", "", "bool", False, "Mount the container's root filesystem as read only"),
    ("restart", "", "string", "no", 'Restart policy to apply when a container exits (default "no")'),
    ("rm", "", "bool", False, "Automatically remove the container and its associated anonymous volumes when it exits"),
    ("runtime", "", "string", "", "Runtime to use for this container"),
    ("security-opt", "", "list", (), "Security Options"),
    ("shm-size", "", "bytes", 0, "Size of /dev/shm"),
    ("stop-signal", "", "string", "", "Signal to stop the container"),
    ("stop-timeout", "", "int", 0, "Timeout (in seconds) to stop a container"),
    ("storage-opt", "", "list", (), "Storage driver options for the container"),
    ("sysctl", "", "map", (), "Sysctl options (default map[])"),
    ("tmpfs", "", "list", (), "Mount a tmpfs directory"),
    ("tty", "t", "bool", False, "Allocate a pseudo-TTY"),
    ("ulimit", "", "ulimit", (), "Ulimit options (default [])"),
    ("user", "u", "string", "", "Username or UID (format: <name|uid>[:<group|gid>])"),
    ("userns", "", "string", "", "User namespace to use"),
    ("uts", "", "string", "", "UTS namespace to use"),
    ("volume", "v", "list", (), "Bind mount a volume"),
    ("volume-driver", "", "string", "", "Optional volume driver for the container"),
    ("volumes-from", "", "list", (), "Mount volumes from the specified container(s)"),
    ("workdir", "w", "string", "", "Working directory inside the container"),
)

CREATE_FLAGS: tuple[Flag, ...] = (
    ("disable-content-trust", "", "bool", True, "Skip image verification (default true)"),
    ("name", "", "string", "", "Assign a name to the container"),
    ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
    (
        "pull",
        "",
        "string",
        "missing",
        'Pull image before running ("always", "missing", "never") (default "missing")',
    ),
    ("quiet", "q", "bool", False, "Suppress the pull output"),
    ("use-api-socket", "", "bool", False, "Bind mount Docker API socket and required auth"),
)

VALIDATORS = {
    "add-host": networks.parse_extra_host,
    "attach": networks.parse_attach,
    "blkio-weight-device": limits.parse_weight_device,
    "device-cgroup-rule": mounts.parse_device_cgroup_rule,
    "device-read-bps": limits.parse_throttle_bps,
    "device-read-iops": limits.parse_throttle_iops,
    "device-write-bps": limits.parse_throttle_bps,
    "device-write-iops": limits.parse_throttle_iops,
    "dns": networks.parse_ip,
    "dns-search": networks.parse_dns_search,
    "env": environment.parse_env,
    "gpus": networks.parse_gpus,
    "label": environment.parse_label,
    "link": networks.parse_link,
    "memory-swap": limits.parse_memory_swap,
    "mount": mounts.parse_mount,
    "network": networks.parse_network,
    "sysctl": limits.parse_sysctl,
    "ulimit": limits.parse_ulimit,
}
RENAMED = {"net": "network", "net-alias": "network-alias", "dns-opt": "dns-option"}

# Flag -> field of HostConfig that takes its value as it is
_SCALARS = {
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "cpus": "NanoCpus",
    "cpu-shares": "CpuShares",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-count": "CpuCount",
    "cpu-percent": "CpuPercent",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "blkio-weight": "BlkioWeight",
    "cgroup-parent": "CgroupParent",
    "io-maxbandwidth": "IOMaximumBandwidth",
    "io-maxiops": "IOMaximumIOps",
    "isolation": "Isolation",
    "oom-kill-disable": "OomKillDisable",
    "oom-score-adj": "OomScoreAdj",
    "pids-limit": "PidsLimit",
    "privileged": "Privileged",
    "publish-all": "PublishAllPorts",
    "read-only": "ReadonlyRootfs",
    "rm": "AutoRemove",
    "runtime": "Runtime",
    "shm-size": "ShmSize",
    "volume-driver": "VolumeDriver",
    "cidfile": "ContainerIDFile",
    "ipc": "IpcMode",
}
_LISTS = {
    "blkio-weight-device": "BlkioWeightDevice",
    "cap-add": "CapAdd",
    "cap-drop": "CapDrop",
    "device-cgroup-rule": "DeviceCgroupRules",
    "device-read-bps": "BlkioDeviceReadBps",
    "device-read-iops": "BlkioDeviceReadIOps",
    "device-write-bps": "BlkioDeviceWriteBps",
    "device-write-iops": "BlkioDeviceWriteIOps",
    "dns": "Dns",
    "dns-option": "DnsOptions",
    "dns-search": "DnsSearch",
    "add-host": "ExtraHosts",
    "group-add": "GroupAdd",
    "link": "Links",
    "mount": "Mounts",
    "ulimit": "Ulimits",
    "volumes-from": "VolumesFrom",
}
_HEALTH = (
    ("health-interval", "Interval"),
    ("health-timeout", "Timeout"),
    ("health-start-period", "StartPeriod"),
    ("health-start-interval", "StartInterval"),
    ("health-retries", "Retries"),
)


def body(flags: Values, image: str, command: list[str]) -> JSON:
    """The body of ContainerCreate.

    Raises: CommandError with Docker's text for values that contradict each other or files that cannot be read.
    """
    try:
        return _body(flags, image, command)
    except ValueError as e:
        raise CommandError(str(e)) from e


def _body(flags: Values, image: str, command: list[str]) -> JSON:
    if flags.string("mac-address"):
        networks.check_mac(flags.string("mac-address"))
    swappiness = flags.integer("memory-swappiness")
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise ValueError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    config = _config(flags, image, command)
    host = _host_config(flags)
    binds, anonymous = mounts.split_volumes(flags.many("volume"))
    host["Binds"] = binds or None
    config["Volumes"] = anonymous
    exposed, bindings = ports.parse_publish(flags.many("publish"))
    for port in ports.parse_expose(flags.many("expose")):
        exposed.setdefault(port, {})
    config["ExposedPorts"] = exposed
    host["PortBindings"] = bindings
    if host["AutoRemove"] and host["RestartPolicy"]["Name"] not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    config["HostConfig"] = host
    config["NetworkingConfig"] = {"EndpointsConfig": networks.endpoints(flags)}
    return config


def _config(flags: Values, image: str, command: list[str]) -> JSON:
    attached = flags.many("attach")
    stdin = flags.boolean("interactive") or "stdin" in attached
    env = environment.read_files(flags.many("env-file"), flags.many("env"), from_environment=True)
    labels = environment.read_files(flags.many("label-file"), flags.many("label"), from_environment=False)
    config: JSON = {
        "Hostname": flags.string("hostname"),
        "Domainname": flags.string("domainname"),
        "User": flags.string("user"),
        "AttachStdin": stdin,
        "AttachStdout": "stdout" in attached if attached else True,
        "AttachStderr": "stderr" in attached if attached else True,
        "Tty": flags.boolean("tty"),
        "OpenStdin": flags.boolean("interactive"),
        "StdinOnce": flags.boolean("interactive") and stdin,
        "Env": env,
        "Cmd": command or None,
        "Image": image,
        "WorkingDir": flags.string("workdir"),
        "Entrypoint": None,
        "Labels": limits.to_map(labels),
    }
    if flags.string("entrypoint"):
        config["Entrypoint"] = [flags.string("entrypoint")]
    elif flags.changed("entrypoint"):
        config["Entrypoint"] = [""]
    if flags.string("stop-signal"):
        config["StopSignal"] = flags.string("stop-signal")
    if flags.changed("stop-timeout"):
        config["StopTimeout"] = flags.integer("stop-timeout")
    if (health := _health(flags)) is not None:
        config["Healthcheck"] = health
    return config


def _host_config(flags: Values) -> JSON:
    host: JSON = {field: flags._values[name] for name, field in _SCALARS.items()}
    for name, field in _LISTS.items():
        host[field] = flags.many(name) or None
    host["MemorySwappiness"] = flags.integer("memory-swappiness")
    requested: list[JSON] = list(flags.many("network"))
    host["NetworkMode"] = requested[0]["target"] if requested else "default"
    host["PidMode"] = _mode(flags, "pid", "--pid: invalid PID mode")
    host["UTSMode"] = _choice(flags, "uts", ("host",), "--uts: invalid UTS mode")
    host["UsernsMode"] = _choice(flags, "userns", ("host",), "--userns: invalid USER mode")
    host["CgroupnsMode"] = _choice(flags, "cgroupns", ("host", "private"), "--cgroupns: invalid CGROUP mode")
    host["RestartPolicy"] = limits.parse_restart_policy(flags.string("restart"))
    log_options = flags.many("log-opt")
    if flags.string("log-driver") == "none" and log_options:
        raise ValueError("invalid logging opts for driver none")
    host["LogConfig"] = {"Type": flags.string("log-driver"), "Config": limits.to_map(log_options)}
    _security(flags, host)
    storage = flags.many("storage-opt")
    if any("=" not in option for option in storage):
        raise ValueError("invalid storage option")
    host["StorageOpt"] = limits.to_map(storage) or None
    devices, cdi_names = mounts.parse_devices(flags.many("device"))
    host["Devices"] = devices
    requests: list[JSON] = list(flags.many("gpus"))
    if cdi_names:
        requests.append({"Driver": "cdi", "DeviceIDs": cdi_names})
    host["DeviceRequests"] = requests or None
    if tmpfs := mounts.split_tmpfs(flags.many("tmpfs")):
        host["Tmpfs"] = tmpfs
    if sysctls := limits.to_map(flags.many("sysctl")):
        host["Sysctls"] = sysctls
    if annotations := limits.to_map(flags.many("annotation")):
        host["Annotations"] = annotations
    if flags.changed("init"):
        host["Init"] = flags.boolean("init")
    return host


def _mode(flags: Values, name: str, error: str) -> str:
    value = flags.string(name)
    if value in ("", "host") or (value.startswith("container:") and len(value) > len("container:")):
        return value
    raise ValueError(error)


def _choice(flags: Values, name: str, allowed: tuple[str, ...], error: str) -> str:
    value = flags.string(name)
    if value and value not in allowed:
        raise ValueError(error)
    return value


def _security(flags: Values, host: JSON) -> None:
    options: list[str] = []
    for option in flags.many("security-opt"):
        key, equals, value = option.partition("=")
        if not equals and key != "no-new-privileges":
            key, equals, value = option.partition(":")
        if key != "no-new-privileges" and (not equals or not value):
            raise ValueError(f"Invalid --security-opt: {values.quote(option)}")
        if option == "systempaths=unconfined":
            host["MaskedPaths"] = []
            host["ReadonlyPaths"] = []
            continue
        if key == "seccomp" and value not in ("unconfined", "builtin"):
            option = "seccomp=" + _seccomp_profile(value)
        options.append(option)
    host["SecurityOpt"] = options or None


def _seccomp_profile(path: str) -> str:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as e:
        raise ValueError(f"opening seccomp profile ({path}) failed: open {path}: {(e.strerror or '').lower()}") from e
    try:
        return json.dumps(json.loads(text), separators=(",", ":"))
    except ValueError as e:
        raise ValueError(f"compacting json for seccomp profile ({path}) failed: {e}") from e


def _health(flags: Values) -> JSON | None:
    command = flags.string("health-cmd")
    settings = {field: flags.integer(name) for name, field in _HEALTH}
    given = bool(command) or any(settings.values())
    if flags.boolean("no-healthcheck"):
        if given:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not given:
        return None
    for name, field in _HEALTH:
        if settings[field] < 0:
            raise ValueError(f"--{name} cannot be negative")
    out: JSON = {field: value for field, value in settings.items() if value}
    if command:
        out["Test"] = ["CMD-SHELL", command]
    return out
