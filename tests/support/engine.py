"""A whole engine of a test's own: rorquald and all below it, apart from everything else on the machine.

It has its own roots, socket, bridge, cgroup parent and (by default) network namespace; the mount namespace is the
machine's, because that is where an engine leaves things behind. `stop` removes what the engine holds and then proves
that nothing is left of it.
"""

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from support import processes
from support.netns import NetworkNamespace
from support.processes import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
CGROUPS = Path("/sys/fs/cgroup")


def command(name: str) -> str:
    """The path of one of our commands: beside the interpreter that runs the tests, else on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a command line did."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"$ {' '.join(self.argv)}\nexit status {self.code}\n{self.out}{self.err}"


class CommandFailed(AssertionError):
    """A command line ended with another status than the test expects."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the Engine API answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The text of a JSON error."""
        return str(self.json["message"])


def _number(file: Path) -> int:
    """The number in a file that may just be made or go: 0 then."""
    try:
        return int(file.read_text() or 0)
    except FileNotFoundError:
        return 0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class Held:
    """What an engine holds of the machine at one moment; two of them are compared to find leaks."""

    processes: frozenset[str]
    mounts: frozenset[str]
    namespaces: frozenset[str]
    links: frozenset[str]
    cgroups: frozenset[str]
    rules: int
    descriptors: int
    snapshots: frozenset[str]

    def more_than(self, before: "Held", descriptors_allowed: int = 4) -> list[str]:
        """What is here and was not there; a few file descriptors may stay (pools of connections and threads)."""
        found = []
        for kind in ("processes", "mounts", "namespaces", "links", "cgroups", "snapshots"):
            found += [f"{kind}: {item}" for item in sorted(getattr(self, kind) - getattr(before, kind))]
        if self.rules > before.rules:
            found.append(f"lines of nft rules: {before.rules} before, {self.rules} after")
        if self.descriptors > before.descriptors + descriptors_allowed:
            found.append(f"file descriptors: {before.descriptors} before, {self.descriptors} after")
        return found


@dataclass
class Cli:
    """One of the two command lines, bound to an engine: `cli("run", "--rm", "busybox", "true")`."""

    engine: "Engine"
    name: str
    env: dict[str, str] = field(default_factory=dict)

    @property
    def argv(self) -> list[str]:
        program = shutil.which("docker") or "docker" if self.name == "docker" else command("rorqual")
        return [program, "-H", self.engine.host]

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "RORQUAL_"))}
        return {
            **inherited,
            "DOCKER_CONFIG": str(self.engine.root / "client"),
            "DOCKER_CLI_HINTS": "false",
            "LC_ALL": "C.UTF-8",
            **self.env,
        }

    def __call__(
        self, *args: str, code: int | None = 0, stdin: bytes | BinaryIO | None = None, timeout_s: float = 60
    ) -> Result:
        """Run it to its end. `code` is the exit status that must come out, None for any."""
        given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
        done = subprocess.run(
            [*self.argv, *args],
            capture_output=True,
            env=self.environment,
            timeout=timeout_s * processes.SLOWNESS,
            check=False,
            **given,
        )
        result = Result(
            (self.name, *args),
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )
        if code is not None and done.returncode != code:
            raise CommandFailed(f"{result}\n(expected exit status {code}){self.engine.log_tail()}")
        return result

    def out(self, *args: str, **options: Any) -> str:
        """Its standard output without the last line end."""
        return self(*args, **options).out.removesuffix("\n")

    @contextmanager
    def started(self, *args: str, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
        """It runs while the block does, its output in pipes; killed at the end of the block if it still runs."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen([*self.argv, *args], env=self.environment, **(pipes | options)) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


class Engine:
    """Started by the constructor; use it as a context manager or call `stop`."""

    def __init__(self, *arguments: str, own_network: bool = True, image: bool = True) -> None:
        self.id = secrets.token_hex(3)
        # Short: the sockets' paths must fit into sun_path also for clients that know no way around it.
        self.root = Path(tempfile.mkdtemp(prefix=f"rq{self.id}-", dir="/tmp"))
        self.data, self.exec, self.socket = self.root / "data", self.root / "exec", self.root / "docker.sock"
        self.log = self.root / "rorquald.log"
        self.host = f"unix://{self.socket}"
        self.bridge = f"rqb{self.id}"
        self.cgroup_parent = f"rqt-{self.id}"
        self.marker = f"RORQUAL_TEST_ENGINE={self.id}"
        self.network = NetworkNamespace(f"rq{self.id}") if own_network else None
        self.arguments = arguments
        self.docker, self.rorqual = Cli(self, "docker"), Cli(self, "rorqual")
        self.daemon: subprocess.Popen[bytes] | None = None
        (self.root / "client").mkdir()
        try:
            self.start()
            if image:
                self.import_busybox()
        except BaseException:
            self.destroy()
            raise

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.stop()
        else:
            self.destroy()

    # ---- life ----------------------------------------------------------------------------------------------

    @property
    def daemon_argv(self) -> list[str]:
        flags = {
            "--data-root": self.data,
            "--exec-root": self.exec,
            "--host": self.host,
            "--pidfile": self.root / "rorquald.pid",
            "--bridge": self.bridge,
            "--bip": "172.31.77.1/24",
            "--cgroup-parent": f"/{self.cgroup_parent}",
            "--config-file": self.root / "daemon.json",
        }
        given = {argument.split("=")[0] for argument in self.arguments}
        if not (self.root / "daemon.json").exists():
            (self.root / "daemon.json").write_text("{}")
        return [command("rorquald"), *(f"{k}={v}" for k, v in flags.items() if k not in given), *self.arguments]

    @property
    def environment(self) -> dict[str, str]:
        """What the daemon, and so all below it, is started with."""
        name, value = self.marker.split("=")
        return {**os.environ, name: value}

    def inside(self) -> Any:
        """A context in which this thread's sockets and programs are in the engine's network."""
        return self.network.entered() if self.network else nullcontext()

    def start(self, timeout_s: float = 40) -> None:
        """Start rorquald and wait until it answers; the processes below it may already be there."""
        with self.inside(), self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                self.daemon_argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

        def answers() -> bool:
            assert self.daemon is not None
            if self.daemon.poll() is not None:
                raise AssertionError(f"rorquald ended with status {self.daemon.returncode}{self.log_tail(80)}")
            with suppress(OSError, http.client.HTTPException):
                return self.api("GET", "/_ping", timeout_s=5).status == 200
            return False

        wait_for(answers, f"rorquald answers{self.log_tail()}", timeout_s)

    def restart(self) -> None:
        """An orderly restart of rorquald alone."""
        assert self.daemon is not None
        self.daemon.terminate()
        self.daemon.wait(30)
        self.start()

    def stop(self) -> None:
        """Remove every container, end every process, and raise AssertionError when anything of the engine is left."""
        with suppress(OSError, http.client.HTTPException):
            for container in self.api("GET", "/containers/json?all=1").json:
                self.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        leftovers = self._leftovers_of_containers()
        ended_late = self._terminate()
        # The directory of namespaces is a private mount, which has to outlive the daemon as containers do.
        mounts = sorted(self._mounts() - {str(self.exec / "netns")})
        self.destroy()
        wrong = (
            leftovers + [f"did not end by SIGTERM: {p.command}" for p in ended_late] + [f"mount: {m}" for m in mounts]
        )
        assert not wrong, "the engine left behind:\n  " + "\n  ".join(wrong)

    def destroy(self) -> None:
        """Take everything away by force, whatever state it is in; never raises for what is already gone."""
        for _ in range(5):
            found = processes.belonging(self.marker, self.cgroup_parent) + processes.belonging(str(self.root), self.id)
            processes.kill(p.pid for p in found)
            if not found:
                break
            time.sleep(0.05)
        if self.daemon is not None:
            self.daemon.wait(10)
        for mount in sorted(self._mounts(), key=len, reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        for group in sorted(self._cgroups(), key=len, reverse=True):
            with suppress(OSError):
                os.rmdir(group)
        if self.network:
            self.network.close()
        else:
            for argv in (
                ("ip", "link", "delete", self.bridge),
                ("nft", "delete", "table", "inet", f"rorqual_{self.bridge}"),
            ):
                subprocess.run(argv, check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def _terminate(self) -> list[processes.Process]:
        """SIGTERM to the three long-lived processes, top down; the ones that were still there after ten seconds."""
        for name in ("rorquald", "containerd", "spawner"):
            processes.kill(self.pids(name), signal.SIGTERM)
            if name == "rorquald" and self.daemon is not None:
                self.daemon.wait(15)
        with suppress(AssertionError):
            wait_for(lambda: not processes.belonging(self.marker, self.cgroup_parent), "all ended", 10)
        return processes.belonging(self.marker, self.cgroup_parent)

    def _leftovers_of_containers(self) -> list[str]:
        """What is left of containers after the last one was removed; the kernel takes a moment to end a namespace."""
        found: list[str] = []

        def nothing() -> bool:
            held = self.held()
            found[:] = (
                [f"shim: {pid}" for pid in self.pids("shim")]
                + [f"cgroup: {group}" for group in sorted(held.cgroups)]
                + [f"network namespace: {name}" for name in sorted(held.namespaces)]
                + [f"link: {name}" for name in sorted(held.links) if name.startswith("veth")]
            )
            return not found

        with suppress(AssertionError):
            wait_for(nothing, "nothing is left")
        return found

    # ---- its processes -------------------------------------------------------------------------------------

    def pids(self, name: str, container: str = "") -> list[int]:
        """The processes of that name: rorquald, containerd, spawner, shim (of one container), all."""
        if name == "rorquald":
            return [self.daemon.pid] if self.daemon and self.daemon.poll() is None else []
        if name == "shim":
            tasks = self.exec / "containerd" / "tasks"
            pids = [_number(file) for file in tasks.glob(f"*/{container or '*'}/shim.pid")]
            return [pid for pid in pids if pid and processes.alive(pid)]
        ours = processes.belonging(self.marker, self.cgroup_parent)
        if name == "all":
            return [process.pid for process in ours]
        shims = set(self.pids("shim"))
        words = {"containerd": ("rorqual.containerd", "rorqual-containerd"), "spawner": ("rorqual.shim.spawner",)}[name]
        found = [
            process.pid
            for process in ours
            if process.pid not in shims and any(word in process.command for word in words)
        ]
        # Containerd's unpack workers are its children and carry its command line; its own is the oldest.
        return sorted(found, key=processes.started)[:1]

    def kill(self, name: str, container: str = "") -> None:
        """SIGKILL to the process of that name, which is gone on return."""
        pids = self.pids(name, container)
        assert pids, f"no {name} runs{self.log_tail()}"
        processes.kill(pids)
        if name == "rorquald" and self.daemon is not None:
            self.daemon.wait(10)
        wait_for(lambda: not any(processes.alive(pid) for pid in pids), f"{name} is gone")

    def log_tail(self, lines: int = 15) -> str:
        """The end of the daemon's log, for the text of a failure."""
        if not self.log.exists():
            return ""
        tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n--- rorquald:\n" + "\n".join(line[:300] for line in tail)

    # ---- what it does --------------------------------------------------------------------------------------

    def api(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout_s: float = 60
    ) -> Answer:
        """One request; a body that is no bytes is sent as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if data is not None else {}
        connection = _UnixConnection(self.socket, timeout_s)
        try:
            connection.request(method, path, data, kind | (headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def import_busybox(self, name: str = "busybox:latest") -> None:
        """An image of the machine's static busybox, with every applet as a link."""
        from support.busybox import rootfs_tar

        repository, tag = name.rsplit(":", 1)
        change = "CMD%20%5B%22sh%22%5D"
        answer = self.api(
            "POST",
            f"/images/create?fromSrc=-&repo={repository}&tag={tag}&changes={change}",
            rootfs_tar(),
            {"Content-Type": "application/x-tar"},
        )
        assert answer.status == 200 and b'"error"' not in answer.body, f"{answer.body!r}{self.log_tail()}"

    def inspect(self, container: str) -> Any:
        answer = self.api("GET", f"/containers/{container}/json")
        assert answer.status == 200, answer.body
        return answer.json

    def running(self, container: str) -> bool:
        return bool(self.inspect(container)["State"]["Running"])

    # ---- what it holds of the machine ----------------------------------------------------------------------

    def _mounts(self) -> set[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return {line.split()[4] for line in lines if str(self.root) in line.split()[4]}

    def _cgroups(self) -> set[str]:
        # os.walk passes over what goes while it looks; pathlib's glob raises.
        return {path for top in CGROUPS.glob(f"*/{self.cgroup_parent}") for path, _, _ in os.walk(top)}

    def held(self) -> Held:
        """A snapshot of everything that the engine holds."""
        daemons = [pid for name in ("rorquald", "containerd", "spawner") for pid in self.pids(name)]
        descriptors = 0
        for pid in daemons:
            with suppress(FileNotFoundError, ProcessLookupError):
                descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        namespaces: set[str] = set()
        with suppress(FileNotFoundError):
            namespaces.update(os.listdir(self.exec / "netns"))
        rules = self.network.run("nft", "list", "ruleset", check=False) if self.network else ""
        belonging = processes.belonging(self.marker, self.cgroup_parent)
        # The one resolver stays for some sweeps after the last who needed it; a second would be a leak.
        resolver = next((process.pid for process in belonging if "rorqual.libnetwork.dns.server" in process.command), 0)
        return Held(
            processes=frozenset(
                f"{process.pid} {process.command[:120]}"
                for process in belonging
                if process.pid != resolver
                and "rorqual.containerd.worker" not in process.command  # a small pool, which ends when it is idle
            ),
            mounts=frozenset(self._mounts()),
            namespaces=frozenset(namespaces),
            links=frozenset(self.network.links()) if self.network else frozenset(),
            cgroups=frozenset(group for group in self._cgroups() if not group.endswith(self.cgroup_parent)),
            rules=len(rules.splitlines()),
            descriptors=descriptors,
            snapshots=frozenset(str(p) for p in (self.data / "snapshots").glob("*/[0-9]*")),
        )
