"""Every query parameter of the Container, Exec, Volume and System operations: its effect, and the refusal of bad ones.

Statuses and texts are dockerd's, from runs of both. Where it starts and fails later, as with a policy that is none, a
clear refusal at once is let stand.
"""

import json
import struct
import threading
import time
from urllib.parse import quote

import pytest
from integration.daemon import test_archive, test_attach_websocket, test_volumes
from support.command_table import operations
from support.covers import covers, uncovered, unknown
from support.engine import Engine
from support.processes import wait_for

pytestmark = pytest.mark.root

GROUPS = ("Container", "PutContainer", "Exec", "Volume", "System")


def made(engine: Engine, name: str, *command: str, start: bool = True, **config: object) -> str:
    """A container by the API, without a network."""
    host = {"NetworkMode": "none", **config.pop("HostConfig", {})}  # type: ignore[dict-item]
    body = {"Image": "busybox", "Cmd": command or ("sleep", "600"), "HostConfig": host, **config}
    answer = engine.api("POST", f"/containers/create?name={name}", body)
    assert answer.status == 201, answer.body
    if start:
        assert engine.api("POST", f"/containers/{name}/start").status == 204
    return str(answer.json["Id"])


def filters(**given: object) -> str:
    return "filters=" + quote(json.dumps({key.replace("_", "-"): value for key, value in given.items()}))


def listed(engine: Engine, query: str) -> list[str]:
    answer = engine.api("GET", f"/containers/json?{query}")
    assert answer.status == 200, answer.body
    return [container["Names"][0] for container in answer.json]


def frames(body: bytes) -> tuple[bytes, bytes]:
    """What came of stdout and of stderr."""
    out = {1: b"", 2: b""}
    while body:
        kind, size = struct.unpack(">BxxxL", body[:8])
        out[kind] += body[8 : 8 + size]
        body = body[8 + size :]
    return out[1], out[2]


@covers(*(f"ContainerList {name}" for name in ("all", "limit", "size", "filters")))
def test_lists(engine: Engine) -> None:
    made(engine, "runs", Labels={"a": "1"}, HostConfig={"Binds": ["vol:/v"]})
    made(engine, "ended", "sh", "-c", "exit 3")
    engine.api("POST", "/containers/ended/wait")
    made(engine, "made", "true", start=False, Labels={"b": ""}, ExposedPorts={"80/tcp": {}})
    assert listed(engine, "") == ["/runs"] == listed(engine, "all=0") == listed(engine, "filters=null")
    assert listed(engine, "all=1") == ["/made", "/ended", "/runs"]
    assert listed(engine, "limit=2") == ["/made", "/ended"] and listed(engine, "limit=0") == ["/runs"]
    plain, sized = (engine.api("GET", f"/containers/json?{query}").json[0] for query in ("", "size=1"))
    assert "SizeRootFs" not in plain and sized["SizeRootFs"] > 0
    assert engine.api("POST", "/images/busybox/tag?repo=mine&tag=x").status == 201
    for given, found in (
        ({"status": ["exited", "created"]}, ["/made", "/ended"]),
        ({"exited": ["3"]}, ["/ended"]),
        ({"label": {"a=1": True}}, ["/runs"]),
        ({"label": None}, ["/made", "/ended", "/runs"]),
        ({"ancestor": ["mine:x"]}, ["/made", "/ended", "/runs"]),
        ({"ancestor": ["nosuch"]}, []),
        ({"before": ["made"]}, ["/ended", "/runs"]),
        ({"since": ["ended"]}, ["/made"]),
        ({"volume": ["vol"]}, ["/runs"]),
        ({"is_task": ["true"]}, []),
        ({"is_task": ["false"]}, ["/made", "/ended", "/runs"]),
        ({"expose": ["80"]}, []),
        ({"health": ["none"]}, ["/made", "/ended", "/runs"]),
    ):
        assert listed(engine, "all=1&" + filters(**given)) == found, given
    assert listed(engine, filters(exited=["3"])) == []  # as dockerd, which asks for `all` too
    assert listed(engine, filters(status=["exited"])) == ["/ended"]
    for query, text in (
        (filters(odd=["1"]), "invalid filter 'odd'"),
        (filters(status=["odd"]), "invalid filter 'status=odd'"),
        (filters(health=["odd"]), "unrecognized filter value for health: odd"),
        (filters(is_task=["odd"]), "invalid filter 'is-task=[odd]'"),
        (filters(exited=["odd"]), "odd"),
        (filters(since=["nosuch"]), "nosuch"),
        ("filters=odd", "invalid filter"),
        ("limit=odd", 'parsing "odd"'),
    ):
        answer = engine.api("GET", f"/containers/json?all=1&{query}")
        assert answer.status == 400 and text in answer.message, query
    # An image whose name was taken away is shown by its ID.
    engine.import_busybox()
    assert engine.api("GET", "/containers/json").json[0]["Image"].startswith("sha256:")


@covers("ContainerCreate name", "ContainerCreate platform", "ContainerRename name", "ContainerInspect size")
def test_names_and_platforms(engine: Engine) -> None:
    made(engine, "one", start=False)
    made(engine, "two", start=False)
    body = {"Image": "busybox", "Cmd": ["true"]}
    for name, status, text in (
        ("one", 409, "Conflict. The container name"), ("a/b", 400, "Invalid container name (a/b)"),
        ("-x", 400, "Invalid container name"),
    ):  # fmt: skip
        answer = engine.api("POST", f"/containers/create?name={name}", body)
        assert answer.status == status and text in answer.message
    for platform, status, text in (
        ("odd", 400, "unknown operating system or architecture"), ("a/b/c/d", 400, "platform specifier"),
        ("linux/s390x", 404, "does not match the specified platform"),
    ):  # fmt: skip
        answer = engine.api("POST", f"/containers/create?platform={platform}", body)
        assert answer.status == status and text in answer.message
    for name, status, text in (
        ("two", 409, 'Error when allocating new name: Conflict. The container name "/two" is already in use'),
        ("a%20b", 400, "Error when allocating new name: Invalid container name (/a b)"),
        ("", 400, "may be empty"), ("one", 400, "same name as its current name"),
    ):  # fmt: skip
        answer = engine.api("POST", f"/containers/one/rename?name={name}")
        assert answer.status == status and text in answer.message
    assert engine.api("POST", "/containers/one/rename?name=/new").status == 204
    assert engine.inspect("new")["Name"] == "/new"
    assert "SizeRw" in engine.api("GET", "/containers/new/json?size=1").json
    assert "SizeRw" not in engine.inspect("new")


BAD = [
    ({"UTSMode": "host"}, {"Hostname": "x"}, "conflicting options: hostname and the UTS mode"),
    ({"CpusetMems": "99"}, {}, "Requested memory nodes are not available - requested 99, available: 0"),
    ({"CpusetCpus": "odd"}, {}, "Invalid value odd for cpuset cpus"),
    ({"CpuRealtimePeriod": 5, "CpuRealtimeRuntime": 10}, {}, "cpu real-time runtime cannot be higher"),
    ({"IOMaximumBandwidth": 5}, {}, "linux does not support configuration of maximum bandwidth"),
    ({"IOMaximumIOps": 5}, {}, "linux does not support configuration of maximum IOPs"),
    ({"Isolation": "odd"}, {}, "invalid isolation: \"odd\" - linux only supports 'default'"),
    ({"CapAdd": ["odd"]}, {}, 'invalid CapAdd: unknown capability: "CAP_ODD"'),
    ({"Privileged": True, "CapDrop": ["odd"]}, {}, 'invalid CapDrop: unknown capability: "CAP_ODD"'),
    ({"Binds": ["/tmp:/x:odd"]}, {}, "invalid mode: odd"),
    (
        {"Binds": ["odd"]},
        {},
        "invalid volume specification: 'odd': invalid mount config for type \"volume\": invalid mo",
    ),
    (
        {"Binds": ["/tmp:/"]},
        {},
        "invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
    ),
    ({"Binds": ["/tmp:/x:nocopy"]}, {}, "field VolumeOptions must not be specified"),
    ({"Binds": ["a b:/x"]}, {}, 'create a b: "a b" includes invalid characters for a local volume name'),
    ({"Tmpfs": {"/": ""}}, {}, "invalid specification: destination can't be '/'"),
    ({"Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Mode": -1}}]}, {}, "invalid mode of tmpfs: -1"),
    ({"ExtraHosts": ["x:odd"]}, {}, 'invalid IP address in add-host: "odd"'),
    ({"Links": [""]}, {}, "empty string specified for links"),
    # Not a 404: at one, clients pull the image.
    ({"PidMode": "container:nosuch"}, {}, "No such container: nosuch"),
    ({"IpcMode": "container:nosuch"}, {}, "No such container: nosuch"),
    ({"VolumesFrom": ["nosuch"]}, {}, "No such container: nosuch"),
    ({"Memory": 1}, {}, "Minimum memory limit allowed is 6MB"),
    ({"NanoCpus": 10**12}, {}, "ange of CPUs is from 0.01 to"),
    ({"RestartPolicy": {"Name": "odd"}}, {}, "invalid restart policy"),
    ({}, {"WorkingDir": "odd"}, "the working directory 'odd' is invalid, it needs to be an absolute path"),
    ({}, {"StopSignal": "odd"}, "nvalid signal: odd"),
]


@covers("ContainerCreate body:body")
@pytest.mark.parametrize(("host", "config", "text"), BAD, ids=[text[:50] for _, _, text in BAD])
def test_a_bad_container_is_refused(shared_engine: Engine, host: object, config: dict[str, object], text: str) -> None:
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host, **config}
    answer = shared_engine.api("POST", "/containers/create", body)
    assert answer.status == 400 and text in answer.message, answer.body


@covers("ContainerUpdate body:update", "ContainerExec body:execConfig", "ExecStart body:execStartConfig")
def test_bodies_of_update_and_exec(engine: Engine) -> None:
    id = made(engine, "box", HostConfig={"Memory": 32 << 20})
    for body, status, text in (
        ({"Memory": 1}, 400, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 128 << 20}, 409, f"Cannot update container {id}: Memory limit should be smaller than already set"),
        ({"RestartPolicy": {"Name": "odd"}}, 400, "invalid restart policy"),
    ):
        answer = engine.api("POST", "/containers/box/update", body)
        assert answer.status == status and text in answer.message
    assert engine.api("POST", "/containers/box/update", {"MemorySwap": 256 << 20}).status == 200
    assert engine.inspect("box")["HostConfig"]["MemorySwap"] == 256 << 20
    for body, text in (
        ({}, "No exec command specified"),
        ({"Cmd": "ls"}, "Cmd"),
        ({"Cmd": ["ls"], "DetachKeys": "odd"}, "Invalid escape keys (odd) provided"),
    ):
        answer = engine.api("POST", "/containers/box/exec", body)
        assert answer.status == 400 and text in answer.message
    config = {"Cmd": ["sh", "-c", "echo $A; echo e >&2; exit 7"], "AttachStdout": True, "Env": ["A=b"]}
    exec_id = engine.api("POST", "/containers/box/exec", config).json["Id"]
    assert frames(engine.api("POST", f"/exec/{exec_id}/start", {}).body) == (b"b\n", b"")
    assert engine.api("GET", f"/exec/{exec_id}/json").json["ExitCode"] == 7
    assert engine.api("POST", f"/exec/{exec_id}/start", {}).status == 409


@covers(*(f"ContainerLogs {n}" for n in ("follow", "stdout", "stderr", "since", "until", "timestamps", "tail")))
def test_logs(engine: Engine) -> None:
    made(engine, "says", "sh", "-c", "echo 1; echo e >&2; sleep 1.1; echo 2; sleep 1; echo 3")

    def logs(query: str) -> tuple[bytes, bytes]:
        return frames(engine.api("GET", f"/containers/says/logs?{query}").body)

    assert logs("follow=1&stdout=1&stderr=1") == (b"1\n2\n3\n", b"e\n")  # until its end
    assert logs("stdout=1") == (b"1\n2\n3\n", b"") and logs("stderr=1") == (b"", b"e\n")
    assert logs("stdout=1&tail=1") == (b"3\n", b"") and logs("stdout=1&tail=all")[0] == b"1\n2\n3\n"
    lines = logs("stdout=1&timestamps=1")[0].splitlines()
    moments = [line.split()[0].decode() for line in lines]
    assert [line.split()[1] for line in lines] == [b"1", b"2", b"3"] and moments == sorted(moments)
    middle = time.mktime(time.strptime(moments[1][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    second = f"{middle:.0f}.{moments[1][20:29]}"
    assert logs(f"stdout=1&since={second}")[0] == b"2\n3\n" and logs(f"stdout=1&until={second}")[0] == b"1\n2\n"
    for query, status in (("", 400), ("stdout=1&since=odd", 400), ("stdout=1&until=odd", 400)):
        assert engine.api("GET", f"/containers/says/logs?{query}").status == status


@covers(
    "ContainerKill signal", "ContainerStop signal", "ContainerStop t", "ContainerRestart signal", "ContainerRestart t"
)
def test_signals_and_times(engine: Engine) -> None:
    traps = ("sh", "-c", "trap 'echo 1' USR1; trap 'exit 9' USR2; echo up; while :; do sleep 0.1; done")

    def up(times: int) -> None:
        wait_for(lambda: engine.docker.out("logs", "box").split().count("up") == times, "the traps are set")

    made(engine, "box", *traps)
    up(1)
    for signal in ("odd", "99", "0", "-1"):
        answer = engine.api("POST", f"/containers/box/kill?signal={signal}")
        assert (answer.status, answer.message) == (400, f"cannot kill container: box: invalid signal: {signal}")
    assert (
        engine.api("POST", "/containers/nosuch/kill").message
        == "cannot kill container: nosuch: No such container: nosuch"
    )
    assert engine.api("POST", "/containers/box/kill?signal=usr1").status == 204
    wait_for(lambda: "1" in engine.docker.out("logs", "box").split(), "it arrived")
    for query in ("t=odd", "signal=odd"):
        assert engine.api("POST", f"/containers/box/stop?{query}").status == 400
    assert engine.api("POST", "/containers/box/stop?signal=USR2").status == 204
    assert engine.inspect("box")["State"]["ExitCode"] == 9
    assert engine.api("POST", "/containers/box/stop").status == 304
    assert engine.api("POST", "/containers/box/restart?t=5").status == 204
    up(2)
    began = time.monotonic()
    assert engine.api("POST", "/containers/box/restart?signal=USR2&t=60").status == 204
    assert time.monotonic() - began < 30
    up(3)
    began = time.monotonic()
    assert engine.api("POST", "/containers/box/stop?t=1").status == 204
    assert 0.9 < time.monotonic() - began < 8
    answer = engine.api("POST", "/containers/box/kill")
    assert answer.status == 409 and answer.message.startswith("cannot kill container: box: container ")


@covers("ContainerAttach detachKeys", "ContainerStart detachKeys", *(f"ContainerAttach {n}" for n in ("logs", "stream", "stdin", "stdout", "stderr")))  # fmt: skip # noqa: E501
def test_attach(engine: Engine) -> None:
    made(engine, "box", "sh", "-c", "echo o; echo e >&2; read line; echo got $line", OpenStdin=True, start=False)
    answer = engine.api("POST", "/containers/box/attach?stream=1&detachKeys=odd")
    assert (answer.status, answer.message) == (400, "Invalid detach keys (odd) provided")
    results: dict[str, bytes] = {}

    def attach(query: str) -> threading.Thread:
        def work() -> None:
            results[query] = engine.api("POST", f"/containers/box/attach?{query}").body

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    since = time.time()
    threads = [attach("stream=1&stdout=1"), attach("stream=1&stderr=1"), attach("stream=1&stdout=1&stderr=1")]

    def attached() -> int:
        query = f"since={since:.6f}&until={time.time():.6f}&{filters(container=['box'], event=['attach'])}"
        return len(engine.api("GET", f"/events?{query}").body.splitlines())

    wait_for(lambda: attached() == 3, "all are attached")
    time.sleep(0.1)  # the event is told first
    assert engine.api("POST", "/containers/box/start?detachKeys=ctrl-x").status == 204
    with engine.rorqual.started("attach", "box") as person:
        assert person.stdin is not None
        person.stdin.write(b"x\n")
        person.stdin.flush()
        person.wait(15)
    for thread in threads:
        thread.join(15)
    assert {query: frames(body) for query, body in results.items()} == {
        "stream=1&stdout=1": (b"o\ngot x\n", b""),
        "stream=1&stderr=1": (b"", b"e\n"),
        "stream=1&stdout=1&stderr=1": (b"o\ngot x\n", b"e\n"),
    }
    attach("logs=1&stdout=1").join(15)
    assert frames(results["logs=1&stdout=1"]) == (b"o\ngot x\n", b"")
    attach("stdout=1").join(15)
    assert results["stdout=1"] == b""


@covers("ContainerResize h", "ContainerResize w", "ExecResize h", "ExecResize w")
def test_sizes_of_terminals(engine: Engine) -> None:
    made(engine, "box", "sh", "-c", "while :; do sleep 0.1; done", Tty=True)
    for query in ("", "h=odd&w=1", "h=1&w=odd", "h=-1&w=5"):
        assert engine.api("POST", f"/containers/box/resize?{query}").status == 400, query
    assert engine.api("POST", "/containers/box/resize?h=31&w=97").status == 200
    assert engine.docker.out("exec", "box", "sh", "-c", "stty size </proc/1/fd/0") == "31 97"
    run = engine.api("POST", "/containers/box/exec", {"Cmd": ["sleep", "600"], "Tty": True, "AttachStdin": True}).json
    assert engine.api("POST", f"/exec/{run['Id']}/start", {"Detach": True, "Tty": True}).status == 200
    assert engine.api("POST", f"/exec/{run['Id']}/resize?h=33&w=99").status == 200
    assert engine.api("POST", f"/exec/{run['Id']}/resize?h=odd&w=99").status == 400
    pid = engine.docker.out("exec", "box", "pidof", "sleep").split()[-1]
    script = f"for p in {pid} $(pidof sleep); do stty size </proc/$p/fd/0; done"
    assert "33 99" in engine.docker("exec", "box", "sh", "-c", script, code=None).out


@covers("ContainerStats stream", "ContainerStats one-shot", "ContainerTop ps_args", "ContainerWait condition")
def test_stats_top_and_wait(engine: Engine) -> None:
    made(engine, "box")
    took = []
    for _ in range(3):  # the quickest counts: it waits for no second look, which would take a second each time
        began = time.monotonic()
        once = engine.api("GET", "/containers/box/stats?stream=0&one-shot=1").json
        took.append(time.monotonic() - began)
        assert not once["precpu_stats"]["cpu_usage"]["total_usage"]
    assert min(took) < 0.9
    twice = engine.api("GET", "/containers/box/stats?stream=0").json
    assert twice["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert engine.api("GET", "/containers/box/stats?stream=1&one-shot=1").status == 400
    titles = engine.api("GET", "/containers/box/top?ps_args=-o%20pid,args").json["Titles"]
    assert titles == ["PID", "COMMAND"]
    bad = engine.api("GET", "/containers/box/top?ps_args=-odd")
    assert bad.status == 400 and "\n" not in bad.message and "ps: " in bad.message
    assert engine.api("POST", "/containers/box/wait?condition=odd").status == 400
    answers: dict[str, object] = {}

    def wait(condition: str) -> threading.Thread:
        def work() -> None:
            answers[condition] = engine.api("POST", f"/containers/box/wait?condition={condition}").json["StatusCode"]

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    threads = {condition: wait(condition) for condition in ("not-running", "next-exit", "removed")}
    time.sleep(0.5)
    engine.api("POST", "/containers/box/kill")
    threads["not-running"].join(10), threads["next-exit"].join(10)
    assert answers == {"not-running": 137, "next-exit": 137}
    engine.api("DELETE", "/containers/box")
    threads["removed"].join(10)
    assert answers["removed"] == 137


@covers("ContainerDelete v", "ContainerDelete force", "ContainerDelete link", "ContainerPrune filters")
def test_removing(engine: Engine) -> None:
    id = made(engine, "box", HostConfig={"Binds": ["named:/n"]}, Volumes={"/anonymous": {}})
    volume = next(m["Name"] for m in engine.inspect("box")["Mounts"] if m["Destination"] == "/anonymous")
    refused = engine.api("DELETE", "/containers/box")
    assert refused.status == 409 and "container is running" in refused.message
    assert engine.api("DELETE", "/containers/box?link=1").status == 409  # its own name is no link
    assert engine.api("DELETE", "/containers/box?force=1&v=1").status == 204
    assert engine.api("GET", f"/containers/{id}/json").status == 404
    assert engine.api("GET", f"/volumes/{volume}").status == 404 and engine.api("GET", "/volumes/named").status == 200
    engine.api("DELETE", "/volumes/named")
    made(engine, "kept", start=False, Labels={"keep": ""})
    made(engine, "other", start=False)
    for query in (filters(odd=["1"]), "filters=odd", filters(until=["odd"])):
        assert engine.api("POST", f"/containers/prune?{query}").status == 400
    pruned = engine.api("POST", "/containers/prune?" + filters(**{"label!": ["keep"]})).json
    assert len(pruned["ContainersDeleted"]) == 1 and listed(engine, "all=1") == ["/kept"]


@covers("VolumeList filters", "VolumeCreate body:volumeConfig", "VolumePrune filters", "VolumeDelete force")
def test_volumes_of_the_api(engine: Engine) -> None:
    def names(query: str = "") -> list[str]:
        return sorted(v["Name"] for v in engine.api("GET", f"/volumes?{query}").json["Volumes"] or ())

    for name in names():
        engine.api("DELETE", f"/volumes/{name}")
    assert engine.api("POST", "/volumes/create", {"Name": "one", "Labels": {"x": "y"}}).status == 201
    assert engine.api("POST", "/volumes/create", {"Name": "two"}).status == 201
    for query, found in (
        (filters(label=["x"]), ["one"]), (filters(name=["w"]), ["two"]), (filters(driver=["odd"]), []),
        (filters(dangling=["true"]), ["one", "two"]), (filters(dangling=["false"]), []),
    ):  # fmt: skip
        assert names(query) == found, query
    for body, text in (
        ({"Name": "a b"}, 'create a b: "a b" includes invalid characters'),
        ({"Name": "x"}, "create x: volume name is too short"),
        ({"Name": "three", "DriverOpts": {"odd": "1"}}, 'invalid option: "odd"'),
        (b"", "EOF"),
    ):
        answer = engine.api("POST", "/volumes/create", body)
        assert answer.status == 400 and text in answer.message
    refused = engine.api("GET", "/volumes?" + filters(dangling=["odd"]))
    assert (refused.status, refused.message) == (400, "invalid filter 'dangling=[odd]'")
    assert engine.api("POST", "/volumes/prune?" + filters(odd=["1"])).status == 400
    assert engine.api("POST", "/volumes/prune?" + filters(all=["1"], label=["x"])).json["VolumesDeleted"] == ["one"]
    assert (engine.api("DELETE", "/volumes/one").status, engine.api("DELETE", "/volumes/one?force=1").status) == (
        404,
        204,
    )
    assert engine.api("DELETE", "/volumes/two").status == 204 and names() == []


@covers("SystemDataUsage type", "SystemDataUsage verbose", "SystemAuth body:authConfig", "SystemEvents since", "SystemEvents until", "SystemEvents filters")  # fmt: skip # noqa: E501
def test_system(engine: Engine) -> None:
    made(engine, "box", start=False)
    for kind, field in (("container", "ContainerUsage"), ("volume", "VolumeUsage"), ("image", "ImageUsage")):
        answer = engine.api("GET", f"/v1.52/system/df?type={kind}").json
        assert {key for key, value in answer.items() if value and key.endswith("Usage")} == {field}
        assert not answer[field].get("Items")
        assert kind == "volume" or engine.api("GET", f"/v1.52/system/df?type={kind}&verbose=1").json[field]["Items"]
    assert engine.api("GET", "/v1.52/system/df?type=odd").status == 400
    answer = engine.api("POST", "/auth", {"serveraddress": "127.0.0.1:1", "username": "u", "password": "p"})
    assert answer.status >= 500 and "127.0.0.1:1" in answer.message
    for query in ("since=odd", "until=odd", "since=5&until=2", "since=1&until=2&filters=odd"):
        assert engine.api("GET", f"/events?{query}").status == 400, query
    now = time.time()
    query = f"since=1&until={now:.6f}&{filters(container=['box'], event=['create'])}"
    lines = engine.api("GET", f"/events?{query}").body.splitlines()
    assert [json.loads(line)["Action"] for line in lines][-1:] == ["create"]
    assert engine.api("GET", f"/events?since={now:.6f}&until={now:.6f}").body == b""


def test_no_parameter_is_without_a_case() -> None:
    import sys

    modules = (sys.modules[__name__], test_archive, test_attach_websocket, test_volumes)
    rows = operations(*GROUPS)
    assert uncovered(rows, *modules) == []
    assert [row for row in unknown(rows, *modules) if row.split()[0] in {r.split()[0] for r in rows}] == []
