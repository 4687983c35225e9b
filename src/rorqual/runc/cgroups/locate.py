"""Which groups a container gets: linux.cgroupsPath resolved on the hierarchies that are mounted here.

Source: runtime-spec config-linux.md, Cgroups Path: an absolute path is below the hierarchy's mount, a relative one
below the runtime's own group, an empty one is the runtime's choice (here: the container's ID, relative).
"""

from rorqual import errdefs
from rorqual.linux import cgroups, paths
from rorqual.linux.cgroups import Hierarchy
from rorqual.runc.cgroups import v1
from rorqual.runc.cgroups.group import Group

_hierarchies: tuple[Hierarchy, ...] | None = None
_unified: bool | None = None


def preload() -> None:
    """Look at the mounts now: they don't change, and a process that forks needn't ask again in each child."""
    global _hierarchies, _unified
    _unified = cgroups.is_unified()
    _hierarchies = () if _unified else cgroups.v1_hierarchies()


def new(cgroups_path: str, container_id: str) -> Group:
    """The groups of a container to be created. Raises: InvalidArgument."""
    if _unified is None:
        preload()
    if _unified:
        raise errdefs.NotImplementedHere("cgroup v2 only systems are not supported yet")
    path = cgroups_path or container_id
    if ":" in path:
        raise errdefs.InvalidArgument(
            f"invalid cgroupsPath {path!r}: systemd's slice:prefix:name needs --systemd-cgroup"
        )
    relative = not path.startswith("/")
    clean = "/" + "/".join(paths.components(path))
    if clean == "/":
        raise errdefs.InvalidArgument(f"invalid cgroupsPath {path!r}: the root group can't be a container's")
    own = cgroups.own_groups() if relative else {}
    return existing(
        {h.controllers[0]: h.mountpoint + _below(h, own.get(h.controllers[0], "/")) + clean for h in _mounted()}
    )


def existing(directories: dict[str, str]) -> Group:
    """The groups that a state file names."""
    if _unified is None:
        preload()
    return v1.Group(_mounted(), directories)


def _mounted() -> tuple[Hierarchy, ...]:
    return _hierarchies or ()


def _below(hierarchy: Hierarchy, group: str) -> str:
    """The group's path below the mountpoint, whose root may be a group itself (in a container)."""
    if hierarchy.root != "/" and group.startswith(hierarchy.root):
        group = group[len(hierarchy.root) :]
    return "" if group == "/" else group
