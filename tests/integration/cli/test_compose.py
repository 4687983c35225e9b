"""`rorqual compose`, and the same as the stock command line's plugin `docker compose`."""

import json
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.engine import Cli, Engine, Result, command
from support.processes import wait_for
from support.terminal import Terminal

pytestmark = pytest.mark.root


class Compose:
    """Compose commands on the file compose.yaml of a directory."""

    def __init__(self, cli: Cli, directory: Path) -> None:
        self.cli = cli
        self.directory = directory
        self.argv = ("compose", "--project-directory", str(directory))

    def file(self, text: str, name: str = "compose.yaml") -> None:
        (self.directory / name).write_text(text)

    def __call__(self, *args: str, **options: Any) -> Result:
        return self.cli(*self.argv, *args, **options)

    def out(self, *args: str, **options: Any) -> str:
        return self(*args, **options).out.removesuffix("\n")

    def started(self, *args: str, **options: Any) -> Any:
        return self.cli.started(*self.argv, *args, **options)

    def rows(self, *args: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out("ps", "-a", "--format", "json", *args).splitlines()]

    def ids(self, *services: str) -> list[str]:
        return self.out("ps", "-a", "-q", *services).split()


@pytest.fixture
def project(engine: Engine, tmp_path: Path) -> Iterator[Compose]:
    directory = tmp_path / "it"
    directory.mkdir()
    compose = Compose(engine.rorqual, directory)
    yield compose
    if (directory / "compose.yaml").exists():
        compose("down", "-v", "-t", "1", "--rmi", "local", "--remove-orphans", code=None)


@pytest.fixture(params=["rorqual", "docker"])
def both(request: pytest.FixtureRequest, engine: Engine, project: Compose) -> Iterator[Compose]:
    """By either command line; the stock one has ours as its plugin."""
    if request.param == "rorqual":
        yield project
        return
    plugins = engine.root / "client/cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / "docker-compose").symlink_to(command("rorqual"))
    yield Compose(engine.docker, project.directory)
    (plugins / "docker-compose").unlink()


LONG = "{image: busybox, command: sleep 600, init: true}"
STACK = """
services:
  web:
    build: {context: ./web, args: {V: "2"}}
    command: sh -c 'test -e /kept/f && echo found; echo $$GREETING > /kept/f; exec httpd -f -p 8000 -h /srv'
    ports: ["8000"]
    environment: {GREETING: "${GREETING:-hello}"}
    depends_on: {db: {condition: service_healthy}}
    networks: {front: {aliases: [site]}, back: }
    volumes: ["data:/data", "./web:/src:ro"]
    init: true
  db:
    image: busybox
    command: sh -c 'echo ready; touch /ok; exec sleep 1000'
    init: true
    healthcheck: {test: ["CMD", "test", "-e", "/ok"], interval: 300ms, start_period: 10s, start_interval: 100ms}
    networks: [back]
networks: {front: , back: {internal: true}}
volumes: {data: }
"""
DOCKERFILE = "FROM busybox\nARG V=1\nRUN mkdir /srv /kept && echo $V > /srv/v\nVOLUME /kept\n"


def stack(compose: Compose) -> None:
    (compose.directory / "web").mkdir()
    (compose.directory / "web/Dockerfile").write_text(DOCKERFILE)
    compose.file(STACK)


def test_a_project_from_up_to_down(both: Compose, engine: Engine) -> None:
    stack(both)
    made = both("up", "-d")
    assert " Network it_back  Created" in made.err and " Container it-web-1  Started" in made.err
    assert made.err.index("it-db-1  Healthy") < made.err.index("it-web-1  Starting")
    assert {row["Service"]: (row["Name"], row["State"]) for row in both.rows()} == {
        "db": ("it-db-1", "running"),
        "web": ("it-web-1", "running"),
    }
    assert (
        both.out("exec", "-T", "web", "cat", "/srv/v", "/kept/f", "/src/Dockerfile")
        == f"2\nhello\n{DOCKERFILE}".strip()
    )
    assert both.out("exec", "-T", "web", "sh", "-c", "wget -qO- site:8000/v && ping -c 1 -W 5 db >/dev/null") == "2"
    assert re.fullmatch(r"0\.0\.0\.0:\d+", both.out("port", "web", "8000"))
    assert both.out("logs", "db") == "db-1  | ready"
    web, db = both.ids("web"), both.ids("db")

    again = both("up", "-d")  # nothing to do
    assert "Recreate" not in again.err and both.ids("web") == web
    both.cli.env["GREETING"] = "hi"
    both("up", "-d", "-t", "1")  # of the two only what changed, and its anonymous volume goes over
    del both.cli.env["GREETING"]
    assert both.ids("web") != web and both.ids("db") == db
    wait_for(lambda: both.out("exec", "-T", "web", "cat", "/kept/f") == "hi", "the new one runs")
    assert "found" in both.out("logs", "web")

    assert [row["Name"] for row in json.loads(both.out("ls", "--format", "json"))] == ["it"]
    assert both.out("config", "--services").split() == ["db", "web"]
    assert both.out("images", "-q")
    assert "httpd" in both.out("top", "web")
    both("stop", "-t", "5")
    assert {row["State"] for row in both.rows()} == {"exited"}
    both("start")
    assert {row["State"] for row in both.rows()} == {"running"}
    both("restart", "-t", "1", "db")
    both("pause", "web")
    assert [row["State"] for row in both.rows("web")] == ["paused"]
    both("unpause", "web")
    both("kill", "web")
    wait_for(lambda: [row["State"] for row in both.rows("web")] == ["exited"], "it is dead")
    both("rm", "-f", "-v")
    assert not both.rows("web")
    done = both("down", "-v", "-t", "1", "--rmi", "local")
    assert " Volume it_data  Removed" in done.err and " Image it-web  Removed" in done.err
    assert engine.docker.out("ps", "-aq") == "" and engine.docker.out("volume", "ls", "-q") == ""
    assert engine.docker.out("network", "ls", "-q", "-f", "name=it_") == ""


def test_more_and_fewer_containers(project: Compose) -> None:
    project.file(
        "services: {a: {image: busybox, command: sleep 600, init: true, scale: 2}, b: {image: busybox, command: ls}}"
    )
    project("up", "-d")
    assert [row["Name"] for row in project.rows("a")] == ["it-a-1", "it-a-2"]
    first = project.ids("a")
    project("up", "-d", "--scale", "a=4")
    assert set(first) < set(project.ids("a")) and len(project.ids("a")) == 4
    project("scale", "a=1")
    assert [row["Name"] for row in project.rows("a")] == ["it-a-1"]
    project("up", "-d", "--scale", "a=0")
    assert not project.rows("a")
    assert "invalid scale specifier" in project("up", "-d", "--scale", "a=x", code=1).err
    assert "no such service: none" in project("up", "-d", "none", code=1).err


def test_orphans(project: Compose) -> None:
    project.file("services: {a: {image: busybox, command: sleep 600}, b: {image: busybox, command: sleep 600}}")
    project("up", "-d")
    project.file("services: {a: {image: busybox, command: sleep 600}}")
    assert "Found orphan containers ([it-b-1])" in project("up", "-d").err
    assert "Container it-b-1  Removed" in project("up", "-d", "-t", "1", "--remove-orphans").err
    assert [row["Service"] for row in project.rows()] == ["a"]


def test_secrets_and_configs(project: Compose) -> None:
    (project.directory / "pw").write_text("from file")
    project.file("""
services:
  a:
    image: busybox
    init: true
    command: sleep 600
    secrets: [pw, {source: env, target: env2, mode: 0400, uid: "5"}]
    configs: [{source: inline, target: /etc/inline}]
secrets: {pw: {file: ./pw}, env: {environment: SECRET}}
configs: {inline: {content: "hello ${WHO:-world}"}}
""")
    assert 'environment variable "SECRET" required by secret "env" is not set' in project("up", "-d", code=1).err
    project.cli.env["SECRET"] = "s3"
    try:
        project("up", "-d")
    finally:
        del project.cli.env["SECRET"]
    shown = project.out(
        "exec",
        "-T",
        "a",
        "sh",
        "-c",
        "cat /run/secrets/pw /run/secrets/env2 /etc/inline; stat -c %u:%a /run/secrets/env2",
    )
    assert shown == "from files3hello world5:400"


def test_a_dependency_that_fails_ends_the_start_of_what_needs_it(project: Compose) -> None:
    project.file("""
services:
  bad: {image: busybox, command: 'false'}
  sick: {image: busybox, command: sleep 600, init: true, healthcheck: {test: "false", interval: 100ms, retries: 1}}
  a: {image: busybox, command: 'true', depends_on: {bad: {condition: service_completed_successfully}}}
  b: {image: busybox, command: 'true', depends_on: {sick: {condition: service_healthy}}}
  c: {image: busybox, command: 'true', depends_on: {bad: {condition: service_completed_successfully, required: false}}}
  d: {image: busybox, command: 'true', depends_on: {c: {condition: service_healthy}}}
""")
    assert (
        "dependency failed to start: container it-bad-1 didn't complete successfully: exit 1"
        in project("up", "-d", "a", code=1).err
    )
    assert "dependency failed to start: container it-sick-1 is unhealthy" in project("up", "-d", "b", code=1).err
    assert "optional dependency bad failed to start" in project("up", "-d", "c").err
    assert re.search(
        r"container it-c-1 (has no healthcheck configured|exited \(0\))", project("up", "-d", "d", code=1).err
    )
    assert [row["State"] for row in project.rows("a")] == ["created"]


def test_hooks(project: Compose) -> None:
    project.file("""
services:
  a:
    image: busybox
    command: sleep 600
    init: true
    volumes: ["./:/out"]
    post_start: [{command: sh -c 'echo up $$X > /out/hook', environment: {X: "1"}}]
    pre_stop: [{command: sh -c 'echo down >> /out/hook'}]
  bad: {image: busybox, command: sleep 600, init: true, post_start: [{command: sh -c 'echo why; exit 4'}]}
""")
    project("up", "-d", "a")
    assert (project.directory / "hook").read_text() == "up 1\n"
    project("stop", "a")
    assert (project.directory / "hook").read_text() == "up 1\ndown\n"
    assert "hook exited with status 4: why" in project("up", "-d", "bad", code=1).err


def test_run_is_a_container_beside_the_others(project: Compose) -> None:
    project.file("""
services:
  a: {image: busybox, command: echo own, ports: ["8000"], depends_on: [db], environment: {X: "1"}, restart: always}
  db: {image: busybox, command: sleep 600, init: true}
""")
    done = project("run", "--rm", "-T", "-e", "Y=2", "a", "sh", "-c", "echo $X $Y; exit 7", code=7)
    assert done.out == "1 2\n" and [row["Service"] for row in project.rows()] == ["db"]
    assert project("run", "--rm", "-T", "--entrypoint", "echo over", "a", "x").out == "over x\n"
    assert project("run", "--rm", "-T", "a", "cat", stdin=b"typed").out == "typed"
    id = project.out("run", "-d", "--name", "mine", "a", "sleep", "600")
    assert project.rows("a")[0]["Name"] == "mine" and not project.out("ps", "-q", "a")
    assert project.cli.engine.inspect(id)["HostConfig"]["PortBindings"] == {}
    project("down", "-t", "1")
    assert [row["Name"] for row in project.rows()] == ["mine"]  # somebody may still need it
    project("down", "-t", "1", "--remove-orphans")
    assert not project.rows()


def test_a_terminal(project: Compose) -> None:
    project.file("services: {a: {image: busybox, command: sleep 600, init: true}}")
    project("up", "-d")
    argv = [*project.cli.argv, *project.argv, "exec", "a", "sh"]
    with Terminal(argv, env=project.cli.environment) as terminal:
        terminal.type("tty && stty size\n")
        terminal.expect("/dev/pts/")
        terminal.type("exit 5\n")
        assert terminal.ends() == 5


def test_up_in_the_foreground_until_all_have_ended(project: Compose) -> None:
    project.file("""
services:
  one: {image: busybox, command: sh -c 'echo a; echo b >&2; printf c; exit 3'}
  other: {image: busybox, command: echo d}
""")
    done = project("up")
    assert "Attaching to one-1, other-1" in done.out
    lines = set(done.out.splitlines())
    assert {
        "one-1    | a",
        "one-1    | c",
        "other-1  | d",
        "one-1 exited with code 3",
        "other-1 exited with code 0",
    } <= lines
    assert "one-1    | b" in done.err.splitlines()
    assert "one-1  | b" in project("logs", "one").out.splitlines()  # here all is output
    assert project("up", "--exit-code-from", "one", code=3).out.count("one-1    | a") == 1
    assert "one-1" not in project("up", "--no-attach", "one", "--no-log-prefix").out.replace("one-1 exited", "")


def test_a_service_in_the_foreground_ends_it_whatever_else_runs(project: Compose) -> None:
    project.file(f"""
services:
  tests: {{image: busybox, command: sh -c 'sleep 0.5; exit 3', depends_on: [db, setup]}}
  setup: {{image: busybox, command: 'true'}}
  db: {LONG}
""")
    assert "tests-1 exited with code 3" in project("up", "tests").out
    states = {row["Service"]: row["State"] for row in project.rows()}
    assert states == {"db": "running", "setup": "exited", "tests": "exited"}
    done = project("up", "--exit-code-from", "tests", "tests", code=3)  # not setup's end ends it, but that of tests
    assert "Aborting on container exit..." in done.out
    assert {row["State"] for row in project.rows()} == {"exited"}


def test_what_the_start_waits_for_can_be_given_up(project: Compose) -> None:
    project.file(f"""
services:
  a: {{image: busybox, command: 'true', depends_on: {{b: {{condition: service_healthy}}}}}}
  b: {LONG[:-1]}, healthcheck: {{test: "false", interval: 60s, start_period: 600s}}}}
""")
    for flags in (("-d",), ()):
        with project.started("up", *flags) as client:
            wait_for(lambda: [row["State"] for row in project.rows("b")] == ["running"], "it waits")
            time.sleep(0.3)
            client.send_signal(signal.SIGINT)
            client.communicate(timeout=20)
            assert client.returncode == 130
    assert {row["State"] for row in project.rows("b")} == {"exited"}


def test_dependencies_that_are_left_out(project: Compose) -> None:
    project.file(f"""
services:
  a: {{image: busybox, command: sleep 600, init: true, depends_on: {{b: {{condition: service_healthy}}}}}}
  b: {LONG}
""")
    project("up", "-d", "--no-deps", "a")
    assert [row["Service"] for row in project.rows()] == ["a"]
    project("up", "-d", "--scale", "b=0")


def test_long_lines_are_whole(project: Compose) -> None:
    project.file("""
services:
  a:
    image: busybox
    command: [sh, -c, "head -c 40000 /dev/zero | tr '\\\\0' x; echo; echo end"]
""")
    project("up")
    for done in (project("logs"), project("logs", "-f")):
        assert done.out.splitlines() == [f"a-1  | {'x' * 40000}", "a-1  | end"]


def test_a_reader_that_leaves_ends_the_logs(project: Compose) -> None:
    project.file("""
services:
  a: {image: busybox, init: true, command: [sh, -c, "while :; do echo line; sleep 0.1; done"]}
""")
    project("up", "-d")
    with project.started("logs", "-f") as client:
        assert client.stdout.readline() == b"a-1  | line\n"
        client.stdout.close()
        assert client.wait(20) == 1


def test_what_runs_is_found_without_what_made_it(project: Compose) -> None:
    (project.directory / "vars").write_text("A=1")
    project.file(f"services: {{a: {LONG[:-1]}, env_file: vars}}}}")
    project("up", "-d")
    (project.directory / "vars").unlink()
    for args in (("ps",), ("logs",), ("exec", "-T", "a", "true"), ("stop", "-t", "1"), ("down",)):
        project(*args)


def test_one_that_ends_ends_all(project: Compose) -> None:
    project.file("""
services:
  one: {image: busybox, command: sh -c 'sleep 1; exit 4'}
  other: {image: busybox, command: sleep 600, init: true}
""")
    done = project("up", "--abort-on-container-exit", code=4)
    assert "Aborting on container exit..." in done.out and "Container it-other-1  Stopped" in done.err
    assert {row["State"] for row in project.rows()} == {"exited"}


def test_an_interrupt_stops_it_and_a_second_one_kills(project: Compose) -> None:
    project.file("services: {a: {image: busybox, command: sh -c 'trap \"\" TERM; echo up; while :; do sleep 1; done'}}")
    with project.started("up") as client:
        assert any(b"a-1  | up" in line for line in iter(client.stdout.readline, b""))
        client.send_signal(signal.SIGINT)
        assert any(b"Gracefully Stopping..." in line for line in iter(client.stdout.readline, b""))
        client.send_signal(signal.SIGINT)
        out, _ = client.communicate(timeout=20)
        assert b"a-1 exited with code 137" in out and client.returncode == 130
    assert [row["State"] for row in project.rows()] == ["exited"]


def test_a_foreground_up_goes_on_over_the_death_of_the_daemon(fresh_engine: Engine, tmp_path: Path) -> None:
    compose = Compose(fresh_engine.rorqual, tmp_path)
    compose.file("""
name: it
services:
  a:
    image: busybox
    command: sh -c 'until [ -e /go ]; do sleep 0.1; done; echo done; exit 5'
""")
    with compose.started("up") as client:
        assert any(b"Attaching" in line for line in iter(client.stdout.readline, b""))
        (id,) = wait_for(lambda: compose.out("ps", "-q").split(), "it runs")  # type: ignore[misc]
        fresh_engine.kill("rorquald")
        time.sleep(0.5)
        assert client.poll() is None, client.stderr.read()
        fresh_engine.start()
        fresh_engine.docker("exec", id, "touch", "/go")
        out, err = client.communicate(timeout=30)
        assert b"a-1  | done\n" in out and b"a-1 exited with code 5" in out, out + err


@pytest.mark.parametrize("step", range(6))
def test_an_up_that_was_killed_is_finished_by_the_next(project: Compose, step: int) -> None:
    """Anywhere: also between the steps of making a container anew."""
    text = "services: {{a: {{image: busybox, command: sleep {0}, init: true, volumes: [/v], scale: 2}}}}"
    project.file(text.format(600))
    project("up", "-d")
    project("exec", "-T", "a", "touch", "/v/kept")
    project.file(text.format(601))
    with project.started("up", "-d", "-t", "1") as client:
        time.sleep(0.1 + step * 0.05 + random.Random(step).random() * 0.05)
        client.kill()
        client.wait()
    project("up", "-d", "-t", "1")
    rows = project.rows()
    assert [(row["Name"], row["State"]) for row in rows] == [("it-a-1", "running"), ("it-a-2", "running")]
    assert all("sleep 601" in row["Command"] for row in rows)
    assert project("exec", "-T", "a", "ls", "/v").out == "kept\n"


def test_networks_are_made_anew_with_what_is_on_them(project: Compose, engine: Engine) -> None:
    text = (
        "services: {{a: {{image: busybox, command: sleep 600, init: true}}}}\nnetworks: {{default: {{internal: {0}}}}}"
    )
    project.file(text.format("false"))
    project("up", "-d")
    before = project.ids()
    project.file(text.format("true"))
    project("up", "-d", "-t", "1")
    (network,) = engine.api("GET", "/networks?filters=" + '{"name":["it_default"]}'.replace('"', "%22")).json
    assert network["Internal"] and project.ids() != before
    assert engine.inspect(project.ids()[0])["NetworkSettings"]["Networks"]["it_default"]["NetworkID"] == network["Id"]


def test_what_is_of_others_is_left_alone(project: Compose, engine: Engine) -> None:
    engine.docker("network", "create", "it_default")
    engine.docker("volume", "create", "real")
    project.file(
        "services: {a: {image: busybox, command: ls, volumes: ['v:/v']}}\nvolumes: {v: {external: true, name: real}}"
    )
    assert "a network with name it_default exists but was not created for project it" in project("up", "-d").err
    project("down", "-v")
    assert engine.docker.out("volume", "ls", "-q") == "real"
    assert engine.docker.out("network", "ls", "-q", "-f", "name=it_default") != ""
    engine.docker("network", "rm", "it_default")
    engine.docker("volume", "rm", "real")
    assert 'external volume "real" not found' in project("up", "-d", code=1).err


def test_a_volume_that_the_file_says_no_more_is_somebodys_data(project: Compose, engine: Engine) -> None:
    project.file(f"services: {{a: {LONG[:-1]}, volumes: ['data:/data', /anon]}}}}\nvolumes: {{data: }}")
    project("up", "-d")
    project.file(f"services: {{a: {LONG}}}")
    project("up", "-d", "-t", "1")
    assert engine.inspect(project.ids()[0])["Mounts"] == []
    project("down", "-v", "-t", "1")
    assert "it_data" in engine.docker.out("volume", "ls", "-q")


def test_shared_namespaces_follow_the_container(project: Compose, engine: Engine) -> None:
    project.file("""
services:
  a: {image: busybox, command: "sleep ${N:-600}", init: true}
  b: {image: busybox, command: sleep 600, init: true, network_mode: service:a}
""")
    project("up", "-d")
    assert engine.inspect(project.ids("b")[0])["HostConfig"]["NetworkMode"] == f"container:{project.ids('a')[0]}"
    project.cli.env["N"] = "601"
    try:
        project("up", "-d", "-t", "1")
    finally:
        del project.cli.env["N"]
    assert engine.inspect(project.ids("b")[0])["HostConfig"]["NetworkMode"] == f"container:{project.ids('a')[0]}"


def test_a_project_without_its_file(project: Compose, engine: Engine) -> None:
    project.file(
        "services:\n  a: {image: busybox, command: sleep 600, init: true, depends_on: [b]}\n"
        "  b: {image: busybox, command: sleep 600, init: true}"
    )
    project("up", "-d")
    elsewhere = ("compose", "--project-directory", "/", "-p", "it")
    assert "it-a-1" in engine.rorqual.out(*elsewhere, "ps")
    done = engine.rorqual(*elsewhere, "down", "-t", "1").err
    assert done.index("it-a-1  Removed") < done.index("it-b-1  Stopping")  # in the order that their labels tell
    assert engine.docker.out("ps", "-aq") == ""


def test_builds(project: Compose, engine: Engine) -> None:
    project.file("""
services:
  a:
    build: {dockerfile_inline: "FROM busybox\\nCOPY compose.yaml /c\\n", tags: ["more:1"]}
    image: named:1
    command: cat /c
  b: {build: {context: ., dockerfile: other/Df, target: one, args: [ARG], labels: [x=y]}, command: cat /f}
  c: {build: {context: ., ssh: [default]}}
""")
    (project.directory / "other").mkdir()
    (project.directory / "other/Df").write_text(
        "FROM busybox AS one\nARG ARG\nRUN echo $ARG > /f\nFROM one\nRUN false\n"
    )
    project.cli.env["ARG"] = "given"
    try:
        project("build", "a", "b")
    finally:
        del project.cli.env["ARG"]
    assert "services:" in project.out("run", "--rm", "-T", "a")
    assert project.out("run", "--rm", "-T", "b") == "given"
    own = json.loads(engine.docker.out("image", "inspect", "-f", "{{json .Config.Labels}}", "it-b"))
    assert own["x"] == "y" and own["com.docker.compose.project"] == "it"
    assert engine.docker.out("image", "inspect", "-f", "{{.Id}}", "more:1") == engine.docker.out(
        "image", "inspect", "-f", "{{.Id}}", "named:1"
    )
    assert "build.ssh needs BuildKit" in project("build", "c", code=1).err
    engine.docker("rmi", "more:1", "named:1")


def test_watching(project: Compose) -> None:
    site = project.directory / "site"
    (site / "deep").mkdir(parents=True)
    (project.directory / "Dockerfile").write_text("FROM busybox\nRUN mkdir /srv\nCOPY version /\n")
    (project.directory / "version").write_text("1")
    (site / "first").write_text("first")
    project.file("""
services:
  a:
    build: .
    command: sh -c 'echo start >> /started; exec sleep 1000'
    init: true
    develop:
      watch:
        - {path: ./site, action: sync, target: /srv, ignore: ["*.tmp"], initial_sync: true}
        - {path: ./version, action: rebuild}
        - {path: ./conf, action: sync+exec, target: /conf, exec: {command: sh -c 'cat /conf/x > /seen'}}
        - {path: ./again, action: restart, include: "*.py"}
""")
    (project.directory / "conf").mkdir()
    (project.directory / "again").mkdir()

    def inside(command: str) -> str:
        return project("exec", "-T", "a", "sh", "-c", command, code=None).out.strip()

    with project.started("watch", "--quiet") as client:
        assert any(b"Watch enabled" in line for line in iter(client.stdout.readline, b""))
        wait_for(lambda: inside("cat /srv/first") == "first", "what was there is there")
        (site / "deep/new").write_text("new")
        (site / "no.tmp").write_text("x")
        wait_for(lambda: inside("cat /srv/deep/new") == "new", "a new file is there")
        assert inside("ls /srv") == "deep\nfirst"
        (site / "first").unlink()
        wait_for(lambda: inside("ls /srv") == "deep", "what is gone is gone there")
        (project.directory / "conf/x").write_text("conf")
        wait_for(lambda: inside("cat /seen") == "conf", "the command ran")
        (project.directory / "again/x.txt").write_text("")
        (project.directory / "again/x.py").write_text("")
        wait_for(lambda: inside("grep -c start /started") == "2", "it was started again")
        id = project.ids("a")
        (project.directory / "version").write_text("2")
        wait_for(lambda: inside("cat /version") == "2", "it was built and made anew", 30)
        assert project.ids("a") != id
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=20)
        assert client.returncode == 130
    project.file("services: {a: {image: busybox}}")
    assert "none of the selected services is configured for watch" in project("watch", code=1).err


def test_config_is_a_file_that_means_the_same(project: Compose) -> None:
    stack(project)
    text = project.out("config")
    hashes = project.out("config", "--hash", "*")
    project.file(text)
    assert project.out("config") == text and project.out("config", "--hash", "*") == hashes
    assert json.loads(project.out("config", "--format", "json"))["services"]["web"]["environment"] == {
        "GREETING": "hello"
    }
    assert project.out("config", "--volumes") == "data" and project.out("config", "-q") == ""
    assert "GREETING" not in project.out("config", "--variables")


@pytest.mark.parametrize(
    ("text", "args", "told"),
    [
        (None, ("up",), "no configuration file provided: not found"),
        ("services: {a: {imgae: x}}", ("up",), "services.a additional properties 'imgae' not allowed"),
        ("services: {a: {image: x}", ("ps",), "failed to parse"),
        ("services: {a: {image: busybox}}", ("exec", "a", "true"), 'service "a" is not running'),
        ("services: {a: {image: busybox}}", ("logs", "b"), "no such service: b"),
        ("services: {a: {image: busybox}}", ("-p", "A B", "ps"), 'invalid project name "A B"'),
        ("services: {a: {image: busybox}}", ("-f", "/none.yaml", "ps"), "open /none.yaml: no such file or directory"),
        ("services: {a: {image: busybox}}", ("--progress", "odd", "up", "-d"), 'unsupported --progress value "odd"'),
        ("services: {a: {image: busybox}}", ("up", "--build", "--no-build"), "--build and --no-build are incompatible"),
        ("services: {a: {image: busybox, pull_policy: never}}", ("up", "-d", "--odd"), "unknown flag: --odd"),
        ("services: {a: {image: none/none, pull_policy: never}}", ("up", "-d"), "No such image: none/none"),
    ],
)
def test_what_is_wrong_is_named(project: Compose, text: str | None, args: tuple[str, ...], told: str) -> None:
    if text is not None:
        project.file(text)
    assert told in project(*args, code=None).err


def test_the_terminals_progress(project: Compose) -> None:
    project.file("services: {a: {image: busybox, command: sleep 600, init: true}}")
    with Terminal([*project.cli.argv, *project.argv, "up", "-d"], env=project.cli.environment) as terminal:
        terminal.expect(r"\[\+\] Running 2/2")
        assert terminal.ends() == 0
