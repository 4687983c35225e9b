"""A task's bundle: the directory that containerd, its shim and the runtime share.

    <state>/tasks/<ns>/<id>/    0700
        config.json             runtime spec            containerd
        rootfs/                 mount point             the runtime mounts it in its own namespace or here
        shim.pid shim.sock stream.sock exit oom         the shim
        execs/<exec id>         empty marks             containerd: which execs to look for after a restart

On a tmpfs as a rule: its few small files are written in the event loop.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass

from rorqual.errdefs import AlreadyExists
from rorqual.linux import mount

_UMOUNT_DETACH = 2
_FILES = ("config.json", "shim.pid", "shim.sock", "stream.sock", "exit", "oom", "options.json", "init.pid")


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """What a shim wrote of init's end before it was killed itself."""

    pid: int
    status: int
    exited_at_ns: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """`path` of the directory. Names are checked identifiers."""

    ns: str
    id: str
    path: str

    def create(self, spec: bytes) -> None:
        """Make it. Raises AlreadyExists."""
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError as e:
            raise AlreadyExists(f"task {self.id}: already exists") from e
        fd = os.open(f"{self.path}/config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, spec)
        finally:
            os.close(fd)
        os.mkdir(f"{self.path}/rootfs", 0o711)

    def mark_exec(self, exec_id: str) -> None:
        """Remember an exec."""
        os.makedirs(f"{self.path}/execs", mode=0o700, exist_ok=True)
        os.close(os.open(f"{self.path}/execs/{exec_id}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def unmark_exec(self, exec_id: str) -> None:
        """Forget an exec."""
        with suppress(FileNotFoundError):
            os.unlink(f"{self.path}/execs/{exec_id}")

    def execs(self) -> list[str]:
        """The execs marked."""
        with suppress(FileNotFoundError):
            return os.listdir(f"{self.path}/execs")
        return []

    def shim_pid(self) -> int:
        """The shim's pid; 0 when it wrote none."""
        try:
            with open(f"{self.path}/shim.pid") as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            return 0

    def exit_record(self) -> ExitRecord | None:
        """Init's end as the shim wrote it; None when it did not."""
        try:
            with open(f"{self.path}/exit") as file:
                record = json.load(file)
            return ExitRecord(int(record["pid"]), int(record["status"]), int(record["exited_at"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def cgroups_path(self) -> str:
        """linux.cgroupsPath of the spec; "" for none."""
        try:
            with open(f"{self.path}/config.json", "rb") as file:
                path = json.load(file).get("linux", {}).get("cgroupsPath", "")
        except (FileNotFoundError, ValueError, AttributeError):
            return ""
        return path if isinstance(path, str) else ""

    def remove(self) -> None:
        """Remove it, what is mounted on rootfs detached first: the files below are never the bundle's."""
        rootfs = f"{self.path}/rootfs"
        try:
            os.rmdir(rootfs)
        except FileNotFoundError:
            pass
        except OSError:
            self.unmount()
            with suppress(FileNotFoundError):
                os.rmdir(rootfs)  # raises for a rootfs with files of its own: nothing of ours to delete
        for name in _FILES:
            with suppress(FileNotFoundError):
                os.unlink(f"{self.path}/{name}")
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            pass
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)  # execs/, temporary files

    def unmount(self) -> None:
        """Detach whatever is mounted on rootfs."""
        with suppress(OSError):
            while True:
                mount.umount(f"{self.path}/rootfs", _UMOUNT_DETACH)
