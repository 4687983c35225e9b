import asyncio

from rorqual.libnetwork.lanes import Lanes


def test_a_lane_is_one_at_a_time_in_order_and_others_pass() -> None:
    async def body() -> list[str]:
        lanes, seen, go = Lanes(), [], asyncio.Event()

        async def held() -> None:
            async with lanes.taken(["a", "b"]):
                seen.append("held")
                await go.wait()

        async def passing(name: str, *names: str) -> None:
            async with lanes.taken(names):
                seen.append(name)

        tasks = [asyncio.create_task(held())]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(passing(*words)) for words in (("b", "b"), ("c", "c"), ("ab", "b", "a"))]
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen == ["held", "c"]
        tasks[1].cancel()
        go.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not lanes._lanes
        return seen

    assert asyncio.run(body()) == ["held", "c", "ab"]
