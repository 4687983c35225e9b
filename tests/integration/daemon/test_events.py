"""Events with both command lines: what is told, to whom, and that nothing is lost or told twice."""

import json
import subprocess
import time
from typing import Any

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


def now() -> str:
    return f"{time.time():.9f}"


def told(engine: Engine, since: str, **filters: list[str]) -> list[Any]:
    query = json.dumps(filters).replace(" ", "")
    answer = engine.api("GET", f"/events?since={since}&until={now()}&filters={query}")
    return [json.loads(line) for line in answer.body.splitlines()]


def test_the_life_of_a_container_is_told_in_order(cli: Cli, engine: Engine) -> None:
    since = now()
    cli("run", "--rm", "--name", "told", "-l", "tier=front", "busybox", "true")
    wait_for(lambda: told(engine, since, container=["told"], event=["destroy"]), "it is removed")
    actions = [e["Action"] for e in told(engine, since, container=["told"])]
    order = [a for a in actions if a in ("create", "start", "die", "destroy")]
    assert order == ["create", "start", "die", "destroy"]
    (died,) = told(engine, since, container=["told"], event=["die"])
    attributes = died["Actor"]["Attributes"]
    assert int(attributes.pop("execDuration")) < 10  # whole seconds: 0 where nothing else goes on
    assert attributes == {
        "exitCode": "0",
        "image": "busybox",
        "name": "told",
        "tier": "front",
    }
    assert died["timeNano"] // 10**9 == died["time"] and died["scope"] == "local"
    stamps = [e["timeNano"] for e in told(engine, since)]
    assert stamps == sorted(set(stamps))


def test_the_command_filters_and_formats(cli: Cli) -> None:
    since = now()
    cli("create", "--name", "one", "-l", "tier=front", "busybox")
    cli("create", "--name", "two", "busybox")

    def shown(*flags: str, form: str = "{{.Action}} {{.Actor.Attributes.name}}") -> list[str]:
        return cli.out("events", "--since", since, "--until", now(), "--format", form, *flags).splitlines()

    create = ("--filter", "event=create")
    assert shown(*create) == ["create one", "create two"]
    assert shown(*create, "--filter", "container=two") == ["create two"]
    assert shown(*create, "--filter", "label=tier=front") == ["create one"]
    assert shown("--filter", "type=volume") == []
    assert [json.loads(line)["Action"] for line in shown(*create, form="json")] == ["create", "create"]
    plain = cli.out("system", "events", "--since", since, "--until", now(), *create).splitlines()
    assert " container create " in plain[0] and plain[0].endswith("(image=busybox, name=one, tier=front)")


def test_since_after_until_is_refused(cli: Cli) -> None:
    assert "cannot be after `until` time" in cli("events", "--since", "200", "--until", "100", code=1).err


def test_a_stream_goes_on_until_its_client_ends_it(engine: Engine) -> None:
    with engine.rorqual.started("events", "--format", "{{.Action}}", "--filter", "event=create") as events:
        wait_for(lambda: engine.api("GET", "/info").json["NEventsListener"] == 1, "it listens")
        for n in range(3):
            engine.rorqual("create", "--name", f"box-{n}", "busybox")
        assert events.stdout is not None
        assert [events.stdout.readline() for _ in range(3)] == [b"create\n"] * 3
        events.terminate()
        events.wait(10)
    wait_for(lambda: engine.api("GET", "/info").json["NEventsListener"] == 0, "nobody listens")


def test_what_was_told_before_a_kill_is_told_again_to_who_asks(fresh_engine: Engine) -> None:
    engine, since = fresh_engine, now()
    engine.rorqual("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    engine.rorqual("pause", "box")
    engine.kill("rorquald")  # at once: nothing waits to be written
    engine.start()
    engine.rorqual("unpause", "box")
    actions = [e["Action"] for e in told(engine, since, container=["box"])]
    assert [a for a in actions if a in ("create", "start", "pause", "unpause")] == [
        "create",
        "start",
        "pause",
        "unpause",
    ]


def test_a_death_around_the_daemons_own_is_told_once(fresh_engine: Engine) -> None:
    engine, since = fresh_engine, now()
    engine.rorqual("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    pid = engine.inspect("box")["State"]["Pid"]
    subprocess.run(["kill", "-9", str(pid)], check=True)
    wait_for(lambda: told(engine, since, event=["die"]), "the death is told")
    engine.kill("rorquald")
    engine.start()
    wait_for(lambda: not engine.running("box"), "its end is recorded")
    assert len(told(engine, since, container=["box"], event=["die"])) == 1
