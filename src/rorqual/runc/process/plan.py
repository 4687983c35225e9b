"""What the parent has decided before it clones: all that the child needs, so that the child only acts."""

from __future__ import annotations

from rorqual.oci.runtime import Hook, IOPriority, Scheduler, User
from rorqual.record import record
from rorqual.runc.hooks import State
from rorqual.runc.rootfs.cgroupfs import Groups
from rorqual.runc.rootfs.devices import Node
from rorqual.runc.rootfs.mounts import Planned
from rorqual.runc.rootfs.root import RootMount


@record
class CapabilitySets:
    """Bit masks."""

    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int


@record
class SeccompPlan:
    program: bytes
    flags: int
    listener_path: str = ""
    listener_metadata: str = ""


@record
class ProcessPlan:
    """The user's process. `environment` and `arguments` are bytes already: no codec runs in the rootfs.

    `rlimits`: (resource, soft, hard). `keyring`: the session keyring's name, "" for none.
    `initial_cpus`, `final_cpus`: where an exec runs while it joins the container, and then (never for init).
    """

    user: User
    arguments: tuple[bytes, ...]
    environment: dict[bytes, bytes]
    search_path: str | None
    cwd: str
    terminal: bool
    console_size: tuple[int, int] | None
    capabilities: CapabilitySets | None
    rlimits: tuple[tuple[int, int, int], ...]
    no_new_privileges: bool
    seccomp: SeccompPlan | None
    umask: int
    oom_score_adj: int | None
    keyring: str
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = None
    personality: int | None = None
    apparmor_profile: str = ""
    selinux_label: str = ""
    preserve_fds: int = 0
    initial_cpus: frozenset[int] = frozenset()
    final_cpus: frozenset[int] = frozenset()


@record
class RootfsPlan:
    """The container's file system. `own_mounts`: in a mount namespace of its own; without, only chroot.
    `read_only_later`: mounts to be made read-only once all is in place. `mount_label`: SELinux's, of all files of the
    file systems that are mounted afresh. `tree`: the root as a detached mount, when it had to be made beforehand."""

    path: str
    mounts: tuple[RootMount, ...]
    read_only: bool
    propagation: int
    entries: tuple[Planned, ...]
    make_dev: bool
    nodes: tuple[Node, ...]
    bind_nodes: bool
    masked: tuple[str, ...]
    made_read_only: tuple[str, ...]
    groups: Groups
    own_mounts: bool
    read_only_later: tuple[str, ...]
    no_pivot: bool = False
    mount_label: str = ""
    tree: int | None = None


@record
class InitPlan:
    """`joins`: (path's fd, CLONE_NEW* flag), the user namespace first. `unshare_*`: what is made after the join."""

    process: ProcessPlan
    rootfs: RootfsPlan
    joins: tuple[tuple[int, int], ...]
    unshare_cgroup: bool
    new_user_namespace: bool
    time_offsets: str
    hostname: str
    domainname: str
    sysctl: dict[str, str]
    network_is_new: bool
    hooks_before_pivot: bool
    hook_state: State
    warnings: list[str]
    create_container_hooks: tuple[Hook, ...] = ()
    start_container_hooks: tuple[Hook, ...] = ()
