"""A busybox bundle for each test, containers made from it in this process, and a check that nothing is left."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from rorqual.linux import cgroups
from rorqual.oci import defaults
from rorqual.oci.runtime import (
    Capabilities,
    Linux,
    Namespace,
    Process,
    Resources,
    Root,
    Spec,
)
from rorqual.runc import container as runc

APPLETS = "sh ls cat true false id mount env sleep echo ps stat wc head touch ln mkdir kill dd tty stty mknod readlink"


@dataclass
class Bundle:
    """A bundle directory and the containers made from it."""

    path: Path
    root: str
    prefix: str
    made: list[runc.Container] = field(default_factory=list)
    count: int = 0

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    def spec(self, *args: str, linux: dict[str, Any] | None = None, process: dict[str, Any] | None = None) -> Spec:
        """What a default Docker container is made of."""
        caps = defaults.CAPABILITIES
        return Spec(
            process=replace(
                Process(
                    args=args or ("true",),
                    env=(defaults.PATH_ENV,),
                    capabilities=Capabilities(bounding=caps, effective=caps, permitted=caps),
                ),
                **(process or {}),
            ),
            root=Root("rootfs"),
            hostname="box",
            mounts=defaults.MOUNTS,
            linux=replace(
                Linux(
                    namespaces=tuple(Namespace(t) for t in ("mount", "pid", "network", "ipc", "uts")),
                    masked_paths=defaults.MASKED_PATHS,
                    readonly_paths=defaults.READONLY_PATHS,
                    resources=Resources(devices=defaults.DEVICE_RULES),
                    seccomp=defaults.default_seccomp(caps, os.uname().machine),
                ),
                **(linux or {}),
            ),
        )

    def create(self, spec: Spec, **options: Any) -> runc.Container:
        self.count += 1
        name = f"{self.prefix}-{self.count}"
        assert spec.linux is not None
        if not spec.linux.cgroups_path:
            spec = replace(spec, linux=replace(spec.linux, cgroups_path=f"/{self.prefix}/{name}"))
        made = runc.create(name, str(self.path), spec, root=self.root, **options)
        self.made.append(made)
        return made

    def run(self, spec: Spec, **options: Any) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        out, err = os.memfd_create("out"), os.memfd_create("err")
        null = os.open("/dev/null", os.O_RDONLY)
        try:
            made = self.create(spec, stdio=(null, out, err), **options)
            made.start()
            status = wait(made.pid)
            made.delete()
            return status, _text(out), _text(err)
        finally:
            for fd in (out, err, null):
                os.close(fd)

    def sh(self, script: str, **parts: Any) -> str:
        """The standard output of a script that must succeed."""
        status, out, err = self.run(self.spec("sh", "-c", script, **parts))
        assert status == 0, err
        return out


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _text(fd: int) -> str:
    return os.pread(fd, 1 << 20, 0).decode()


def make_rootfs(path: Path) -> None:
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        (path / name).mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", path / "bin/busybox")
    for applet in APPLETS.split():
        (path / "bin" / applet).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:www:/srv/www:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nwww:x:34:\nextra:x:77:www\nother:x:78:nobody,www\n")


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Bundle(tmp_path / "bundle", str(tmp_path / "state"), f"rqtest{os.getpid()}")
    make_rootfs(made.rootfs)
    yield made
    for container in made.made:
        container.delete(force=True)
        try:
            os.waitpid(container.pid, os.WNOHANG)
        except ChildProcessError:
            pass
    os.makedirs(made.root, exist_ok=True)
    assert [name for name in os.listdir(made.root) if not name.startswith(".")] == []
    for directory in group_directories(made.prefix):
        os.rmdir(directory)


def group_directories(prefix: str) -> list[str]:
    mountpoints = [h.mountpoint for h in cgroups.v1_hierarchies()]
    if cgroups.is_unified():
        mountpoints = [cgroups.MOUNT_ROOT]
    return [f"{mountpoint}/{prefix}" for mountpoint in mountpoints if os.path.isdir(f"{mountpoint}/{prefix}")]


@pytest.fixture
def alarm() -> Iterator[Callable[[int], None]]:
    yield signal.alarm
    signal.alarm(0)
