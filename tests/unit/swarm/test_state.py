"""The state in memory: what was committed is there, of two changes at once one fails, names are one object's."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.processes import wait_for
from support.swarmstate import Memory, opened

from rorqual.errdefs import DataLoss, InvalidArgument
from rorqual.swarm.keys import new_state_key
from rorqual.swarm.store.state import Stored

Test = Callable[[], Coroutine[Any, Any, None]]


def run(test: Test) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def test_a_change_is_in_memory_when_it_is_answered() -> None:
    async def test() -> None:
        async with opened(Memory()) as state:
            await state.commit(put=[Stored("node", "1", {"a": 1}, "one")])
            found = state.get("node", "1")
            assert found is not None and (found.value, found.name) == ({"a": 1}, "one") and found.revision > 0
            assert state.named("node", "one") == found and state.all("node") == [found] and state.all("other") == []
            await state.commit(delete=[found])
            assert state.get("node", "1") is None and state.all("node") == []
            await state.commit(put=[Stored("node", "2", {}, "one")])

    run(test)


def test_of_two_changes_of_one_object_one_fails() -> None:
    async def test() -> None:
        async with opened(Memory()) as state:
            await state.commit(put=[Stored("node", "1", {"a": 1})])
            old = state.all("node")[0]
            await state.commit(put=[Stored("node", "1", {"a": 2}, revision=old.revision)])
            for put, delete in (([Stored("node", "1", {"a": 3}, revision=old.revision)], []), ([], [old])):
                with pytest.raises(InvalidArgument, match="out of sequence"):
                    await state.commit(put=put, delete=delete)
            assert state.all("node")[0].value == {"a": 2}

    run(test)


def test_a_name_is_one_objects_until_it_gives_it_up() -> None:
    async def test() -> None:
        async with opened(Memory()) as state:
            await state.commit(put=[Stored("network", "1", {}, "red")])
            with pytest.raises(InvalidArgument):
                await state.commit(put=[Stored("network", "2", {}, "red")])
            await state.commit(put=[Stored("node", "2", {}, "red")])
            one = state.all("network")[0]
            await state.commit(put=[Stored("network", "1", {}, "blue", one.revision)])
            await state.commit(put=[Stored("network", "2", {}, "red")])
            assert {s.name for s in state.all("network")} == {"blue", "red"}

    run(test)


def test_another_managers_changes_arrive_also_after_the_connection_was_lost() -> None:
    async def test() -> None:
        backend, key = Memory(), new_state_key()
        async with opened(backend, key) as one, opened(backend, key) as other:
            await one.commit(put=[Stored("node", "1", {})])
            await asyncio.to_thread(wait_for, lambda: other.get("node", "1"), "the change is there", 10)
            await backend.cut()
            await one.commit(delete=[one.all("node")[0]], put=[Stored("node", "2", {})])
            await asyncio.to_thread(
                wait_for, lambda: other.get("node", "2") and not other.get("node", "1"), "the changes are there", 10
            )
            assert backend.loads > 2

    run(test)


def test_a_state_of_another_key_is_not_read() -> None:
    async def test() -> None:
        backend = Memory()
        async with opened(backend) as state:
            await state.commit(put=[Stored("node", "1", {"secret": "word"})])
        assert all(b"word" not in value for value, _ in backend.entries.values())
        with pytest.raises(DataLoss):
            async with opened(backend):
                pass

    run(test)
