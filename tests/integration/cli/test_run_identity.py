"""Flags of `run` and `create` that say who the container is and how it lives, seen from inside or on the host."""

import json
import os
import platform
import signal
import time
from pathlib import Path

import pytest
from support.covers import covers
from support.engine import Cli, Engine
from support.processes import wait_for
from support.verbs import both, shell, started

pytestmark = pytest.mark.root


def status(engine: Engine, name: str) -> str:
    return str(engine.inspect(name)["State"]["Status"])


@covers(*both("name", "cidfile", "label", "label-file", "annotation", "hostname", "domainname"))
def test_names_and_labels(cli: Cli, engine: Engine, verb: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("# no label\ntier=front\nno-value\n")
    cid = tmp_path / "cid"
    flags = ["--cidfile", str(cid), "-l", "own=1", "--label", "bare", "--label-file", str(tmp_path / "labels")]
    flags += ["--annotation", "org.example.a=b c", "-h", "harpoon", "--domainname", "example.org"]
    container = started(cli, verb, "named", *flags)
    assert cid.read_text() == container
    shown = engine.inspect("named")
    assert shown["Id"] == container
    assert shown["Config"]["Labels"] == {"own": "1", "bare": "", "tier": "front"}  # as Docker: no-value is dropped
    assert cli.out("ps", "-q", "--no-trunc", "--filter", "label=tier=front") == container
    # The runtime's own state has the annotation.
    specs = list(engine.exec.glob(f"containerd/tasks/*/{container}/config.json"))
    assert {json.loads(spec.read_text())["annotations"]["org.example.a"] for spec in specs} == {"b c"}
    assert cli.out("exec", "named", "sh", "-c", "hostname; cat /proc/sys/kernel/domainname").split() == [
        "harpoon",
        "example.org",
    ]
    again = cli(verb, "--cidfile", str(cid), "busybox", "true", code=None)
    assert again.code != 0 and f"delete {cid}" in again.err
    taken = cli(verb, "--name", "named", "busybox", "true", code=None)
    assert 'The container name "/named" is already in use' in taken.err


@covers(*both("env", "env-file", "entrypoint", "workdir", "user", "group-add"))
def test_what_the_program_is_started_with(cli: Cli, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env").write_text("# none\nX=1\nY=two words\nFROM_CLIENT\n")
    monkeypatch.setitem(cli.env, "FROM_CLIENT", "passed on")
    flags = ["--env-file", str(tmp_path / "env"), "-e", "Z=a=b", "--env", "X=2", "-w", "/made/here"]
    flags += ["-u", "alice:daemon", "--group-add", "audio", "--group-add", "4321"]
    out = shell(cli, verb, "env; pwd; id -u; id -g; id -G; printf '%s|' \"$0\"", *flags).out
    lines = out.splitlines()
    assert {"X=2", "Y=two words", "FROM_CLIENT=passed on", "Z=a=b"} <= set(lines)
    assert lines[-5:-1] == ["/made/here", "1000", "1", "1 29 4321"] and lines[-1] == "sh|"
    if verb == "run":
        assert cli.out("run", "--rm", "--entrypoint", "/bin/echo", "busybox", "one", "two") == "one two"
    else:
        cli("create", "--name", "echoes", "--entrypoint", "/bin/echo", "busybox", "one", "two")
        assert cli.out("start", "-a", "echoes") == "one two"


@covers(*both("init", "stop-signal", "stop-timeout"))
def test_how_it_is_stopped(cli: Cli, engine: Engine, verb: str) -> None:
    trap = ("sh", "-c", "trap 'exit 42' USR1; echo ready; while :; do sleep 0.1; done")
    started(cli, verb, "signalled", "--stop-signal", "SIGUSR1", command=trap)
    wait_for(lambda: "ready" in cli.out("logs", "signalled"), "the trap is set")
    cli("stop", "signalled")
    assert engine.inspect("signalled")["State"]["ExitCode"] == 42
    stubborn = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    started(cli, verb, "stubborn", "--stop-timeout", "1", command=stubborn)
    wait_for(lambda: "ready" in cli.out("logs", "stubborn"), "the trap is set")
    began = time.monotonic()
    cli("stop", "stubborn")
    assert 0.9 < time.monotonic() - began < 9  # ten seconds are the default
    started(cli, verb, "reaped", "--init")
    assert cli.out("exec", "reaped", "cat", "/proc/1/comm") != "sleep"
    cli("stop", "-t", "8", "reaped")
    assert engine.inspect("reaped")["State"]["ExitCode"] == 143  # a bare sleep as PID 1 would ignore it: 137


@covers(*both("restart", "rm"))
def test_what_follows_its_end(cli: Cli, engine: Engine, verb: str) -> None:
    fails = ("sh", "-c", "echo try; exit 1")
    started(cli, verb, "again", "--restart", "on-failure:2", command=fails)
    wait_for(lambda: status(engine, "again") == "exited" and engine.inspect("again")["RestartCount"] == 2, "gave up")
    assert cli.out("logs", "again").split() == ["try"] * 3
    started(cli, verb, "gone", "--rm", "-v", "/anonymous")
    volume = engine.inspect("gone")["Mounts"][0]["Name"]
    os.kill(engine.inspect("gone")["State"]["Pid"], signal.SIGKILL)
    wait_for(lambda: engine.api("GET", "/containers/gone/json").status == 404, "it is removed")
    wait_for(lambda: engine.api("GET", f"/volumes/{volume}").status == 404, "its volume is removed")


HEALTH = ("cmd", "interval", "retries", "start-interval", "start-period", "timeout")


@covers(*both(*(f"health-{flag}" for flag in HEALTH), "no-healthcheck"))
def test_health(cli: Cli, engine: Engine, verb: str) -> None:
    probe = "test -e /ok && echo fine"
    flags = ["--health-cmd", probe, "--health-interval", "300ms", "--health-retries", "2"]
    started(cli, verb, "ill", *flags)
    health = lambda name: engine.inspect(name)["State"]["Health"]  # noqa: E731
    wait_for(lambda: health("ill")["Status"] == "unhealthy", "two probes failed")
    assert health("ill")["FailingStreak"] >= 2
    cli("exec", "ill", "touch", "/ok")
    wait_for(lambda: health("ill")["Status"] == "healthy", "a probe went well")
    assert health("ill")["Log"][-1]["Output"] == "fine\n"
    # One that hangs is ended after its time, and in the start period neither counts, though often tried.
    slow = ["--health-cmd", "sleep 100", "--health-timeout", "200ms", "--health-retries", "1"]
    slow += ["--health-start-period", "60s", "--health-start-interval", "200ms", "--health-interval", "50s"]
    started(cli, verb, "slow", *slow)
    wait_for(lambda: len(health("slow")["Log"] or ()) >= 2, "it was tried twice, long before its interval")
    assert "exceeded timeout (200ms)" in health("slow")["Log"][0]["Output"]
    assert health("slow")["Status"] == "starting"
    cli("commit", "-c", 'HEALTHCHECK CMD ["true"]', "ill", "checked")
    shown = cli.out(verb, *(["-d"] if verb == "run" else []), "--no-healthcheck", "checked", "sleep", "600")
    cli("start", shown)
    assert "Health" not in engine.inspect(shown)["State"]
    assert "conflicts with --health-*" in cli(verb, "--no-healthcheck", *flags, "busybox", code=125).err


@covers(*both("log-driver", "log-opt"))
def test_logs_go_where_they_were_sent(cli: Cli, engine: Engine, verb: str) -> None:
    command = ("sh", "-c", "seq 1 2000; sleep 600")
    options = ["--log-opt", "max-size=4k", "--log-opt", "max-file=2"]
    container = started(cli, verb, "rotated", *options, command=command)
    files = lambda: sorted(p.name for p in (engine.data / "containers" / container).glob("*-json.log*"))  # noqa: E731
    wait_for(lambda: cli.out("logs", "-n", "1", "rotated") == "2000", "all is written")
    assert files() == [f"{container}-json.log", f"{container}-json.log.1"]
    container = started(cli, verb, "binary", "--log-driver", "local", command=command)
    wait_for(lambda: cli.out("logs", "-n", "1", "binary") == "2000", "all is written")
    assert files() == []
    started(cli, verb, "silent", "--log-driver", "none", command=command)
    assert "configured logging driver does not support reading" in cli("logs", "silent", code=1).err
    refused = cli(verb, "--log-driver", "nosuch", "busybox", "true", code=None)
    assert refused.code and "nosuch" in refused.err
    refused = cli(verb, "--log-opt", "odd=1", "busybox", "true", code=None)
    assert refused.code and "unknown log opt 'odd' for json-file log driver" in refused.err


@covers(*both("pull", "quiet", "platform", "disable-content-trust"))
def test_where_the_image_comes_from(cli: Cli, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = "127.0.0.1:1/none"
    never = cli(verb, "--pull", "never", absent, "true", code=None)
    assert never.code and f"No such image: {absent}:latest" in never.err
    missing, quiet = cli(verb, absent, "true", code=None), cli(verb, "-q", absent, "true", code=None)
    assert f"Unable to find image '{absent}:latest' locally" in missing.err and "connection refused" in missing.err
    assert "Unable to find image" not in quiet.err and "connection refused" in quiet.err
    always = cli(verb, "--pull", "always", "busybox", "true", code=None)
    assert always.code and "registry-1.docker.io" in always.err  # it is here, and its registry is not to be reached
    assert "invalid pull option: 'often'" in cli(verb, "--pull", "often", "busybox", code=125).err
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    assert shell(cli, verb, "echo here", "--platform", f"linux/{machine}", "--pull", "never").out == "here\n"
    other = cli(verb, "--platform", "linux/s390x", "--pull", "never", "busybox", "true", code=None)
    assert other.code and "busybox" in other.err and "platform" in other.err
    # With trust nothing is taken without its signature, unless that is waived.
    monkeypatch.setitem(cli.env, "DOCKER_CONTENT_TRUST", "1")
    assert cli(verb, "--pull", "never", "busybox", "true", code=None).code
    assert shell(cli, verb, "echo here", "--disable-content-trust", "--pull", "never").out == "here\n"


@covers(*both("runtime"))
def test_the_runtime_is_the_one_named(cli: Cli, engine: Engine, verb: str) -> None:
    started(cli, verb, "own", "--runtime", "rorqual")
    assert engine.inspect("own")["HostConfig"]["Runtime"] == "rorqual"
    refused = cli(verb, "--runtime", "nosuch", "busybox", "true", code=None)
    assert refused.code and "unknown or invalid runtime name: nosuch" in refused.err
