"""The distribution's docker-compose, 1.29 through docker-py on Debian 12 and Ubuntu 24.04: a project's whole life.

Dockers since 25 fail it when a container is made anew, for want of a field that they no longer have.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import Engine
from support.processes import wait_for


def version() -> str:
    if not shutil.which("docker-compose"):
        return ""
    return subprocess.run(["docker-compose", "version", "--short"], capture_output=True, text=True).stdout


pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not version().startswith("1."), reason="docker-compose 1 is not installed"),
]

PROJECT = """
version: "3.8"
services:
  web:
    build: {context: ./web, args: {V: "2"}}
    image: project/web
    command: sh -c 'test -e /kept/f && echo found; echo $$GREETING > /kept/f; exec httpd -f -p 8000 -h /srv'
    ports: ["8000"]
    environment: {GREETING: hello}
    depends_on: [db]
    healthcheck: {test: ["CMD", "wget", "-q", "-O", "-", "http://127.0.0.1:8000/v"], interval: 1s}
    networks: {front: {aliases: [site]}, back: {}}
    volumes: ["data:/data", "./web:/src:ro"]
  db:
    image: busybox
    command: sh -c 'trap "echo bye; exit 0" TERM; echo ready; while :; do sleep 0.1; done'
    networks: [back]
    restart: unless-stopped
networks: {front: {}, back: {internal: true}}
volumes: {data: {}}
"""
DOCKERFILE = "FROM busybox\nARG V=1\nRUN mkdir /srv /kept && echo $V > /srv/v\nVOLUME /kept\n"


class Project:
    def __init__(self, engine: Engine, directory: Path) -> None:
        (directory / "web").mkdir()
        (directory / "web/Dockerfile").write_text(DOCKERFILE)
        (directory / "docker-compose.yml").write_text(PROJECT)
        self._directory = directory
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "DOCKER_HOST": engine.host}

    def __call__(self, *args: str, code: int = 0) -> str:
        done = subprocess.run(
            ["docker-compose", "-p", "it", *args],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def compose(engine: Engine, tmp_path: Path) -> Iterator[Project]:
    project = Project(engine, tmp_path)
    yield project
    project("down", "-v", "-t", "1", "--rmi", "local")
    engine.docker("rmi", "-f", "project/web", code=None)
    assert engine.docker.out("volume", "ls", "-q", "-f", "name=it_") == engine.docker.out("ps", "-aq") == ""


def test_a_project_of_docker_compose(compose: Project, engine: Engine) -> None:
    compose("up", "-d")
    web = compose("ps", "-q", "web").strip()
    wait_for(lambda: engine.inspect(web)["State"]["Health"]["Status"] == "healthy", "it is healthy", 20)
    assert compose("exec", "-T", "web", "cat", "/srv/v", "/kept/f", "/src/Dockerfile") == f"2\nhello\n{DOCKERFILE}"
    assert compose("exec", "-T", "web", "sh", "-c", "wget -qO- site:8000/v && ping -c 1 -W 5 db >/dev/null") == "2\n"
    assert compose("run", "--rm", "-T", "web", "echo", "once").strip() == "once"
    assert compose("port", "web", "8000").startswith("0.0.0.0:")

    compose("up", "-d", "--force-recreate", "-t", "1")
    again = compose("ps", "-q", "web").strip()
    assert again != web
    wait_for(lambda: "found" in compose("logs", "--no-color", "web"), "the volume went over to the new one")

    compose("up", "-d", "--scale", "db=3")
    assert len(compose("ps", "-q", "db").split()) == 3 and compose("ps", "-q", "web").strip() == again
    compose("restart", "-t", "5", "db")
    wait_for(lambda: compose("logs", "--no-color", "db").count("ready") >= 5, "all run again")
    compose("stop", "-t", "5")
    assert [c["State"] for c in engine.api("GET", "/containers/json?all=1").json] == ["exited"] * 4
    compose("start")
    assert len(engine.api("GET", "/containers/json").json) == 4
