"""Containers and images that work against the runtime while it starts them, enters them or ends them."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.processes import children, wait_for

from rorqual import errdefs
from rorqual.linux import process
from rorqual.oci.runtime import Capabilities, Mount, Namespace, Pids, Process, Resources, Spec, User
from rorqual.runc.errors import StartError

from .conftest import Bundle, wait

pytestmark = pytest.mark.root

ADMIN = ("CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE")


def admin(bundle: Bundle, script: str) -> Spec:
    """A container that may mount: what it covers or unmounts must not lead the runtime astray."""
    capabilities = Capabilities(bounding=ADMIN, effective=ADMIN, permitted=ADMIN)
    return bundle.spec(
        "sh", "-c", script, linux={"seccomp": None, "readonly_paths": ()}, process={"capabilities": capabilities}
    )


def without(spec: Spec, *destinations: str) -> Spec:
    return replace(spec, mounts=tuple(m for m in spec.mounts if not m.destination.startswith(destinations)))


def shell(script: str, **members: object) -> Process:
    return replace(Process(args=("sh", "-c", script), env=("PATH=/bin",)), **members)  # type: ignore[arg-type]


@contextmanager
def swapping(directory: Path, first: str, second: str) -> Iterator[None]:
    """Exchange two names all the time, as another container on the same volume could."""
    program = textwrap.dedent(f"""
        import os
        os.chdir({str(directory)!r})
        while True:
            os.rename({first!r}, 'swap'); os.rename({second!r}, {first!r}); os.rename('swap', {second!r})
    """)
    swapper = subprocess.Popen([sys.executable, "-S", "-c", program])
    try:
        yield
    finally:
        swapper.kill()
        swapper.wait()


def test_cve_2019_5736_an_exec_on_its_way_in_shows_nothing_of_the_host(bundle: Bundle) -> None:
    """The container looks at every process through /proc, all the time: it must never see the runtime's executable."""
    script = (
        "while true; do for p in /proc/[0-9]*; do readlink $p/exe; readlink $p/cwd; done; done >> /tmp/seen 2>/dev/null"
    )
    made = bundle.create(bundle.spec("sh", "-c", script))
    made.start()
    seen: list[str] = []
    while len(seen) < 2000:  # on a busy machine it looks less often
        pid, _ = made.exec(Process(args=("true",), env=("PATH=/bin",)))
        wait(pid)
        with suppress(FileNotFoundError):
            seen = (bundle.rootfs / "tmp/seen").read_text().split("\n")
    assert set(seen) - {""} == {"/bin/busybox", "/"}
    made.delete(force=True)
    wait(made.pid)


def test_cve_2024_21626_an_exec_has_the_three_standard_descriptors(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sleep", "1000"))
    made.start()
    leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leaked, True)
    out = os.memfd_create("out")
    try:
        pid, _ = made.exec(shell("ls /proc/self/fd"), stdio=(0, out, out))
        assert wait(pid) == 0
        assert os.pread(out, 4096, 0).split() == [b"0", b"1", b"2", b"3"]  # 3 is ls's own
    finally:
        os.close(leaked)
        os.close(out)


def test_an_init_that_ends_in_the_middle_of_an_exec(bundle: Bundle) -> None:
    """The exec works or is refused; it never hangs, and no process or descriptor is left."""
    before = len(os.listdir("/proc/self/fd"))
    outcomes = set()
    for number in range(25):
        made = bundle.create(bundle.spec("sleep", "1000"))
        made.start()
        killer = os.fork()
        if killer == 0:
            time.sleep(number * 0.0008)  # somewhere between the clone and the execve
            with suppress(ProcessLookupError):
                os.kill(made.pid, 9)
            os._exit(0)
        try:
            pid, _ = made.exec(Process(args=("sleep", "1000"), env=("PATH=/bin",)))
            outcomes.add("ran")
            assert wait(pid) == -9
        except errdefs.Error as e:
            outcomes.add(type(e).__name__)
        wait(killer)
        assert wait(made.pid) == -9
        made.delete()
    assert outcomes <= {"ran", "StartError", "Conflict"}, outcomes
    assert len(os.listdir("/proc/self/fd")) <= before


def test_an_exec_in_a_full_container_cannot_fork(bundle: Bundle) -> None:
    """The one process that the host puts there goes beyond the limit; what it forks does not."""
    made = bundle.create(bundle.spec("sleep", "1000", linux={"resources": Resources(pids=Pids(1))}))
    made.start()
    null = os.open("/dev/null", os.O_RDWR)
    try:
        pid, _ = made.exec(shell("ls; ls"), stdio=(null, null, null))
        assert wait(pid) != 0
    finally:
        os.close(null)
    assert (made.status, len(made.pids())) == ("running", 1)


def test_cve_2025_52881_no_write_goes_where_the_container_has_put_its_own_proc(bundle: Bundle) -> None:
    """A container with CAP_SYS_ADMIN lays files of its own over /proc before an exec."""
    script = (
        "mount -t tmpfs none /proc && mkdir -p /proc/self /proc/thread-self/attr && echo 0 > /proc/self/oom_score_adj "
        "&& touch /proc/thread-self/attr/exec /tmp/ready && exec sleep 1000"
    )
    made = bundle.create(admin(bundle, script))
    made.start()
    wait_for((bundle.rootfs / "tmp/ready").exists, "the container's own /proc")
    pid, _ = made.exec(shell("cat /proc/self/oom_score_adj; sleep 1000", oom_score_adj=777))
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "777\n"
    os.kill(pid, 9)
    wait(pid)
    made.delete(force=True)
    wait(made.pid)


def test_cve_2025_52881_sysctls_go_to_the_kernel_though_the_image_has_such_files(bundle: Bundle) -> None:
    (bundle.rootfs / "proc/sys/net/core").mkdir(parents=True)
    (bundle.rootfs / "proc/sys/net/core/somaxconn").write_text("the image's")
    spec = bundle.spec("true", linux={"sysctl": {"net.core.somaxconn": "99"}, "masked_paths": (), "readonly_paths": ()})
    made = bundle.create(without(spec, "/proc"))
    namespace = os.open(f"/proc/{made.pid}/ns/net", os.O_RDONLY)
    try:
        done = subprocess.run(
            ["nsenter", f"--net=/proc/self/fd/{namespace}", "cat", "/proc/sys/net/core/somaxconn"],
            capture_output=True,
            text=True,
            pass_fds=(namespace,),
            check=False,
        )
        if done.returncode == 0:
            assert done.stdout == "99\n"
    except FileNotFoundError:
        pass  # no nsenter here: what follows is still shown
    finally:
        os.close(namespace)
    made.start()
    wait(made.pid)
    assert (bundle.rootfs / "proc/sys/net/core/somaxconn").read_text() == "the image's"


def test_a_terminal_comes_from_devpts_only(bundle: Bundle) -> None:
    """/dev/pts that the container has replaced by a directory of its own gives no terminal."""
    made = bundle.create(admin(bundle, "umount /dev/pts && touch /dev/pts/ptmx /tmp/ready && exec sleep 1000"))
    made.start()
    wait_for((bundle.rootfs / "tmp/ready").exists, "the container's own /dev/pts")
    with pytest.raises(StartError, match="a terminal needs devpts"):
        made.exec(shell("true", terminal=True))


@pytest.mark.parametrize("name", ["fifo", "regular", "link"])
def test_dev_null_that_is_something_else_is_never_used(bundle: Bundle, name: str) -> None:
    (bundle.rootfs / "dev/target").touch()
    if name == "fifo":
        os.mkfifo(bundle.rootfs / "dev/null")
    elif name == "regular":
        (bundle.rootfs / "dev/null").touch()
    else:
        (bundle.rootfs / "dev/null").symlink_to("target")
    with open("/dev/null", "r+b") as null, pytest.raises(StartError, match="null"):
        made = bundle.create(without(bundle.spec("true"), "/dev"), stdio=(null.fileno(),) * 3)
        made.start()


@pytest.mark.parametrize("where", ["dev/pts", "dev/shm", "sys/fs/cgroup", "dev/mqueue"])
def test_mount_points_that_are_links_stay_in_the_rootfs(bundle: Bundle, tmp_path: Path, where: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (bundle.rootfs / where).parent.mkdir(parents=True, exist_ok=True)
    (bundle.rootfs / where).symlink_to("../" * 20 + str(outside).lstrip("/"))
    spec = bundle.spec("sh", "-c", "cat /proc/self/mountinfo")
    kept = tuple(m for m in spec.mounts if m.destination not in ("/dev", "/sys"))
    with suppress(StartError):
        status, out, err = bundle.run(replace(spec, mounts=kept))
        assert status == 0, err
        assert f" {outside} " in out  # the same path, below the rootfs
    assert list(outside.iterdir()) == []
    assert not os.path.ismount(outside)
    assert not any(str(outside) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())


def test_masked_and_read_only_paths_through_links_cover_the_containers_own_files(
    bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("the host's")
    (bundle.rootfs / "masked").symlink_to(tmp_path / "secret")
    inside = bundle.rootfs / str(tmp_path / "secret").lstrip("/")
    inside.parent.mkdir(parents=True)
    inside.write_text("the image's")
    (bundle.rootfs / "ro").symlink_to("../../../etc")
    script = f"cat {tmp_path}/secret; touch /etc/x"
    status, out, err = bundle.run(
        bundle.spec("sh", "-c", script, linux={"masked_paths": ("/masked",), "readonly_paths": ("/ro",)})
    )
    assert (status != 0, out) == (True, "")
    assert "Read-only file system" in err
    assert (tmp_path / "secret").read_text() == "the host's"


def test_cve_2026_41579_dev_swapped_during_the_start(bundle: Bundle, tmp_path: Path) -> None:
    """The image's own /dev turns into a link to the host and back: no node is ever made there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (bundle.rootfs / "evil").symlink_to("../" * 20 + str(outside).lstrip("/"))
    spec = without(bundle.spec("true"), "/dev", "/sys")
    outcomes = set()
    with swapping(bundle.rootfs, "dev", "evil"):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                bundle.run(spec)
                outcomes.add("ran")
            except StartError:
                outcomes.add("refused")
            assert list(outside.iterdir()) == []
    assert outcomes


def test_cve_2021_30465_files_made_as_mount_points_stay_inside(bundle: Bundle, tmp_path: Path) -> None:
    """As the race of directories, for a file that a bind mount needs made."""
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "real").mkdir(parents=True)
    outside.mkdir()
    (volume / "link").symlink_to("../" * 20 + str(outside).lstrip("/"))
    (tmp_path / "source").touch()
    spec = bundle.spec("true")
    mounts = (
        *spec.mounts,
        Mount("/vol", "bind", str(volume), ("rbind", "rprivate")),
        Mount("/vol/real/a/file", "bind", str(tmp_path / "source"), ("bind",)),
    )
    with swapping(volume, "real", "link"):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            with suppress(StartError):
                bundle.run(replace(spec, mounts=mounts))
            assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_files_of_users_that_are_swapped_during_the_lookup(bundle: Bundle, tmp_path: Path, name: str) -> None:
    """Between the image's file, a FIFO that would block, and a link to the host's: the host's users never appear."""
    outside = tmp_path / "outside"
    outside.write_text("spy:x:0:0::/:/bin/sh\n" if name == "passwd" else "spies:x:0:\n")
    (bundle.rootfs / "etc/evil").symlink_to("../" * 20 + str(outside).lstrip("/"))
    user = User(username="spy" if name == "passwd" else "root:spies")
    with swapping(bundle.rootfs / "etc", name, "evil"):
        for _ in range(20):
            with pytest.raises(StartError):
                bundle.create(bundle.spec("id", process={"user": user}))


def reap_orphans(others: set[int]) -> set[int]:
    """Collect those that have ended; the ones that have not."""
    for pid in children() - others:
        os.waitpid(pid, os.WNOHANG)
    return children() - others


def test_a_process_that_forks_without_end_is_ended_with_the_container(bundle: Bundle) -> None:
    """Without a pid namespace of its own nothing but the control group holds its children together."""
    kinds = tuple(Namespace(t) for t in ("mount", "network", "ipc", "uts"))
    script = "trap '' TERM HUP INT; f() { while true; do (f) & (sleep 1000) & done; }; f 2>/dev/null"
    made = bundle.create(
        bundle.spec("sh", "-c", script, linux={"namespaces": kinds, "resources": Resources(pids=Pids(64))})
    )
    made.start()
    refusals = [f"{d}/pids.events" for d in set(made.record.groups.values()) if os.path.exists(f"{d}/pids.events")]
    assert refusals
    wait_for(lambda: Path(refusals[0]).read_text().split()[-1] != "0", "the limit to be reached", 60)
    assert 1 < len(made.pids()) <= 64
    # Reaped by a subreaper such as the shim; here by this process.
    engine_children = children()
    process.set_child_subreaper()
    try:
        made.delete(force=True)
        wait_for(lambda: not reap_orphans(engine_children), "every child has ended", 20)
    finally:  # or the orphans of every later test would stay zombies of this process
        process.prctl(process.PR_SET_CHILD_SUBREAPER, 0)
    assert not any(os.path.exists(directory) for directory in made.record.groups.values())
