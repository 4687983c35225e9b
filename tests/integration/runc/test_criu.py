"""checkpoint and restore: with a CRIU of this test's own, and with the real one where it works (`make test-vm`)."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.processes import wait_for

import rorqual

from .conftest import Bundle

pytestmark = pytest.mark.root

Runc = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(bundle: Bundle) -> Iterator[Runc]:
    """Its output goes to a file: what is restored keeps it open."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, *arguments]
        with (bundle.path / "output").open("w+") as output:
            done = subprocess.run(
                line, cwd=bundle.path, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            output.seek(0)
            return subprocess.CompletedProcess(line, done.returncode, output.read(), "")

    yield run
    run("delete", "--force", "cli")


def configure(bundle: Bundle, *args: str, **linux: Any) -> None:
    spec = bundle.spec(*args, linux={"cgroups_path": f"/{bundle.prefix}/cli", **linux})
    (bundle.path / "config.json").write_bytes(spec.to_json())


def run_detached(bundle: Bundle) -> None:
    line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "run", "--detach", "cli"]
    null = subprocess.DEVNULL
    assert subprocess.run(line, cwd=bundle.path, stdin=null, stdout=null, stderr=null, check=False).returncode == 0


FAKE = """#!{python}
# Answers as CRIU does; what it was asked is appended to a file. FAIL: the kind of request that it refuses.
import json, os, socket, sys
sys.path.insert(0, {source!r})
from rorqual import protowire
from rorqual.runc.criu import wire

def shown(data):
    found = {{}}
    for number, value in protowire.records(memoryview(data)):
        found.setdefault(number, []).append(value if isinstance(value, int) else bytes(value))
    return found

end = socket.socket(fileno=int(sys.argv[2]))
asked = shown(end.recv(65536))
kind = asked[1][0]
options = {{k: [v.hex() if isinstance(v, bytes) else v for v in vs] for k, vs in shown(asked.get(2, [b""])[0]).items()}}
groups = open("/proc/self/cgroup").read()
with open({log!r}, "a") as f:
    f.write(json.dumps([kind, options, groups, {root!r} in open("/proc/self/mountinfo").read()]) + "\\n")
if os.environ.get("FAIL") == str(kind):
    directory = "/proc/%d/fd/%d" % (os.getppid(), options[{work}][0])
    open(directory + "/" + bytes.fromhex(options[{log_file}][0]).decode(), "w").write("fine\\nError (x): the reason\\n")
    end.send(wire.encode([(1, kind), (2, False), (7, 22)]))
    sys.exit(1)
if kind == wire.VERSION:
    end.send(wire.encode([(1, kind), (2, True), (10, ((1, 3), (2, 17), (4, 1)))]))
elif kind == wire.FEATURE_CHECK:
    end.send(wire.encode([(1, kind), (2, True), (8, ((wire.MEM_TRACK, False),))]))
elif kind == wire.DUMP:
    end.send(wire.encode([(1, wire.NOTIFY), (2, True), (5, ((1, "post-dump"), (2, 1)))]))
    assert end.recv(100) == wire.notified(wire.NOTIFY)
    end.send(wire.encode([(1, kind), (2, True)]))
elif kind == wire.RESTORE:
    import ctypes
    CLONE_PARENT = 0x8000
    pid = ctypes.CDLL(None).syscall(56, CLONE_PARENT | 17, 0, 0, 0, 0)
    if pid == 0:
        os.execv("/bin/sleep", ["sleep", "100"])
    for script in ("setup-namespaces", "post-restore"):
        end.send(wire.encode([(1, wire.NOTIFY), (2, True), (5, ((1, script), (2, pid)))]))
        assert end.recv(100) == wire.notified(wire.NOTIFY)
    end.send(wire.encode([(1, kind), (2, True), (4, ((1, pid),))]))
"""


@pytest.fixture
def fake(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """What CRIU was asked: [kind, options, its groups, whether the rootfs is mounted in its namespace]."""
    source = str(Path(rorqual.__file__).parents[1])
    log = tmp_path / "asked"
    program = tmp_path / "bin/criu"
    program.parent.mkdir()
    root = f"{bundle.root}/cli/criu-root"
    names = {"work": 1, "log_file": 10, "python": sys.executable, "source": source, "log": str(log), "root": root}
    program.write_text(FAKE.format(**names))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return lambda: [json.loads(line) for line in log.read_text().splitlines()]


def text(values: list[str]) -> list[str]:
    return [bytes.fromhex(value).decode() for value in values]


def test_a_dump_names_what_is_not_the_containers_own(
    bundle: Bundle, command: Runc, fake: Callable[[], list[Any]], tmp_path: Path
) -> None:
    configure(bundle, "sleep", "100")
    run_detached(bundle)
    flags = ("--tcp-established", "--shell-job", "--file-locks", "--ext-unix-sk", "--manage-cgroups-mode", "full")
    assert command("checkpoint", *flags, "--page-server", "127.0.0.1:80", "--leave-running", "cli").returncode == 0
    (_, (kind, options, _, _)) = fake()
    pid = json.loads(command("state", "cli").stdout)["pid"]
    assert kind == 1
    assert options["2"] == [pid]
    assert all(options[number] == [1] for number in ("3", "4", "5", "7", "8", "12", "24", "50"))
    assert (options["34"], options["38"]) == ([4], [0x40000000])
    assert text(options["11"]) == ["\n\t127.0.0.1\x10P"]
    outside = "".join(text(options["23"]))
    assert "\n\n/proc/keys\x12\t/dev/null" in outside  # a masked file
    assert "//" not in outside
    descriptors = bundle.path / "checkpoint/descriptors.json"
    assert json.loads(descriptors.read_text()) == ["/dev/null"] * 3
    assert descriptors.stat().st_mode & 0o777 == 0o600
    assert (bundle.path / "checkpoint").stat().st_mode & 0o777 == 0o700
    assert command("checkpoint", "cli").returncode == 0
    assert "does not exist" in command("state", "cli").stdout  # it ended with its checkpoint


def test_a_dump_that_fails_says_why_and_the_container_goes_on(
    bundle: Bundle, command: Runc, fake: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(bundle, "sleep", "100")
    run_detached(bundle)
    monkeypatch.setenv("FAIL", "1")
    done = command("checkpoint", "cli")
    assert done.returncode == 1
    assert "criu failed: type DUMP errno 22" in done.stdout
    assert "Error (x): the reason" in done.stdout
    assert json.loads(command("state", "cli").stdout)["status"] == "running"


def test_images_are_not_written_through_a_link(bundle: Bundle, command: Runc, fake: Callable[[], list[Any]]) -> None:
    configure(bundle, "sleep", "100")
    run_detached(bundle)
    victim = bundle.path / "victim"
    victim.write_text("kept")
    (bundle.path / "checkpoint").mkdir()
    (bundle.path / "checkpoint/descriptors.json").symlink_to(victim)
    assert command("checkpoint", "cli").returncode == 1
    assert victim.read_text() == "kept"


def images(bundle: Bundle, descriptors: str = '["/dev/null", "pipe:[77]", "pipe:[78]"]') -> None:
    (bundle.path / "checkpoint").mkdir()
    (bundle.path / "checkpoint/descriptors.json").write_text(descriptors)


def test_a_restored_container_is_one_as_any_other(
    bundle: Bundle, command: Runc, fake: Callable[[], list[Any]], tmp_path: Path
) -> None:
    configure(bundle, "sleep", "100", namespaces=())
    (bundle.rootfs / "proc").rmdir()
    images(bundle)
    done = command("restore", "--detach", "--pid-file", "pid", "cli")
    assert done.returncode == 0, done.stdout
    asked = fake()[-1]
    assert (asked[0], asked[3]) == (2, True)
    assert text(asked[1]["27"]) == ["\n\tpipe:[77]\x10\x01", "\n\tpipe:[78]\x10\x02"]
    assert f"/{bundle.prefix}/cli" in asked[2]  # what it restores is in its own groups
    assert any(bundle.prefix in entry for entry in text(asked[1]["25"]))
    state = json.loads(command("state", "cli").stdout)
    assert (state["status"], state["pid"]) == ("running", int((bundle.path / "pid").read_text()))
    assert (bundle.rootfs / "proc").is_dir()
    assert "criu-root" not in Path("/proc/self/mountinfo").read_text()
    assert command("delete", "--force", "cli").returncode == 0


@pytest.mark.parametrize("descriptors", ["nonsense", '{"a": 1}', "[1, 2]"])
def test_images_of_others_are_not_trusted(
    bundle: Bundle, command: Runc, fake: Callable[[], list[Any]], descriptors: str
) -> None:
    configure(bundle, "sleep", "100")
    images(bundle, descriptors)
    done = command("restore", "cli")
    assert done.returncode == 1
    assert "descriptors.json" in done.stdout and "Traceback" not in done.stdout
    assert not os.path.exists(f"{bundle.root}/cli")


def test_a_descriptors_link_is_not_followed_out_of_the_images(
    bundle: Bundle, command: Runc, fake: Callable[[], list[Any]]
) -> None:
    configure(bundle, "sleep", "100")
    (bundle.path / "checkpoint").mkdir()
    (bundle.path / "secret").write_text('["pipe:[1]"]')
    (bundle.path / "checkpoint/descriptors.json").symlink_to(bundle.path / "secret")
    done = command("restore", "cli")
    assert done.returncode == 1
    assert "descriptors.json: no such file" in done.stdout


def test_a_restore_that_fails_leaves_nothing(
    bundle: Bundle, command: Runc, fake: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(bundle, "sleep", "100")
    images(bundle)
    monkeypatch.setenv("FAIL", "2")
    done = command("restore", "cli")
    assert done.returncode == 1
    assert "criu failed: type RESTORE errno 22" in done.stdout
    assert "Error (x): the reason" in done.stdout
    assert not os.path.exists(f"{bundle.root}/cli")


def test_without_criu_it_is_refused_in_runcs_words(
    bundle: Bundle, command: Runc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(bundle, "sleep", "100")
    run_detached(bundle)
    images(bundle)
    monkeypatch.setenv("PATH", str(tmp_path))
    for line in (("checkpoint", "cli"), ("restore", "other")):
        done = command(*line)
        assert done.returncode == 1
        assert "CRIU version check failed" in done.stdout and "executable file not found in $PATH" in done.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--parent-path", "/abs"), "--parent-path must be relative"),
        (("--parent-path", "nowhere"), "invalid --parent-path"),
        (("--page-server", "nohost"), "Use --page-server ADDRESS:PORT"),
        (("--page-server", "a:b"), "Invalid port number"),
        (("--empty-ns", "pid"), "is not supported"),
        (("--manage-cgroups-mode", "x"), "Invalid manage-cgroups-mode"),
        (("--lazy-pages",), "CRIU is missing features: [LazyPages]"),
        (("--pre-dump",), "CRIU is missing features: [MemTrack]"),
    ],
)
def test_options_that_cannot_be(
    bundle: Bundle, command: Runc, fake: Callable[[], list[Any]], options: tuple[str, ...], expected: str
) -> None:
    configure(bundle, "sleep", "100")
    run_detached(bundle)
    done = command("checkpoint", *options, "cli")
    assert done.returncode == 1
    assert expected in done.stdout


def criu_works() -> bool:
    if os.geteuid() != 0 or shutil.which("criu") is None:
        return False
    return subprocess.run(["criu", "check"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def criu() -> None:
    if not criu_works():
        pytest.skip("criu check does not pass here")


COUNTING = "i=0; while true; do i=$((i+1)); echo $i > /tmp/count; sleep 0.2; done"


def count(bundle: Bundle) -> int:
    try:
        return int((bundle.rootfs / "tmp/count").read_text() or 0)
    except FileNotFoundError:
        return 0


def test_a_program_goes_on_where_it_was(bundle: Bundle, command: Runc, criu: None) -> None:
    configure(bundle, "sh", "-c", COUNTING)
    run_detached(bundle)
    wait_for(lambda: count(bundle) > 1, "it counts")
    done = command("checkpoint", "--image-path", "first", "cli")
    assert done.returncode == 0, done.stdout
    assert "does not exist" in command("state", "cli").stdout
    before = count(bundle)
    (bundle.rootfs / "tmp/count").unlink()
    time.sleep(1)
    assert count(bundle) == 0

    done = command("restore", "--image-path", "first", "--detach", "cli")
    assert done.returncode == 0, done.stdout
    wait_for(lambda: count(bundle) > before, "it goes on counting")
    assert count(bundle) < before + 100
    state = json.loads(command("state", "cli").stdout)
    assert state["status"] == "running"
    assert f"/{bundle.prefix}/cli" in Path(f"/proc/{state['pid']}/cgroup").read_text()
    shown = command("exec", "cli", "sh", "-c", "hostname; ls /proc | grep -c '^[0-9]'; cat /proc/1/cmdline")
    assert shown.returncode == 0, shown.stdout
    assert shown.stdout.startswith("box\n")
    assert "while true" in shown.stdout

    done = command("checkpoint", "--image-path", "second", "--leave-running", "cli")  # what was restored can be again
    assert done.returncode == 0, done.stdout
    now = count(bundle)
    wait_for(lambda: count(bundle) > now, "it was left running")
    assert command("delete", "--force", "cli").returncode == 0


def test_memory_is_written_beforehand(bundle: Bundle, command: Runc, criu: None) -> None:
    configure(bundle, "sh", "-c", COUNTING)
    run_detached(bundle)
    wait_for(lambda: count(bundle) > 0, "it counts")
    done = command("checkpoint", "--pre-dump", "--image-path", "parent", "cli")
    if "MemTrack" in done.stdout:
        pytest.skip("this kernel does not track changed pages")
    assert done.returncode == 0, done.stdout
    assert json.loads(command("state", "cli").stdout)["status"] == "running"
    done = command("checkpoint", "--image-path", "images", "--parent-path", "../parent", "cli")
    assert done.returncode == 0, done.stdout
    before = count(bundle)
    assert command("restore", "--image-path", "images", "--detach", "cli").returncode == 0
    wait_for(lambda: count(bundle) > before, "it goes on counting")


def test_images_that_are_none_leave_nothing(bundle: Bundle, command: Runc, criu: None) -> None:
    configure(bundle, "sleep", "100")
    images(bundle)
    done = command("restore", "cli")
    assert done.returncode == 1
    assert "criu failed: type RESTORE" in done.stdout
    assert not os.path.exists(f"{bundle.root}/cli")
