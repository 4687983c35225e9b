"""Which unit a container gets: linux.cgroupsPath as `slice:prefix:name`.

    system.slice:docker:1234         docker-1234.scope in system.slice
    user-1000.slice:podman:1234      podman-1234.scope in user.slice/user-1000.slice
    :docker:web.slice                web.slice itself
    (empty)                          runc-ID.scope, as runc names it

Source: runc's docs/systemd.md; systemd.unit(5), systemd.slice(5).
"""

from __future__ import annotations

from rorqual.errdefs import InvalidArgument
from rorqual.record import record

_SUFFIX = ".slice"
_PREFIX = "runc"  # engines and administrators look for runc-<id>.scope
_NAME_MAX = 255
_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")


@record
class Unit:
    """`slice`: the unit that it is put into."""

    name: str
    slice: str

    @property
    def is_slice(self) -> bool:
        """Whether it is a slice itself, not a scope in one."""
        return self.name.endswith(_SUFFIX)

    @property
    def path(self) -> str:
        """Of its group, below the manager's own. A slice's name says where it is; of another unit its slice's does."""
        return expand(self.name) if self.is_slice else f"{expand(self.slice).rstrip('/')}/{self.name}"


def unit(cgroups_path: str, container_id: str, *, of_user: bool) -> Unit:
    """Raises: InvalidArgument."""
    parts = (cgroups_path or f":{_PREFIX}:{container_id}").split(":")
    if len(parts) != 3:
        raise InvalidArgument(
            'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, '
            f'got "{cgroups_path}" instead'
        )
    parent, prefix, name = parts
    full = name if name.endswith(_SUFFIX) else f"{prefix}-{name}.scope"
    if not set(full) <= _CHARACTERS or len(full) > _NAME_MAX:
        raise InvalidArgument(f"invalid cgroupsPath {cgroups_path!r}: {full!r} cannot be a systemd unit's name")
    if parent == "-":
        parent = "-" + _SUFFIX
    found = Unit(full, parent or ("user.slice" if of_user else "system.slice"))
    expand(found.slice)
    if found.is_slice:
        expand(found.name)
    return found


def expand(slice_name: str) -> str:
    """Where a slice is: each dash of its name is one level. `a-b.slice` -> `/a.slice/a-b.slice`.

    Raises: InvalidArgument.
    """
    stem = slice_name.removesuffix(_SUFFIX)
    if stem == "-" and slice_name.endswith(_SUFFIX):
        return "/"
    components = stem.split("-")
    if not slice_name.endswith(_SUFFIX) or not all(components) or not set(stem) <= _CHARACTERS - {"."}:
        raise InvalidArgument(f"invalid slice name: {slice_name}")
    return "".join(f"/{'-'.join(components[: depth + 1])}{_SUFFIX}" for depth in range(len(components)))
