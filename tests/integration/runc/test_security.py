"""What went wrong in other runtimes, each case a test named after it."""

import os
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.oci import defaults
from rorqual.oci.runtime import Capabilities, Mount, Namespace, Process, Spec, User
from rorqual.runc.errors import StartError

from .conftest import Bundle, wait

pytestmark = pytest.mark.root


def test_default_container_is_confined(bundle: Bundle) -> None:
    out = bundle.sh("cat /proc/self/status; mount; ls /proc/self/fd")
    fields = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
    assert fields["CapEff"] == fields["CapBnd"] == "00000000a80425fb"
    assert fields["Seccomp"] == "2"
    assert "proc on /proc/sys type proc (ro" in out
    assert "/sys/firmware type tmpfs (ro" in out
    assert out.splitlines()[-4:] == ["0", "1", "2", "3"]  # 3 is ls's own


def test_cve_2024_21626_cwd_through_a_leaked_fd(bundle: Bundle) -> None:
    leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leaked, True)
    try:
        for number in range(3, leaked + 8):
            with pytest.raises(StartError):
                made = bundle.create(bundle.spec("ls", process={"cwd": f"/proc/self/fd/{number}"}))
                made.start()
                assert wait(made.pid) != 0, "ran with a working directory outside of its root"
    finally:
        os.close(leaked)


def test_cve_2024_21626_exec(bundle: Bundle) -> None:
    leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leaked, True)
    made = bundle.create(bundle.spec("sleep", "100"))
    made.start()
    try:
        for number in range(3, leaked + 8):
            with pytest.raises(StartError):
                made.exec(Process(args=("ls",), env=("PATH=/bin",), cwd=f"/proc/self/fd/{number}"))
    finally:
        os.close(leaked)


def test_cve_2025_31133_a_swapped_dev_null_masks_nothing_else(bundle: Bundle) -> None:
    """The image's /dev/null is a link to a file that the attacker wants to write."""
    (bundle.rootfs / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    spec = bundle.spec("sh", "-c", "cat /proc/keys; stat -c %t:%T /proc/keys")
    without_dev = replace(spec, mounts=tuple(m for m in spec.mounts if not m.destination.startswith("/dev")))
    status, out, err = bundle.run(without_dev)
    assert (status, out) == (0, "1:3\n"), err


def test_cve_2026_41579_dev_is_a_symlink(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to("../../outside")
    (tmp_path / "outside").mkdir()
    spec = bundle.spec()
    with pytest.raises(StartError):
        bundle.create(replace(spec, mounts=tuple(m for m in spec.mounts if not m.destination.startswith("/dev"))))
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("target", ["/etc/target", "/proc/sys/kernel/hostname", "../../outside"])
def test_cve_2025_52565_dev_console_is_a_symlink(bundle: Bundle, tmp_path: Path, target: str) -> None:
    """/dev from the image, its `console` a link: the terminal is bound on no other file, inside or outside."""
    (tmp_path / "outside").write_text("untouched")
    (bundle.rootfs / "etc").mkdir(exist_ok=True)
    (bundle.rootfs / "etc/target").write_text("untouched")
    (bundle.rootfs / "dev").mkdir(exist_ok=True)
    (bundle.rootfs / "dev/console").symlink_to(target)
    spec = bundle.spec("sh", "-c", "cat /proc/self/mounts", process={"terminal": True})
    kept = tuple(m for m in spec.mounts if m.destination != "/dev")
    try:
        made = bundle.create(replace(spec, mounts=kept))
    except StartError:
        pass  # refused: as good
    else:
        made.start()
        assert made.console_fd is not None
        shown = b""
        with suppress(OSError):  # EIO: the terminal's end
            while data := os.read(made.console_fd, 65536):
                shown += data
        os.close(made.console_fd)
        wait(made.pid)
        assert b" /etc/target " not in shown and b"hostname" not in shown
    assert (bundle.rootfs / "etc/target").read_text() == "untouched"
    assert (tmp_path / "outside").read_text() == "untouched"


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_proc_and_sys_go_on_no_symlink(bundle: Bundle, kind: str) -> None:
    name = {"proc": "proc", "sysfs": "sys"}[kind]
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / name).symlink_to("tmp")
    with pytest.raises(StartError, match="must be mounted on ordinary directory"):
        bundle.create(bundle.spec())


@pytest.mark.parametrize("destination", ["/proc/sys/kernel", "/proc/self", "/link/kernel", "/proc"])
def test_cve_2025_52881_nothing_is_mounted_into_proc(bundle: Bundle, destination: str) -> None:
    (bundle.rootfs / "link").symlink_to("/proc/sys")
    spec = bundle.spec()
    mount = Mount(destination, "tmpfs", "tmpfs", ())
    with pytest.raises(StartError, match="cannot be mounted because it is"):
        bundle.create(replace(spec, mounts=(*spec.mounts, mount)))


def test_links_in_mount_targets_stay_in_the_rootfs(bundle: Bundle, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (bundle.rootfs / "escape").symlink_to(f"../../../../../../..{canary}")
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("bound")
    spec = bundle.spec("cat", f"{canary}/file")
    mount = Mount("/escape", "bind", str(source), ("rbind",))
    status, out, err = bundle.run(replace(spec, mounts=(*spec.mounts, mount)))
    assert (status, out) == (0, "bound"), err
    assert list(canary.iterdir()) == []
    assert (bundle.rootfs / str(canary).lstrip("/")).is_dir()


def test_cve_2021_30465_race_of_mount_targets(bundle: Bundle, tmp_path: Path) -> None:
    """Another container swaps a component of a shared volume between directory and symlink to the host's root."""
    volume = tmp_path / "volume"
    (volume / "real").mkdir(parents=True)
    target = tmp_path / "host"
    target.mkdir()
    program = textwrap.dedent(f"""
        import ctypes, os, time
        os.chdir({str(volume)!r})
        os.symlink('../../../../../../../../{str(target).lstrip("/")}', 'link')
        exchange = ctypes.CDLL(None).renameat2
        while True:
            exchange(-100, b'real', -100, b'link', 2)
            time.sleep(0.0002)
    """)
    swapper = subprocess.Popen([sys.executable, "-S", "-c", program])
    try:
        spec = bundle.spec("true")
        mounts = (
            *spec.mounts,
            Mount("/vol", "bind", str(volume), ("rbind", "rprivate")),
            Mount("/vol/real/inner", "tmpfs", "tmpfs", ()),
        )
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            try:
                bundle.run(replace(spec, mounts=mounts))
            except StartError:
                pass  # refused because of the swap: fine
            assert not (target / "inner").exists()
            assert not os.path.ismount(target / "inner")
    finally:
        swapper.kill()
        swapper.wait()
    with open("/proc/self/mountinfo") as f:
        assert str(tmp_path) not in f.read()


@pytest.mark.parametrize("uid", [2**31, 2**32 - 1])
def test_cve_2024_40635_ids_above_int32(uid: int) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=r"process\.user\.uid"):
        Spec.from_json({"process": {"user": {"uid": uid}}})


def test_cve_2024_40635_in_the_images_passwd(bundle: Bundle) -> None:
    (bundle.rootfs / "etc/passwd").write_text("evil:x:4294967295:4294967295::/:/bin/sh\n")
    with pytest.raises(StartError, match="uids and gids must be in range"):
        bundle.create(bundle.spec("id", process={"user": User(username="evil")}))


def test_passwd_that_blocks_or_never_ends(bundle: Bundle) -> None:
    for target in ("fifo", "/dev/zero"):
        (bundle.rootfs / "etc/passwd").unlink()
        if target == "fifo":
            os.mkfifo(bundle.rootfs / "etc/passwd")
        else:
            (bundle.rootfs / "etc/passwd").symlink_to(target)
        with pytest.raises(StartError, match="unable to read /etc/passwd"):
            bundle.create(bundle.spec("id", process={"user": User(username="www")}))


def test_passwd_is_the_containers_own(bundle: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("spy:x:0:0::/:/bin/sh\n")
    (bundle.rootfs / "etc/passwd").unlink()
    (bundle.rootfs / "etc/passwd").symlink_to(f"../../../../../../../../..{outside}")
    with pytest.raises(StartError, match="unable to find user spy: no matching entries in passwd file"):
        bundle.create(bundle.spec("id", process={"user": User(username="spy")}))


def test_cve_2026_31431_af_alg_and_vsock_are_denied(bundle: Bundle) -> None:
    """Asked of the kernel with the compiled default profile: EPERM for both, others go."""
    from rorqual.linux import process, seccomp
    from rorqual.runc import seccomp as profiles

    program = profiles.program(defaults.default_seccomp(defaults.CAPABILITIES, os.uname().machine))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answers = []
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
        seccomp.load(program)
        for family in (socket.AF_ALG, socket.AF_VSOCK, socket.AF_INET, socket.AF_UNIX, 39):
            try:
                socket.socket(family, socket.SOCK_DGRAM).close()
                answers.append(0)
            except OSError as e:
                answers.append(e.errno or 0)
        os.write(write, repr(answers).encode())
        os._exit(0)
    os.close(write)
    with open(read) as f:
        answers = eval(f.read())
    os.waitpid(child, 0)
    assert answers[:4] == [1, 1, 0, 0]
    assert answers[4] != 1


@pytest.mark.parametrize("shared", [False, True], ids=["memfd", "overlay"])
def test_cve_2019_5736_the_interpreter_cannot_be_written(bundle: Bundle, shared: bool) -> None:
    """The created container's init is still the runtime. Its executable, opened through /proc as the exploit does, is
    not the host's, and cannot be written to when nobody runs it any more (until then it is busy in any case)."""
    program = textwrap.dedent(f"""
        import os, sys
        sys.path[:0] = {sys.path!r}
        from rorqual.linux.sealed import reexec_sealed
        reexec_sealed(shared={shared})
        from rorqual.oci.runtime import Spec
        from rorqual.runc import container
        spec = Spec.from_json(open({str(bundle.path / "config.json")!r}, "rb").read())
        made = container.create({bundle.prefix + "-sealed"!r}, {str(bundle.path)!r}, spec, root={bundle.root!r})
        # created, not started: init is still this very program, inside the container's namespaces
        print(made.pid, os.readlink(f"/proc/{{made.pid}}/exe"), flush=True)
        sys.stdin.readline()
        made.start()
        os.waitpid(made.pid, 0)
        made.delete()
    """)
    spec = bundle.spec("true")
    assert spec.linux is not None
    spec = replace(spec, linux=replace(spec.linux, cgroups_path=f"/{bundle.prefix}/sealed"))
    (bundle.path / "config.json").write_bytes(spec.to_json())
    host = os.stat(os.path.realpath(sys.executable))
    runtime = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert runtime.stdout is not None
    pid, shown = runtime.stdout.readline().split(" ", 1)
    opened = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=r"Text file busy|Read-only file system"):
            os.close(os.open(f"/proc/{pid}/exe", os.O_WRONLY))
        runtime.communicate("go on\n", timeout=30)
        assert runtime.returncode == 0
        found = os.fstat(opened)
        assert (found.st_dev, found.st_ino) != (host.st_dev, host.st_ino)
        with pytest.raises(OSError, match=r"Operation not permitted|Read-only file system"):
            _write_same_byte(f"/proc/self/fd/{opened}")
    finally:
        os.close(opened)
    # through the overlay the name is one of the detached mount, not of the host
    overlay = shown == f"/{os.path.basename(os.path.realpath(sys.executable))}\n"
    old_kernel = "memfd:rorqual" in shown and tuple(map(int, os.uname().release.split(".")[:2])) < (6, 15)
    assert (overlay or old_kernel) if shared else "memfd:rorqual" in shown, shown
    assert os.stat(os.path.realpath(sys.executable)) == host


def _write_same_byte(path: str) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, os.pread(fd, 1, 0), 0)
    finally:
        os.close(fd)


def test_cve_2024_25621_state_is_private(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sleep", "10"))
    assert os.stat(made.directory.path).st_mode & 0o777 == 0o700
    assert os.stat(f"{made.directory.path}/state.json").st_mode & 0o777 == 0o600


def test_cve_2019_14271_nothing_is_imported_in_the_rootfs(bundle: Bundle) -> None:
    """Every import of init and exec is written to its stderr by an audit hook of this process."""
    program = textwrap.dedent(f"""
        import os, sys
        sys.path[:0] = {sys.path!r}
        from rorqual.oci.runtime import Spec, Process, User
        from rorqual.runc import container
        own = os.getpid()
        def hook(event, arguments):
            if os.getpid() != own and event in ("import", "open"):
                os.write(2, f"{{event}} {{arguments[0]}}\\n".encode())
        sys.addaudithook(hook)
        spec = Spec.from_json(open({str(bundle.path / "config.json")!r}, "rb").read())
        made = container.create({bundle.prefix + "-audit"!r}, {str(bundle.path)!r}, spec, root={bundle.root!r})
        made.start()
        pid, _ = made.exec(Process(args=("true",), env=("PATH=/bin",), user=User(username="www")))
        os.waitpid(pid, 0)
        made.delete(force=True)
    """)
    spec = bundle.spec("sleep", "100", process={"user": User(username="www:extra")})
    assert spec.linux is not None
    spec = replace(spec, linux=replace(spec.linux, cgroups_path=f"/{bundle.prefix}/audit"))
    (bundle.path / "config.json").write_bytes(spec.to_json())
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "open passwd" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("import")] == []


def test_fork_bomb_is_bounded_by_pids(bundle: Bundle) -> None:
    from rorqual.oci.runtime import Pids, Resources

    spec = bundle.spec("sh", "-c", "f() { f | f & }; f; sleep 1", linux={"resources": Resources(pids=Pids(20))})
    made = bundle.create(spec)
    made.start()
    time.sleep(0.3)
    assert len(made.pids()) <= 20
    made.delete(force=True)
    wait(made.pid)


def test_read_only_root(bundle: Bundle) -> None:
    spec = bundle.spec("sh", "-c", "touch /x; touch /dev/shm/ok && echo ok")
    assert spec.root is not None
    _, out, err = bundle.run(replace(spec, root=replace(spec.root, readonly=True)))
    assert out == "ok\n"
    assert "Read-only file system" in err


def test_host_sysctls_are_refused(bundle: Bundle) -> None:
    for name in ("kernel.core_pattern", "vm.overcommit_memory", "net.ipv4/../../kernel/core_pattern"):
        with pytest.raises(errdefs.InvalidArgument, match=r"linux\.sysctl"):
            bundle.create(bundle.spec(linux={"sysctl": {name: "1"}}))
    namespaces = tuple(Namespace(t) for t in ("mount", "pid", "ipc", "uts"))
    with pytest.raises(errdefs.InvalidArgument, match="not allowed in the hosts namespace"):
        bundle.create(bundle.spec(linux={"sysctl": {"net.core.somaxconn": "1"}, "namespaces": namespaces}))


def test_sysctls_of_its_own(bundle: Bundle) -> None:
    before = Path("/proc/sys/net/core/somaxconn").read_text()
    out = bundle.sh(
        "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax",
        linux={"sysctl": {"net.core.somaxconn": "77", "kernel.msgmax": "9999"}},
    )
    assert out.split() == ["77", "9999"]
    assert Path("/proc/sys/net/core/somaxconn").read_text() == before


def test_mounts_do_not_reach_the_host(bundle: Bundle) -> None:
    """Other engines' mounts may come and go on the machine meanwhile; none of ours may be there."""

    def ours() -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if str(bundle.rootfs.parent) in line or line.split()[4] in ("/dev", "/proc")]

    before = ours()
    made = bundle.create(bundle.spec("sleep", "10"))
    assert ours() == before
    made.delete(force=True)
    wait(made.pid)


def test_device_access_is_limited(bundle: Bundle) -> None:
    caps = (*defaults.CAPABILITIES,)
    spec = bundle.spec(
        "sh",
        "-c",
        "mknod /tmp/disk b 254 0; for f in /tmp/disk /dev/zero; do dd if=$f of=/dev/null count=1 2>&1; done",
        process={"capabilities": Capabilities(bounding=caps, effective=caps, permitted=caps)},
    )
    _, out, _ = bundle.run(spec)
    assert "can't open '/tmp/disk': Operation not permitted" in out
    assert "1+0 records" in out


def test_network_namespace_has_loopback_only(bundle: Bundle) -> None:
    out = bundle.sh("cat /proc/net/dev; cat /sys/class/net/lo/operstate; cat /sys/class/net/lo/flags")
    assert [line.split(":")[0].strip() for line in out.splitlines() if ":" in line] == ["lo"]
    assert int(out.split()[-1], 16) & 1
