"""A container's life and how the commands show it, with both command lines."""

import json
import re
import time

import pytest
from support.engine import Cli, Engine
from support.processes import at_rest, wait_for

pytestmark = pytest.mark.root


def test_create_start_stop_start_restart_rm(cli: Cli, engine: Engine) -> None:
    container = cli.out(
        "create", "--name", "life", "busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    )
    assert engine.inspect("life")["State"]["Status"] == "created"
    assert cli.out("start", "life") == "life"
    first = engine.inspect("life")["State"]["Pid"]
    cli("stop", "life")
    assert engine.inspect("life")["State"]["Status"] == "exited"
    cli("start", "life")
    cli("restart", "-t", "3", "life")
    state = engine.inspect("life")["State"]
    assert state["Running"] and state["Pid"] != first
    assert "running" in cli("rm", "life", code=1).err
    assert cli.out("rm", "-f", "life") == "life"
    assert engine.api("GET", f"/containers/{container}/json").status == 404


def test_files_written_stay_over_a_restart_and_go_with_the_container(cli: Cli) -> None:
    cli("run", "-d", "--name", "keep", "busybox", "sh", "-c", "echo x >>/count; wc -l </count; sleep 60")
    wait_for(lambda: cli.out("logs", "keep").split() == ["1"], "the first start wrote")
    cli("restart", "-t", "0", "keep")
    wait_for(lambda: cli.out("logs", "keep").split() == ["1", "2"], "the second start sees the first one's file")


def test_stop_kills_after_its_time_is_over(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "stubborn", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    began = time.monotonic()
    cli("stop", "-t", "1", "stubborn")
    assert 0.9 < time.monotonic() - began < 9  # ten seconds are the default
    assert engine.inspect("stubborn")["State"]["ExitCode"] == 137


def test_kill_with_a_signal_that_does_not_end_it(cli: Cli, engine: Engine) -> None:
    cli(
        "run",
        "-d",
        "--name",
        "hup",
        "busybox",
        "sh",
        "-c",
        "trap 'echo got it' HUP; echo up; while :; do sleep 0.1; done",
    )
    wait_for(lambda: "up" in cli.out("logs", "hup"), "the trap is set")
    cli("kill", "-s", "HUP", "hup")
    wait_for(lambda: "got it" in cli.out("logs", "hup"), "the signal arrived")
    assert engine.running("hup")


def test_pause_freezes_and_unpause_goes_on(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "frozen", "busybox", "sh", "-c", "while :; do echo .; sleep 0.05; done")
    cli("pause", "frozen")
    assert engine.inspect("frozen")["State"]["Status"] == "paused"
    before = at_rest(lambda: len(cli("logs", "frozen").out), "nothing more is written")
    time.sleep(0.4)
    assert len(cli("logs", "frozen").out) == before
    assert "is paused" in cli("exec", "frozen", "true", code=1).err
    cli("unpause", "frozen")
    wait_for(lambda: len(cli("logs", "frozen").out) > before, "it goes on")


def test_ps_shows_and_filters(cli: Cli) -> None:
    running = cli.out("run", "-d", "--name", "runs", "--label", "a=1", "-p", "18085:80", "busybox", "sleep", "60")
    cli("run", "--name", "ended", "busybox", "sh", "-c", "exit 3", code=3)
    lines = cli.out("ps").splitlines()
    assert lines[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert len(lines) == 2
    assert re.search(
        rf'^{running[:12]}\s+busybox\s+"sleep 60"\s+.* ago\s+Up .*\s+0\.0\.0\.0:18085->80/tcp.*\s+runs$', lines[1]
    )
    assert "Exited (3)" in cli.out("ps", "-a")
    assert cli.out("ps", "-a", "--filter", "status=exited", "--filter", "exited=3", "--format", "{{.Names}}") == "ended"
    assert cli.out("ps", "-a", "--filter", "name=run", "--format", "{{.Names}}") == "runs"
    assert cli.out("ps", "-l", "--format", "{{.Names}}") == "ended"
    assert cli.out("ps", "--no-trunc", "-q", "--format", "{{.Names}}") == running, "-q wins"


def test_containers_are_found_by_id_prefix_and_name(cli: Cli, engine: Engine) -> None:
    container = cli.out("create", "--name", "findable", "busybox", "true")
    for name in (container, container[:12], container[:7], "findable"):
        assert engine.inspect(name)["Id"] == container
    assert json.loads(cli.out("inspect", "findable"))[0]["Id"] == container
    assert cli.out("inspect", "--format", "{{.Name}} {{.Config.Image}}", "findable") == "/findable busybox"


def test_rename(cli: Cli, engine: Engine) -> None:
    cli("create", "--name", "before", "busybox", "true")
    cli("rename", "before", "after")
    assert engine.inspect("after")["Name"] == "/after"
    assert engine.api("GET", "/containers/before/json").status == 404


def test_names_are_made_up_like_dockers(cli: Cli, engine: Engine) -> None:
    assert re.fullmatch(r"/[a-z]+_[a-z]+", engine.inspect(cli.out("create", "busybox", "true"))["Name"])


def test_wait_answers_when_it_ends(cli: Cli) -> None:
    cli("run", "-d", "--name", "waited", "busybox", "sh", "-c", "sleep 0.5; exit 21")
    assert cli.out("wait", "waited") == "21"
    assert cli.out("wait", "waited") == "21"


def test_top_lists_the_processes(cli: Cli) -> None:
    cli("run", "-d", "--name", "busy", "busybox", "sh", "-c", "sleep 61 & sleep 62")
    assert "PID" in cli.out("top", "busy").splitlines()[0]
    wait_for(lambda: {"sleep 61", "sleep 62"} <= set(re.findall(r"sleep \d+", cli.out("top", "busy"))), "both run")


def test_images_tag_and_rmi(cli: Cli) -> None:
    cli("tag", "busybox", "mine/box:v1")
    assert "mine/box" in cli.out("images", "--format", "{{.Repository}}:{{.Tag}}").replace(":v1", "")
    assert cli.out("rmi", "mine/box:v1") == "Untagged: mine/box:v1"
    assert cli.out("images", "-q", "mine/box") == ""
    assert cli.out("run", "--rm", "busybox", "echo", "still") == "still"


def test_version_and_info_name_the_engine(cli: Cli) -> None:
    version = json.loads(cli.out("version", "--format", "{{json .}}"))
    assert tuple(map(int, version["Server"]["ApiVersion"].split("."))) >= (1, 41)
    assert version["Server"]["MinAPIVersion"] == "1.24"
    info = json.loads(cli.out("info", "--format", "{{json .}}"))
    assert info["OSType"] == "linux"
    assert info["Driver"] in ("overlayfs", "overlay2")
    assert info["CgroupVersion"] in ("1", "2")


def test_events_tell_the_whole_life(cli: Cli) -> None:
    since = str(time.time() - 0.5)
    container = cli.out("run", "-d", "--name", "seen", "busybox", "sh", "-c", "exit 5")
    cli("wait", "seen")
    cli("rm", "seen")
    until = str(time.time() + 0.1)
    out = cli.out(
        "events", "--since", since, "--until", until, "--format", "{{json .}}", "--filter", f"container={container}"
    )
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["Action"] for event in events] == ["create", "start", "die", "destroy"]
    assert events[2]["Actor"]["Attributes"]["exitCode"] == "5"


def test_events_come_as_they_happen(cli: Cli, engine: Engine) -> None:
    with cli.started("events", "--filter", "type=container", "--format", "{{.Action}}") as watcher:
        wait_for(lambda: engine.api("GET", "/info").json["NEventsListener"] == 1, "it listens")
        cli("run", "--rm", "busybox", "true")
        assert watcher.stdout is not None
        seen = [watcher.stdout.readline().strip().decode() for _ in range(5)]
    assert seen == ["create", "attach", "start", "die", "destroy"]


def test_restart_policies(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "again", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 1")
    wait_for(lambda: engine.inspect("again")["State"]["Status"] == "exited", "it was given up", 20)
    assert engine.inspect("again")["RestartCount"] == 2
    assert cli.out("logs", "again").split() == ["try"] * 3
    cli("run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "100")
    engine.kill("shim", engine.inspect("always")["Id"])
    wait_for(lambda: engine.running("always") and engine.inspect("always")["RestartCount"] == 1, "it was started again")
    cli("stop", "-t", "0", "always")
    time.sleep(0.5)
    assert not engine.running("always")


def test_the_long_spellings_are_the_same_commands(cli: Cli) -> None:
    container = cli.out("container", "run", "-d", "busybox", "sleep", "60")
    assert cli.out("container", "ls", "-q", "--no-trunc") == container
    assert "busybox" in cli.out("image", "ls")
    assert cli.out("container", "rm", "-f", container) == container
    assert "Server" in cli.out("system", "info")


def test_copies_of_one_engine_live_side_by_side(cli: Cli, engine: Engine) -> None:
    with Engine() as other:
        other.rorqual("run", "-d", "--name", "same", "busybox", "sleep", "60")
        cli("run", "-d", "--name", "same", "busybox", "sleep", "60")
        assert other.inspect("same")["Id"] != engine.inspect("same")["Id"]
