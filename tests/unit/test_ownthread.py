"""Work in a thread of its own."""

import asyncio
import threading

import pytest

from rorqual import ownthread


def test_a_thread_of_its_own_tells_what_came_of_it() -> None:
    async def body() -> None:
        assert await ownthread.run(lambda: threading.current_thread().daemon, "one")
        with pytest.raises(ValueError, match="bad"):
            await ownthread.run(lambda: int("bad"), "two")

    asyncio.run(body())
