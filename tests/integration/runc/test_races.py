"""create, start, kill and delete at once; creates that fail at each step or are killed; hooks' failure rules."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support.processes import wait_for

from rorqual import errdefs
from rorqual.linux import cgroups, process
from rorqual.oci.runtime import Hook, Hooks, Spec
from rorqual.runc import container as runc
from rorqual.runc import creation, state
from rorqual.runc.cgroups import devices_bpf, group
from rorqual.runc.errors import StartError
from rorqual.runc.process import parent

from .conftest import Bundle, group_directories, wait

pytestmark = pytest.mark.root
NULL = subprocess.DEVNULL


def line(bundle: Bundle, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, *arguments]


def write(bundle: Bundle, *args: str, hooks: Hooks | None = None) -> None:
    spec = bundle.spec(*args)
    assert spec.linux is not None
    linux = replace(spec.linux, cgroups_path=f"/{bundle.prefix}/box")
    (bundle.path / "config.json").write_bytes(replace(spec, linux=linux, hooks=hooks).to_json())


def start(bundle: Bundle, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(line(bundle, *arguments), cwd=bundle.path, stdin=NULL, stdout=NULL, stderr=NULL)


def nothing_left(bundle: Bundle) -> bool:
    left = [name for name in os.listdir(bundle.root) if name[0] != "."] if os.path.isdir(bundle.root) else []
    return not left and not [d for d in group_directories(bundle.prefix) if os.path.isdir(f"{d}/box")]


# --- several at once -------------------------------------------------------------------------------------------------


def test_of_many_starts_one_wins(bundle: Bundle) -> None:
    write(bundle, "sh", "-c", "echo ran >> /tmp/count; sleep 100")
    assert start(bundle, "create", "box").wait() == 0
    statuses = sorted(started.wait() for started in [start(bundle, "start", "box") for _ in range(4)])
    assert statuses == [0, 1, 1, 1]
    wait_for(lambda: (bundle.rootfs / "tmp/count").exists(), "the program ran")
    assert start(bundle, "delete", "-f", "box").wait() == 0
    assert (bundle.rootfs / "tmp/count").read_text() == "ran\n"


def test_of_many_creates_one_wins(bundle: Bundle) -> None:
    write(bundle, "sleep", "100")
    statuses = sorted(started.wait() for started in [start(bundle, "create", "box") for _ in range(4)])
    assert statuses == [0, 1, 1, 1]
    assert runc.load("box", bundle.root).status == state.CREATED
    assert start(bundle, "delete", "-f", "box").wait() == 0
    assert nothing_left(bundle)


def test_many_deletes_remove_it_once(bundle: Bundle, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    write(bundle, "sleep", "100", hooks=Hooks(poststop=(Hook("/bin/sh", ("sh", "-c", f"echo stop >> {trace}")),)))
    assert start(bundle, "create", "box").wait() == 0
    assert [started.wait() for started in [start(bundle, "delete", "-f", "box") for _ in range(4)]] == [0] * 4
    assert nothing_left(bundle)
    assert trace.read_text() == "stop\n"


def test_start_kill_and_delete_at_once_leave_nothing(bundle: Bundle) -> None:
    write(bundle, "sleep", "100")
    for _ in range(4):
        assert start(bundle, "create", "box").wait() == 0
        actions = (("start", "box"), ("kill", "box", "KILL"), ("delete", "-f", "box"), ("state", "box"))
        for started in [start(bundle, *action) for action in actions]:
            assert started.wait() in (0, 1)
        assert start(bundle, "delete", "-f", "box").wait() == 0
        assert nothing_left(bundle)


def test_delete_does_not_remove_what_is_being_created(bundle: Bundle, tmp_path: Path) -> None:
    """The directory of a create in progress is its own: a plain delete is refused, a forced one makes it fail."""
    gate = tmp_path / "gate"
    waits = Hook("/bin/sh", ("sh", "-c", f"touch {gate}.in; while ! [ -e {gate} ]; do sleep 0.01; done"), timeout=30)
    write(bundle, "sleep", "100", hooks=Hooks(create_runtime=(waits,)))
    creator = start(bundle, "create", "box")
    wait_for(lambda: Path(f"{gate}.in").exists(), "the hook runs")
    assert runc.load("box", bundle.root).status == state.CREATING
    assert start(bundle, "delete", "box").wait() == 1
    assert start(bundle, "start", "box").wait() == 1
    forced = start(bundle, "delete", "--force", "box")
    wait_for(lambda: runc.load("box", bundle.root).status == state.STOPPED, "init was killed")
    gate.touch()
    assert creator.wait() == 1
    assert forced.wait() == 0
    assert nothing_left(bundle)


# --- creates that end early -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay_ms", range(4, 76, 8))
def test_a_killed_create_leaves_what_delete_removes(bundle: Bundle, delay_ms: int) -> None:
    write(bundle, "sleep", "100")
    creator = start(bundle, "create", "box")
    time.sleep(delay_ms / 1000)  # any moment is as good as another
    creator.kill()
    creator.wait()
    assert start(bundle, "delete", "--force", "box").wait() == 0
    assert nothing_left(bundle)


def fails(*_: Any, **__: Any) -> NoReturn:
    raise OSError(28, "No space left on device")


STEPS: list[tuple[object, str]] = [
    (state.Directory, "write_config"),
    (state.Directory, "write"),
    (state.Directory, "make_fifo"),
    (state.Directory, "created"),
    (creation.Creation, "_open_namespaces"),
    (creation.Creation, "_clone_trees"),
    (creation, "write_pid_file"),
    (parent, "spawn"),
    (parent, "follow"),
    (devices_bpf, "apply") if cgroups.is_unified() else (group, "write_file"),
]


@pytest.mark.parametrize(("where", "name"), [step for step in STEPS if hasattr(*step)])
def test_a_create_that_fails_at_any_step_leaves_nothing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, where: object, name: str
) -> None:
    write(bundle, "sleep", "100")
    config = (bundle.path / "config.json").read_bytes()
    pid_file = bundle.path / "pid"
    before = set(os.listdir("/proc/self/fd"))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fails)
        with pytest.raises((OSError, errdefs.Error)):
            runc.create("box", str(bundle.path), config, root=bundle.root, pid_file=str(pid_file))
    assert nothing_left(bundle)
    assert not pid_file.exists()
    assert set(os.listdir("/proc/self/fd")) <= before
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == children
    made = runc.create("box", str(bundle.path), config, root=bundle.root)  # and the name is free
    made.delete(force=True)
    wait(made.pid)


# --- hooks ------------------------------------------------------------------------------------------------------------


def shell(script: str, timeout: int | None = None) -> Hook:
    return Hook("/bin/sh", ("sh", "-c", script), timeout=timeout)


@pytest.mark.parametrize("kind", ["prestart", "create_runtime", "create_container"])
def test_a_failing_hook_of_create_fails_it_and_poststop_follows(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    trace = tmp_path / "trace"
    given = {
        kind: (shell("echo reason >&2; exit 3"), shell(f"echo second >> {trace}")),
        "poststop": (shell(f"cat >> {trace}"),),
    }
    with pytest.raises(StartError, match=r"hook #0: exit status 3.*reason"):
        bundle.create(replace(bundle.spec("true"), hooks=Hooks(**given)))
    document = json.loads(trace.read_text())
    assert document["status"] == "stopped"
    assert "pid" not in document
    assert [name for name in os.listdir(bundle.root) if name[0] != "."] == []


def test_a_failing_start_container_hook_ends_the_container(bundle: Bundle, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    hooks = Hooks(start_container=(Hook("/bin/false"),), poststop=(shell(f"echo stopped >> {trace}"),))
    status, out, err = bundle.run(replace(bundle.spec("echo", "program"), hooks=hooks))
    assert (status, out) == (1, "")
    assert "startContainer hook #0" in err
    assert trace.read_text() == "stopped\n"


@pytest.mark.parametrize("kind", ["poststart", "poststop"])
def test_a_failing_hook_after_the_fact_is_a_warning(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    trace = tmp_path / "trace"
    given = {kind: (shell("exit 1"), shell(f"echo second >> {trace}"))}
    made = bundle.create(replace(bundle.spec("true"), hooks=Hooks(**given)))
    warnings = made.start()
    assert wait(made.pid) == 0
    warnings += made.delete()
    assert [text for text in warnings if f"{kind} hook #0: exit status 1" in text]
    assert trace.read_text() == "second\n"


@pytest.mark.parametrize("kind", ["prestart", "create_container", "poststop"])
def test_a_hook_that_hangs_is_ended_with_its_children(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    pids = tmp_path / "pids"
    hook = shell(f"sleep 300 & echo $! > {pids}; sleep 300", timeout=3)
    spec: Spec = replace(bundle.spec("true"), hooks=Hooks(**{kind: (hook,)}))
    began = time.monotonic()
    if kind == "poststop":
        made = bundle.create(spec)
        made.start()
        wait(made.pid)
        assert "ran past specified timeout of 3s" in made.delete()[0]
    else:
        with pytest.raises(StartError, match="ran past specified timeout of 3s"):
            bundle.create(spec)
    assert time.monotonic() - began < 20
    if kind != "create_container":  # that one's pids are the container's, which ended with its namespace
        wait_for(lambda: ended(int(pids.read_text())), "its child ended")


def ended(pid: int) -> bool:
    try:
        return process.start_time(pid) == 0  # a zombie, whose reaper may be slow
    except ProcessLookupError:
        return True


def test_a_create_whose_hook_hangs_ends_when_it_is_killed(bundle: Bundle, tmp_path: Path) -> None:
    write(bundle, "sleep", "100", hooks=Hooks(create_runtime=(shell(f"echo $$ > {tmp_path}/in; exec sleep 300"),)))
    creator = start(bundle, "create", "box")
    wait_for(lambda: (tmp_path / "in").exists() and (tmp_path / "in").read_text(), "the hook runs")
    creator.kill()
    creator.wait()
    assert start(bundle, "delete", "--force", "box").wait() == 0
    assert nothing_left(bundle)
    os.kill(int((tmp_path / "in").read_text()), signal.SIGKILL)


def test_a_frozen_group_is_refused_and_left_as_it_is(bundle: Bundle) -> None:
    """A process that joined it would stop there, and the create would wait for it for ever."""
    write(bundle, "true")
    config = (bundle.path / "config.json").read_bytes()
    made = runc.create("box", str(bundle.path), config, root=bundle.root)
    made.pause()
    with pytest.raises(StartError, match="cgroup unexpectedly frozen"):
        runc.create("box2", str(bundle.path), config, root=bundle.root)
    assert made.status == state.CREATED
    made.delete(force=True)
    wait(made.pid)
