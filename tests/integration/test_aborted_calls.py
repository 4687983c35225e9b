"""CVE-2022-31030, CVE-2022-23471, CVE-2025-64329: calls given up half-way leave memory and descriptors flat."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.engine import Engine
from support.processes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

GROWTH_MAX_KIB = 24 * 1024  # an allocator's slack; 10,000 leaked calls would be several times that


def abort(engine: Engine, request: bytes) -> None:
    """Send a request and close at once, without reading."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(engine.host.removeprefix("unix://"))
        sock.sendall(request)


def abort_many(engine: Engine, request: bytes, count: int, whole: str = "") -> None:
    """`count` of them; a whole call now and then lets every process keep up: a backlog is not a leak."""
    for n in range(count):
        abort(engine, request)
        if n % 20 == 0:
            engine.api("POST" if whole else "GET", whole or "/_ping")


def post(path: str, body: bytes = b"", *, upgrade: bool = False) -> bytes:
    hijack = "Upgrade: tcp\r\nConnection: Upgrade\r\n" if upgrade else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: d\r\n{hijack}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    return head.encode() + b"\r\n" + body


def private_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private"))


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def flat(engine: Engine, container: str, calls: Callable[[int], None], count: int) -> None:
    """Some calls to warm up; then `count` of them must cost no process memory or descriptors."""
    pids = [p for name in ("rorquald", "containerd") for p in engine.pids(name)] + engine.pids("shim", container)
    calls(count // 2)  # to the heap's high-water mark of so many calls at once
    time.sleep(0.5)
    memory = {pid: private_kib(pid) for pid in pids}
    files = {pid: descriptors(pid) for pid in pids}
    calls(count)
    wait_for(lambda: all(descriptors(pid) <= files[pid] + 4 for pid in pids), "descriptors stay open", timeout_s=20)
    for pid in pids:
        assert private_kib(pid) - memory[pid] < GROWTH_MAX_KIB, f"pid {pid}: {Path(f'/proc/{pid}/cmdline').read_text()}"
    assert engine.running(container)


@pytest.fixture
def container(engine: Engine) -> str:
    return engine.rorqual.out("run", "-d", "-i", "busybox", "sleep", "600")


def test_ten_thousand_aborted_attaches(engine: Engine, container: str) -> None:
    request = post(f"/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1", upgrade=True)
    flat(engine, container, lambda n: abort_many(engine, request, n), 10_000)


def test_ten_thousand_aborted_resizes(engine: Engine, container: str) -> None:
    path = f"/containers/{container}/resize?h=40&w=120"
    flat(engine, container, lambda n: abort_many(engine, post(path), n, whole=path), 10_000)


def test_a_thousand_aborted_execs(engine: Engine, container: str) -> None:
    config = json.dumps({"Cmd": ["true"], "AttachStdout": True, "AttachStdin": True}).encode()

    def calls(count: int) -> None:
        for _ in range(count):
            made = engine.api("POST", f"/containers/{container}/exec", json.loads(config)).json["Id"]
            abort(engine, post(f"/exec/{made}/start", b'{"Detach": false, "Tty": false}', upgrade=True))

    flat(engine, container, calls, 1_000)
    assert engine.rorqual.out("exec", container, "echo", "still here") == "still here"
