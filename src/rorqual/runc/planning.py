"""From a spec to plans: everything that can be decided and refused before anything is done. Pure but for cached seccomp
programs. Each refusal names the member of config.json.

Source: runtime-spec config.md, config-linux.md.
"""

from __future__ import annotations

import os
import resource

from rorqual.errdefs import InvalidArgument
from rorqual.linux import capabilities, namespaces, paths
from rorqual.oci.runtime import Capabilities, CPUAffinity, Linux, Mount, Process, Seccomp, Spec
from rorqual.record import replace
from rorqual.runc import netdevices
from rorqual.runc import seccomp as profiles
from rorqual.runc.hooks import State
from rorqual.runc.process import labels, scheduling
from rorqual.runc.process.plan import CapabilitySets, InitPlan, ProcessPlan, RootfsPlan, SeccompPlan
from rorqual.runc.rootfs import devices
from rorqual.runc.rootfs import options as mount_options
from rorqual.runc.rootfs.cgroupfs import Groups
from rorqual.runc.rootfs.mounts import Planned
from rorqual.runc.rootfs.root import RootMount

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

_RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}

# Sysctls that an IPC namespace has of its own, but for fs.mqueue.*
_IPC_SYSCTLS = frozenset(
    "kernel." + name for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def namespace_flags(linux: Linux) -> tuple[int, dict[int, str]]:
    """The CLONE_NEW* flags of the namespaces to make, and the paths of those to join by flag."""
    fresh, joined = 0, {}
    seen: set[str] = set()
    for index, namespace in enumerate(linux.namespaces):
        known = namespaces.TYPES.get(namespace.type)
        if known is None:
            raise InvalidArgument(f"invalid config: linux.namespaces[{index}].type {namespace.type!r} is not known")
        if namespace.type in seen:
            raise InvalidArgument(f"invalid config: linux.namespaces: {namespace.type!r} is given twice")
        seen.add(namespace.type)
        if namespace.path and not namespace.path.startswith("/"):
            raise InvalidArgument(f"invalid config: linux.namespaces[{index}].path must be absolute")
        if namespace.path:
            joined[known[0]] = namespace.path
        else:
            fresh |= known[0]
    return fresh, joined


def process_plan(
    process: Process,
    *,
    container_id: str,
    seccomp: Seccomp | None,
    cache_dir: str | None,
    personality: int | None = None,
    preserve_fds: int = 0,
    new_keyring: bool = True,
    user_namespace: bool = False,
) -> ProcessPlan:
    """`user_namespace`: it will be in one of its own, and have every capability there. Raises: InvalidArgument."""
    if not process.args:
        raise InvalidArgument("invalid config: process.args must not be empty")
    if not process.cwd.startswith("/"):
        raise InvalidArgument(f"invalid config: process.cwd must be absolute, not {process.cwd!r}")
    labels.check(process.apparmor_profile, process.selinux_label)
    environment = _environment(process.env)
    size = process.console_size
    affinity = process.exec_cpu_affinity or CPUAffinity()
    plan = ProcessPlan(
        user=process.user,
        arguments=tuple(os.fsencode(argument) for argument in process.args),
        environment=environment,
        search_path=os.fsdecode(environment[b"PATH"]) if b"PATH" in environment else None,
        cwd=process.cwd,
        terminal=process.terminal,
        console_size=(size.height, size.width) if size is not None else None,
        capabilities=capability_sets(process.capabilities, everything=user_namespace),
        rlimits=_rlimits(process),
        no_new_privileges=process.no_new_privileges,
        seccomp=_seccomp(seccomp, cache_dir),
        umask=0o022 if process.user.umask is None else process.user.umask,
        oom_score_adj=process.oom_score_adj,
        keyring=f"_ses.{container_id}" if new_keyring else "",
        scheduler=process.scheduler,
        io_priority=process.io_priority,
        personality=personality,
        apparmor_profile=process.apparmor_profile,
        selinux_label=process.selinux_label,
        preserve_fds=preserve_fds,
        initial_cpus=_cpus(affinity.initial, "initial"),
        final_cpus=_cpus(affinity.final, "final"),
    )
    scheduling.check(plan)
    return plan


_CPU_MAX = 8191  # the kernel's largest NR_CPUS


def _cpus(text: str, member: str) -> frozenset[int]:
    """`0-3,7`; empty: nothing is changed."""
    cpus: set[int] = set()
    try:
        for part in text.split(",") if text else ():
            low, _, high = part.strip().partition("-")
            first, last = int(low), int(high or low)
            if not 0 <= first <= last <= _CPU_MAX:
                raise ValueError(part)
            cpus.update(range(first, last + 1))
    except ValueError:
        raise InvalidArgument(f"invalid config: process.execCPUAffinity.{member}: {text!r} is no CPU list") from None
    return frozenset(cpus)


def _environment(entries: tuple[str, ...]) -> dict[bytes, bytes]:
    """The last of several entries with one name wins."""
    environment: dict[bytes, bytes] = {}
    for index, entry in enumerate(entries):
        name, separator, value = entry.partition("=")
        if not separator or not name:
            raise InvalidArgument(f"invalid config: process.env[{index}] must be NAME=value, not {entry!r}")
        environment[os.fsencode(name)] = os.fsencode(value)
    return environment


def _rlimits(process: Process) -> tuple[tuple[int, int, int], ...]:
    limits: dict[str, tuple[int, int, int]] = {}
    for limit in process.rlimits:
        number = _RLIMITS.get(limit.type)
        if number is None:
            raise InvalidArgument(f"invalid config: process.rlimits: {limit.type!r} is not known")
        if limit.type in limits:
            raise InvalidArgument(f"invalid config: process.rlimits: {limit.type} is given twice")
        if limit.soft > limit.hard:
            raise InvalidArgument(f"invalid config: process.rlimits: {limit.type} has a soft limit above the hard one")
        limits[limit.type] = (number, _limit(limit.soft), _limit(limit.hard))
    return tuple(limits.values())


def _limit(value: int) -> int:
    return resource.RLIM_INFINITY if value >= 2**63 else value


def capability_sets(given: Capabilities | None, *, everything: bool = False) -> CapabilitySets | None:
    """None: whatever the caller has. `everything`: not bounded by what this process may give. Unknown names are an
    error; those this kernel hasn't simply can't be given."""
    if given is None:
        return None
    masks = []
    for field in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        try:
            masks.append(capabilities.mask(getattr(given, field)))
        except KeyError as e:
            raise InvalidArgument(f"invalid config: process.capabilities.{field}: unknown capability {e}") from None
    bounding, effective, permitted, inheritable, ambient = masks
    own = capabilities.known() if everything else capabilities.permitted()
    permitted, inheritable = permitted & own, inheritable & own
    effective, ambient = effective & permitted, ambient & permitted & inheritable
    return CapabilitySets(bounding & own, effective, permitted, inheritable, ambient)


def _seccomp(seccomp: Seccomp | None, cache_dir: str | None) -> SeccompPlan | None:
    if seccomp is None:
        return None
    flags = profiles.flags(seccomp)
    if flags and seccomp.listener_path == "" and profiles.uses_notify(seccomp):
        raise InvalidArgument("invalid config: linux.seccomp.listenerPath must be given with SCMP_ACT_NOTIFY")
    program = profiles.program(seccomp, cache_dir)
    return SeccompPlan(program, flags, seccomp.listener_path, seccomp.listener_metadata)


def init_plan(
    spec: Spec,
    bundle: str,
    process: ProcessPlan,
    groups: Groups,
    *,
    root_mounts: tuple[RootMount, ...],
    joins: tuple[tuple[int, int], ...],
    trees: dict[int, int],
    hook_state: State,
    no_pivot: bool = False,
    root_tree: int | None = None,
) -> InitPlan:
    """`trees`: index in spec.mounts -> the detached copy of its source that was made beforehand."""
    linux = spec.linux or Linux()
    fresh, joined = namespace_flags(linux)
    check_sysctl(linux, fresh, joined)
    _refuse_unsupported(linux)
    netdevices.check(linux.net_devices or {}, bool((fresh | _mask(joined)) & namespaces.CLONE_NEWNET))
    if (spec.hostname or spec.domainname) and not (fresh | _mask(joined)) & namespaces.CLONE_NEWUTS:
        raise InvalidArgument("invalid config: hostname needs a uts namespace in linux.namespaces")
    rootfs = _rootfs_plan(spec, linux, bundle, groups, root_mounts, trees, fresh | _mask(joined))
    hooks = spec.hooks
    return InitPlan(
        process=process,
        rootfs=replace(rootfs, no_pivot=no_pivot, tree=root_tree),
        joins=joins,
        unshare_cgroup=bool(fresh & namespaces.CLONE_NEWCGROUP),
        new_user_namespace=bool(fresh & namespaces.CLONE_NEWUSER),
        time_offsets=_time_offsets(linux, fresh),
        hostname=spec.hostname,
        domainname=spec.domainname,
        sysctl=dict(linux.sysctl or {}),
        network_is_new=bool(fresh & namespaces.CLONE_NEWNET),
        hooks_before_pivot=hooks is not None and bool(hooks.prestart or hooks.create_runtime),
        hook_state=hook_state,
        warnings=[],
        create_container_hooks=tuple(hooks.create_container) if hooks is not None else (),
        start_container_hooks=tuple(hooks.start_container) if hooks is not None else (),
    )


def _refuse_unsupported(linux: Linux) -> None:
    """What nothing here or in this kernel would act on: said, not skipped."""
    if linux.mount_label and not labels.selinux_is_enabled():
        raise InvalidArgument(f"invalid config: linux.mountLabel: {labels.NOT_SELINUX}")
    if linux.mount_label and ('"' in linux.mount_label or "\0" in linux.mount_label):
        raise InvalidArgument(f"invalid config: linux.mountLabel cannot be {linux.mount_label!r}")
    if linux.intel_rdt:
        raise InvalidArgument("invalid config: linux.intelRdt: Intel RDT is not supported or enabled")


def _mask(joined: dict[int, str]) -> int:
    mask = 0
    for flag in joined:
        mask |= flag
    return mask


def _rootfs_plan(
    spec: Spec,
    linux: Linux,
    bundle: str,
    groups: Groups,
    root_mounts: tuple[RootMount, ...],
    trees: dict[int, int],
    given: int,
) -> RootfsPlan:
    """`given`: CLONE_NEW* of the namespaces that are made or joined."""
    own_mounts = bool(given & namespaces.CLONE_NEWNS)
    # In a mount namespace that others use nothing is mounted, as with runc: it would be theirs too.
    wanted = enumerate(spec.mounts if own_mounts else ())
    entries = tuple(planned_mount(mount, f"mounts[{index}]", bundle, trees.get(index)) for index, mount in wanted)
    if (linux.masked_paths or linux.readonly_paths) and not own_mounts:
        raise InvalidArgument("invalid config: linux.maskedPaths and readonlyPaths need a new mount namespace")
    return RootfsPlan(
        path=root_path(spec, bundle),
        mounts=root_mounts,
        read_only=spec.root is not None and spec.root.readonly,
        propagation=mount_options.root_propagation(linux.rootfs_propagation),
        entries=entries,
        make_dev=own_mounts and not any(_is_bound_dev(e) for e in entries),
        nodes=tuple(devices.planned(linux.devices)),
        bind_nodes=bool(given & namespaces.CLONE_NEWUSER),
        masked=linux.masked_paths,
        made_read_only=linux.readonly_paths,
        groups=groups,
        own_mounts=own_mounts,
        mount_label=linux.mount_label,
        read_only_later=tuple(e.mount.destination for e in entries if e.read_only_later),
    )


def _is_bound_dev(entry: Planned) -> bool:
    """A /dev that the user brings is left as it is."""
    return entry.is_bind and paths.components(entry.mount.destination) == ["dev"]


def root_path(spec: Spec, bundle: str) -> str:
    """The rootfs's absolute path. Raises: InvalidArgument."""
    if spec.root is None or not spec.root.path:
        raise InvalidArgument("invalid config: root.path is required")
    return os.path.normpath(os.path.join(bundle, spec.root.path))


def planned_mount(mount: Mount, path: str, bundle: str, tree: int | None = None) -> Planned:
    if not mount.destination:
        raise InvalidArgument(f"invalid config: {path}.destination is required")
    options = mount_options.parse(mount.options)
    planned = Planned(mount, options, tree)
    if bool(mount.uid_mappings) != bool(mount.gid_mappings):
        raise InvalidArgument(f"invalid config: {path}: uidMappings and gidMappings need each other")
    if (options.id_mapped or mount.uid_mappings) and not planned.is_bind:
        raise InvalidArgument(f"invalid config: {path}: only bind mounts can be ID-mapped")
    if planned.is_bind and not mount.source.startswith("/"):
        source = os.path.normpath(os.path.join(bundle, mount.source))
        mount = Mount(mount.destination, mount.type, source, mount.options, mount.uid_mappings, mount.gid_mappings)
        return Planned(mount, options, tree)
    return planned


def check_sysctl(linux: Linux, fresh: int, joined: dict[int, str]) -> None:
    """Only sysctls that belong to a namespace of the container's own; the rest would be the host's."""
    own = fresh | _mask(joined)
    for name in linux.sysctl or {}:
        dotted = name.replace("/", ".")
        if dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
            needed = namespaces.CLONE_NEWIPC
        elif dotted.startswith("net."):
            needed = namespaces.CLONE_NEWNET
        elif dotted in ("kernel.domainname", "kernel.hostname"):
            needed = namespaces.CLONE_NEWUTS
        else:
            raise InvalidArgument(f"invalid config: linux.sysctl: {name!r} is not in a separate kernel namespace")
        if not own & needed or ".." in name:
            raise InvalidArgument(f"invalid config: linux.sysctl: {name!r} is not allowed in the hosts namespace")


def _time_offsets(linux: Linux, fresh: int) -> str:
    if not linux.time_offsets:
        return ""
    if not fresh & namespaces.CLONE_NEWTIME:
        raise InvalidArgument("invalid config: linux.timeOffsets needs a new time namespace")
    lines = []
    for clock, offset in linux.time_offsets.items():
        if clock not in ("monotonic", "boottime"):
            raise InvalidArgument(f"invalid config: linux.timeOffsets: {clock!r} is not a clock with offsets")
        lines.append(f"{clock} {offset.secs} {offset.nanosecs}\n")
    return "".join(lines)


def signal_number(text: str) -> int:
    """9, `KILL`, `SIGKILL` or `SIGRTMIN+3` as a number. Raises: InvalidArgument."""
    if text.isdigit() and 0 <= int(text) < signal.NSIG:
        return int(text)
    name = text.upper().removeprefix("SIG")
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    try:
        if base.startswith("_"):  # SIG_BLOCK
            raise AttributeError(base)
        number = int(getattr(signal, "SIG" + base))
    except AttributeError:
        raise InvalidArgument(f'unknown signal "{text}"') from None
    if sign and offset.isdigit():
        number += int(offset) if sign == "+" else -int(offset)
    return number
