"""Health checks, with both command lines: probes, states, events, and what survives a restart of the daemon."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root

_QUICK = ("--health-interval", "150ms", "--health-timeout", "15s", "--health-retries", "2")
_OK = ("--health-cmd", "test -e /ok && echo fine")


def health(engine: Engine, name: str) -> Any:
    return engine.inspect(name)["State"].get("Health")


def becomes(engine: Engine, name: str, status: str) -> None:
    wait_for(lambda: health(engine, name)["Status"] == status, lambda: f"{status}: {health(engine, name)}")


def events(engine: Engine, name: str) -> list[str]:
    """The health events so far."""
    filters = json.dumps({"container": [engine.inspect(name)["Id"]], "event": ["health_status"]})
    answer = engine.api("GET", f"/events?since=1&until={_now()}&filters={filters}".replace(" ", ""))
    return [json.loads(line)["Action"] for line in answer.body.splitlines()]


def _now() -> str:
    import time

    return f"{time.time():.9f}"


def test_a_container_is_starting_unhealthy_and_healthy_in_turn(cli: Cli, engine: Engine) -> None:
    # One whose first check is far away: two failed checks of the other may come before `ps`.
    cli("run", "-d", "--name", "fresh", "--health-interval", "1h", *_OK, "busybox", "sleep", "1000")
    assert "(health: starting)" in cli.out("ps", "--format", "{{.Status}}")
    cli("rm", "-f", "fresh")
    cli("run", "-d", "--name", "checked", *_QUICK, *_OK, "busybox", "sleep", "1000")
    becomes(engine, "checked", "unhealthy")
    assert "(unhealthy)" in cli.out("ps", "--format", "{{.Status}}")
    assert cli.out("ps", "--filter", "health=unhealthy", "--format", "{{.Names}}") == "checked"
    assert cli.out("ps", "--filter", "health=healthy", "--format", "{{.Names}}") == ""
    cli("exec", "checked", "touch", "/ok")
    becomes(engine, "checked", "healthy")
    assert "(healthy)" in cli.out("ps", "--format", "{{.Status}}")
    found = health(engine, "checked")
    assert found["FailingStreak"] == 0 and found["Log"][-1]["Output"] == "fine\n" and len(found["Log"]) <= 5
    assert events(engine, "checked") == ["health_status: unhealthy", "health_status: healthy"]
    cli("stop", "-t", "0", "checked")
    stopped = health(engine, "checked")
    assert stopped["Status"] == "unhealthy" and stopped["Log"]


def test_the_probe_has_the_containers_user_environment_and_directory(engine: Engine) -> None:
    probe = 'echo "$(id -u) $WHO $(pwd)"'
    engine.rorqual(
        *("run", "-d", "--name", "checked", "-u", "1000", "-e", "WHO=me", "-w", "/tmp", *_QUICK, "--health-cmd", probe),
        *("busybox", "sleep", "1000"),
    )
    becomes(engine, "checked", "healthy")
    assert health(engine, "checked")["Log"][0]["Output"] == "1000 me /tmp\n"


def test_a_probe_that_takes_too_long_fails(engine: Engine) -> None:
    flags = ("--health-interval", "100ms", "--health-timeout", "200ms", "--health-retries", "1")
    engine.rorqual("run", "-d", "--name", "checked", *flags, "--health-cmd", "sleep 9", "busybox", "sleep", "1000")
    becomes(engine, "checked", "unhealthy")
    first = health(engine, "checked")["Log"][0]
    assert first["ExitCode"] == -1 and first["Output"].startswith("Health check exceeded timeout (200ms)")


def test_failures_in_the_start_period_do_not_count(engine: Engine) -> None:
    flags = ("--health-start-period", "1h", "--health-start-interval", "100ms", "--health-retries", "1")
    engine.docker("run", "-d", "--name", "checked", *flags, *_OK, "busybox", "sleep", "1000")
    wait_for(lambda: len(health(engine, "checked")["Log"]) >= 2, "it was probed")
    assert health(engine, "checked")["Status"] == "starting" and health(engine, "checked")["FailingStreak"] == 0


def test_no_healthcheck_means_none(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "unchecked", "--no-healthcheck", "busybox", "sleep", "1000")
    assert health(engine, "unchecked") is None
    assert cli.out("ps", "--filter", "health=none", "--format", "{{.Names}}") == "unchecked"


def test_a_paused_container_is_not_probed(engine: Engine) -> None:
    engine.rorqual("run", "-d", "--name", "checked", *_QUICK, *_OK, "busybox", "sh", "-c", "touch /ok; sleep 1000")
    becomes(engine, "checked", "healthy")
    engine.rorqual("pause", "checked")
    before = health(engine, "checked")["Log"][-1]["Start"]
    with pytest.raises(AssertionError):
        wait_for(lambda: health(engine, "checked")["Log"][-1]["Start"] != before, "a probe", 0.5)
    engine.rorqual("unpause", "checked")
    wait_for(lambda: health(engine, "checked")["Log"][-1]["Start"] != before, "a probe after it")


def test_probes_go_on_while_the_daemon_is_dead_and_no_event_is_doubled(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.rorqual("run", "-d", "--name", "checked", *_QUICK, *_OK, "busybox", "sh", "-c", "touch /ok; sleep 1000")
    engine.rorqual("run", "-d", "--name", "fails", *_QUICK, *_OK, "busybox", "sleep", "1000")
    becomes(engine, "checked", "healthy")
    becomes(engine, "fails", "unhealthy")
    pid, id = engine.inspect("checked")["State"]["Pid"], engine.inspect("checked")["Id"]
    engine.kill("rorquald")
    (Path(f"/proc/{pid}/root/ok")).unlink()
    report = engine.exec / "containerd" / "tasks" / "moby" / id / "health"
    wait_for(lambda: json.loads(report.read_text())["status"] == "unhealthy", "the shim has seen it")
    engine.start()
    assert health(engine, "checked")["Status"] == "unhealthy"
    wait_for(lambda: len(events(engine, "checked")) == 2, lambda: str(events(engine, "checked")))
    assert events(engine, "checked") == ["health_status: healthy", "health_status: unhealthy"]
    assert events(engine, "fails") == ["health_status: unhealthy"]


def test_http_and_tcp_probes_need_no_program_in_the_container(cli: Cli, engine: Engine) -> None:
    serve = "mkdir /www; echo up >/www/index.html; httpd -f -p 8080 -h /www"
    for name, label in (("http", "rorqual.health.http=:8080/"), ("tcp", "rorqual.health.tcp=8080")):
        cli("run", "-d", "--name", name, *_QUICK, "--label", label, "busybox", "sh", "-c", serve)
    missing = ("--label", "rorqual.health.http=http://127.0.0.1:8080/missing")
    cli("run", "-d", "--name", "missing", *_QUICK, *missing, "busybox", "sh", "-c", serve)
    becomes(engine, "http", "healthy")
    becomes(engine, "tcp", "healthy")
    becomes(engine, "missing", "unhealthy")
    assert health(engine, "http")["Log"][-1]["Output"] == "HTTP/1.1 200 OK\nup\n"
    assert "404" in health(engine, "missing")["Log"][-1]["Output"]
    cli("run", "-d", "--label", "rorqual.health.http=http://example.org/", "busybox", code=125)


def test_an_unhealthy_container_is_restarted_when_its_label_asks_for_it(engine: Engine) -> None:
    script = "trap 'exit 0' TERM; test -e /second || { touch /second; rm -f /ok; }; while :; do sleep 0.1; done"
    label = ("--label", "rorqual.health.restart=true")
    probe = ("--health-cmd", "test $(cat /starts 2>/dev/null || echo 0) -ge 2")
    script = "trap 'exit 0' TERM; echo $(($(cat /starts 2>/dev/null || echo 0) + 1)) >/starts; " + script
    engine.rorqual("run", "-d", "--name", "again", *_QUICK, *label, *probe, "busybox", "sh", "-c", script)
    becomes(engine, "again", "healthy")
    assert engine.rorqual.out("exec", "again", "cat", "/starts") == "2"
    assert events(engine, "again") == ["health_status: unhealthy", "health_status: healthy"]


def test_an_images_labels_drive_nothing(engine: Engine) -> None:
    """CVE-2026-53488."""
    from support.busybox import rootfs_tar

    changes = "&".join(f"changes=LABEL+rorqual.health.{label}" for label in ("restart%3Dtrue", "tcp%3D1"))
    answer = engine.api(
        "POST",
        f"/images/create?fromSrc=-&repo=labelled&tag=latest&{changes}&changes=CMD+sleep+1000",
        rootfs_tar(),
        {"Content-Type": "application/x-tar"},
    )
    assert answer.status == 200 and b"error" not in answer.body, answer.body
    engine.rorqual("run", "-d", "--name", "plain", "labelled")
    found = engine.inspect("plain")
    assert found["Config"]["Labels"]["rorqual.health.tcp"] == "1"
    assert found["State"].get("Health") is None


def test_an_interval_of_weeks_is_one(engine: Engine) -> None:
    engine.rorqual(
        "run", "-d", "--name", "rare", "--health-cmd", "true", "--health-interval", "1000h", "busybox", "sleep", "600"
    )
    time.sleep(0.5)
    assert engine.inspect("rare")["State"]["Health"]["Status"] == "starting"
    assert engine.running("rare")
