"""process.* of config.json: priorities, affinity, personality, descriptors, keyring, labels, seccomp's agent."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.processes import wait_for

from rorqual import errdefs
from rorqual.oci.runtime import (
    ConsoleSize,
    CPUAffinity,
    IOPriority,
    Personality,
    Process,
    Scheduler,
    Seccomp,
    SeccompSyscall,
    User,
)
from rorqual.runc.errors import StartError
from rorqual.runc.process import labels

from .conftest import Bundle, wait

pytestmark = pytest.mark.root


def running(bundle: Bundle, **process: Any) -> int:
    """The pid of a container's `sleep`."""
    made = bundle.create(bundle.spec("sleep", "100", process=process))
    made.start()
    wait_for(lambda: Path(f"/proc/{made.pid}/comm").read_text() == "sleep\n", "the program runs")
    return made.pid


def test_io_priority(bundle: Bundle) -> None:
    pid = running(bundle, io_priority=IOPriority("IOPRIO_CLASS_BE", 3))
    number = {"x86_64": 252}.get(os.uname().machine, 31)
    assert ctypes.CDLL(None).syscall(number, 1, pid) == 2 << 13 | 3


def test_scheduler(bundle: Bundle) -> None:
    pid = running(bundle, scheduler=Scheduler("SCHED_BATCH", nice=5, flags=("SCHED_FLAG_RESET_ON_FORK",)))
    assert os.sched_getscheduler(pid) == os.SCHED_BATCH | os.SCHED_RESET_ON_FORK
    assert os.getpriority(os.PRIO_PROCESS, pid) == 5


@pytest.mark.parametrize(
    ("process", "named"),
    [
        ({"scheduler": Scheduler("SCHED_NONE")}, "process.scheduler.policy"),
        ({"scheduler": Scheduler("SCHED_OTHER", flags=("X",))}, "process.scheduler.flags"),
        ({"io_priority": IOPriority("X", 1)}, "process.ioPriority.class"),
        ({"io_priority": IOPriority("IOPRIO_CLASS_RT", 8)}, "process.ioPriority.priority"),
        ({"selinux_label": "x"}, "process.selinuxLabel"),
    ],
)
def test_what_no_kernel_knows_is_refused_by_name(bundle: Bundle, process: dict[str, Any], named: str) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=named):
        bundle.create(bundle.spec("true", process=process))


def test_a_scheduler_that_the_kernel_refuses(bundle: Bundle) -> None:
    """SCHED_DEADLINE without a runtime: nothing is left, and the reason is told."""
    with pytest.raises(StartError, match="unable to set scheduling"):
        bundle.create(bundle.spec("true", process={"scheduler": Scheduler("SCHED_DEADLINE")}))


def test_an_exec_runs_on_its_cpus_and_init_does_not(bundle: Bundle) -> None:
    last = max(os.sched_getaffinity(0))
    made = bundle.create(bundle.spec("sleep", "100", process={"exec_cpu_affinity": CPUAffinity(str(last), str(last))}))
    made.start()
    assert os.sched_getaffinity(made.pid) == os.sched_getaffinity(0)
    pid, _ = made.exec(Process(args=("sleep", "100"), env=("PATH=/bin",)))  # inherits the container's setting
    assert os.sched_getaffinity(pid) == {last}
    with pytest.raises(StartError, match="execCPUAffinity"):
        made.exec(Process(args=("true",), env=("PATH=/bin",), exec_cpu_affinity=CPUAffinity("8000")))
    made.kill(signal.SIGKILL)
    wait(pid)


def test_personality(bundle: Bundle) -> None:
    assert bundle.sh("busybox uname -m", linux={"personality": Personality("LINUX32")}) in ("i686\n", "armv8l\n")
    made = bundle.create(bundle.spec("sleep", "100", linux={"personality": Personality("LINUX32")}))
    made.start()
    for pid in (made.pid, made.exec(Process(args=("sleep", "100"), env=("PATH=/bin",)))[0]):
        assert int(Path(f"/proc/{pid}/personality").read_text(), 16) & 0xFF == 0x08  # PER_LINUX32
    for bad in (Personality("BSD"), Personality("LINUX", ("ADDR_NO_RANDOMIZE",))):
        with pytest.raises(errdefs.InvalidArgument, match=r"linux\.personality"):
            bundle.create(bundle.spec("true", linux={"personality": bad}))


def test_groups_umask_oom_score_and_home(bundle: Bundle) -> None:
    user = User(33, 34, umask=0o27, additional_gids=(5, 77))
    out = bundle.sh(
        "id -G; umask; cat /proc/self/oom_score_adj; echo $HOME", process={"user": user, "oom_score_adj": 321}
    )
    assert out.split("\n")[:4] == ["34 5 77", "0027", "321", "/srv/www"]


def test_a_terminal_has_the_size_asked_for(bundle: Bundle) -> None:
    process = {"terminal": True, "console_size": ConsoleSize(33, 111)}
    made = bundle.create(bundle.spec("busybox", "stty", "size", process=process))
    assert made.console_fd is not None
    made.start()
    assert b"33 111" in os.read(made.console_fd, 100)
    wait(made.pid)
    os.close(made.console_fd)


def test_the_session_keyring_is_its_own(bundle: Bundle) -> None:
    """The container's keys are not those of the caller's session, nor the other way round."""
    pid = running(bundle)
    shown = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs" in shown
    code = "import ctypes; print(ctypes.CDLL(None).syscall(250, 0, -3, 0))"  # KEYCTL_GET_KEYRING_ID of the session
    if os.uname().machine != "x86_64":
        pytest.skip("system call numbers of x86_64")
    own = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    keys = Path("/proc/keys").read_text().splitlines()
    assert own <= 0 or not [k for k in keys if k.startswith(f"{own:08x}") and "_ses.rqtest" in k]


def test_asked_for_descriptors_reach_the_program(bundle: Bundle, tmp_path: Path) -> None:
    """--preserve-fds, after those of socket activation, which the program is told of."""
    bundle.path.mkdir(exist_ok=True)
    script = "echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4; ls /proc/self/fd"
    spec = bundle.spec("sh", "-c", script)
    assert spec.linux is not None
    linux = replace(spec.linux, cgroups_path=f"/{bundle.prefix}/cli")
    (bundle.path / "config.json").write_bytes(replace(spec, linux=linux).to_json())
    (tmp_path / "a").write_text("first\n")
    (tmp_path / "b").write_text("second\n")
    command = (
        f"exec 3<{tmp_path}/a 4<{tmp_path}/b 5</; LISTEN_FDS=1 LISTEN_PID=$$ exec {sys.executable} "
        f"-m rorqual.runc.main --root {bundle.root} run --preserve-fds 1 cli"
    )
    done = subprocess.run(
        ["sh", "-c", command], cwd=bundle.path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1", "first", "second", "0", "1", "2", "3", "4", "5"]  # 5: ls's own


@pytest.fixture
def agent(tmp_path: Path) -> Callable[[Callable[[], Any]], tuple[dict[str, Any], int]]:
    """Run something while an agent listens: what it was told, and the listener's fd."""
    path = str(tmp_path / "agent.sock")

    def during(action: Callable[[], Any]) -> tuple[dict[str, Any], int]:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            server.settimeout(20)
            action()
            connection, _ = server.accept()
            with connection:
                data, fds, _, _ = socket.recv_fds(connection, 65536, 4)
        os.unlink(path)
        return json.loads(data), fds[0]

    return during


def notifying(bundle: Bundle, path: Path) -> Any:
    profile = Seccomp(
        "SCMP_ACT_ALLOW",
        listener_path=str(path / "agent.sock"),
        listener_metadata="who",
        syscalls=(SeccompSyscall(("mkdir",), "SCMP_ACT_NOTIFY"),),
    )
    return bundle.spec("sleep", "100", linux={"seccomp": profile})


def test_the_seccomp_agent_gets_the_listener_of_init_and_of_an_exec(
    bundle: Bundle, tmp_path: Path, agent: Callable[[Callable[[], Any]], tuple[dict[str, Any], int]]
) -> None:
    made: list[Any] = []
    told, fd = agent(lambda: made.append(bundle.create(notifying(bundle, tmp_path))))
    os.close(fd)
    container = made[0]
    assert (told["fds"], told["metadata"], told["pid"]) == (["seccompFd"], "who", container.pid)
    assert (told["state"]["id"], told["state"]["status"]) == (container.id, "creating")
    container.start()
    pids: list[int] = []
    told, fd = agent(lambda: pids.append(container.exec(Process(args=("sleep", "100"), env=("PATH=/bin",)))[0]))
    os.close(fd)
    assert told["pid"] == pids[0]
    assert (told["state"]["pid"], told["state"]["status"]) == (container.pid, "running")
    container.kill(signal.SIGKILL)
    wait(pids[0])


def test_without_an_agent_the_create_fails(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(errdefs.Unavailable, match="seccomp agent"):
        bundle.create(notifying(bundle, tmp_path))


def test_a_profile_that_cannot_be_applied_is_refused(bundle: Bundle) -> None:
    if labels.apparmor_is_enabled():
        with pytest.raises(errdefs.Error, match="apparmor failed to apply profile"):
            bundle.create(bundle.spec("true", process={"apparmor_profile": "no-such-profile"}))
    else:
        with pytest.raises(errdefs.InvalidArgument, match=r"process\.apparmorProfile: AppArmor is not enabled"):
            bundle.create(bundle.spec("true", process={"apparmor_profile": "docker-default"}))
    assert bundle.run(bundle.spec("true", process={"apparmor_profile": "unconfined"}))[0] == 0


@pytest.mark.parametrize("name", ["sendmsg", "write"])
def test_calls_that_nobody_could_answer_are_not_for_an_agent(bundle: Bundle, tmp_path: Path, name: str) -> None:
    """The first carries the listener itself: the create would wait for itself."""
    spec = notifying(bundle, tmp_path)
    profile = replace(spec.linux.seccomp, syscalls=(SeccompSyscall((name,), "SCMP_ACT_NOTIFY"),))
    with pytest.raises(errdefs.InvalidArgument, match=f"cannot be used for the {name} syscall"):
        bundle.create(replace(spec, linux=replace(spec.linux, seccomp=profile)))
