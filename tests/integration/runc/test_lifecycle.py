"""create, start, kill, exec, pause, update, delete: runtime-spec runtime.md, in process as the shim calls it."""

import errno
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.processes import wait_for

from rorqual import errdefs
from rorqual.linux import cgroups
from rorqual.oci.runtime import CPU, ConsoleSize, Memory, Namespace, Pids, Process, Resources
from rorqual.runc import container as runc
from rorqual.runc import state
from rorqual.runc.errors import ExecutableNotFound, ExecutablePermission, StartError

from .conftest import Bundle, wait

pytestmark = pytest.mark.root


def test_states_follow_the_lifecycle(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sleep", "100"))
    assert made.status == state.CREATED
    assert runc.load(made.id, bundle.root).pid == made.pid
    made.start()
    assert made.status == state.RUNNING
    with pytest.raises(errdefs.Conflict, match="already started"):
        made.start()
    with pytest.raises(errdefs.Conflict, match="not stopped"):
        made.delete()
    made.kill(signal.SIGKILL)
    assert wait(made.pid) == -signal.SIGKILL
    assert made.status == state.STOPPED
    with pytest.raises(errdefs.NotFound, match="process already finished"):
        made.kill(signal.SIGTERM)
    made.delete()
    made.delete()
    with pytest.raises(errdefs.NotFound):
        runc.load(made.id, bundle.root)


def test_the_users_program_does_not_run_before_start(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("touch", "/tmp/ran"))
    time.sleep(0.05)
    assert not (bundle.rootfs / "tmp/ran").exists()
    made.start()
    assert wait(made.pid) == 0
    assert (bundle.rootfs / "tmp/ran").exists()


def test_exit_status_and_streams(bundle: Bundle) -> None:
    assert bundle.run(bundle.spec("sh", "-c", "echo out; echo err >&2; exit 7")) == (7, "out\n", "err\n")


def test_an_id_is_used_once(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sleep", "100"))
    with pytest.raises(errdefs.AlreadyExists, match="already exists"):
        runc.create(made.id, str(bundle.path), bundle.spec(), root=bundle.root)
    assert made.status == state.CREATED


def children() -> list[str]:
    """This thread's children, ended ones that nobody collected too (other tests' servers may be among them)."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 2000])
def test_bad_ids_are_refused(bundle: Bundle, name: str) -> None:
    with pytest.raises(errdefs.InvalidArgument, match="invalid container ID format"):
        runc.create(name, str(bundle.path), bundle.spec(), root=bundle.root)
    os.makedirs(bundle.root, exist_ok=True)


@pytest.mark.parametrize(
    ("argument", "kind", "text"),
    [
        ("nothere", ExecutableNotFound, 'exec: "nothere": executable file not found in $PATH'),
        ("/nothere", ExecutableNotFound, 'exec: "/nothere": stat /nothere: no such file or directory'),
        ("/etc/passwd", ExecutablePermission, 'exec: "/etc/passwd": permission denied'),
        ("/etc", ExecutablePermission, 'exec: "/etc": is a directory'),
        ("/etc/passwd/x", ExecutablePermission, 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory'),
    ],
)
def test_a_missing_executable_fails_create_in_dockers_words(
    bundle: Bundle, argument: str, kind: type[StartError], text: str
) -> None:
    before = children()
    with pytest.raises(kind) as raised:
        bundle.create(bundle.spec(argument))
    assert str(raised.value) == f"unable to start container process: {text}"
    assert children() == before  # nothing is left to collect


def test_exec_format_error_is_shown_as_from_a_shell(bundle: Bundle) -> None:
    (bundle.rootfs / "bin/broken").write_bytes(b"\x7fELFnonsense")
    (bundle.rootfs / "bin/broken").chmod(0o755)
    status, _, err = bundle.run(bundle.spec("broken"))
    assert (status, err) == (255, "exec /bin/broken: exec format error\n")


def test_exec_joins_the_container(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sleep", "100"))
    made.start()
    wait_for(lambda: Path(f"/proc/{made.pid}/comm").read_text() == "sleep\n", "init is the user's program")
    read, write = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    script = "echo $$ $(cat /proc/1/comm) $(cat /proc/sys/kernel/hostname); cat /proc/self/cgroup; ls /proc/self/fd"
    spec = replace(bundle.spec("sh", "-c", script).process or Process(), cwd="/tmp")
    pid, console = made.exec(spec, stdio=(null, write, null))
    os.close(write)
    os.close(null)
    with open(read) as f:
        out = f.read()
    assert wait(pid) == 0
    assert console is None
    first, *rest = out.splitlines()
    assert first.split()[1:] == ["sleep", "box"]
    assert int(first.split()[0]) > 1
    assert sum(made.id in line for line in rest) == len(set(made.record.groups.values()))
    assert rest[-4:] == ["0", "1", "2", "3"]  # 3 is ls's own


def test_exec_of_what_is_not_there(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sleep", "100"))
    made.start()
    with pytest.raises(ExecutableNotFound, match=r'exec: "nope": executable file not found in \$PATH'):
        made.exec(Process(args=("nope",), env=("PATH=/bin",)))
    made.kill(signal.SIGKILL)
    wait(made.pid)
    with pytest.raises(errdefs.Conflict):
        made.exec(Process(args=("true",), env=("PATH=/bin",)))


def test_children_stay_in_the_callers_pid_namespace(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sleep", "100"))
    made.start()
    pid, _ = made.exec(Process(args=("true",), env=("PATH=/bin",)))
    wait(pid)
    child = os.fork()
    if child == 0:
        os._exit(0 if os.readlink("/proc/self/ns/pid") == os.readlink(f"/proc/{os.getppid()}/ns/pid") else 1)
    assert wait(child) == 0


def _read_terminal(master: int) -> str:
    out = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError as e:
            assert e.errno == errno.EIO
            return out.decode()
        if not chunk:
            return out.decode()
        out += chunk


def test_terminal(bundle: Bundle) -> None:
    process = {"terminal": True, "console_size": ConsoleSize(24, 97)}
    made = bundle.create(
        bundle.spec("sh", "-c", "tty; stty size; test -c /dev/console && echo console", process=process)
    )
    assert made.console_fd is not None
    made.start()
    out = _read_terminal(made.console_fd)
    os.close(made.console_fd)
    assert wait(made.pid) == 0
    assert out.split() == ["/dev/pts/0", "24", "97", "console"]


def test_exec_with_a_terminal(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sleep", "100"))
    made.start()
    pid, master = made.exec(
        Process(args=("sh", "-c", "tty; ps | head -1 >/dev/null; echo $TERM"), env=("PATH=/bin",), terminal=True)
    )
    assert master is not None
    out = _read_terminal(master)
    os.close(master)
    assert wait(pid) == 0
    assert out.split()[0] == "/dev/pts/0"


@pytest.mark.skipif(cgroups.is_unified(), reason="files of cgroup v1")
def test_limits_are_set_and_updated(bundle: Bundle) -> None:
    resources = Resources(memory=Memory(limit=64 << 20), pids=Pids(50), cpu=CPU(shares=512, quota=50000, period=100000))
    made = bundle.create(bundle.spec("sleep", "100", linux={"resources": resources}))
    made.start()
    groups = made.record.groups

    def read(controller: str, file: str) -> str:
        return Path(f"{groups[controller]}/{file}").read_text().strip()

    assert read("memory", "memory.limit_in_bytes") == str(64 << 20)
    assert read("pids", "pids.max") == "50"
    assert (read("cpu", "cpu.shares"), read("cpu", "cpu.cfs_quota_us")) == ("512", "50000")
    made.update(Resources(memory=Memory(limit=128 << 20, swap=256 << 20)))
    assert read("memory", "memory.limit_in_bytes") == str(128 << 20)
    made.update(b'{"memory":{"limit":33554432,"swap":33554432},"pids":{"limit":-1}}')
    assert read("memory", "memory.limit_in_bytes") == str(32 << 20)
    assert read("pids", "pids.max") == "max"
    stats = made.stats()
    assert stats.memory.usage.limit == 32 << 20
    assert stats.pids.current == 1
    assert stats.cpu.total_ns > 0


def test_pause_and_resume(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sleep", "100"))
    made.start()
    made.pause()
    assert made.status == state.PAUSED
    with pytest.raises(errdefs.Conflict):
        made.exec(Process(args=("true",), env=("PATH=/bin",)))
    made.resume()
    assert made.status == state.RUNNING
    made.pause()
    made.delete(force=True)
    wait(made.pid)


def test_oom_is_seen(bundle: Bundle) -> None:
    resources = Resources(memory=Memory(limit=8 << 20, swap=8 << 20))
    made = bundle.create(
        bundle.spec("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1", linux={"resources": resources})
    )
    watch = made.oom_watch()
    assert watch is not None
    made.start()
    assert wait(made.pid) == -signal.SIGKILL
    assert len(os.read(watch, 4096)) > 0
    os.close(watch)
    assert made.oom_kills() == 1


def test_delete_ends_what_a_shared_pid_namespace_leaves(bundle: Bundle) -> None:
    namespaces = tuple(Namespace(t) for t in ("mount", "network", "ipc", "uts"))
    made = bundle.create(bundle.spec("sh", "-c", "sleep 1000 & exit 0", linux={"namespaces": namespaces}))
    made.start()
    assert wait(made.pid) == 0
    assert made.shares_pid_namespace
    assert len(made.pids()) == 1
    made.delete()
    assert not any(os.path.exists(directory) for directory in made.record.groups.values())


def test_delete_leaves_others_in_a_shared_group_alone(bundle: Bundle) -> None:
    """Two containers with one cgroupsPath: the end of the one, or a create that fails, is not the other's."""
    path = f"/{bundle.prefix}/shared"
    shared = bundle.spec("sleep", "100", linux={"cgroups_path": path})
    first, second = bundle.create(shared), bundle.create(shared)
    second.start()
    started = time.monotonic()
    (warning,) = first.delete(force=True)
    assert warning.startswith("cgroups with processes of others are left: ")
    assert time.monotonic() - started < 5
    with pytest.raises(ExecutableNotFound):
        bundle.create(bundle.spec("nope", linux={"cgroups_path": path}))
    assert second.status == state.RUNNING
    directory = next(iter(second.record.groups.values()))
    assert str(second.pid) in (Path(directory) / "cgroup.procs").read_text().split()
    assert second.delete(force=True) == []
    assert not Path(directory).exists()
    for made in (first, second):
        wait(made.pid)


def test_delete_waits_for_no_exec_that_its_parent_has_not_collected(bundle: Bundle) -> None:
    """The kernel ends a pid namespace's init only once all its processes were reaped; this one's parent is us."""
    made = bundle.create(bundle.spec("sleep", "100"))
    made.start()
    pid, _ = made.exec(Process(args=("true",), env=("PATH=/bin",)))
    wait_for(lambda: " Z " in Path(f"/proc/{pid}/stat").read_text(), "the exec's end")
    started = time.monotonic()
    made.delete(force=True)
    assert time.monotonic() - started < 5
    assert not any(Path(directory).exists() for directory in made.record.groups.values())
    assert wait(pid) == 0
    assert wait(made.pid) == -signal.SIGKILL


def test_a_forced_delete_waits_for_what_dies_with_init(bundle: Bundle) -> None:
    """The kernel kills a namespace's other processes when init is half gone: until then they are not others'."""
    busy = "i=0; while [ $i -lt 60 ]; do (while :; do :; done) & i=$((i + 1)); done; wait"
    for _ in range(6):
        made = bundle.create(bundle.spec("sh", "-c", busy))
        made.start()
        wait_for(lambda: len(made.pids()) > 60, "its processes", 60)  # noqa: B023
        assert made.delete(force=True) == []
        assert not any(Path(directory).exists() for directory in made.record.groups.values())
        wait(made.pid)


def test_a_failed_create_leaves_nothing(bundle: Bundle) -> None:
    spec = bundle.spec("true")
    broken = replace(
        spec, mounts=(*spec.mounts, replace(spec.mounts[0], destination="/x", type="nosuchfs", source="n"))
    )
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(StartError, match="error mounting"):
        bundle.create(broken)
    assert set(os.listdir("/proc/self/fd")) <= before
    assert [n for n in os.listdir(bundle.root) if not n.startswith(".")] == []
    name = f"{bundle.prefix}-{bundle.count}"
    assert not any(os.path.exists(f"/sys/fs/cgroup/{c}/{bundle.prefix}/{name}") for c in os.listdir("/sys/fs/cgroup"))


def test_a_thousand_descriptors_stay_flat(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sleep", "1000"))
    made.start()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(40):
        with pytest.raises(ExecutableNotFound):
            made.exec(Process(args=("nope",), env=("PATH=/bin",)))
        pid, _ = made.exec(Process(args=("true",), env=("PATH=/bin",)))
        wait(pid)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_forced_delete_leaves_no_group_of_a_container_with_many_processes(bundle: Bundle) -> None:
    """They end after init has begun to: none of them is taken for somebody else's."""
    script = "for i in $(busybox seq 60); do sleep 100 & done; busybox unshare -p -f sleep 100 & wait"
    for _ in range(5):
        made = bundle.create(bundle.spec("sh", "-c", script))
        made.start()
        wait_for(lambda made=made: len(made.pids()) > 60, "its processes", 60)  # type: ignore[misc]
        assert made.delete(force=True) == []
        assert not any(Path(directory).exists() for directory in made.record.groups.values())
        wait(made.pid)
