"""The runtime-spec's config.json (1.2) as records: `Spec.from_json`, `Spec.to_json`.

Pure data. A field's JSON name is its Python name in camel case unless `_JSON_NAMES` says otherwise; unknown JSON
members are ignored as the spec asks; a known member of a wrong type or range raises InvalidArgument that names it by
its path (`process.user.uid`). Absent members take the field's default, and `to_json` leaves defaults out again.

Source: runtime-spec config.md and config-linux.md.
"""

from __future__ import annotations

from rorqual.errdefs import InvalidArgument
from rorqual.oci import jsontext
from rorqual.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    _Decoder = Callable[[Any, str], Any]
    _Plan = tuple[tuple[str, str, _Decoder, bool, Any], ...]  # attribute, JSON name, decoder, required, default

# Integers by their ranges; an annotation's name is looked up in _RANGES.
ID = int
UInt16 = int
UInt32 = int
UInt64 = int
Int64 = int
OOMScore = int
Seconds = int
ArgIndex = int
Major = int
Minor = int
_RANGES = {
    # CVE-2024-40635: IDs above 2^31-1 turn negative in somebody's int32, and -1 means "leave unchanged" to the kernel.
    "ID": (0, 2**31 - 1),
    "UInt16": (0, 2**16 - 1),
    "UInt32": (0, 2**32 - 1),
    "UInt64": (0, 2**64 - 1),
    "Int64": (-(2**63), 2**63 - 1),
    "OOMScore": (-1000, 1000),
    "Seconds": (1, 2**31 - 1),
    "ArgIndex": (0, 5),
    "Major": (0, 2**12 - 1),  # of what the kernel numbers devices with
    "Minor": (0, 2**20 - 1),
}


# JSON names that aren't the camel case of the Python name.
_JSON_NAMES = {
    "cls": "class",
    "io_priority": "ioPriority",
    "exec_cpu_affinity": "execCPUAffinity",
    "container_id": "containerID",
    "host_id": "hostID",
    "kernel_tcp": "kernelTCP",
    "disable_oom_killer": "disableOOMKiller",
    "throttle_read_iops_device": "throttleReadIOPSDevice",
    "throttle_write_iops_device": "throttleWriteIOPSDevice",
    "class_id": "classID",
    "block_io": "blockIO",
    "clos_id": "closID",
    "l3_cache_schema": "l3CacheSchema",
    "mem_bw_schema": "memBwSchema",
    "enable_cmt": "enableCMT",
    "enable_mbm": "enableMBM",
}


@record
class ConsoleSize:
    height: UInt16 = 0
    width: UInt16 = 0


@record
class User:
    """`uid` and `gid` count unless `username` is given.

    On Linux the spec leaves `username` unused; here it is Docker's `user[:group]` (names or numbers), resolved in the
    container's own /etc/passwd and /etc/group, and `additional_groups` are names or numbers resolved likewise.
    """

    uid: ID = 0
    gid: ID = 0
    umask: UInt32 | None = None
    additional_gids: tuple[ID, ...] = ()
    username: str = ""
    additional_groups: tuple[str, ...] = ()


@record
class Capabilities:
    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


@record
class Rlimit:
    type: str
    hard: UInt64
    soft: UInt64


@record
class Scheduler:
    policy: str
    nice: Int64 = 0
    priority: Int64 = 0
    flags: tuple[str, ...] = ()
    runtime: UInt64 = 0
    deadline: UInt64 = 0
    period: UInt64 = 0


@record
class IOPriority:
    cls: str = ""
    priority: Int64 = 0


@record
class CPUAffinity:
    initial: str = ""
    final: str = ""


@record
class Process:
    cwd: str = "/"
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    oom_score_adj: OOMScore | None = None
    selinux_label: str = ""
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = None
    exec_cpu_affinity: CPUAffinity | None = None

    @classmethod
    def from_json(cls, data: bytes | str | dict[str, Any]) -> Process:
        """The process document that `runc exec --process` takes. Raises: InvalidArgument naming the member."""
        made: Process = _decode(cls, _object(data), "")
        return made

    def to_json(self) -> bytes:
        return _dump(self)


@record
class Root:
    path: str
    readonly: bool = False


@record
class IDMapping:
    container_id: UInt32 = 0
    host_id: UInt32 = 0
    size: UInt32 = 0


@record
class Mount:
    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()


@record
class Hook:
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: Seconds | None = None


@record
class Hooks:
    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


HOOK_KINDS = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}  # the name in the document: the member of Hooks


@record
class Namespace:
    type: str
    path: str = ""


@record
class Device:
    """A node to make. `file_mode` is permission bits; major and minor are unused for FIFOs (`p`)."""

    path: str
    type: str
    major: Major = 0
    minor: Minor = 0
    file_mode: UInt32 | None = None
    uid: ID | None = None
    gid: ID | None = None


@record
class DeviceRule:
    """A device cgroup rule; None as major or minor means any."""

    allow: bool
    type: str = ""
    major: Int64 | None = None
    minor: Int64 | None = None
    access: str = ""


@record
class Memory:
    """Bytes; -1 means unlimited. `swap` is memory plus swap."""

    limit: Int64 | None = None
    reservation: Int64 | None = None
    swap: Int64 | None = None
    kernel: Int64 | None = None
    kernel_tcp: Int64 | None = None
    swappiness: UInt64 | None = None
    disable_oom_killer: bool = False
    use_hierarchy: bool | None = None
    check_before_update: bool = False


@record
class CPU:
    """`quota` and `period` (and their real-time likes) in microseconds."""

    shares: UInt64 | None = None
    quota: Int64 | None = None
    burst: UInt64 | None = None
    period: UInt64 | None = None
    realtime_runtime: Int64 | None = None
    realtime_period: UInt64 | None = None
    cpus: str = ""
    mems: str = ""
    idle: Int64 | None = None


@record
class Pids:
    """Zero or less means unlimited."""

    limit: Int64 | None = None


@record
class WeightDevice:
    major: Int64
    minor: Int64
    weight: UInt16 | None = None
    leaf_weight: UInt16 | None = None


@record
class ThrottleDevice:
    """`rate` in bytes or operations a second."""

    major: Int64
    minor: Int64
    rate: UInt64 = 0


@record
class BlockIO:
    weight: UInt16 | None = None
    leaf_weight: UInt16 | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


@record
class HugepageLimit:
    page_size: str
    limit: UInt64


@record
class InterfacePriority:
    name: str
    priority: UInt32


@record
class NetworkResources:
    class_id: UInt32 | None = None
    priorities: tuple[InterfacePriority, ...] = ()


@record
class Rdma:
    hca_handles: UInt32 | None = None
    hca_objects: UInt32 | None = None


@record
class Resources:
    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: NetworkResources | None = None
    rdma: dict[str, Rdma] | None = None
    unified: dict[str, str] | None = None

    @classmethod
    def from_json(cls, data: bytes | str | dict[str, Any]) -> Resources:
        """What `update` takes. Raises: InvalidArgument naming the member."""
        made: Resources = _decode(cls, _object(data), "")
        return made

    def to_json(self) -> bytes:
        return _dump(self)


@record
class SeccompArg:
    index: ArgIndex
    value: UInt64
    op: str
    value_two: UInt64 = 0


@record
class SeccompSyscall:
    names: tuple[str, ...]
    action: str
    errno_ret: UInt32 | None = None
    args: tuple[SeccompArg, ...] = ()


@record
class Seccomp:
    default_action: str
    default_errno_ret: UInt32 | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[SeccompSyscall, ...] = ()

    @classmethod
    def from_json(cls, data: bytes | str | dict[str, Any]) -> Seccomp:
        """Raises: InvalidArgument naming the member."""
        made: Seccomp = _decode(cls, _object(data), "")
        return made

    def to_json(self) -> bytes:
        return _dump(self)


@record
class IntelRdt:
    clos_id: str = ""
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_cmt: bool = False
    enable_mbm: bool = False


@record
class Personality:
    domain: str
    flags: tuple[str, ...] = ()


@record
class TimeOffset:
    secs: Int64 = 0
    nanosecs: UInt32 = 0


@record
class NetDevice:
    name: str = ""


@record
class Linux:
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    sysctl: dict[str, str] | None = None
    resources: Resources | None = None
    cgroups_path: str = ""
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    net_devices: dict[str, NetDevice] | None = None
    seccomp: Seccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    intel_rdt: IntelRdt | None = None
    personality: Personality | None = None
    time_offsets: dict[str, TimeOffset] | None = None


@record
class Spec:
    oci_version: str = "1.2.0"
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: dict[str, str] | None = None
    linux: Linux | None = None

    @classmethod
    def from_json(cls, data: bytes | str | dict[str, Any]) -> Spec:
        """Raises: InvalidArgument naming the member that is wrong, or the place where the JSON ends being JSON."""
        made: Spec = _decode(cls, _object(data), "")
        return made

    def to_json(self) -> bytes:
        return _dump(self)


# --- the codec: one plan a class, made from its annotations at first use -------------------------------------------

_plans: dict[type, _Plan] = {}


def warm() -> None:
    """Make every plan now: a process that forks calls it once, so that its children needn't."""
    for value in list(globals().values()):
        if isinstance(value, type) and hasattr(value, "_record_defaults"):
            _plan(value)


def _object(data: bytes | str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(data, dict):
        return data
    try:
        value = jsontext.loads(data)
    except (ValueError, RecursionError) as e:
        raise InvalidArgument(f"invalid JSON: {e}") from e
    if not isinstance(value, dict):
        raise InvalidArgument("invalid config: must be a JSON object")
    return value


def _wrong(path: str, expected: str, value: object) -> InvalidArgument:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return InvalidArgument(f"invalid config: {path or 'document'} must be {expected}, not {shown}")


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _plan(cls: type) -> _Plan:
    plan = _plans.get(cls)
    if plan is None:
        defaults: dict[str, Any] = cls._record_defaults  # type: ignore[attr-defined]
        plan = _plans[cls] = tuple(
            (name, _JSON_NAMES.get(name) or _camel(name), _decoder(hint), name not in defaults, defaults.get(name))
            for name, hint in cls.__annotations__.items()
        )
    return plan


def _decode(cls: type, value: Any, path: str) -> Any:
    if type(value) is not dict:
        raise _wrong(path, "an object", value)
    given: dict[str, Any] = {}
    prefix = path + "." if path else ""
    for attribute, name, decode, required, _ in _plan(cls):
        member = value.get(name)
        if member is not None:
            given[attribute] = decode(member, prefix + name)
        elif required:
            raise InvalidArgument(f"invalid config: {prefix}{name} is required")
    return cls(**given)


def _text(value: Any, path: str) -> str:
    if type(value) is not str:
        raise _wrong(path, "a string", value)
    if "\0" in value:
        raise _wrong(path, "free of NUL characters", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _wrong(path, "valid Unicode", value) from None
    return value


def _flag(value: Any, path: str) -> bool:
    if type(value) is not bool:
        raise _wrong(path, "true or false", value)
    return value


def _integer(low: int, high: int) -> _Decoder:
    def decode(value: Any, path: str) -> int:
        if type(value) is not int:
            raise _wrong(path, "an integer", value)
        if not low <= value <= high:
            raise _wrong(path, f"between {low} and {high}", value)
        return value

    return decode


def _tuple_of(item: _Decoder) -> _Decoder:
    def decode(value: Any, path: str) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _wrong(path, "an array", value)
        return tuple([item(member, f"{path}[{index}]") for index, member in enumerate(value)])

    return decode


def _texts(value: Any, path: str) -> tuple[str, ...]:
    """Arrays of strings, the long ones of a seccomp profile among them, without a call for each good member."""
    if type(value) is list and all(type(member) is str for member in value):
        joined = "".join(value)
        if joined.isascii() and "\0" not in joined:
            return tuple(value)
    texts: tuple[str, ...] = _tuple_of(_text)(value, path)
    return texts


def _map_of(item: _Decoder) -> _Decoder:
    def decode(value: Any, path: str) -> dict[str, Any]:
        if type(value) is not dict:
            raise _wrong(path, "an object", value)
        return {_text(key, path): item(member, f"{path}.{key}") for key, member in value.items()}

    return decode


def _object_of(cls: type) -> _Decoder:
    return lambda value, path: _decode(cls, value, path)


def _decoder(hint: str) -> _Decoder:
    """Of an annotation as it is written above."""
    hint = hint.removesuffix(" | None")
    if hint.startswith("tuple["):
        item = hint[len("tuple[") : -len(", ...]")]
        return _texts if item == "str" else _tuple_of(_decoder(item))
    if hint.startswith("dict["):
        return _map_of(_decoder(hint[len("dict[str, ") : -len("]")]))
    if hint in _RANGES:
        return _integer(*_RANGES[hint])
    if hint == "bool":
        return _flag
    return _text if hint == "str" else _object_of(globals()[hint])


def _encode(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_encode(member) for member in value]
    if isinstance(value, dict):
        return {key: _encode(member) for key, member in value.items()}
    if hasattr(value, "_record_defaults"):
        document = {}
        for attribute, name, _, required, default in _plan(type(value)):
            member = getattr(value, attribute)
            if required or member != default or name in _ALWAYS:
                document[name] = _encode(member)
        return document
    return value


# Members that other readers expect even at their default.
_ALWAYS = frozenset({"ociVersion", "cwd", "uid", "gid", "user", "containerID", "hostID"})


def _dump(value: Any) -> bytes:
    return jsontext.dumps(_encode(value)).encode()
