"""POST /commit: a container's changes as an image, and nothing else."""

import json
import os
import time

import pytest
from support.engine import Engine

pytestmark = pytest.mark.root


def inspect(engine: Engine, name: str) -> dict:  # type: ignore[type-arg]
    return json.loads(engine.docker.out("image", "inspect", name))[0]


def test_changes_become_a_layer_that_runs(engine: Engine) -> None:
    docker = engine.docker
    script = (
        "echo hi >/x; rm /etc/passwd; rm -r /usr; mkdir /usr; touch /usr/own; chmod 4755 /bin/busybox;"
        "mkfifo /p; ln /x /y; truncate -s 5M /holes; touch -d @-100 /x"
    )
    docker("run", "--name", "changed", "busybox", "sh", "-c", script)
    id = docker.out("commit", "-a", "me <a@b>", "-m", "note", "-c", "CMD ls -l /y", "changed", "made:1")
    check = "stat -c '%n %Y %h %b %s %a' /x /holes /bin/busybox; ls /usr; cat /y; [ -p /p ] && [ ! -e /etc/passwd ]"
    lines = docker.out("run", "--rm", "made:1", "sh", "-c", check).splitlines()
    assert lines[0] == "/x -100 2 8 3 644"
    assert lines[1].startswith("/holes ") and lines[1].split()[3:5] == ["0", "5242880"]
    assert lines[2].endswith(" 4755")
    assert lines[3:] == ["own", "hi"]
    made = inspect(engine, "made:1")
    assert (made["Id"], made["Author"], made["Comment"]) == (id, "me <a@b>", "note")
    assert made["Config"]["Cmd"] == ["/bin/sh", "-c", "ls -l /y"]
    history = docker.out("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:1").splitlines()
    assert history[0] == f"sh -c {script}|note"
    assert len(history) == 2
    docker("rm", "changed")
    docker("rmi", "made:1")


def test_a_container_without_changes_adds_no_layer(engine: Engine) -> None:
    docker = engine.docker
    docker("run", "--name", "same", "busybox", "true")
    docker("commit", "same", "same:1")
    assert inspect(engine, "same:1")["RootFS"] == inspect(engine, "busybox")["RootFS"]
    docker("rm", "same")
    docker("rmi", "same:1")


def test_no_config_is_null_for_old_clients(engine: Engine) -> None:
    engine.docker("run", "--name", "one", "busybox", "touch", "/x")
    answer = engine.api("POST", "/commit?container=one&repo=old", b"null")
    assert answer.status == 201, answer
    assert inspect(engine, "old")["Config"]["Cmd"] == ["touch", "/x"]
    engine.docker("rm", "one")
    engine.docker("rmi", "old")


def test_the_same_changes_make_the_same_layer(engine: Engine) -> None:
    docker = engine.docker
    layers = []
    for name in ("one", "two"):
        docker("run", "--name", name, "busybox", "sh", "-c", "touch -d @1000000 /f; touch -d @1000000 /")
        docker("commit", name, f"{name}:1")
        layers.append(inspect(engine, f"{name}:1")["RootFS"]["Layers"])
        docker("rm", name)
    assert layers[0] == layers[1]
    docker("rmi", "one:1", "two:1")


def test_a_running_container_is_paused_meanwhile_and_goes_on(engine: Engine) -> None:
    docker = engine.docker
    docker("run", "-d", "--name", "busy", "busybox", "sh", "-c", "while :; do date >/tick; done")
    docker("commit", "busy", "paused:1")
    docker("commit", "--pause=false", "busy", "unpaused:1")
    assert docker.out("inspect", "-f", "{{.State.Status}}", "busy") == "running"
    docker("rm", "-f", "busy")
    said = docker.out(
        "events",
        "--since",
        "1",
        "--until",
        f"{time.time():.3f}",
        "--filter",
        "container=busy",
        "--format",
        "{{.Action}}",
    )
    actions = [action for action in said.splitlines() if action in ("pause", "unpause", "commit")]
    assert actions == ["pause", "unpause", "commit", "commit"]
    docker("rmi", "paused:1", "unpaused:1")


def test_what_cannot_be_committed_is_told_as_docker_does(engine: Engine) -> None:
    docker = engine.docker
    docker("create", "--name", "idle", "busybox", "true")
    for arguments, text in (
        (["missing"], "No such container: missing"),
        (["idle", "UPPER"], "must be lowercase"),
        (["idle", "x@sha256:" + "a" * 64], "refusing to create a tag with a digest reference"),
        (["idle", "sha256:tag"], "refusing to create an ambiguous tag using digest algorithm as name"),
        (["-c", "RUN x", "idle"], "RUN is not a valid change command"),
    ):
        failed = docker("commit", *arguments, code=1)
        assert text in failed.err, failed
    failed = docker("tag", "busybox", "sha256:tag", code=1)
    assert "refusing to create an ambiguous tag using digest algorithm as name" in failed.err
    docker("rm", "idle")


def test_volumes_and_mount_points_stay_out_of_the_image(engine: Engine, tmp_path: os.PathLike) -> None:  # type: ignore[type-arg]
    docker = engine.docker
    docker("run", "--name", "vol", "-v", "/data", "busybox", "sh", "-c", "echo secret >/data/f; echo x >/etc/extra")
    docker("commit", "vol", "vol:1")
    assert docker.out("run", "--rm", "vol:1", "ls", "/data") == ""
    assert inspect(engine, "vol:1")["Config"]["Volumes"] == {"/data": {}}
    docker("rm", "-v", "vol")
    docker("rmi", "vol:1")
