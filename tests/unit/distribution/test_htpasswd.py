"""Who may come in to the registry, and what it costs to ask."""

import asyncio
import base64
import threading
from pathlib import Path

import pytest

from rorqual.distribution.serve import htpasswd as module
from rorqual.distribution.serve.htpasswd import Htpasswd
from rorqual.errdefs import Unavailable


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_guesses_of_strangers_neither_take_every_thread_nor_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check costs tens of milliseconds by design; thousands of them must not stop those who are known."""
    file = tmp_path / "htpasswd"
    file.write_text("user:$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n")
    users, go_on = Htpasswd(file), threading.Event()

    def slow(password: str, _hashed: str) -> bool:
        if password != "right":
            go_on.wait(30)
        return password == "right"

    monkeypatch.setattr(module, "_matches", slow)
    assert await users.allows(basic("user", "right"))
    guesses = [asyncio.create_task(users.allows(basic("user", f"guess {n}"))) for n in range(500)]
    try:
        async with asyncio.timeout(10):
            assert await users.allows(basic("user", "right"))
            assert await asyncio.to_thread(lambda: "a thread is free") == "a thread is free"
    finally:
        go_on.set()
        answers = await asyncio.gather(*guesses, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Unavailable)]
    assert len(refused) > 400
    assert all(answer is False for answer in answers if answer not in refused)
    assert not await users.allows(basic("user", "wrong"))
