"""Every answer of the Engine API is what its specification says: statuses, fields, types."""

import json
import re
import shutil
import time
from typing import Any

import pytest
from support import schema
from support.engine import Answer, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root

# Let pass: where dockerd's answers and its specification differ, and fields of older API versions, kept for clients
# that never ask for a version.
_TOLERATED = (
    (r"POST /networks/create: status 409", "dockerd's own answer to a name that is taken"),
    (r"(kill|resize|GET /volumes|GET /nodes): status 400", "dockerd's own: a signal, a size, a filter that is none"),
    (r"GET /exec/\{id\}/json 200: answer.ExitCode: null", "while it runs: a pointer in Go"),
    (r"GET /events 200: answer.(status|id|from) is not in the specification", "until 1.51"),
    (r"HostConfig\.(MemorySwappiness|OomKillDisable): null", "pointers in Go, null where they are not set"),
    (r"HostConfig\.MemorySwappiness: -1", "what the stock command line asks for"),
    (r"ImageData: UnpackedSize is missing", "dockerd has it inside Size"),
    (r"NetworkSettings\.\w+ is not in the specification", "until 1.51"),
    (r"GET /networks 200: answer\[\d+\]\.Containers is not in", "until 1.51"),
    (r"GET /system/df 200: answer\.\w+ is not in", "until 1.51"),
    (r"GET /images/\{name\}/json 200: answer\.Parent is not in", "until 1.51"),
)


class Caller:
    """Calls operations by the specification's name and checks what comes back."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.called: set[str] = set()
        self.wrong: list[str] = []

    def __call__(
        self, operation: str, query: str = "", body: Any = None, *, headers: dict[str, str] | None = None, **names: str
    ) -> Answer:
        method, template = operation.split(" ")
        path = re.sub(r"\{(\w+)\}", lambda match: names[match[1]], template)
        answer = self._engine.api(method, path + (f"?{query}" if query else ""), body, headers)
        self.check(operation, answer)
        return answer

    def check(self, operation: str, answer: Answer) -> None:
        self.called.add(operation)
        answers = schema.answers(operation)
        # Which of the server's own failures it is, the specification does not tell apart.
        status = "500" if answer.status >= 500 and str(answer.status) not in answers else str(answer.status)
        if status not in answers:
            self.wrong.append(f"{operation}: status {answer.status} is not in the specification: {answer.body[:200]!r}")
            return
        expected = answers[status]
        if expected is None or expected.get("format") == "binary" or operation.startswith("HEAD"):
            return
        text = answer.body.decode()
        if expected.get("type") == "string":
            return
        # A stream's first line is one whole answer.
        value = json.loads(text.splitlines()[0]) if text.strip() else None
        self.wrong += [f"{operation} {answer.status}: {line}" for line in schema.wrong(value, expected)]


def _images(call: Caller, engine: Engine) -> None:
    call("GET /images/json", "all=1&manifests=1")
    call("GET /images/{name}/json", name="busybox")
    call("GET /images/{name}/json", name="no-such-image")
    call("GET /images/{name}/history", name="busybox")
    call("GET /images/{name}/attestations", name="busybox")
    call("POST /images/{name}/tag", "repo=again&tag=1", name="busybox")
    call("GET /images/{name}/get", name="again:1")
    saved = call("GET /images/get", "names=again:1")
    call("POST /images/load", "quiet=1", saved.body, headers={"Content-Type": "application/x-tar"})
    call("DELETE /images/{name}", name="again:1")
    call("DELETE /images/{name}", name="again:1")
    call("POST /images/prune")
    call("POST /images/create", "fromImage=127.0.0.1:1/none&tag=x")


def _containers(call: Caller, engine: Engine) -> None:
    config = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", "echo out; sleep 600"],
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"a": "b"},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9},
        "HostConfig": {
            "Binds": ["answers:/data"],
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
            "Memory": 64 << 20,
        },
    }
    id = call("POST /containers/create", "name=answers", config).json["Id"]
    call("POST /containers/create", "name=answers", config)  # 409
    call("POST /containers/create", "", {"Image": "no-such-image"})  # 404
    call("GET /containers/{id}/json", "size=1", id=id)
    call("POST /containers/{id}/start", id=id)
    call("POST /containers/{id}/start", id=id)  # 304
    call("GET /containers/json", "all=1&size=1")
    call("GET /containers/{id}/json", id=id)
    call("GET /containers/{id}/json", id="no-such-container")
    call("GET /containers/{id}/top", id=id)
    call("GET /containers/{id}/logs", "stdout=1", id=id)
    call("GET /containers/{id}/stats", "stream=0", id=id)
    call("GET /containers/{id}/stats", "stream=0&one-shot=1", id=id)
    call("GET /containers/{id}/changes", id=id)
    call("HEAD /containers/{id}/archive", "path=/etc", id=id)
    call("GET /containers/{id}/archive", "path=/etc/passwd", id=id)
    call("GET /containers/{id}/archive", "path=/nowhere", id=id)
    call(
        "PUT /containers/{id}/archive", "path=/tmp", b"\0" * 1024, headers={"Content-Type": "application/x-tar"}, id=id
    )
    call("GET /containers/{id}/export", id=id)
    call("POST /containers/{id}/resize", "h=20&w=80", id=id)
    call("POST /containers/{id}/update", "", {"CpuShares": 300}, id=id)
    call("POST /containers/{id}/pause", id=id)
    call("POST /containers/{id}/unpause", id=id)
    call("POST /containers/{id}/rename", "name=answers2", id=id)
    exec_id = call("POST /containers/{id}/exec", "", {"Cmd": ["true"], "AttachStdout": True}, id=id).json["Id"]
    call("POST /exec/{id}/start", "", {"Detach": True}, id=exec_id)
    call("GET /exec/{id}/json", id=exec_id)
    call("GET /exec/{id}/json", id="none")
    call("POST /commit", f"container={id}&repo=committed", {})
    call("POST /containers/{id}/kill", "signal=CONT", id=id)
    call("POST /containers/{id}/restart", "t=0", id=id)
    call("POST /containers/{id}/stop", "t=0", id=id)
    call("POST /containers/{id}/wait", id=id)
    call("GET /containers/{id}/stats", "stream=0", id=id)
    call("POST /containers/{id}/attach", "logs=1&stdout=1", id=id)
    call("DELETE /containers/{id}", "v=1", id=id)
    call("POST /containers/prune")


def _states(call: Caller, engine: Engine) -> None:
    """Containers in each state, inspected and listed, and what is refused of each."""
    sleep = ["sleep", "600"]
    for name, config, host in (
        ("healthy", {"Healthcheck": {"Test": ["CMD-SHELL", "echo well"], "Interval": 10**8}}, {}),
        ("paused", {"Tty": True, "OpenStdin": True}, {"Mounts": [{"Type": "tmpfs", "Target": "/t"}]}),
        ("restarting", {"Cmd": ["false"]}, {"RestartPolicy": {"Name": "always"}}),
        ("ended", {"Cmd": ["sh", "-c", "exit 3"], "StopTimeout": 5}, {"NetworkMode": "none"}),
        ("host", {}, {"NetworkMode": "host", "PidMode": "host", "Privileged": True, "ReadonlyRootfs": True}),
        ("limited", {}, {"CpuShares": 9, "PidsLimit": 9, "Ulimits": [{"Name": "nofile", "Soft": 9, "Hard": 99}]}),
    ):
        body = {"Image": "busybox", "Cmd": sleep, "HostConfig": host, **config}
        call("POST /containers/create", f"name={name}", body)
        call("POST /containers/{id}/start", id=name)
    call("POST /containers/{id}/wait", id="ended")
    engine.api("POST", "/containers/paused/pause")
    wait_for(lambda: engine.inspect("healthy")["State"]["Health"]["Status"] == "healthy", "it is healthy")
    wait_for(lambda: engine.inspect("restarting")["RestartCount"] > 0, "it was started again")
    call("POST /containers/create", "name=made", {"Image": "busybox", "Cmd": ["nosuch"]})
    call("POST /containers/{id}/start", id="made")  # 400
    for name in ("healthy", "paused", "restarting", "ended", "host", "limited", "made"):
        call("GET /containers/{id}/json", "size=1", id=name)
        call("GET /containers/{id}/stats", "stream=0&one-shot=1", id=name)
        call("GET /containers/{id}/changes", id=name)
    call("GET /containers/json", "all=1&size=1")
    call("POST /containers/create", "", {"Image": "busybox", "HostConfig": {"Memory": 1}})
    call("GET /containers/json", "filters=odd")
    call("POST /containers/{id}/rename", "name=host", id="ended")
    call("POST /containers/{id}/kill", "signal=odd", id="host")
    call("POST /containers/{id}/kill", id="ended")
    call("POST /containers/{id}/wait", "condition=odd", id="ended")
    call("POST /containers/{id}/attach", "detachKeys=odd", id="host")
    call("GET /containers/{id}/attach/ws", "stream=1", id="host")  # no handshake
    call("POST /containers/{id}/exec", "", {"Cmd": ["true"]}, id="paused")
    call("DELETE /containers/{id}", id="host")
    call("POST /containers/{id}/resize", "h=1&w=odd", id="host")
    verbs = ["start", "stop", "kill", "restart", "pause", "unpause", "wait", "attach", "update", "exec"]
    operations = [f"GET /containers/{{id}}/{name}" for name in ("top", "logs", "changes", "stats", "export")]
    for operation in [*operations, "DELETE /containers/{id}", *(f"POST /containers/{{id}}/{verb}" for verb in verbs)]:
        body = {"Cmd": ["true"]} if operation.endswith(("exec", "update")) else None
        call(operation, "stdout=1" if operation.endswith("logs") else "", body, id="no-such-container")
    run = call("POST /containers/{id}/exec", "", {"Cmd": sleep, "Tty": True, "AttachStdout": True}, id="limited").json
    call("POST /exec/{id}/start", "", {"Detach": True, "Tty": True}, id=run["Id"])
    call("POST /exec/{id}/start", "", {"Detach": True}, id=run["Id"])  # 409
    call("POST /exec/{id}/resize", "h=9&w=9", id=run["Id"])
    call("POST /exec/{id}/resize", "h=odd&w=9", id=run["Id"])
    call("GET /exec/{id}/json", id=run["Id"])
    call("POST /exec/{id}/start", "", {}, id="none")
    call("GET /containers/{id}/json", id="limited")
    call("GET /info")
    call("GET /system/df", "verbose=1")


def _networks(call: Caller, engine: Engine) -> None:
    ipam = {"Driver": "default", "Config": [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.1"}]}
    id = call("POST /networks/create", "", {"Name": "answers", "IPAM": ipam, "Labels": {"x": "y"}}).json["Id"]
    call("POST /networks/create", "", {"Name": "answers"})  # 409
    engine.docker("run", "-d", "--name", "member", "busybox", "sleep", "600")
    call("POST /networks/{id}/connect", "", {"Container": "member"}, id=id)
    call("GET /networks")
    call("GET /networks/{id}", "verbose=1", id=id)
    call("GET /networks/{id}", id="no-such-network")
    call("POST /networks/{id}/disconnect", "", {"Container": "member"}, id=id)
    call("DELETE /networks/{id}", id=id)
    call("DELETE /networks/{id}", id=id)
    call("POST /networks/prune")


def _volumes(call: Caller, engine: Engine) -> None:
    call("POST /volumes/create", "", {"Name": "answers", "Labels": {"x": "y"}})
    call("GET /volumes")
    call("GET /volumes/{name}", name="answers")
    call("GET /volumes/{name}", name="none")
    call("PUT /volumes/{name}", "version=1", {"Spec": {}}, name="answers")
    call("GET /volumes", "filters=odd")
    engine.docker("create", "--name", "user", "-v", "answers:/v", "busybox")
    call("DELETE /volumes/{name}", name="answers")  # 409
    engine.docker("rm", "user")
    call("DELETE /volumes/{name}", name="answers")
    call("DELETE /volumes/{name}", name="answers")  # 404
    call("POST /volumes/prune")


def _system(call: Caller, engine: Engine) -> None:
    for operation in ("GET /_ping", "HEAD /_ping", "GET /info", "GET /version", "GET /system/df"):
        call(operation)
    engine.docker("run", "--rm", "busybox", "true")
    call("GET /events", f"since=1&until={time.time():.3f}")
    call("GET /events", "since=odd")
    call("POST /auth", "", {"serveraddress": "127.0.0.1:1"})


def _swarm(call: Caller, engine: Engine) -> None:
    if not shutil.which("etcd"):
        pytest.skip("etcd is not installed")
    everything = ("GET /swarm", "GET /nodes", "GET /services", "GET /tasks", "GET /secrets", "GET /configs")
    for operation in everything:
        call(operation)
    call("POST /swarm/leave")
    call("POST /swarm/init", "", {"AdvertiseAddr": "0.0.0.0"})
    try:
        id = call("POST /swarm/init", "", {"AdvertiseAddr": "127.0.0.1"}).json
        call("POST /swarm/init", "", {"AdvertiseAddr": "127.0.0.1"})
        found = [call(operation) for operation in everything]
        call("GET /info")
        call("GET /nodes", "filters=odd")
        call("GET /nodes/{id}", id="none")
        version = call("GET /nodes/{id}", id=id).json["Version"]["Index"]
        node = {"Role": "manager", "Availability": "drain"}
        call("POST /nodes/{id}/update", f"version={version}", node, id=id)
        call("POST /nodes/{id}/update", f"version={version}", node, id=id)
        call("POST /nodes/{id}/update", "version=odd", node, id=id)
        call("POST /nodes/{id}/update", "version=1", node, id="none")
        call("DELETE /nodes/{id}", id="none")
        call("POST /swarm/update", "version=1", {})
        spec = found[0].json["Spec"] | {"EncryptionConfig": {"AutoLockManagers": True}}
        call("POST /swarm/update", f"version={found[0].json['Version']['Index']}", spec)
        call("GET /swarm")
        call("GET /swarm/unlockkey")
        call("POST /networks/create", "", {"Name": "answers", "Driver": "overlay", "Attachable": True})
        engine.docker("run", "-d", "--name", "member", "--network", "answers", "busybox", "sleep", "600")
        call("GET /containers/{id}/json", id="member")
        call("GET /networks/{id}", id="answers")
        call("GET /networks")
        call("DELETE /networks/{id}", id="answers")  # 403
        engine.docker("rm", "-f", "member")
        call("DELETE /networks/{id}", id="answers")
        call("POST /swarm/leave")
    finally:
        call("POST /swarm/leave", "force=1")


@pytest.mark.parametrize("part", [_images, _containers, _states, _networks, _volumes, _system, _swarm])
def test_answers_are_what_the_specification_says(engine: Engine, part: Any) -> None:
    call = Caller(engine)
    part(call, engine)
    wrong = [line for line in dict.fromkeys(call.wrong) if not any(re.search(p, line) for p, _ in _TOLERATED)]
    assert not wrong, "\n" + "\n".join(wrong)
