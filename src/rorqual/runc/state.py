"""A container's record on disk: `<root>/<id>/state.json` (0700 directory), written once, replaced atomically.

    <root>/<id>/                 locked (flock) while the container is created, and while it is deleted
    <root>/<id>/state.json       what load() needs; without a pid until there is an init process
    <root>/<id>/config.json      the spec it was created with (a bundle may change later), for execs and hooks
    <root>/<id>/exec.fifo        there from create until start: init reads one byte from it
    <root>/<id>/exec.fifo.new    its name while the container is being created
    <root>/<id>/criu-root        while the container is being restored: its rootfs, mounted once more

The status isn't stored: it follows from the init process (pid and start time), the fifo and the freezer.
Source: runtime-spec runtime.md, State.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rorqual import errdefs
from rorqual.linux import mount, process
from rorqual.oci import jsontext
from rorqual.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"

_ID_MAX = 1024
_RESTORE_ROOT = "criu-root"


@record
class Record:
    """`start_time`: the init process's, with the pid its identity. `created_ns`: since the epoch. `namespaces`:
    CLONE_NEW* flags of all namespaces that differ from the creator's. `groups`: controller -> directory. `unit`: of
    systemd, whose groups these are, "" without; of the user's own manager with `unit_of_user`."""

    id: str
    bundle: str
    rootfs: str
    pid: int
    start_time: int
    created_ns: int
    namespaces: int
    own_pid_namespace: bool
    groups: dict[str, str]
    oci_version: str
    owner: int
    annotations: dict[str, str]
    hooks: list[str]
    unit: str = ""
    unit_of_user: bool = False

    def to_json(self) -> bytes:
        return jsontext.dumps({name: getattr(self, name) for name in self.__match_args__}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Record:
        """Raises: errdefs.DataLoss."""
        try:
            value: dict[str, Any] = jsontext.loads(data)
            return cls(**{name: value[name] for name in cls.__match_args__ if name in value})
        except (ValueError, TypeError, KeyError) as e:
            raise errdefs.DataLoss(f"container state is damaged: {e}") from e


def check_id(container_id: str) -> None:
    """Raises: InvalidArgument. The ID is a directory's name, and shown to users."""
    allowed = all(c.isascii() and (c.isalnum() or c in "_+-.") for c in container_id)
    if not allowed or not container_id or container_id in (".", "..") or len(container_id) > _ID_MAX:
        raise errdefs.InvalidArgument(f"invalid container ID format: {container_id!r}")


class Directory:
    """The container's directory below the runtime's root."""

    def __init__(self, root: str, container_id: str) -> None:
        check_id(container_id)
        self.root = root
        self.path = f"{root}/{container_id}"
        self.fifo = f"{self.path}/exec.fifo"
        self._id = container_id

    @contextmanager
    def making(self) -> Iterator[None]:
        """The fresh directory, locked while the container is made. Raises: AlreadyExists."""
        os.makedirs(self.root, 0o700, exist_ok=True)
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            raise errdefs.AlreadyExists("container with given ID already exists") from None
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def is_being_made(self) -> bool:
        """Whether its creator is still at it."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    @contextmanager
    def removing(self) -> Iterator[bool]:
        """The directory, locked against other deletes and its creator; False when it is gone.

        Raises: Unavailable when somebody holds it for too long.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            _lock(fd, self._id)
            yield os.fstat(fd).st_nlink > 0
        finally:
            os.close(fd)

    def make_fifo(self) -> int:
        """The fifo, open for both ways, so that neither side ever waits in open."""
        os.mkfifo(self.fifo + ".new", 0o600)
        return os.open(self.fifo + ".new", os.O_RDWR | os.O_CLOEXEC)

    def created(self) -> None:
        os.rename(self.fifo + ".new", self.fifo)

    def write(self, record: Record) -> None:
        name = f"{self.path}/state.json"
        _write(name + ".new", record.to_json())
        os.rename(name + ".new", name)

    def write_config(self, config: bytes) -> None:
        _write(f"{self.path}/config.json", config)

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def read_config(self) -> bytes:
        with open(f"{self.path}/config.json", "rb") as f:
            return f.read()

    def read(self) -> Record:
        """Raises: NotFound."""
        try:
            with open(f"{self.path}/state.json", "rb") as f:
                return Record.from_json(f.read())
        except FileNotFoundError:
            raise errdefs.NotFound("container does not exist") from None

    def phase(self) -> str:
        """CREATING, CREATED or RUNNING, as far as the fifo tells."""
        if os.path.exists(self.fifo):
            return CREATED
        return CREATING if os.path.exists(self.fifo + ".new") else RUNNING

    def open_gate(self) -> None:
        """Let init go on to the user's process. Raises: Conflict when that has been done, or init is gone."""
        try:
            fd = os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise errdefs.Conflict("cannot start a container that has already started") from None
        except OSError as e:  # ENXIO: nobody reads
            raise errdefs.Conflict("cannot start a container that has stopped") from e
        try:
            os.unlink(self.fifo)  # whoever unlinks it is the one who starts
            os.write(fd, b"0")
        except FileNotFoundError:
            raise errdefs.Conflict("cannot start a container that has already started") from None
        except BrokenPipeError as e:
            raise errdefs.Conflict("cannot start a container that has stopped") from e
        finally:
            os.close(fd)

    def make_root(self) -> str:
        """Where a restore mounts the rootfs."""
        path = f"{self.path}/{_RESTORE_ROOT}"
        os.mkdir(path, 0o700)
        return path

    def remove_root(self) -> None:
        """What `make_root` made, and what is mounted there; a restore that was killed left it."""
        path = f"{self.path}/{_RESTORE_ROOT}"
        with suppress(FileNotFoundError):
            try:
                os.rmdir(path)
            except OSError:  # EBUSY; or nothing is mounted and it is not empty, which is somebody's doing
                mount.umount(path, mount.MNT_DETACH)
                os.rmdir(path)

    def remove(self) -> None:
        self.remove_root()
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return
        for name in names:
            with suppress(FileNotFoundError):  # a temporary name that became its final one
                os.unlink(f"{self.path}/{name}")
        os.rmdir(self.path)


_LOCK_TIMEOUT_S = 10.0


def _lock(fd: int, container_id: str) -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise errdefs.Unavailable(
                    f"container {container_id} is being created or deleted by another process"
                ) from None
            time.sleep(0.005)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def is_alive(pid: int, start_time: int) -> bool:
    """Whether that very process runs (a zombie doesn't)."""
    if pid <= 0:
        return False
    try:
        return process.start_time(pid) == start_time
    except ProcessLookupError:
        return False
