"""A running container written to image files, which ends it unless it is to go on."""

from __future__ import annotations

import os

from rorqual.errdefs import InvalidArgument
from rorqual.oci import jsontext
from rorqual.oci.runtime import Linux, Spec
from rorqual.runc.cgroups.group import Group
from rorqual.runc.criu import options as choices
from rorqual.runc.criu import service, wire
from rorqual.runc.criu.options import Options
from rorqual.runc.criu.service import Service
from rorqual.runc.state import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.runc.criu.wire import Answer, Member

LOG = "dump.log"


def dump(made: Record, config: bytes, group: Group, options: Options) -> None:
    """Raises: NotImplementedHere without CRIU, Unavailable when CRIU fails, InvalidArgument."""
    version = service.version()
    spec = Spec.from_json(config)
    linux = spec.linux or Linux()
    members = choices.common(options, LOG, made.annotations)
    members += [
        (wire.ROOT, made.rootfs),
        (wire.PID, made.pid),
        (wire.LEAVE_RUNNING, options.leave_running or options.pre_dump),
        *_external_namespaces(linux),
        *_freezer(made.groups),
        *_network_lock(version),
    ]
    if options.page_server is not None:
        address, port = options.page_server
        members.append((wire.PAGE_SERVER, ((1, address), (2, port))))
    if options.parent_path:
        members += [(wire.PARENT_IMG, options.parent_path), (wire.TRACK_MEM, True)]
    if options.pre_dump:
        service.require(wire.MEM_TRACK, "MemTrack")
    if options.lazy_pages:
        service.require(wire.LAZY, "LazyPages")
        _check_status_fd(options.status_fd)
    if not options.pre_dump:
        members += [choices.external(key, key) for key, _ in choices.outside_mounts(spec, made.bundle, group)]
        members += _masked_files(linux, made.pid)
    with choices.directories(options, make=True) as directories:
        if not options.pre_dump:
            _write_descriptors(options.image_path, made.pid)
        with Service() as worker:
            kind = wire.PRE_DUMP if options.pre_dump else wire.DUMP
            worker.ask(wire.request(kind, [*directories, *members]), lambda a, fd: _notified(a, fd, options.status_fd))
            if not options.pre_dump:  # after one it would wait for the next
                worker.finish()


def _notified(answer: Answer, fd: int | None, status_fd: int) -> None:
    if fd is not None:
        os.close(fd)
    if answer.script == "status-ready" and status_fd >= 0:
        os.write(status_fd, b"\0")
        os.close(status_fd)


def _check_status_fd(fd: int) -> None:
    """Raises: InvalidArgument."""
    import fcntl

    if fd < 0:
        return
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError as e:
        raise InvalidArgument(f"invalid --status-fd argument {fd}: {e.strerror}") from e
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise InvalidArgument(f"invalid --status-fd argument {fd}: not writable")


def _external_namespaces(linux: Linux) -> list[Member]:
    """`net[4026531840]:extRootNetNS`: found again by that name when the container is restored."""
    found: list[Member] = []
    for kind, path in choices.joined(linux).items():
        if kind in choices.EXTERNAL_NAMESPACES:
            name, key = choices.EXTERNAL_NAMESPACES[kind]
            found.append((wire.EXTERNAL, f"{name}[{os.stat(path).st_ino}]:{key}"))
    return found


def _freezer(groups: dict[str, str]) -> list[Member]:
    """With its freezer nothing escapes while CRIU looks; else it stops each process by itself."""
    directory = groups.get("freezer") or groups.get("")
    return [(wire.FREEZE_CGROUP, directory)] if directory else []


_NFTABLES_SINCE = 31700


def _network_lock(version: int) -> list[Member]:
    """Packets wait while connections are written: by iptables, CRIU's own choice, or where that is missing by nftables.

    The images say which it was, for the restore.
    """
    if version < _NFTABLES_SINCE or service.in_path("iptables-restore"):
        return []
    return [(wire.NETWORK_LOCK, wire.NFTABLES)]


def _masked_files(linux: Linux, pid: int) -> list[Member]:
    """Masked by the host's null device, where masked directories have a file system of the container's."""
    found: list[Member] = []
    for path in linux.masked_paths:
        try:
            is_directory = os.path.isdir(f"/proc/{pid}/root/{path}")
            if not is_directory and os.path.lexists(f"/proc/{pid}/root/{path}"):
                found.append(choices.external(path, "/dev/null"))
        except OSError:
            continue
    return found


def _write_descriptors(image_path: str, pid: int) -> None:
    """Where stdio leads: pipes from outside are given their place again when the container is restored."""
    names = [os.readlink(f"/proc/{pid}/fd/{fd}") if os.path.lexists(f"/proc/{pid}/fd/{fd}") else "" for fd in range(3)]
    path = f"{image_path}/{choices.DESCRIPTORS}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        os.write(fd, jsontext.dumps(names).encode())
    finally:
        os.close(fd)
