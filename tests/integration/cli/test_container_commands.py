"""Every `container` command but run, create, start, attach and exec: what each of its flags does."""

import io
import json
import os
import re
import tarfile
import time
from pathlib import Path

import pytest
from support.covers import covers
from support.engine import Cli, Engine
from support.processes import at_rest, wait_for
from support.verbs import started

pytestmark = pytest.mark.root


def names(cli: Cli, *flags: str) -> list[str]:
    return cli.out("ps", "--format", "{{.Names}}", *flags).split()


@covers("ps", *(f"ps --{flag}" for flag in ("all", "filter", "format", "last", "latest", "no-trunc", "quiet", "size")))
def test_ps(cli: Cli, engine: Engine) -> None:
    container = started(cli, "run", "runs", "-l", "a=1", "-v", "kept:/v", "--health-cmd", "true")
    cli("run", "--name", "ended", "busybox", "sh", "-c", "head -c 3000000 /dev/zero >/big; exit 3", code=3)
    cli("create", "--name", "made", "--label", "b", "busybox", "true")
    started(cli, "run", "stuck")
    cli("pause", "stuck")
    assert names(cli) == ["stuck", "runs"]
    assert names(cli, "-a") == ["stuck", "made", "ended", "runs"]
    assert names(cli, "-n", "2") == ["stuck", "made"] and names(cli, "--latest") == ["stuck"]
    assert cli.out("ps", "-q").split()[-1] == container[:12]
    assert cli.out("ps", "-q", "--no-trunc").split()[-1] == container
    assert "(virtual" not in cli.out("ps", "-a")
    sizes = dict(line.split(" ", 1) for line in cli.out("ps", "-as", "--format", "{{.Names}} {{.Size}}").splitlines())
    assert re.match(r"3(\.\d+)?MB \(virtual ", sizes["ended"]) and not re.match(r"\S*MB", sizes["made"])
    everyone = ["stuck", "made", "ended", "runs"]
    chosen = {
        "status=exited": ["ended"], "exited=3": ["ended"], "status=paused": ["stuck"], "status=created": ["made"],
        "label=a": ["runs"], "label=a=1": ["runs"], "label=b=2": [], "name=^run": ["runs"], "name=u": ["stuck", "runs"],
        f"id={container[:9]}": ["runs"], "volume=kept": ["runs"], "volume=/v": ["runs"], "before=ended": ["runs"],
        "since=made": ["stuck"], "ancestor=busybox": everyone, "ancestor=nosuch": [], "network=none": [],
        "health=none": everyone[:3], "publish=80": [], "expose=80": [], "is-task=true": [],
        "isolation=default": everyone,
    }  # fmt: skip
    assert {given: names(cli, "-a", "--filter", given) for given in chosen} == chosen
    assert names(cli, "-a", "--filter", "status=exited", "--filter", "status=created") == ["made", "ended"]
    assert json.loads(cli.out("ps", "--format", "json", "--filter", "name=runs"))["Names"] == "runs"
    for wrong, text in (("odd=1", "invalid filter 'odd'"), ("status=odd", "invalid filter 'status=odd'")):
        assert text in cli("ps", "--filter", wrong, code=1).err
    cli("rm", "-f", "runs")
    cli("volume", "rm", "kept")


@covers("commit", *(f"commit --{flag}" for flag in ("author", "change", "message", "pause")))
def test_commit(cli: Cli, engine: Engine) -> None:
    started(cli, "run", "source")
    cli("exec", "source", "sh", "-c", "echo made >/f")
    since = time.time()
    flags = ("-a", "A <a@b>", "-m", "why", "-c", 'CMD ["cat", "/f"]', "--change", "ENV X=1")
    id = cli.out("commit", *flags, "source", "mine:v1")
    assert cli.out("run", "--rm", "mine:v1") == "made"
    shown = json.loads(cli.out("image", "inspect", "mine:v1"))[0]
    assert (shown["Id"], shown["Author"], shown["Comment"]) == (id, "A <a@b>", "why")
    assert "X=1" in shown["Config"]["Env"]
    cli("commit", "--pause=false", "source")
    span = ("--since", f"{since:.6f}", "--until", f"{time.time():.6f}")
    paused = cli.out("events", *span, "--filter", "event=pause", "-f", "container=source")
    assert len(paused.splitlines()) == 1  # by the first alone


@covers("cp", "cp --archive", "cp --follow-link", "cp --quiet")
def test_cp(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    started(cli, "run", "box")
    (tmp_path / "f").write_text("in\n")
    (tmp_path / "link").symlink_to("f")
    result = cli("cp", "-q", str(tmp_path / "f"), "box:/tmp/f")
    assert (result.out, result.err) == ("", "") and cli.out("exec", "box", "cat", "/tmp/f") == "in"
    cli("cp", str(tmp_path / "link"), "box:/tmp/link")
    cli("cp", "-L", str(tmp_path / "link"), "box:/tmp/followed")
    assert cli.out("exec", "box", "readlink", "/tmp/link") == "f"
    assert cli("exec", "box", "readlink", "/tmp/followed", code=1).out == ""
    cli("exec", "box", "sh", "-c", "mkdir /out; echo o >/out/o; chown -R 1000:29 /out; ln -s o /out/l")
    cli("cp", "box:/out/o", str(tmp_path / "plain"))
    cli("cp", "-a", "box:/out/o", str(tmp_path / "kept"))
    assert (tmp_path / "plain").read_text() == (tmp_path / "kept").read_text() == "o\n"
    # The manual's words, which the stock command line of this age does not keep outwards.
    owners = [(tmp_path / name).stat().st_uid for name in ("plain", "kept")]
    assert owners == [0, 1000 if cli.name == "rorqual" else 0]
    started(cli, "run", "alice", "-u", "alice")
    os.chown(tmp_path / "f", 4321, 4321)
    cli("cp", str(tmp_path / "f"), "alice:/tmp/plain")
    cli("cp", "-a", str(tmp_path / "f"), "alice:/tmp/kept")
    assert cli.out("exec", "alice", "stat", "-c", "%u", "/tmp/plain", "/tmp/kept").split() == ["4321", "1000"]
    cli("cp", "-L", "box:/out/l", str(tmp_path / "l"))
    assert not (tmp_path / "l").is_symlink() and (tmp_path / "l").read_text() == "o\n"
    packed = cli("cp", "box:/out", "-").out
    assert "out/o" in packed
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("from-tar")
        entry.size = 2
        tar.addfile(entry, io.BytesIO(b"t\n"))
    cli("cp", "-", "box:/tmp", stdin=archive.getvalue())
    assert cli.out("exec", "box", "cat", "/tmp/from-tar") == "t"
    for words, text in (
        (("box:/nosuch", str(tmp_path)), "Could not find the file /nosuch in container box"),
        ((str(tmp_path / "nosuch"), "box:/tmp"), "no such file or directory"),
        (("a", "b"), "must specify at least one container source"),
        (("box:/a", "box:/b"), "copying between containers is not supported"),
        (("nosuch:/a", "-"), "No such container: nosuch"),
    ):
        assert text in cli("cp", *words, code=1).err


@covers("diff", "export", "export --output")
def test_diff_and_export(cli: Cli, tmp_path: Path) -> None:
    cli("run", "--name", "changed", "busybox", "sh", "-c", "echo a >/added; rm /etc/passwd; mkdir /d")
    assert {"A /added", "C /etc", "D /etc/passwd", "A /d"} <= set(cli.out("diff", "changed").splitlines())
    cli("export", "-o", str(tmp_path / "whole.tar"), "changed")
    with tarfile.open(tmp_path / "whole.tar") as tar:
        found = set(tar.getnames())
    assert "added" in found and "bin/busybox" in found and "etc/passwd" not in found
    assert "No such container: nosuch" in cli("export", "nosuch", code=1).err
    assert "No such container: nosuch" in cli("diff", "nosuch", code=1).err


@covers(
    "inspect", "container inspect", *(f"inspect --{flag}" for flag in ("format", "size", "type")),
    "container inspect --format", "container inspect --size",
)  # fmt: skip
def test_inspect(cli: Cli) -> None:
    container = cli.out("create", "--name", "busybox", "busybox", "true")
    image = cli.out("images", "-q", "--no-trunc", "busybox")
    assert cli.out("inspect", "-f", "{{.Id}}", "busybox") == container  # of one name, the container
    assert cli.out("inspect", "--type", "image", "-f", "{{.Id}}", "busybox") == image
    for words in (("inspect",), ("container", "inspect")):
        (plain,), (sized,) = (json.loads(cli.out(*words, *flags, "busybox")) for flags in ((), ("--size",)))
        assert "SizeRootFs" not in plain and sized["SizeRootFs"] > 0 and sized["SizeRw"] >= 0
        assert cli.out(*words, "--format", "{{.Name}} {{.Config.Cmd}}", "busybox") == "/busybox [true]"
    result = cli("container", "inspect", "nosuch", "busybox", code=1)
    assert json.loads(result.out)[0]["Id"] == container and "No such container: nosuch" in result.err
    assert "No such object: nosuch" in cli("inspect", "nosuch", code=1).err
    assert "get busybox: no such volume" in cli("inspect", "--type", "volume", "busybox", code=1).err


TRAPS = ("sh", "-c", "trap 'echo usr1' USR1; trap 'exit 9' USR2; echo up; while :; do sleep 0.1; done")


@covers(
    "kill",
    "kill --signal",
    *(f"{verb}{flag}" for verb in ("stop", "restart") for flag in ("", " --signal", " --timeout")),
)
def test_signals_and_times(cli: Cli, engine: Engine) -> None:
    for name in ("one", "two"):
        started(cli, "run", name, command=TRAPS)
    up = lambda name, n=1: wait_for(lambda: cli.out("logs", name).split().count("up") == n, "the traps are set")  # noqa: E731
    code = lambda name: engine.inspect(name)["State"]["ExitCode"]  # noqa: E731
    up("one"), up("two")
    cli("kill", "-s", "USR1", "one")
    wait_for(lambda: "usr1" in cli.out("logs", "one"), "the signal arrived")
    assert engine.running("one")
    assert cli.out("kill", "one", "two").split() == ["one", "two"]
    wait_for(lambda: code("one") == 137 == code("two"), "SIGKILL is the default")
    assert "is not running" in cli("kill", "one", code=1).err
    cli("start", "one")
    up("one", 2)
    cli("stop", "-s", "SIGUSR2", "one")
    assert code("one") == 9
    cli("start", "one")
    up("one", 3)
    began = time.monotonic()
    assert cli.out("stop", "-t", "1", "one") == "one"
    assert 0.9 < time.monotonic() - began < 9 and code("one") == 137
    since = time.time()
    cli("start", "one")
    up("one", 4)
    began = time.monotonic()
    cli("restart", "-s", "USR2", "-t", "30", "one")
    assert time.monotonic() - began < 20 and engine.running("one")
    died = ("events", "--since", f"{since:.6f}", "--until", f"{time.time():.6f}", "--filter", "event=die")
    assert cli.out(*died, "--format", "{{.Actor.Attributes.exitCode}}") == "9"
    up("one", 5)
    began = time.monotonic()
    cli("restart", "-t", "0", "one")
    assert time.monotonic() - began < 8 and engine.running("one")
    assert "invalid signal" in cli("kill", "-s", "NOSUCH", "one", code=1).err.lower()


@covers("logs", *(f"logs --{flag}" for flag in ("details", "follow", "since", "tail", "timestamps", "until")))
def test_logs(cli: Cli) -> None:
    script = "echo 1; echo err >&2; sleep 1.2; echo 2; sleep 1.2; echo 3"
    flags = ("--log-opt", "labels=tier", "--log-opt", "env=K", "-l", "tier=front", "-e", "K=v")
    cli("run", "-d", "--name", "box", *flags, "busybox", "sh", "-c", script)
    began = time.monotonic()
    result = cli("logs", "-f", "box")
    assert (result.out.split(), result.err) == (["1", "2", "3"], "err\n") and time.monotonic() - began < 20
    assert cli.out("logs", "-n", "1", "box") == "3" and cli.out("logs", "--tail", "0", "box") == ""
    lines = cli.out("logs", "-t", "box").splitlines()
    times = [line.split()[0] for line in lines]
    assert [line.split()[1] for line in lines] == ["1", "2", "3"] and times == sorted(times)
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", moment) for moment in times)
    assert cli.out("logs", "--since", times[1], "box").split() == ["2", "3"]
    assert cli.out("logs", "--until", times[1], "box").split() == ["1", "2"]
    assert cli.out("logs", "--since", "1h", "box").split() == ["1", "2", "3"]
    assert cli.out("logs", "--until", "1h", "box") == ""
    assert cli.out("logs", "--details", "-n", "1", "box") == "K=v,tier=front 3"
    assert "No such container: nosuch" in cli("logs", "nosuch", code=1).err


@covers("pause", "unpause", "rename", "top", "wait")
def test_pause_rename_top_and_wait(cli: Cli, engine: Engine) -> None:
    ticks = ("sh", "-c", "while :; do echo .; sleep 0.05; done")
    started(cli, "run", "ticks", command=ticks)
    assert cli.out("pause", "ticks") == "ticks"
    before = at_rest(lambda: len(cli("logs", "ticks").out), "nothing more is written")
    time.sleep(0.4)
    assert len(cli("logs", "ticks").out) == before and "is already paused" in cli("pause", "ticks", code=1).err
    cli("unpause", "ticks")
    wait_for(lambda: len(cli("logs", "ticks").out) > before, "it goes on")
    assert "is not paused" in cli("unpause", "ticks", code=1).err
    cli("rename", "ticks", "tocks")
    assert engine.api("GET", "/containers/ticks/json").status == 404 and engine.running("tocks")
    pid = str(engine.inspect("tocks")["State"]["Pid"])
    assert cli.out("top", "tocks").splitlines()[0].split()[:2] == ["UID", "PID"]
    shown = cli.out("top", "tocks", "-eo", "pid,args").splitlines()
    assert shown[0].split() == ["PID", "COMMAND"] and any(line.split()[0] == pid for line in shown[1:])
    with cli.started("wait", "tocks") as waiting:
        time.sleep(0.5)
        assert waiting.poll() is None
        cli("kill", "tocks")
        assert waiting.communicate(timeout=15)[0] == b"137\n"


@covers("rm", "rm --force", "rm --link", "rm --volumes", "container prune", "container prune --filter", "container prune --force")  # fmt: skip # noqa: E501
def test_removing(cli: Cli, engine: Engine) -> None:
    started(cli, "run", "runs", "-v", "/anonymous")
    volume = engine.inspect("runs")["Mounts"][0]["Name"]
    assert "container is running" in cli("rm", "runs", code=1).err.replace(
        "cannot remove a running container", "container is running"
    )
    assert cli.out("rm", "-f", "runs") == "runs"
    assert engine.api("GET", f"/volumes/{volume}").status == 200
    cli("volume", "rm", volume)
    started(cli, "run", "again", "-v", "/anonymous", "-v", "named:/n")
    volume = next(m["Name"] for m in engine.inspect("again")["Mounts"] if m["Destination"] == "/anonymous")
    cli("rm", "-f", "-v", "again")
    assert engine.api("GET", f"/volumes/{volume}").status == 404 and engine.api("GET", "/volumes/named").status == 200
    cli("volume", "rm", "named")
    started(cli, "run", "server")
    started(cli, "run", "client", "--link", "server:db")
    assert "db" in cli.out("exec", "client", "cat", "/etc/hosts")
    cli("rm", "--link", "client/db")
    assert engine.running("server") and not engine.inspect("client")["HostConfig"]["Links"]
    cli("rm", "-f", "server", "client")
    cli("create", "--name", "kept", "-l", "keep", "busybox")
    cli("create", "--name", "other", "busybox")
    assert cli("container", "prune", stdin=b"n\n", code=None).out.count("Deleted") == 0
    assert names(cli, "-a") == ["other", "kept"]
    cli("container", "prune", "--force", "--filter", "label!=keep")
    assert names(cli, "-a") == ["kept"]
    cli("container", "prune", "-f", "--filter", "until=1h")
    assert names(cli, "-a") == ["kept"]
    assert "Total reclaimed space:" in cli("container", "prune", stdin=b"y\n").out and names(cli, "-a") == []


@covers("stats", *(f"stats --{flag}" for flag in ("all", "format", "no-stream", "no-trunc")))
def test_stats(cli: Cli) -> None:
    container = started(cli, "run", "busy", "-m", "64m")
    cli("create", "--name", "idle", "busybox")
    lines = cli.out("stats", "--no-stream").splitlines()
    assert lines[0].split()[:2] == ["CONTAINER", "ID"] and len(lines) == 2
    assert lines[1].split()[:2] == [container[:12], "busy"] and "/ 64MiB" in lines[1]
    assert container in cli.out("stats", "--no-stream", "--no-trunc")
    both = cli.out("stats", "-a", "--no-stream", "--format", "{{.Name}} {{.PIDs}}").splitlines()
    assert sorted(both) == ["busy 1", "idle 0"]
    assert json.loads(cli.out("stats", "--no-stream", "--format", "json", "busy"))["Name"] == "busy"
    with cli.started("stats", "--format", "{{.Name}}", "busy") as watcher:
        assert watcher.stdout is not None
        assert sum(b"busy" in watcher.stdout.readline() for _ in range(3)) >= 2  # it goes on
    cli("rm", "-f", "busy")
    assert "No such container: nosuch" in cli("stats", "--no-stream", "nosuch", code=1).err
