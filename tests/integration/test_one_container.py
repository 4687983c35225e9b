"""Many clients act on one container and on its name: each gets a clear answer soon, and nothing is left behind."""

import random
import threading
import time
from collections import Counter
from typing import Any

import pytest
from support.engine import Answer, Engine
from support.processes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.slow]

CLIENTS = 8
SECONDS = 10.0
PATIENCE_S = 9.5  # for an answer; a stop and a kill each have ten seconds before they give up
BODY = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
WANTED = {"create", "start", "remove by force", "rename", "commit"}
LIMITS = {"Memory": 64 << 20, "MemorySwap": 128 << 20}

# name: (method, path, body)
OPERATIONS: dict[str, tuple[str, str, Any]] = {
    "start": ("POST", "/containers/one/start", None),
    "stop": ("POST", "/containers/one/stop?t=0", None),
    "kill": ("POST", "/containers/one/kill", None),
    "restart": ("POST", "/containers/one/restart?t=0", None),
    "pause": ("POST", "/containers/one/pause", None),
    "unpause": ("POST", "/containers/one/unpause", None),
    "remove by force": ("DELETE", "/containers/one?force=1&v=1", None),
    "remove": ("DELETE", "/containers/one", None),
    "remove the other": ("DELETE", "/containers/other?force=1", None),
    "rename": ("POST", "/containers/one/rename?name=other", None),
    "rename back": ("POST", "/containers/other/rename?name=one", None),
    "update": ("POST", "/containers/one/update", LIMITS),
    "resize": ("POST", "/containers/one/resize?h=10&w=20", None),
    "connect": ("POST", "/networks/beside/connect", {"Container": "one"}),
    "disconnect": ("POST", "/networks/beside/disconnect", {"Container": "one", "Force": True}),
    "inspect": ("GET", "/containers/one/json", None),
    "top": ("GET", "/containers/one/top", None),
    "logs": ("GET", "/containers/one/logs?stdout=1", None),
    "stats": ("GET", "/containers/one/stats?stream=0&one-shot=1", None),
    "changes": ("GET", "/containers/one/changes", None),
    "archive": ("GET", "/containers/one/archive?path=/etc", None),
    "export": ("GET", "/containers/one/export", None),
    "commit": ("POST", "/commit?container=one&repo=made", None),
}


class Client:
    def __init__(self, engine: Engine, seed: str, policy: str) -> None:
        self.engine, self.policy = engine, policy
        self.dice = random.Random(seed)
        self.wrong: list[str] = []
        self.answers: Counter[tuple[str, int]] = Counter()

    def run(self) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            name = self.dice.choice(["create", "create", "start", "start", "exec", *OPERATIONS])
            begun = time.monotonic()
            try:
                answer = self._act(name)
            except OSError as error:
                self.wrong.append(f"{name}: {error!r}")
                continue
            took = time.monotonic() - begun
            self.answers[name, answer.status] += 1
            same_name = b"same name as its current" in answer.body
            if answer.status >= 500 or (answer.status == 400 and not same_name) or took > PATIENCE_S:
                self.wrong.append(f"{name}: {answer.status} after {took:.1f} s: {answer.body[-300:]!r}")

    def _act(self, name: str) -> Answer:
        if name == "create":
            host = {"RestartPolicy": {"Name": self.policy}}
            return self.engine.api("POST", "/containers/create?name=one", {**BODY, "HostConfig": host})
        if name == "exec":
            made = self.engine.api("POST", "/containers/one/exec", {"Cmd": ["true"]})
            if made.status != 201:
                return made
            return self.engine.api("POST", f"/exec/{made.json['Id']}/start", {"Detach": True})
        return self.engine.api(*OPERATIONS[name])


@pytest.mark.parametrize("policy", ["no", "always"])
def test_each_client_gets_a_clear_answer_and_nothing_is_left(engine: Engine, policy: str) -> None:
    before = engine.held()
    assert engine.api("POST", "/networks/create", {"Name": "beside"}).status == 201
    clients = [Client(engine, f"{policy} {number}", policy) for number in range(CLIENTS)]
    succeeded: set[str] = set()
    for _ in range(4):  # a busy machine may not come to all of it in the first time
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not [wrong for client in clients for wrong in client.wrong]
        succeeded |= {name for client in clients for name, status in client.answers if status < 300}
        if succeeded >= WANTED:
            break
    assert succeeded >= WANTED  # else nothing was tried

    for name in ("one", "other"):
        engine.api("DELETE", f"/containers/{name}?force=1")
        made = engine.api("POST", f"/containers/create?name={name}", BODY)
        assert made.status == 201, f"the name is free: {made.body!r}"
        engine.api("DELETE", f"/containers/{name}?force=1")
    assert engine.api("DELETE", "/networks/beside").status == 204
    engine.api("DELETE", "/images/made?force=1")
    engine.api("POST", "/images/prune?filters=%7B%22dangling%22%3A%7B%22true%22%3Atrue%7D%7D")
    wait_for(lambda: not engine.held().more_than(before, 12), lambda: "\n".join(engine.held().more_than(before, 12)))
