"""What checkpoint and restore have in common: the caller's choices, the images' directory, mounts from outside."""

from __future__ import annotations

import os
from contextlib import contextmanager

from rorqual.errdefs import InvalidArgument
from rorqual.linux import cgroups, paths
from rorqual.oci.runtime import Linux, Spec
from rorqual.record import record
from rorqual.runc.cgroups.group import Group
from rorqual.runc.criu import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rorqual.runc.criu.wire import Member

_CONFIG, _ANNOTATION = "/etc/criu/runc.conf", "org.criu.config"
_DESCRIPTORS_MAX = 4096
DESCRIPTORS = "descriptors.json"
CLONE_NEWNET = 0x40000000


@record
class Options:
    """`parent_path` is relative to `image_path`. `page_server`: (address, port)."""

    image_path: str
    work_path: str = ""
    parent_path: str = ""
    leave_running: bool = False
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    pre_dump: bool = False
    auto_dedup: bool = False
    lazy_pages: bool = False
    status_fd: int = -1
    page_server: tuple[str, int] | None = None
    manage_cgroups_mode: str = ""
    lsm_profile: str = ""
    lsm_mount_context: str = ""

    @property
    def log_directory(self) -> str:
        """Where CRIU writes its log."""
        return self.work_path or self.image_path


@contextmanager
def directories(options: Options, *, make: bool) -> Iterator[list[Member]]:
    """Images' and work directory, open: the members that name them. `make`: the images' too. Raises: OSError."""
    if make:
        os.makedirs(options.image_path, 0o700, exist_ok=True)
    fds = [os.open(options.image_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    members: list[Member] = [(wire.IMAGES_DIR_FD, fds[0])]
    try:
        if options.work_path:
            os.makedirs(options.work_path, 0o700, exist_ok=True)
            fds.append(os.open(options.work_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            members.append((wire.WORK_DIR_FD, fds[1]))
        yield members
    finally:
        for fd in fds:
            os.close(fd)


def common(options: Options, log_file: str, annotations: dict[str, str]) -> list[Member]:
    """Raises: InvalidArgument."""
    if options.manage_cgroups_mode not in wire.CGROUP_MODES:
        raise InvalidArgument("Invalid manage-cgroups-mode value")
    # The administrator's configuration of CRIU decides over what is asked here, as with runc.
    configuration = annotations.get(_ANNOTATION, _CONFIG)
    return [
        (wire.LOG_LEVEL, 4),
        (wire.LOG_FILE, log_file),
        (wire.MANAGE_CGROUPS, True),
        (wire.MANAGE_CGROUPS_MODE, wire.CGROUP_MODES[options.manage_cgroups_mode]),
        (wire.NOTIFY_SCRIPTS, True),
        (wire.SHELL_JOB, options.shell_job),
        (wire.TCP_ESTABLISHED, options.tcp_established),
        (wire.EXT_UNIX_SK, options.ext_unix_sk),
        (wire.FILE_LOCKS, options.file_locks),
        (wire.EMPTY_NS, CLONE_NEWNET),  # addresses and routes are whoever's who made the network
        (wire.ORPHAN_PTS_MASTER, True),
        (wire.AUTO_DEDUP, options.auto_dedup),
        (wire.LAZY_PAGES, options.lazy_pages),
        *([(wire.CONFIG_FILE, configuration)] if configuration else []),
    ]


def outside_mounts(spec: Spec, bundle: str, group: Group) -> list[tuple[str, str]]:
    """(where in the container, what of the host) of all that the container's own file systems don't hold."""
    linux = spec.linux or Linux()
    found = []
    for mount in spec.mounts:
        destination = inside(mount.destination)
        if mount.type == "bind" or {"bind", "rbind"} & set(mount.options):
            found.append((destination, os.path.join(bundle, mount.source)))
        elif mount.type == "cgroup" and not cgroups.is_unified() and not _has_namespace(linux, "cgroup"):
            found += [(f"{destination}/{name}", source) for name, source in group.mount_sources().items()]
    if _has_namespace(linux, "user"):  # nodes are made by binding the host's
        found += [(inside(device.path), device.path) for device in linux.devices]
    return found


def inside(path: str) -> str:
    """As CRIU names a place in the container: absolute, without dots and doubled slashes."""
    return "/" + "/".join(paths.components(path))


def external(key: str, value: str) -> Member:
    """An ext_mnt of rpc.proto: a mount of outside by its name in the images, and where a restore finds it."""
    return (wire.EXT_MNT, ((1, key), (2, value)))


def _has_namespace(linux: Linux, kind: str) -> bool:
    return any(namespace.type == kind for namespace in linux.namespaces)


def joined(linux: Linux) -> dict[str, str]:
    """Type -> path of the namespaces that the container did not make."""
    return {namespace.type: namespace.path for namespace in linux.namespaces if namespace.path}


# The names CRIU has for namespaces that it neither dumps nor restores, but finds.
EXTERNAL_NAMESPACES = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}


def last_errors(options: Options, name: str) -> list[str]:
    """The lines of CRIU's log that say what went wrong; none when there is no log."""
    try:
        with open(f"{options.log_directory}/{name}", encoding="utf-8", errors="replace") as f:
            lines = [line.strip() for line in f if "Error" in line]
    except OSError:
        return []
    return lines[-5:]
