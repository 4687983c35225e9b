"""Mount options as fstab(5) and the runtime-spec spell them -> flags, attributes, propagation, data. Pure.

Source: runtime-spec config.md, "Linux mount options"; mount(8), FILESYSTEM-INDEPENDENT MOUNT OPTIONS.
"""

from __future__ import annotations

from rorqual.errdefs import InvalidArgument
from rorqual.linux import mount as m
from rorqual.record import record

# option -> (clears, MS_* flag)
_FLAGS: dict[str, tuple[bool, int]] = {
    "async": (True, m.MS_SYNCHRONOUS),
    "atime": (True, m.MS_NOATIME),
    "bind": (False, m.MS_BIND),
    "defaults": (False, 0),
    "dev": (True, m.MS_NODEV),
    "diratime": (True, m.MS_NODIRATIME),
    "dirsync": (False, m.MS_DIRSYNC),
    "exec": (True, m.MS_NOEXEC),
    "iversion": (False, m.MS_I_VERSION),
    "lazytime": (False, m.MS_LAZYTIME),
    "loud": (True, m.MS_SILENT),
    "mand": (False, m.MS_MANDLOCK),
    "noatime": (False, m.MS_NOATIME),
    "nodev": (False, m.MS_NODEV),
    "nodiratime": (False, m.MS_NODIRATIME),
    "noexec": (False, m.MS_NOEXEC),
    "noiversion": (True, m.MS_I_VERSION),
    "nolazytime": (True, m.MS_LAZYTIME),
    "nomand": (True, m.MS_MANDLOCK),
    "norelatime": (True, m.MS_RELATIME),
    "nostrictatime": (True, m.MS_STRICTATIME),
    "nosuid": (False, m.MS_NOSUID),
    "nosymfollow": (False, m.MS_NOSYMFOLLOW),
    "rbind": (False, m.MS_BIND | m.MS_REC),
    "relatime": (False, m.MS_RELATIME),
    "remount": (False, m.MS_REMOUNT),
    "ro": (False, m.MS_RDONLY),
    "rw": (True, m.MS_RDONLY),
    "silent": (False, m.MS_SILENT),
    "strictatime": (False, m.MS_STRICTATIME),
    "suid": (True, m.MS_NOSUID),
    "symfollow": (True, m.MS_NOSYMFOLLOW),
    "sync": (False, m.MS_SYNCHRONOUS),
}

_PROPAGATION: dict[str, int] = {
    "private": m.MS_PRIVATE,
    "shared": m.MS_SHARED,
    "slave": m.MS_SLAVE,
    "unbindable": m.MS_UNBINDABLE,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "rshared": m.MS_SHARED | m.MS_REC,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}

# MS_* -> MOUNT_ATTR_*, of those that belong to a mount rather than to its filesystem
_ATTRIBUTES: tuple[tuple[int, int], ...] = (
    (m.MS_RDONLY, m.MOUNT_ATTR_RDONLY),
    (m.MS_NOSUID, m.MOUNT_ATTR_NOSUID),
    (m.MS_NODEV, m.MOUNT_ATTR_NODEV),
    (m.MS_NOEXEC, m.MOUNT_ATTR_NOEXEC),
    (m.MS_NODIRATIME, m.MOUNT_ATTR_NODIRATIME),
    (m.MS_NOSYMFOLLOW, m.MOUNT_ATTR_NOSYMFOLLOW),
)

# The options that hold for every mount below too. option -> (clears, MOUNT_ATTR_*)
_RECURSIVE: dict[str, tuple[bool, int]] = {
    "rro": (False, m.MOUNT_ATTR_RDONLY),
    "rrw": (True, m.MOUNT_ATTR_RDONLY),
    "rnosuid": (False, m.MOUNT_ATTR_NOSUID),
    "rsuid": (True, m.MOUNT_ATTR_NOSUID),
    "rnodev": (False, m.MOUNT_ATTR_NODEV),
    "rdev": (True, m.MOUNT_ATTR_NODEV),
    "rnoexec": (False, m.MOUNT_ATTR_NOEXEC),
    "rexec": (True, m.MOUNT_ATTR_NOEXEC),
    "rnodiratime": (False, m.MOUNT_ATTR_NODIRATIME),
    "rdiratime": (True, m.MOUNT_ATTR_NODIRATIME),
    "rnosymfollow": (False, m.MOUNT_ATTR_NOSYMFOLLOW),
    "rsymfollow": (True, m.MOUNT_ATTR_NOSYMFOLLOW),
    "rrelatime": (False, m.MOUNT_ATTR_RELATIME),
    "rnorelatime": (True, m.MOUNT_ATTR_RELATIME),
    "rnoatime": (False, m.MOUNT_ATTR_NOATIME),
    "ratime": (True, m.MOUNT_ATTR_NOATIME),
    "rstrictatime": (False, m.MOUNT_ATTR_STRICTATIME),
    "rnostrictatime": (True, m.MOUNT_ATTR_STRICTATIME),
}

_ATIME = {
    m.MS_NOATIME: m.MOUNT_ATTR_NOATIME,
    m.MS_STRICTATIME: m.MOUNT_ATTR_STRICTATIME,
    m.MS_RELATIME: m.MOUNT_ATTR_RELATIME,
}

OPTIONS: tuple[str, ...] = tuple(sorted({*_FLAGS, *_PROPAGATION, *_RECURSIVE, "tmpcopyup", "idmap", "ridmap"}))


@record
class Options:
    """What a mount's options ask for. `cleared` are flags that were asked away; `data` is the filesystem's own."""

    flags: int = 0
    cleared: int = 0
    propagation: tuple[int, ...] = ()
    recursive_set: int = 0
    recursive_clear: int = 0
    data: tuple[str, ...] = ()
    copy_up: bool = False
    id_mapped: bool = False
    id_mapped_recursive: bool = False

    @property
    def is_bind(self) -> bool:
        return bool(self.flags & m.MS_BIND)

    def attributes(self) -> tuple[int, int]:
        """MOUNT_ATTR_* to set and to clear on a bind mount; what wasn't mentioned stays as the source has it."""
        chosen = clear = 0
        for flag, attribute in _ATTRIBUTES:
            if self.flags & flag:
                chosen |= attribute
            elif self.cleared & flag:
                clear |= attribute
        for flag, attribute in _ATIME.items():
            if self.flags & flag:
                chosen |= attribute
                clear |= m.MOUNT_ATTR__ATIME  # an enumeration: the kernel wants it cleared to change it
        return chosen, clear


def parse(options: tuple[str, ...]) -> Options:
    """Later options win over earlier ones, as for mount(8)."""
    flags = cleared = recursive_set = recursive_clear = 0
    propagation: list[int] = []
    data: list[str] = []
    special = {"tmpcopyup": False, "idmap": False, "ridmap": False}
    for option in options:
        if (known := _FLAGS.get(option)) is not None:
            clears, flag = known
            flags, cleared = (flags & ~flag, cleared | flag) if clears else (flags | flag, cleared & ~flag)
        elif option in _PROPAGATION:
            propagation.append(_PROPAGATION[option])
        elif (known := _RECURSIVE.get(option)) is not None:
            clears, attribute = known
            if attribute in _ATIME.values():
                recursive_clear |= m.MOUNT_ATTR__ATIME
                recursive_set = recursive_set & ~m.MOUNT_ATTR__ATIME | (0 if clears else attribute)
            elif clears:
                recursive_clear, recursive_set = recursive_clear | attribute, recursive_set & ~attribute
            else:
                recursive_set, recursive_clear = recursive_set | attribute, recursive_clear & ~attribute
        elif option in special:
            special[option] = True
        elif option:
            data.append(option)
    return Options(
        flags,
        cleared,
        tuple(propagation),
        recursive_set,
        recursive_clear,
        tuple(data),
        special["tmpcopyup"],
        special["idmap"] or special["ridmap"],
        special["ridmap"],
    )


def root_propagation(name: str) -> int:
    """linux.rootfsPropagation as MS_* flags, recursive; 0 when it isn't given. Raises: InvalidArgument."""
    if not name:
        return 0
    try:
        return _PROPAGATION[name] | m.MS_REC
    except KeyError:
        raise InvalidArgument(f"invalid config: linux.rootfsPropagation {name!r} is not supported") from None
