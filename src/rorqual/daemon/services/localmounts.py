"""Options of the local volume driver, and mounting what they mean: a filesystem on the volume's directory.

    --opt type=tmpfs --opt device=tmpfs --opt o=size=10m        --opt type=none --opt o=bind --opt device=/srv
    --opt type=nfs --opt o=addr=10.0.0.1,rw --opt device=:/x

It is mounted while a running container uses the volume, as dockerd's local driver does.
Source: docs.docker.com, `docker volume create`; mount(2).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from rorqual.errdefs import Internal, InvalidArgument
from rorqual.linux import mount

_KNOWN = frozenset({"type", "o", "device", "size"})
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_SET = {
    "ro": mount.MS_RDONLY,
    "nosuid": mount.MS_NOSUID,
    "nodev": mount.MS_NODEV,
    "noexec": mount.MS_NOEXEC,
    "sync": mount.MS_SYNCHRONOUS,
    "dirsync": mount.MS_DIRSYNC,
    "noatime": mount.MS_NOATIME,
    "nodiratime": mount.MS_NODIRATIME,
    "relatime": mount.MS_RELATIME,
    "strictatime": mount.MS_STRICTATIME,
    "bind": mount.MS_BIND,
    "rbind": mount.MS_BIND | mount.MS_REC,
    "private": mount.MS_PRIVATE,
    "rprivate": mount.MS_PRIVATE | mount.MS_REC,
    "shared": mount.MS_SHARED,
    "rshared": mount.MS_SHARED | mount.MS_REC,
    "slave": mount.MS_SLAVE,
    "rslave": mount.MS_SLAVE | mount.MS_REC,
}
_CLEAR = {
    "rw": mount.MS_RDONLY,
    "suid": mount.MS_NOSUID,
    "dev": mount.MS_NODEV,
    "exec": mount.MS_NOEXEC,
    "async": mount.MS_SYNCHRONOUS,
    "atime": mount.MS_NOATIME,
    "diratime": mount.MS_NODIRATIME,
    "defaults": 0,
}
_PROPAGATION = mount.MS_PRIVATE | mount.MS_SHARED | mount.MS_SLAVE | mount.MS_UNBINDABLE


@dataclass(frozen=True, slots=True)
class LocalMount:
    """What is mounted on a volume's directory."""

    fstype: str
    device: str
    flags: int
    data: str

    @property
    def is_bind(self) -> bool:
        """A directory of the host."""
        return bool(self.flags & mount.MS_BIND)


def check(options: Mapping[str, str]) -> None:
    """Raises: InvalidArgument with moby's texts."""
    for name in options:
        if name not in _KNOWN:
            raise InvalidArgument(f'invalid option: "{name}"')
    for name, needed in _NEEDS.items():
        for other in needed if name in options else ():
            if other not in options:
                raise InvalidArgument(f'missing required option: "{other}"')
    if "size" in options:
        raise InvalidArgument("quota size requested but no quota support")


def parse(options: Mapping[str, str]) -> LocalMount | None:
    """None for a volume that is only a directory."""
    if not options.get("device"):
        return None
    flags, data = 0, []
    for option in filter(None, options.get("o", "").split(",")):
        if option in _SET:
            flags |= _SET[option]
        elif option in _CLEAR:
            flags &= ~_CLEAR[option]
        else:
            data.append(option)
    return LocalMount(options["type"], options["device"], flags, ",".join(data))


def mounted(target: str) -> bool:
    """Whether something is mounted on `target` itself."""
    try:
        own, parent = os.stat(target), os.stat(os.path.dirname(target))
    except OSError:
        return False
    if own.st_dev != parent.st_dev:
        return True
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split(" ")[4] == _escaped(target) for line in file)  # a bind of the same filesystem


def _escaped(path: str) -> str:
    return path.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")


def attach(wanted: LocalMount, target: str) -> None:
    """Mount it (blocking), unless it is there. Raises: Internal with moby's text."""
    if mounted(target):
        return
    if wanted.is_bind and not os.path.isdir(wanted.device):
        raise Internal(
            f"failed to populate volume: error while mounting volume '{target}': failed to mount local volume: "
            f"mount {wanted.device}:{target}, flags: {wanted.flags:#x}: no such file or directory"
        )
    try:
        data = _resolved(wanted) if wanted.fstype.startswith("nfs") else wanted.data
        flags = wanted.flags & ~_PROPAGATION
        mount.mount(wanted.device, target, None if wanted.is_bind else wanted.fstype, flags, data or None)
        if wanted.is_bind and flags & mount.MS_RDONLY:
            mount.mount(None, target, None, flags | mount.MS_REMOUNT)
        if propagation := wanted.flags & _PROPAGATION:
            mount.mount(None, target, None, propagation | (wanted.flags & mount.MS_REC))
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        if e.errno == 19:  # ENODEV
            reason += f" (this kernel has no filesystem {wanted.fstype!r})"
        raise Internal(
            f"error while mounting volume '{target}': failed to mount local volume: mount {wanted.device}:{target}"
            f"{', data: ' + wanted.data if wanted.data else ''}: {reason}"
        ) from e


def _resolved(wanted: LocalMount) -> str:
    """NFS needs an address where the user gave a name. Raises: OSError."""
    options = wanted.data.split(",")
    for n, option in enumerate(options):
        if option.startswith("addr="):
            host = option.removeprefix("addr=")
            options[n] = f"addr={socket.getaddrinfo(host, None)[0][4][0]}"
    return ",".join(options)


def detach(target: str) -> None:
    """Unmount (blocking); nothing there is fine. A busy one goes when its last user does."""
    while mounted(target):
        mount.umount(target, mount.MNT_DETACH)
