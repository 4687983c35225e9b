"""Whatever is asked of the Engine API, the answer is the client's fault or a success: never 500, never a traceback.

A bounded number of requests made from a seed, so that a failure can be made again: every operation of the API with
names, parameters and bodies that are right, wrong, of another type, or no JSON at all.
"""

import http.client
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from support.bodies import container_creates
from support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SPEC = Path(__file__).resolve().parents[3] / "docs" / "spec" / "engine-endpoints.tsv"
REQUESTS = 1200
# Answers that an operation gives whatever is asked: not offered (501), or away (503).
ALLOWED_5XX = {501, 503}
# These pull from a registry or wait for one, which is another's failure.
NETWORKED = {("POST", "/auth"), ("GET", "/distribution/{name}/json"), ("GET", "/images/search")}

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 1.5, "", "0", "1", "true", "a", "a" * 5000, "\x00", "..", "/",
    "../../etc", "é\u202e", "[]", "{", [], ["a"], [None], [[]], {}, {"a": "b"}, {"": None}, {"a": {"b": []}},
)  # fmt: skip
QUERIED = ("", "0", "1", "-1", "true", "x", "%00", "{}", "[1]", "9" * 30, "%7B%22a%22%3A%5B1%5D%7D")
NAMES = (
    "nosuch", "fuzz", "busybox", "busybox:latest", "bridge", "host", "none", "%00", "..%2f..", "a" * 300,
    "sha256:" + "0" * 64, "-", "%ff", "@", "0" * 64, "fuzz%20",
)  # fmt: skip
FIELDS = (
    "Image", "Cmd", "Env", "Entrypoint", "Labels", "HostConfig", "NetworkingConfig", "User", "WorkingDir", "Tty",
    "ExposedPorts", "Volumes", "Healthcheck", "StopTimeout", "Hostname", "Binds", "Mounts", "PortBindings", "Memory",
    "NanoCpus", "RestartPolicy", "NetworkMode", "CapAdd", "Devices", "Ulimits", "LogConfig", "Sysctls", "SecurityOpt",
    "Name", "Driver", "IPAM", "Options", "Container", "EndpointConfig", "Force", "Detach", "AttachStdin", "ExecIDs",
    "DriverOpts", "CpusetCpus", "PidsLimit", "ShmSize", "Tmpfs", "ExtraHosts", "Dns", "Links", "Internal",
)  # fmt: skip


def operations() -> Iterator[tuple[str, str, list[str]]]:
    for line in SPEC.read_text().splitlines():
        if line and not line.startswith("#"):
            method, path, _name, parameters, *_ = line.split("\t")
            if (method, path) not in NETWORKED:
                yield method, path, [p for p in parameters.split(",") if p and ":" not in p]


def body(rng: random.Random) -> bytes:
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return b"{" * rng.randrange(1, 20_000)
    if kind == 2:
        return json.dumps(rng.choice(VALUES)).encode()
    fields: dict[str, Any] = {"Image": "busybox", "Cmd": ["true"]} if kind > 4 else {}
    for _ in range(rng.randrange(1, 5)):
        fields[rng.choice(FIELDS)] = rng.choice(VALUES)
    if kind > 5:
        host = {rng.choice(FIELDS): rng.choice(VALUES) for _ in range(rng.randrange(1, 4))}
        fields["HostConfig"] = host | {"NetworkMode": rng.choice(("none", "bridge", "host", "nosuch", ""))}
    return json.dumps(fields).encode()


def target(rng: random.Random, path: str, parameters: list[str]) -> str:
    while "{" in path:
        start, _, rest = path.partition("{")
        path = start + rng.choice(NAMES) + rest.partition("}")[2]
    chosen = rng.sample(parameters, rng.randrange(len(parameters) + 1))
    query = "&".join(f"{name}={rng.choice(QUERIED)}" for name in chosen)
    version = rng.choice(("", "/v1.24", "/v1.41", "/v1.56", "/v1.999", "/v0.1"))
    return f"{version}{path}?{query}" if query else version + path


def ask(engine: Engine, method: str, where: str, data: bytes, kind: str) -> tuple[int, bytes]:
    """(status, the beginning of the body); (0, b"") for a stream that says nothing for the moment."""
    connection = http.client.HTTPConnection("d", timeout=1)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    try:
        connection.sock.connect(str(engine.socket))
        connection.request(method, where, data, {"Content-Type": kind})
        response = connection.getresponse()
        connection.sock.settimeout(0.05) if connection.sock else None
        try:
            return response.status, response.read(4096)
        except (TimeoutError, http.client.HTTPException):
            return response.status, b""
    except (TimeoutError, http.client.HTTPException, ConnectionError):
        return 0, b""
    finally:
        connection.close()


@pytest.mark.parametrize("seed", [3, 5])
def test_no_request_is_answered_by_500_or_a_traceback(fresh_engine: Engine, seed: int) -> None:
    engine, rng = fresh_engine, random.Random(seed)
    all_operations = list(operations())
    engine.rorqual("create", "--name", "fuzz", "--network", "none", "busybox", "true")
    failures = []
    for _ in range(REQUESTS):
        method, path, parameters = rng.choice(all_operations)
        where, data = target(rng, path, parameters), body(rng)
        kind = rng.choice(("application/json", "application/json", "text/plain", ""))
        status, said = ask(engine, method, where, data, kind)
        if status >= 500 and status not in ALLOWED_5XX:
            failures.append(f"{method} {where[:200]} {data[:300]!r}\n  -> {status} {said[:300]!r}")
    log = engine.log.read_text(errors="replace")
    if "Traceback" in log:
        failures.append(log[log.index("Traceback") - 300 :][:3000])
    for container in engine.api("GET", "/containers/json?all=1").json:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    assert not failures, f"{len(failures)} of {REQUESTS}:\n" + "\n".join(failures[:25])
    assert engine.api("GET", "/_ping").status == 200


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=container_creates())
def test_any_body_that_makes_a_container_makes_one_or_is_refused(engine: Engine, body: dict[str, Any]) -> None:
    """Within the time of a start, with a text, and without a trace in the log or of a container that was not made."""
    data = json.dumps({"Cmd": ["true"], **body, "Image": "busybox"}).encode()
    began = engine.log.stat().st_size
    answer = engine.api("POST", "/containers/create", data, timeout_s=20)
    assert answer.status < 500 or answer.status in ALLOWED_5XX, answer.body
    with engine.log.open("rb") as log:
        log.seek(began)
        assert b"Traceback" not in log.read()
    made = {container["Id"] for container in engine.api("GET", "/containers/json?all=1").json}
    if answer.status == 201:
        assert made == {answer.json["Id"]}
        assert engine.api("GET", f"/containers/{answer.json['Id']}/json").status == 200
        assert engine.api("DELETE", f"/containers/{answer.json['Id']}?force=1&v=1").status == 204
    else:
        assert answer.message
        assert made == set()
