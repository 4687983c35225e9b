"""Which groups a container gets: linux.cgroupsPath resolved on the hierarchies that are mounted here.

Three kinds of host: cgroup v1 (a hierarchy for each controller), hybrid (v1 for limits, and a cgroup2 filesystem beside
them that only tracks processes: the v1 hierarchies are what counts), and v2 alone, mounted at /sys/fs/cgroup itself.

Source: runtime-spec config-linux.md, Cgroups Path: an absolute path is below the hierarchy's mount, a relative one
below the runtime's own group, an empty one is the runtime's choice (here: the container's ID, relative).
"""

import os

from rorqual import errdefs
from rorqual.linux import cgroups, paths
from rorqual.linux.cgroups import Hierarchy
from rorqual.runc.cgroups import none, v1
from rorqual.runc.cgroups.group import Group

_hierarchies: tuple[Hierarchy, ...] | None = None
_unified: Hierarchy | None = None


def preload() -> None:
    """Look at the mounts now: they don't change, and a process that forks needn't ask again in each child."""
    global _hierarchies, _unified
    _unified = cgroups.unified_hierarchy() if cgroups.is_unified() else None
    _hierarchies = () if _unified is not None else cgroups.v1_hierarchies()
    if _unified is not None:
        from rorqual.runc.cgroups import v2  # noqa: F401  # before anything forks


def new(cgroups_path: str, container_id: str) -> Group:
    """The groups of a container to be created. Raises: InvalidArgument."""
    path = cgroups_path or container_id
    if ":" in path:
        raise errdefs.InvalidArgument(
            f"invalid cgroupsPath {path!r}: systemd's slice:prefix:name needs --systemd-cgroup"
        )
    return at(path)


def names_a_unit(cgroups_path: str) -> bool:
    """Whether it is systemd's slice:prefix:name, which no path of a group can be."""
    return not cgroups_path.startswith("/") and cgroups_path.count(":") == 2


def at(path: str) -> Group:
    """The groups that a path means. Raises: InvalidArgument."""
    relative = not path.startswith("/")
    clean = "/" + "/".join(paths.components(path))
    if clean == "/":
        raise errdefs.InvalidArgument(f"invalid cgroupsPath {path!r}: the root group can't be a container's")
    hierarchies = _mounted()
    own = cgroups.own_groups() if relative else {}
    if _unified is not None:
        # Beside the runtime's own group, not below: that one has processes, and could give controllers to no child.
        above = os.path.dirname(_below(_unified, own.get("", "/"))).rstrip("/")
        return existing({"": _unified.mountpoint + above + clean})
    return existing(
        {h.controllers[0]: h.mountpoint + _below(h, own.get(h.controllers[0], "/")) + clean for h in hierarchies}
    )


def existing(directories: dict[str, str]) -> Group:
    """The groups that a state file names; a container may have none (see none.py)."""
    if not directories:
        return none.Group()
    hierarchies = _mounted()
    if _unified is not None:
        from rorqual.runc.cgroups import v2  # on other hosts nobody carries it

        return v2.Group(_unified.mountpoint, next(iter(directories.values())))
    return v1.Group(hierarchies, directories)


def own() -> dict[str, str]:
    """The groups of this very process, as `existing` takes them: to be looked at alone."""
    hierarchies = _mounted()
    groups = cgroups.own_groups()
    if _unified is not None:
        return {"": _unified.mountpoint + _below(_unified, groups.get("", "/"))}
    return {h.controllers[0]: h.mountpoint + _below(h, groups.get(h.controllers[0], "/")) for h in hierarchies}


def _mounted() -> tuple[Hierarchy, ...]:
    if _hierarchies is None:
        preload()
    return _hierarchies or ()


def _below(hierarchy: Hierarchy, group: str) -> str:
    """The group's path below the mountpoint, whose root may be a group itself (in a container)."""
    if hierarchy.root != "/" and group.startswith(hierarchy.root):
        group = group[len(hierarchy.root) :]
    return "" if group == "/" else group
