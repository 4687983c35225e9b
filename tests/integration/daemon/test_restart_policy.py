"""Restart policies over the life of the daemon."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support import processes
from support.engine import Cli, Engine
from support.processes import kill, wait_for

pytestmark = pytest.mark.root

_FAILS = ("busybox", "sh", "-c", "exit 3")
_SLEEPS = ("busybox", "sleep", "1000")


def state(engine: Engine, name: str) -> Any:
    return engine.inspect(name)["State"]


def running(engine: Engine, name: str) -> Callable[[], bool]:
    return lambda: state(engine, name)["Status"] == "running"


def test_on_failure_gives_up_after_its_number(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "fails", "--restart", "on-failure:2", *_FAILS)
    wait_for(lambda: state(engine, "fails")["Status"] == "exited", "it gave up")
    found = engine.inspect("fails")
    assert found["RestartCount"] == 2 and found["State"]["ExitCode"] == 3
    cli("run", "-d", "--name", "ends", "--restart", "on-failure", "busybox", "true")
    wait_for(lambda: state(engine, "ends")["Status"] == "exited", "it ended")
    assert engine.inspect("ends")["RestartCount"] == 0


def test_the_back_off_grows_and_a_start_by_hand_counts_anew(engine: Engine) -> None:
    engine.rorqual("run", "-d", "--name", "loop", "--restart", "always", "busybox", "sh", "-c", "date +%s.%N; exit 1")
    wait_for(lambda: engine.inspect("loop")["RestartCount"] >= 4, "four restarts")
    starts = [e.split()[0] for e in engine.rorqual.out("logs", "-t", "loop").splitlines()]
    times = [float(s[17:29]) for s in starts]
    gaps = [(after - before) % 60 for before, after in pairwise(times)][:4]
    assert all(gap >= least for gap, least in zip(gaps, (0.1, 0.2, 0.4, 0.8), strict=False)), gaps
    engine.rorqual("stop", "loop")
    assert state(engine, "loop")["Status"] == "exited"
    assert engine.api("POST", "/containers/loop/start").status == 204
    assert engine.inspect("loop")["RestartCount"] < 4  # as many as above would take a second and a half again


def test_a_container_that_waits_to_be_restarted(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "loop", "--label", "rorqual.restart.delay=1h", "--restart", "always", *_FAILS)
    wait_for(lambda: state(engine, "loop")["Status"] == "restarting", "it waits")
    assert "Restarting (3)" in cli.out("ps", "--format", "{{.Status}}")
    assert "is restarting, wait until the container is running" in cli("exec", "loop", "true", code=1).err
    assert "container is restarting: stop the container before" in cli("rm", "loop", code=1).err
    cli("stop", "loop")
    assert state(engine, "loop")["Status"] == "exited"
    cli("rm", "loop")


def test_a_killed_process_is_started_again_and_a_stopped_one_is_not(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "keeps", "--restart", "unless-stopped", *_SLEEPS)
    first = state(engine, "keeps")["Pid"]
    kill([first])
    wait_for(lambda: state(engine, "keeps")["Pid"] not in (0, first), "another process")
    assert engine.inspect("keeps")["RestartCount"] == 1
    cli("stop", "-t", "0", "keeps")
    assert state(engine, "keeps")["Status"] == "exited"


def test_one_that_is_just_being_started_again_can_be_removed_and_stopped(cli: Cli, engine: Engine) -> None:
    def dying(name: str) -> None:
        cli("run", "-d", "--name", name, "--restart", "always", "busybox", "sleep", "1000")
        os.kill(engine.inspect(name)["State"]["Pid"], signal.SIGKILL)
        # The count rises just before the start: what follows comes while that is under way.
        wait_for(lambda: engine.inspect(name)["RestartCount"] == 1, "it is started again", interval_s=0.001)

    for _ in range(3):
        dying("removed")
        cli("rm", "-f", "removed")
    dying("refused")
    refusal = cli("rm", "refused", code=1)
    assert re.search(r'cannot remove container "/?refused": container is (running|restarting): stop', refusal.err)
    dying("stopped")
    cli("stop", "-t", "0", "stopped")
    assert engine.inspect("stopped")["State"]["Status"] == "exited"


def test_the_policy_can_be_changed(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "changed", *_SLEEPS)
    cli("update", "--restart", "on-failure:5", "changed")
    assert engine.inspect("changed")["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}
    first = state(engine, "changed")["Pid"]
    kill([first])
    wait_for(lambda: state(engine, "changed")["Pid"] not in (0, first), "another process")
    cli("update", "--restart", "no", "changed")
    kill([state(engine, "changed")["Pid"]])
    wait_for(lambda: state(engine, "changed")["Status"] == "exited", "it stays")


def test_the_start_of_the_daemon_follows_the_policies(fresh_engine: Engine) -> None:
    engine, run = fresh_engine, fresh_engine.rorqual
    for name, policy in (("always", "always"), ("unless", "unless-stopped"), ("dies", "unless-stopped"), ("no", "no")):
        run("run", "-d", "--name", name, "--restart", policy, *_SLEEPS)
    run("run", "-d", "--name", "net", "--restart", "always", *_SLEEPS)
    run("run", "-d", "--name", "joins", "--restart", "always", "--network", "container:net", *_SLEEPS)
    run("run", "-d", "--name", "kept", "--restart", "always", *_SLEEPS)
    run("create", "--name", "never", "--restart", "always", *_SLEEPS)
    run("stop", "-t", "0", "always", "unless", "no", "joins", "net")
    kept, died = state(engine, "kept")["Pid"], state(engine, "dies")["Pid"]
    engine.kill("rorquald")
    kill([died])
    engine.start()
    for name in ("always", "dies", "net", "joins"):
        wait_for(running(engine, name), f"{name} runs again")
    assert state(engine, "dies")["Pid"] != died
    assert state(engine, "kept")["Pid"] == kept
    assert [state(engine, n)["Status"] for n in ("unless", "no", "never")] == ["exited", "exited", "created"]


def test_a_stop_just_before_the_daemons_death_holds(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.rorqual("run", "-d", "--name", "box", "--restart", "unless-stopped", *_SLEEPS)
    engine.rorqual("stop", "-t", "0", "box")
    engine.kill("rorquald")
    engine.start()
    assert state(engine, "box")["Status"] == "exited"


def test_a_daemon_ends_at_once_while_containers_wait_and_goes_on_with_them(fresh_engine: Engine) -> None:
    engine = fresh_engine
    label = ("--label", "rorqual.restart.delay=1h")
    engine.rorqual("run", "-d", "--name", "later", *label, "--restart", "always", *_FAILS)
    wait_for(lambda: state(engine, "later")["Status"] == "restarting", "it waits")
    began = time.monotonic()
    engine.restart()
    assert time.monotonic() - began < 10
    wait_for(lambda: engine.inspect("later")["RestartCount"] == 1, "it was started again at the start")


def power_off(engine: Engine) -> None:
    """What a reboot takes: every process, the namespaces and cgroups, and all below the exec root (a tmpfs)."""

    def gone() -> bool:
        found = processes.belonging(engine.marker, engine.cgroup_parent)
        kill(process.pid for process in found)
        return not found

    wait_for(gone, "every process is gone")
    if engine.daemon is not None:
        engine.daemon.wait(10)
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    for target in sorted((line.split()[4] for line in lines if str(engine.root) in line.split()[4]), reverse=True):
        subprocess.run(["umount", "-l", target], check=True)
    for group in sorted(engine.held().cgroups, key=len, reverse=True):
        os.rmdir(group)
    shutil.rmtree(engine.exec)


def test_a_reboot_follows_the_policies(fresh_engine: Engine) -> None:
    engine, run = fresh_engine, fresh_engine.rorqual
    for name in ("always", "unless-stopped", "on-failure", "no"):
        run("run", "-d", "--name", f"c-{name}", "--restart", name, "-v", "kept:/kept", *_SLEEPS)
    for name in ("always", "unless-stopped"):
        run("run", "-d", "--name", f"s-{name}", "--restart", name, *_SLEEPS)
        run("stop", "-t", "0", f"s-{name}")
    run("exec", "c-always", "touch", "/kept/f")
    power_off(engine)
    engine.start()
    for name in ("c-always", "c-unless-stopped", "c-on-failure", "s-always"):
        wait_for(running(engine, name), f"{name} runs again")
    assert state(engine, "c-no")["Status"] == "exited" and state(engine, "s-unless-stopped")["Status"] == "exited"
    run("exec", "c-always", "ls", "/kept/f")
