"""Eight clients do what clients do while the engine's processes are killed: model and reality agree, nothing leaks.

Each client owns its containers, so it knows of each the set of states that it may be in: one after a success, two after
an answer that was lost. A killed shim ends its container, and is told to the model before it is killed.
"""

import http.client
import io
import os
import random
import signal
import socket
import tarfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from support.engine import Answer, Engine
from support.processes import alive, wait_for

pytestmark = [pytest.mark.root, pytest.mark.slow]

CLIENTS = 8
ROUNDS = 12
ABSENT = "absent"
SEEDS = [int(seed) for seed in os.environ.get("RORQUAL_TEST_SEEDS", "1").split(",")]
VICTIMS = (("rorquald",), ("containerd",), ("rorquald", "containerd"), ("spawner",), ("shim",), ("shim", "rorquald"))


@dataclass
class Owned:
    """A container and the states that it may be in."""

    base: str  # its name; a rename adds a letter, the next one takes it away
    states: set[str] = field(default_factory=lambda: {ABSENT})
    names: set[str] = field(default_factory=set)  # that it may have: two after a rename whose answer was lost
    id: str = ""  # unknown after a create whose answer was lost
    files: set[str] = field(default_factory=lambda: {""})  # what /model may hold, "" for none or a torn one
    begun: float = 0.0  # its last operation that succeeded
    shim_killed: float = -1.0
    history: list[str] = field(default_factory=list)  # for the text of a failure

    def __post_init__(self) -> None:
        self.names = {self.base}

    @property
    def name(self) -> str:
        """One of its names."""
        return min(self.names)

    @property
    def address(self) -> str:
        """What a request calls it."""
        return self.id or self.name

    def now(self) -> set[str]:
        """The states it may be in at this moment."""
        if self.shim_killed >= self.begun and self.states & {"running", "paused"}:
            return self.states | {"exited"}
        return self.states


# (method, path after the name, states from which it acts, the state it leads to)
OPERATIONS = {
    "start": ("POST", "/start", {"created", "exited"}, "running"),
    "stop": ("POST", "/stop?t=1", {"running", "paused"}, "exited"),
    "kill": ("POST", "/kill", {"running", "paused"}, "exited"),
    "restart": ("POST", "/restart?t=0", {"created", "running", "paused", "exited"}, "running"),
    "pause": ("POST", "/pause", {"running"}, "paused"),
    "unpause": ("POST", "/unpause", {"paused"}, "running"),
    "remove": ("DELETE", "?force=1&v=1", {"created", "running", "paused", "exited"}, ABSENT),
}

# What leaves the state as it is.
ASIDE = ("exec", "logs", "attach", "copy", "commit", "rename")


class Client:
    """Acts on its own containers until told to stop."""

    def __init__(self, engine: Engine, number: int, seed: int) -> None:
        self.engine = engine
        self.dice = random.Random(seed * 1000 + number)
        self.owned = [Owned(f"chaos-{number}-{i}") for i in range(3)]
        self.image = f"chaos-{number}"
        self.committed = False
        self.wrong: list[str] = []
        self.done = 0
        self.used: Counter[str] = Counter()

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._act(self.dice.choice(self.owned))

    def _act(self, owned: Owned) -> None:
        before, begun = set(owned.now()), time.monotonic()
        if len(owned.names) > 1 and not self._named(owned):
            return
        name = "create" if before == {ABSENT} else self.dice.choice(["create", *OPERATIONS, *ASIDE])
        if name in ASIDE:
            getattr(self, f"_{name}")(owned)
            self.used[name] += 1
            owned.history.append(f"{time.strftime('%X')} {name}: {sorted(owned.names)}")
            return
        if name == "create":
            script = f"echo {owned.base}; exec sleep 1000"
            body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "StopSignal": "SIGKILL"}
            answer = self._ask("POST", f"/containers/create?name={owned.name}", body)
            acts, after = {ABSENT}, "created"
            if answer is None:
                owned.files.add("")
            elif answer.status == 201:
                owned.id, owned.files = answer.json["Id"], {""}
            if answer is None or answer.status >= 500:
                owned.id = ""  # the old one's, or a new one's that is not known
        else:
            method, rest, acts, after = OPERATIONS[name]
            answer = self._ask(method, f"/containers/{owned.address}{rest}")
        self.used[name] += 1
        self.done += 1
        before |= owned.now()  # its shim may have been killed meanwhile
        status = answer.status if answer is not None else "lost"
        owned.history.append(f"{time.strftime('%X')} {sorted(before)} {name}: {status}")
        if answer is None or answer.status >= 500:
            cut = {after, "exited"} if name in ("restart", "remove") else {after}  # both end it first
            owned.states = before | (cut if before & acts else set())
        elif answer.status == 404:
            self._expect(ABSENT in before, name, owned, before, answer)
            owned.states = {ABSENT}
        elif answer.status < 400 and answer.status != 304:
            self._expect(bool(before & acts), name, owned, before, answer)
            owned.states, owned.begun = {after}, begun
        elif answer.status == 304:
            owned.states = before - acts - {ABSENT}  # there was nothing to do
        else:
            owned.states = before - {ABSENT}  # refused: it is as it was, and it is there
            self._expect(bool(owned.states), name, owned, before, answer)

    def _exec(self, owned: Owned) -> None:
        answer = self._ask("POST", f"/containers/{owned.address}/exec", {"Cmd": ["true"]})
        if answer is not None and answer.status == 201:
            self._ask("POST", f"/exec/{answer.json['Id']}/start", {"Detach": True})

    def _logs(self, owned: Owned) -> None:
        """Whatever was written is this container's, and whole."""
        answer = self._ask("GET", f"/containers/{owned.address}/logs?stdout=1&stderr=1")
        if answer is not None and answer.status == 200:
            frame = bytes((1, 0, 0, 0)) + (len(owned.base) + 1).to_bytes(4, "big") + owned.base.encode() + b"\n"
            lines = len(answer.body) // len(frame)
            self._expect(answer.body == frame * lines, "logs", owned, owned.now(), answer)

    def _attach(self, owned: Owned) -> None:
        """A client that goes away at once."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.engine.socket))
            path = f"/containers/{owned.address}/attach?stream=1&stdin=1&stdout=1"
            sock.sendall(f"POST {path} HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n".encode())
            sock.settimeout(self.dice.random())
            sock.recv(4096)

    def _copy(self, owned: Owned) -> None:
        """What is read is what was written last, or may have been."""
        answer = self._ask("GET", f"/containers/{owned.address}/archive?path=/model")
        if answer is not None and answer.status == 200:
            with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
                file = archive.extractfile("model")
                assert file is not None
                text = file.read().decode()
            self._expect(text in owned.files, f"read {text!r} not of {owned.files}", owned, owned.now(), answer)
        elif answer is not None and answer.status == 404 and b"Could not find the file" in answer.body:
            self._expect("" in owned.files, f"read nothing, not of {owned.files}", owned, owned.now(), answer)
        text = f"{self.dice.randrange(10**9)}"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo("model")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
        answer = self._ask("PUT", f"/containers/{owned.address}/archive?path=/", buffer.getvalue())
        if answer is not None and answer.status == 200:
            owned.files = {text}
        else:
            owned.files |= {text, ""}

    def _commit(self, owned: Owned) -> None:
        answer = self._ask("POST", f"/commit?container={owned.address}&repo={self.image}")
        self.committed |= answer is not None and answer.status == 201

    def _rename(self, owned: Owned) -> None:
        if not owned.id:
            return
        other = owned.base if owned.name != owned.base else f"{owned.base}b"
        answer = self._ask("POST", f"/containers/{owned.id}/rename?name={other}")
        if answer is None or answer.status >= 500:
            owned.names = {owned.name, other}
        elif answer.status < 300:
            owned.names = {other}

    def _named(self, owned: Owned) -> bool:
        """Ask for the name that a lost answer left open; false while nobody answers."""
        answer = self._ask("GET", f"/containers/{owned.id}/json")
        if answer is None or answer.status not in (200, 404):
            return False
        if answer.status == 200:
            found = answer.json["Name"].removeprefix("/")
            self._expect(found in owned.names, f"named {found}", owned, owned.now(), answer)
            owned.names = {found}
        else:
            owned.names = {owned.base}
        return True

    def _expect(self, true: bool, name: str, owned: Owned, before: set[str], answer: Answer) -> None:
        if not true:
            self.wrong.append("\n  ".join([f"{owned.name}: {name}: {answer.body[:200]!r}", *owned.history[-16:]]))

    def _ask(self, method: str, path: str, body: object = None) -> Answer | None:
        """None when nobody answered."""
        try:
            return self.engine.api(method, path, body, timeout_s=40)
        except TimeoutError:
            self.wrong.append(f"{method} {path}: no answer in 40 s")
            for daemon in ("rorquald", "containerd"):  # what they wait for goes to their log
                for pid in self.engine.pids(daemon):
                    os.kill(pid, signal.SIGUSR1)
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        return None


def kill_a_shim(engine: Engine, clients: list[Client], dice: random.Random) -> None:
    by_base = {owned.base: owned for client in clients for owned in client.owned}
    files = list((engine.exec / "containerd" / "tasks").glob("*/*/shim.pid"))
    for file in dice.sample(files, min(2, len(files))):
        with suppress(OSError, ValueError, http.client.HTTPException, KeyError):
            base = engine.inspect(file.parent.name)["Name"].removeprefix("/").removesuffix("b")
            pid = int(file.read_text())
            by_base[base].shim_killed = float("inf")
            os.kill(pid, signal.SIGKILL)
            by_base[base].shim_killed = time.monotonic()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.timeout(240)
def test_model_and_reality_agree_after_random_operations_and_kills(fresh_engine: Engine, seed: int) -> None:
    engine, dice, stop = fresh_engine, random.Random(seed), threading.Event()
    engine.rorqual("run", "--rm", "busybox", "true")
    before = engine.held()
    clients = [Client(engine, number, seed) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            time.sleep(0.5 + dice.random())
            for victim in dice.choice(VICTIMS):
                if victim == "shim":
                    kill_a_shim(engine, clients, dice)
                elif engine.pids(victim):
                    engine.kill(victim)
            if not engine.pids("rorquald"):
                engine.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sum(client.done for client in clients) > 10 * ROUNDS
    wrong = [line for client in clients for line in client.wrong]
    assert not wrong, "\n".join(wrong) + told(engine, wrong) + engine.log_tail(200)
    wait_for(lambda: not disagreements(engine, clients), lambda: str(disagreements(engine, clients)), 20)
    used = sum((client.used for client in clients), Counter())
    assert not {"create", *OPERATIONS, *ASIDE} - used.keys(), used
    for container in engine.api("GET", "/containers/json?all=1").json:
        assert engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1").status == 204
    for client in clients:
        status = engine.api("DELETE", f"/images/{client.image}?force=1").status
        assert status == 200 or (status == 404 and not client.committed), f"{client.image}: {status}"
    pruned = engine.api("POST", "/images/prune?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D")  # earlier commits
    assert pruned.status == 200, pruned.message

    def beyond() -> list[str]:
        # The long-lived processes are others than before; those of containers show by their cgroups.
        return [item for item in engine.held().more_than(before, 24) if not item.startswith("processes")]

    wait_for(lambda: not beyond(), lambda: f"{beyond()}{engine.log_tail(60)}")


def told(engine: Engine, wrong: list[str]) -> str:
    """What the engine's journal says of the containers whose models were wrong."""
    events = engine.api("GET", f"/events?since=1&until={time.time():.0f}").body.decode().splitlines()
    bases = {line.partition(":")[0].removesuffix("b") for line in wrong}
    return "\n".join(["", *(event for event in events if any(base in event for base in bases)), ""])


def disagreements(engine: Engine, clients: list[Client]) -> list[str]:
    """Where the engine's records differ from the model, or from the processes that there are."""
    found: list[str] = []
    records = {c["Names"][0].removeprefix("/"): c for c in engine.api("GET", "/containers/json?all=1").json}
    for client in clients:
        for owned in client.owned:
            record = next((records.pop(name) for name in sorted(owned.names) if name in records), None)
            state = record["State"] if record else ABSENT
            if state not in owned.now():
                found.append(f"{owned.name} is {state}, not {sorted(owned.now())}: {owned.history[-6:]}")
            if record is None:
                continue
            pid = engine.inspect(record["Id"])["State"]["Pid"]
            if (state in ("running", "paused")) != (pid > 0 and alive(pid)):
                found.append(f"{owned.name} is {state}, its pid {pid}")
            if state == "running":
                run = engine.api("POST", f"/containers/{owned.address}/exec", {"Cmd": ["true"]})
                started = engine.api("POST", f"/exec/{run.json['Id']}/start", {"Detach": True})
                if started.status != 200:
                    found.append(f"{owned.name}: exec: {started.message}")
    found += [f"{name} is nobody's" for name in records]
    running = {c["Id"] for c in engine.api("GET", "/containers/json").json}
    shims = {p.parent.name for p in (engine.exec / "containerd" / "tasks").glob("*/*/shim.pid")}
    return found + [f"a shim of {id[:12]}, which does not run" for id in shims - running]
