"""Where the control group hierarchies are mounted, and which group of each this process is in.

Source: cgroups(7), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os

from rorqual.linux import paths
from rorqual.record import record

MOUNT_ROOT = "/sys/fs/cgroup"


@record
class Hierarchy:
    """A mounted v1 hierarchy: its controllers (`memory`, or `cpu` and `cpuacct`; `name=systemd` for a named one)."""

    mountpoint: str
    root: str
    controllers: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its directory below /sys/fs/cgroup is called."""
        return os.path.basename(self.mountpoint)


def is_unified(mount_root: str = MOUNT_ROOT) -> bool:
    """Whether the system is on pure cgroup v2: /sys/fs/cgroup itself is a cgroup2 filesystem."""
    try:
        fd = paths.open_root(mount_root)
    except OSError:
        return False
    try:
        return paths.filesystem_type(fd) == paths.CGROUP2_SUPER_MAGIC
    finally:
        os.close(fd)


def unified_hierarchy() -> Hierarchy | None:
    """The cgroup v2 mount: on a pure v2 system at /sys/fs/cgroup, on a hybrid one somewhere below. None without."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            mount, _, filesystem = line.partition(" - ")
            fields = mount.split(" ")
            if filesystem.split(" ", 1)[0] == "cgroup2" and (found is None or fields[4] == MOUNT_ROOT):
                found = Hierarchy(fields[4], fields[3], ())
    return found


_NOT_CONTROLLERS = frozenset({"rw", "ro", "noprefix", "clone_children", "xattr", "release_agent", "favordynmods"})


def v1_hierarchies() -> tuple[Hierarchy, ...]:
    """Every v1 hierarchy, one mount each, in the order they are mounted."""
    found: dict[tuple[str, ...], Hierarchy] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            mount, _, filesystem = line.partition(" - ")
            fields, details = mount.split(" "), filesystem.split()
            if details[0] != "cgroup":
                continue
            names = tuple(
                option
                for option in details[2].split(",")
                if option.partition("=")[0] not in _NOT_CONTROLLERS and option != "none"
            )
            found.setdefault(names, Hierarchy(fields[4], fields[3], names))
    return tuple(found.values())


def own_groups(pid: int | str = "self") -> dict[str, str]:
    """The process's group by controller (`name=systemd` for named hierarchies, "" for cgroup v2)."""
    groups = {}
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                groups[controller] = path
    return groups
