"""`rorqual info`."""

from __future__ import annotations

import json
import sys

from rorqual import errdefs
from rorqual.cli.command import Command, Context
from rorqual.cli.commands.system.version import client_version
from rorqual.cli.errors import Exit
from rorqual.cli.formats import INSPECT_FORMAT
from rorqual.cli.render import error_text
from rorqual.cli.units import bytes_size, human_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]

EXIT_TEMPLATE = 64
_STRUCTS = {"Plugins": "system.PluginsInfo", "Swarm": "swarm.Info"}
_GO_NAMES = {
    "HTTPProxy": "HttpProxy",
    "HTTPSProxy": "HttpsProxy",
    "CPUCfsPeriod": "CpuCfsPeriod",
    "CPUCfsQuota": "CpuCfsQuota",
}
# Empty in these forms where the engine's JSON leaves them out.
_NO_LISTS = (
    "CDISpecDirs", "ClientErrors", "DefaultAddressPools", "DiscoveredDevices", "GenericResources", "ServerErrors",
    "SystemStatus",
)  # fmt: skip
_NO_VALUES = {
    "Containerd": None, "FirewallBackend": None, "NRI": None, "KernelMemory": False, "KernelMemoryTCP": False,
    "ProductLicense": "",
}  # fmt: skip


def run(context: Context, flags: Values, args: list[str]) -> int:
    about = client_version(context, "")
    del about["ApiVersion"]
    client: JSON = {"Debug": context.debug, **about, "Plugins": [], "Warnings": None}
    server: JSON | None = None
    failure = ""
    try:
        server = context.client.system.info()
    except errdefs.Error as e:
        failure = error_text(e)
    format = flags.string("format")
    if format:
        _formatted({**(server or {}), "ClientInfo": client}, format)
    else:
        sys.stdout.write("\n".join(["Client: Rorqual", *_client_lines(client), "", "Server:"]) + "\n")
        if server is not None:
            sys.stdout.write("\n".join(_server_lines(server, context.debug)) + "\n\n")
            for warning in server.get("Warnings") or ():
                context.err(warning)
    if failure:
        raise Exit(1, failure)
    return 0


def _formatted(info: JSON, format: str) -> None:
    if format == "json":
        sys.stdout.write(json.dumps(info, separators=(",", ":"), ensure_ascii=False) + "\n")
        return
    from rorqual.cli.gotemplate import NilSlice, TemplateError, parse
    from rorqual.cli.gotemplate.docker import FUNCTIONS
    from rorqual.cli.gotemplate.structs import members, struct

    try:
        template = parse("", format, FUNCTIONS)
    except TemplateError as e:
        raise Exit(EXIT_TEMPLATE, f"template parsing error: {e}") from e
    shown = members({**info, "ClientInfo": struct("*system.clientInfo", info["ClientInfo"])}, _STRUCTS)
    shown |= _typed(info)
    omitted = {**_NO_VALUES, **{name: NilSlice() for name in _NO_LISTS}}
    try:
        sys.stdout.write(template.execute(struct("system.dockerInfo", shown, names=_GO_NAMES, omitted=omitted)) + "\n")
    except TemplateError as e:
        sys.stdout.write(e.partial + "\n")
        raise Exit(1, str(e)) from e


def _typed(info: JSON) -> JSON:
    """The members that are structs to Go, with the fields that their JSON leaves out."""
    from rorqual.cli.gotemplate import NilMap, NilSlice, Object
    from rorqual.cli.gotemplate.structs import GoStruct

    def member(type_name: str, data: JSON, empty: JSON) -> Object:
        return GoStruct(type_name, {name: data.get(name) or value for name, value in empty.items()}, data)

    def runtime(data: JSON) -> Object:
        spelt = (("Path", "path", ""), ("Args", "runtimeArgs", NilSlice()), ("Type", "runtimeType", ""))
        fields = {name: data.get(key) or value for name, key, value in (*spelt, ("Options", "options", NilMap()))}
        whole = {"Runtime": GoStruct("system.Runtime", fields, data), "Status": data.get("status") or NilMap()}
        return GoStruct("system.RuntimeWithStatus", whole, data, promoted=fields)

    out: JSON = {
        "Runtimes": {name: runtime(data) for name, data in (info.get("Runtimes") or {}).items()},
        "GenericResources": info.get("GenericResources") or NilSlice(),
    }
    for name in ("ContainerdCommit", "RuncCommit", "InitCommit"):
        out[name] = member("system.Commit", info.get(name) or {}, {"ID": "", "Expected": ""})
    if containerd := info.get("Containerd"):
        spaces = member(
            "system.ContainerdNamespaces", containerd.get("Namespaces") or {}, {"Containers": "", "Plugins": ""}
        )
        fields = {"Address": containerd.get("Address", ""), "Namespaces": spaces}
        out["Containerd"] = GoStruct("*system.ContainerdInfo", fields, containerd)
    if firewall := info.get("FirewallBackend"):
        out["FirewallBackend"] = member("*system.FirewallInfo", firewall, {"Driver": "", "Info": NilSlice()})
    if registry := info.get("RegistryConfig"):
        lists = ("AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames")
        empty: JSON = {**{name: NilSlice() for name in lists}, "InsecureRegistryCIDRs": NilSlice()}
        empty |= {"IndexConfigs": NilMap(), "Mirrors": NilSlice(), "ExtraFields": NilMap()}
        out["RegistryConfig"] = member("*registry.ServiceConfig", registry, empty)
    return out


def _client_lines(client: JSON) -> list[str]:
    return [
        f" Version:    {client['Version']}",
        f" Context:    {client['Context']}",
        f" Debug Mode: {_bool(client['Debug'])}",
    ]


def _bool(value: object) -> str:
    return "true" if value else "false"


def _present(info: JSON, *pairs: tuple[str, str]) -> list[str]:
    return [f" {label}: {info[key]}" for label, key in pairs if info.get(key)]


def _swarm_lines(swarm: JSON) -> list[str]:
    state = swarm.get("LocalNodeState", "")
    out = [f" Swarm: {state}"]
    if state in ("inactive", "locked", ""):
        return out
    out.append(f"  NodeID: {swarm.get('NodeID', '')}")
    if swarm.get("Error"):
        out.append(f"  Error: {swarm['Error']}")
    out.append(f"  Is Manager: {'true' if swarm.get('ControlAvailable') else 'false'}")
    cluster = swarm.get("Cluster")
    if cluster and swarm.get("ControlAvailable") and state != "error":
        spec = cluster["Spec"]
        raft, ca = spec["Raft"], spec["CAConfig"]
        out += [
            f"  ClusterID: {cluster['ID']}",
            f"  Managers: {swarm.get('Managers', 0)}",
            f"  Nodes: {swarm.get('Nodes', 0)}",
            f"  Default Address Pool: {''.join(f'{pool}  ' for pool in cluster['DefaultAddrPool'])}",
            f"  SubnetSize: {cluster['SubnetSize']}",
            f"  Data Path Port: {cluster['DataPathPort']}",
            "  Orchestration:",
            f"   Task History Retention Limit: {spec['Orchestration'].get('TaskHistoryRetentionLimit', 0)}",
            "  Raft:",
            f"   Snapshot Interval: {raft.get('SnapshotInterval', 0)}",
        ]
        if (kept := raft.get("KeepOldSnapshots")) is not None:
            out.append(f"   Number of Old Snapshots to Retain: {kept}")
        out += [
            f"   Heartbeat Tick: {raft['HeartbeatTick']}",
            f"   Election Tick: {raft['ElectionTick']}",
            "  Dispatcher:",
            f"   Heartbeat Period: {human_duration(spec['Dispatcher'].get('HeartbeatPeriod', 0) / 1e9)}",
            "  CA Configuration:",
            f"   Expiry Duration: {human_duration(ca.get('NodeCertExpiry', 0) / 1e9)}",
            f"   Force Rotate: {ca.get('ForceRotate', 0)}",
        ]
        if ca.get("SigningCACert"):
            out.append(f"   Signing CA Certificate: \n{ca['SigningCACert'].strip()}\n")
        locked = spec["EncryptionConfig"]["AutoLockManagers"]
        out += [
            f"  Autolock Managers: {'true' if locked else 'false'}",
            f"  Root Rotation In Progress: {'true' if cluster.get('RootRotationInProgress') else 'false'}",
        ]
    out.append(f"  Node Address: {swarm.get('NodeAddr', '')}")
    if managers := swarm.get("RemoteManagers"):
        out += ["  Manager Addresses:", *sorted(f"   {manager['Addr']}" for manager in managers)]
    return out


def _server_lines(info: JSON, debug: bool) -> list[str]:
    out = [
        f" Containers: {info.get('Containers', 0)}",
        f"  Running: {info.get('ContainersRunning', 0)}",
        f"  Paused: {info.get('ContainersPaused', 0)}",
        f"  Stopped: {info.get('ContainersStopped', 0)}",
        f" Images: {info.get('Images', 0)}",
    ]
    out += _present(info, ("Server Version", "ServerVersion"), ("Storage Driver", "Driver"))
    out += [f"  {name}: {value}" for name, value in info.get("DriverStatus") or ()]
    out += _present(
        info,
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    )
    out += _plugin_lines(info.get("Plugins") or {})
    if directories := info.get("CDISpecDirs"):
        out += [" CDI spec directories:", *(f"  {d}" for d in directories)]
    if devices := info.get("DiscoveredDevices"):
        out += [" Discovered Devices:", *(f"  {d['Source']}: {d['ID']}" for d in devices)]
    out += _swarm_lines(info.get("Swarm") or {})
    if runtimes := info.get("Runtimes"):
        out += [f" Runtimes: {' '.join(sorted(runtimes))}", f" Default Runtime: {info.get('DefaultRuntime', '')}"]
    if info.get("OSType") == "linux":
        out += _linux_lines(info)
    out += _present(
        info,
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    )
    out += [f" CPUs: {info.get('NCPU', 0)}", f" Total Memory: {bytes_size(info.get('MemTotal', 0))}"]
    out += _present(info, ("Name", "Name"), ("ID", "ID"))
    out += [f" Docker Root Dir: {info.get('DockerRootDir', '')}", f" Debug Mode: {_bool(info.get('Debug'))}"]
    if info.get("Debug") or debug:
        out += [
            f"  File Descriptors: {info.get('NFd', 0)}",
            f"  Goroutines: {info.get('NGoroutines', 0)}",
            f"  System Time: {info.get('SystemTime', '')}",
            f"  EventsListeners: {info.get('NEventsListener', 0)}",
        ]
    out += _present(info, ("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy"))
    if labels := info.get("Labels"):
        out += [" Labels:", *(f"  {label}" for label in labels)]
    out.append(f" Experimental: {_bool(info.get('ExperimentalBuild'))}")
    out += _registry_lines(info.get("RegistryConfig") or {})
    out.append(f" Live Restore Enabled: {_bool(info.get('LiveRestoreEnabled'))}")
    out += _present(info, ("Product License", "ProductLicense"))
    if pools := info.get("DefaultAddressPools"):
        out += [" Default Address Pools:", *(f"   Base: {p['Base']}, Size: {p['Size']}" for p in pools)]
    if firewall := info.get("FirewallBackend"):
        out.append(f" Firewall Backend: {firewall.get('Driver', '')}")
        out += [f"  {name}: {value}" for name, value in firewall.get("Info") or ()]
    return out


def _plugin_lines(plugins: JSON) -> list[str]:
    out = [
        " Plugins:",
        f"  Volume: {' '.join(plugins.get('Volume') or ())}",
        f"  Network: {' '.join(plugins.get('Network') or ())}",
    ]
    if plugins.get("Authorization"):
        out.append(f"  Authorization: {' '.join(plugins['Authorization'])}")
    out.append(f"  Log: {' '.join(plugins.get('Log') or ())}")
    return out


def _linux_lines(info: JSON) -> list[str]:
    out = [
        f" Init Binary: {info.get('InitBinary', '')}",
        f" containerd version: {(info.get('ContainerdCommit') or {}).get('ID', '')}",
        f" runc version: {(info.get('RuncCommit') or {}).get('ID', '')}",
        f" init version: {(info.get('InitCommit') or {}).get('ID', '')}",
    ]
    options = info.get("SecurityOptions") or ()
    if options:
        out.append(" Security Options:")
    for option in options:
        fields = dict(f.partition("=")[::2] for f in option.split(",")) if "=" in option else {"name": option}
        out.append(f"  {fields.get('name', option)}")
        if "profile" in fields:
            out.append(f"   Profile: {fields['profile']}")
    return out


def _registry_lines(config: JSON) -> list[str]:
    out: list[str] = []
    insecure = [c["Name"] for c in (config.get("IndexConfigs") or {}).values() if not c.get("Secure")]
    cidrs = config.get("InsecureRegistryCIDRs") or []
    if insecure or cidrs or config.get("IndexConfigs"):
        out += [" Insecure Registries:", *(f"  {name}" for name in [*insecure, *cidrs])]
    if mirrors := config.get("Mirrors"):
        out += [" Registry Mirrors:", *(f"  {m}" for m in mirrors)]
    return out


COMMAND = Command(
    "[OPTIONS]",
    "Display system-wide information",
    run,
    flags=(INSPECT_FORMAT,),
    aliases="system info, info",
)
