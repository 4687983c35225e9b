"""A build's progress as vertices: their names, their order, and who follows."""

import asyncio
from collections.abc import Sequence

from rorqual.builder.dockerfile.parser import parse
from rorqual.builder.dockerfile.stages import recipe
from rorqual.daemon.services.build.telling import Step
from rorqual.daemon.services.buildkit.progress import Graph, Progress
from rorqual.rpc.proto.buildkit_control_pb2 import StatusResponse

DOCKERFILE = b"""FROM busybox:1 AS build
ENV A=1
WORKDIR /w
RUN make
FROM build
COPY a b
FROM scratch AS last
COPY --from=build /w /
"""


async def told(progress: Progress) -> list[StatusResponse]:
    await progress.end()
    return [message async for message in progress.follow()]


async def steps(graph: Graph, bases: Sequence[str]) -> None:
    whole = recipe(parse(DOCKERFILE))
    for stage, base in zip(whole.stages, bases, strict=True):
        for instruction in (stage.origin, *stage.instructions):
            await graph.step(Step(1, 9, instruction.original, len(whole.stages), stage, instruction, base))


async def test_steps_that_change_files_are_vertices_named_as_buildkit_names_them() -> None:
    progress = Progress("ref")
    graph = Graph(progress)
    await steps(graph, ["busybox:1", "", ""])
    await graph.done()
    names = [vertex.name for message in await told(progress) for vertex in message.vertexes]
    assert list(dict.fromkeys(names)) == [
        "[build 1/3] FROM docker.io/library/busybox:1",
        "[build 2/3] WORKDIR /w",
        "[build 3/3] RUN make",
        "[stage-1 1/1] COPY a b",
        "[last 1/1] COPY --from=build /w /",
    ]
    assert names.count("[build 3/3] RUN make") == 2, "it begins, and ends"


async def test_a_vertex_tells_what_its_command_says_and_how_it_ended() -> None:
    progress = Progress("ref")
    vertex = await progress.vertex("it")
    await vertex.log("out\n")
    await vertex.log("err\n", error=True)
    await vertex.status("part", 1, 2)
    await vertex.cached()
    await vertex.end("broken")
    messages = await told(progress)
    assert [(log.stream, log.msg) for m in messages for log in m.logs] == [(1, b"out\n"), (2, b"err\n")]
    assert [(s.name, s.current, s.total) for m in messages for s in m.statuses] == [("part", 1, 2)]
    last = messages[-1].vertexes[0]
    assert (last.error, last.cached, last.HasField("completed")) == ("broken", True, True)
    assert not messages[0].vertexes[0].HasField("completed"), "what was said does not change afterwards"


async def test_a_slow_follower_slows_the_build_and_one_that_left_does_not() -> None:
    progress = Progress("ref")
    follower = progress.follow()
    vertex = await progress.vertex("it")
    await anext(follower)

    async def speak() -> None:
        for number in range(6000):
            await vertex.log(f"{number}\n")

    speaking = asyncio.create_task(speak())
    await asyncio.sleep(0.5)
    assert not speaking.done(), "nothing is lost while somebody follows"
    await follower.aclose()
    await asyncio.wait_for(speaking, 5)


async def test_what_nobody_takes_is_bounded() -> None:
    progress = Progress("ref")
    vertex = await progress.vertex("it")
    for number in range(10_000):
        await vertex.log(f"{number}\n")
    messages = await told(progress)
    assert len(messages) == 4096
    assert messages[-1].logs[0].msg == b"9999\n"
