"""BuildKit's clients: builds over a session, by a client in Python, by buildx, and by the CLI that asks /build."""

import asyncio
import base64
import contextlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from grpclib.client import UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from support.buildclient import BuildClient, Link, Offered, OutputDirectory, Told, Tree
from support.engine import Engine
from support.processes import wait_for

from rorqual.rpc.proto.buildkit_control_grpc import ControlStub
from rorqual.rpc.proto.buildkit_control_pb2 import (
    BuildHistoryRequest,
    DiskUsageRequest,
    Exporter,
    InfoRequest,
    ListWorkersRequest,
    PruneRequest,
    SolveRequest,
    StatusRequest,
    StatusResponse,
)
from rorqual.rpc.proto.buildkit_gateway_grpc import LLBBridgeStub
from rorqual.rpc.proto.buildkit_gateway_pb2 import EvaluateRequest, PingRequest, Result, ReturnRequest
from rorqual.rpc.proto.buildkit_gateway_pb2 import SolveRequest as GatewaySolve
from rorqual.rpc.proto.buildkit_gateway_pb2 import Status as GatewayStatus

pytestmark = pytest.mark.root

TAR = {"Content-Type": "application/x-tar"}


@pytest.fixture(autouse=True)
def cleaned(engine: Engine) -> Iterator[None]:
    """What a test made goes with it."""
    yield
    for image in engine.api("GET", "/images/json").json:
        for tag in image["RepoTags"] or ():
            if tag != "busybox:latest":
                engine.api("DELETE", f"/images/{tag}?force=1")
    engine.api("POST", "/images/prune?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D")
    engine.api("POST", "/build/prune")


def offered(dockerfile: str, context: Tree | None = None, **more: object) -> Offered:
    tree: Tree = {"Dockerfile": dockerfile.encode(), **(context or {})}
    return Offered({"dockerfile": tree, "context": tree}, **more)  # type: ignore[arg-type]


def built(engine: Engine, what: Offered, attributes: Mapping[str, str] | None = None, *, tag: str = "it") -> Told:
    exports = [Exporter(Type="moby", Attrs={"name": tag})]
    told = asyncio.run(BuildClient(engine.host, what).build(attributes or {}, exports))
    assert not told.error, (told.error, told.log)
    return told


def refused(engine: Engine, what: Offered, attributes: Mapping[str, str] | None = None) -> Told:
    told = asyncio.run(BuildClient(engine.host, what).build(attributes or {}, [Exporter(Type="moby")]))
    assert told.error
    return told


def scratch(engine: Engine) -> list[str]:
    """Directories of builds."""
    return [name for name in os.listdir(Path(engine.data, "tmp")) if name.startswith("build-")]


def ran(engine: Engine, *command: str) -> str:
    return engine.rorqual("run", "--rm", "it", *command).out


def test_a_dockerfile_and_its_context_become_an_image(engine: Engine) -> None:
    context: Tree = {"a": b"one", "d": None, "d/b": b"two", "d/l": Link("b"), "unused": b"x" * 1000}
    what = offered("FROM busybox\nCOPY a d /dir/\nRUN cat /dir/* ; echo err >&2\nCMD cat /dir/l\n", context)
    told = built(engine, what)
    assert told.response["image.name"] == "docker.io/library/it:latest"
    image = engine.api("GET", "/images/it/json").json
    assert told.response["containerimage.digest"] == told.response["containerimage.config.digest"] == image["Id"]
    assert b"onetwotwo" in told.log and b"err\n" in told.log
    assert ran(engine) == "two"
    names = list(told.vertices)
    assert names[0] == "[internal] load build definition from Dockerfile"
    assert "[2/3] COPY a d /dir/" in names and "exporting to image" in names
    assert all(vertex.HasField("completed") and not vertex.error for vertex in told.vertices.values())
    asked = [request for request in what.asked if "unused" in str(request) or request["dir-name"] == ["context"]]
    assert asked[-1]["followpaths"] == ["a", "d"], "files that no instruction names are not sent"
    again = built(engine, what)
    assert again.response == told.response
    assert again.vertices["[3/3] RUN cat /dir/* ; echo err >&2"].cached


def test_a_context_that_was_sent_before_is_sent_again_where_it_changed(engine: Engine) -> None:
    def run(context: Tree) -> tuple[int, list[str]]:
        what = offered("FROM busybox\nCOPY . /all\n", {**context, "big": b"x" * 100_000})
        client = BuildClient(engine.host, what, shared_key="the directory")
        told = asyncio.run(client.build({}, [Exporter(Type="moby", Attrs={"name": "it"})]))
        assert not told.error
        return told.totals["transferring context"], ran(engine, "ls", "/all").split()

    first, _ = run({"a": b"1", "gone": b"2"})
    assert first > 100_000
    second, names = run({"a": b"changed"})
    assert second == 7 and names == ["Dockerfile", "a", "big"]
    (record,) = engine.api("GET", "/system/df").json["BuildCache"]
    assert record["Type"] == "source.local" and record["Size"] > 100_000
    assert engine.api("POST", "/build/prune").json["CachesDeleted"] == [record["ID"]]
    assert os.listdir(Path(engine.data, "build-cache")) == []


def test_copies_that_keep_the_directories_of_their_names(engine: Engine) -> None:
    context: Tree = {"x": None, "x/y": None, "x/y/a": b"1", "x/b": b"2", "z": None, "z/a": b"3", "top": b"4"}
    dockerfile = """FROM busybox AS all
COPY --parents x/y/a z/a top /kept/
COPY --parents x /whole/
COPY --parents ./x/./y/a ./x/./b /pivot/
COPY --parents */a /pattern/
FROM busybox
COPY --from=all --parents /kept/x /again/
COPY --from=all /kept /kept
COPY --from=all /whole /whole
COPY --from=all /pivot /pivot
COPY --from=all /pattern /pattern
"""
    built(engine, offered(dockerfile, context))
    found = ran(engine, "find", "/kept", "/whole", "/pivot", "/pattern", "/again", "-type", "f").split()
    kept = ["/kept/x/y/a", "/kept/z/a", "/kept/top", "/again/kept/x/y/a"]
    assert sorted(found) == sorted([*kept, "/whole/x/y/a", "/whole/x/b", "/pivot/y/a", "/pivot/b", "/pattern/z/a"])
    assert ran(engine, "stat", "-c", "%A %u", "/kept/x").split() == ["drwxr-xr-x", "0"]


def test_triggers_of_a_base_have_the_context_too(engine: Engine) -> None:
    built(engine, offered("FROM busybox\nONBUILD COPY f /f\nONBUILD RUN --mount=target=/c cat /c/g > /g\n"), tag="base")
    what = offered("FROM base\n", {"f": b"1", "g": b"2", ".dockerignore": b"x\n"})
    built(engine, what)
    assert ran(engine, "cat", "/f", "/g") == "12"
    assert what.asked[-1]["exclude-patterns"] == ["x"]


def test_the_frontends_attributes(engine: Engine) -> None:
    dockerfile = """FROM busybox AS one
ARG X=default
RUN echo $X > /x; ulimit -n > /limit; grep -c . /proc/net/dev > /interfaces; grep named /etc/hosts > /hosts
FROM busybox AS two
RUN exit 1
"""
    what = Offered({"dockerfile": {"sub": None, "sub/Other": dockerfile.encode()}})
    attributes = {
        "filename": "sub/Other",
        "target": "one",
        "build-arg:X": "given",
        "label:who": "me",
        "force-network-mode": "none",
        "ulimit": "nofile=123:456",
        "add-hosts": "named=10.1.2.3",
        "shm-size": "1048576",
    }
    built(engine, what, attributes)
    found = ran(engine, "cat", "/x", "/limit", "/interfaces", "/hosts").split()
    assert found == ["given", "123", "3", "10.1.2.3", "named"]
    assert engine.api("GET", "/images/it/json").json["Config"]["Labels"] == {"who": "me"}


def test_an_ignore_file_is_the_clients_to_apply(engine: Engine) -> None:
    context: Tree = {".dockerignore": b"# all\n*.log\n!keep.log\n/d/../x\n", "keep.log": b"1"}
    what = offered("FROM busybox\nCOPY . /all\n", context)
    built(engine, what)
    assert what.asked[-1]["exclude-patterns"] == ["*.log", "!keep.log", "x"]
    own: Tree = {"Dockerfile.dockerignore": b"only\n"}
    what = offered("FROM busybox\nCOPY . /all\n", {**context, **own})
    built(engine, what)
    assert what.asked[-1]["exclude-patterns"] == ["only"], "the Dockerfile's own goes before the context's"


def test_run_has_files_mounted_that_the_image_does_not_get(engine: Engine) -> None:
    dockerfile = """FROM busybox AS build
COPY go.mod /src/go.mod
FROM busybox
RUN --mount=type=bind,source=go.mod,target=/in/go.mod cat /in/go.mod
RUN --mount=from=build,source=/src,target=/other cat /other/go.mod && ! touch /other/x
RUN --mount=type=bind,target=/ctx,rw echo new > /ctx/made && cat /ctx/made
RUN --mount=type=tmpfs,target=/mem,size=1m df /mem | grep -c tmpfs
RUN --mount=target=/ctx ls /ctx
RUN ls / > /listed
"""
    told = built(engine, offered(dockerfile, {"go.mod": b"module x\n"}))
    assert told.log.count(b"module x") == 2
    assert b"made" not in told.log, "what is written to a context is thrown away"
    listed = ran(engine, "cat", "/listed").split()
    assert not {"in", "other", "ctx", "mem"} & set(listed)
    sizes = [layer["Size"] for layer in engine.api("GET", "/images/it/history").json]
    assert sizes[1:6] == [0] * 5, "a mount point alone makes no layer"
    again = built(engine, offered(dockerfile, {"go.mod": b"module y\n"}))
    assert not next(v for n, v in again.vertices.items() if "source=go.mod" in n).cached, "its bytes count"


def test_a_cache_stays_from_build_to_build_until_it_is_pruned(engine: Engine) -> None:
    def run(number: int, more: str = "") -> bytes:
        step = f"RUN --mount=type=cache,target=/c{more} echo {number} >> /c/log; cat /c/log\n"
        return built(engine, offered(f"FROM busybox\n{step}")).log

    assert run(1) == b"1\n"
    assert run(2) == b"1\n2\n"
    assert run(3, ",id=other,sharing=private") == b"3\n"
    usage = engine.api("GET", "/system/df").json["BuildCache"]
    assert {record["Type"] for record in usage} == {"exec.cachemount"} and len(usage) == 2
    assert engine.rorqual("system", "df").out.splitlines()[-1].split()[:3] == ["Build", "Cache", "2"]
    for filters in ({"type": ["source.local"]}, {"id": ["no such"]}, {"until": ["1h"]}, {"shared": ["true"]}):
        assert engine.api("POST", f"/build/prune?filters={quote(json.dumps(filters))}").json["CachesDeleted"] is None
    assert engine.api("POST", f"/build/prune?filters={quote(json.dumps({'nonsense': ['1']}))}").status == 400
    pruned = engine.api("POST", f"/build/prune?filters={quote(json.dumps({'label!': ['keep']}))}").json
    assert len(pruned["CachesDeleted"]) == 2 and pruned["SpaceReclaimed"] > 0
    assert run(5) == b"5\n"


def test_caches_that_are_shared_locked_or_private_at_once(engine: Engine) -> None:
    """Two builds at a time: locked ones one after the other, private ones apart."""

    def step(sharing: str, number: int) -> str:
        return (
            f"FROM busybox\nRUN --mount=type=cache,target=/c,id={sharing},sharing={sharing} "
            f"echo begin {number} >> /c/log; sleep 1; echo end {number} >> /c/log; cat /c/log\n"
        )

    async def both(sharing: str) -> list[bytes]:
        clients = [BuildClient(engine.host, offered(step(sharing, number))) for number in (1, 2)]
        return [told.log for told in await asyncio.gather(*(client.build({}) for client in clients))]

    locked = max(asyncio.run(both("locked")), key=len).split(b"\n")
    assert locked[0].split()[1] == locked[1].split()[1], "the first ends before the second begins"
    assert sorted(map(len, asyncio.run(both("private")))) == [14, 14], "each has its own"


def test_secrets_are_given_to_one_command_and_are_in_no_layer(engine: Engine) -> None:
    dockerfile = """FROM busybox
RUN --mount=type=secret,id=token cat /run/secrets/token; ls -l /run/secrets/token > /how
RUN --mount=type=secret,id=other,env=TOKEN echo "env=$TOKEN"
RUN --mount=type=secret,id=token,target=/etc/pass,mode=0444,uid=7 ls -ln /etc/pass
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent
RUN test ! -e /run/secrets && test ! -e /etc/pass && test -z "$TOKEN"
"""
    told = built(engine, offered(dockerfile, secrets={"token": b"hunter2", "other": b"variable1"}))
    assert told.log.startswith(b"hunter2") and b"env=variable1" in told.log
    assert "-r--------" in ran(engine, "cat", "/how")
    assert b"-r--r--r--    1 7 " in told.log
    names = [os.path.join(directory, name) for directory, _, found in os.walk(engine.data) for name in found]
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            if os.path.isfile(name) and not os.path.islink(name):
                data = Path(name).read_bytes()
                assert b"hunter2" not in data, name
                # As with BuildKit, a variable is in the container's record while the command runs.
                assert b"variable1" not in data or name.startswith(
                    (f"{engine.data}/daemon.db", f"{engine.data}/meta")
                ), name
    missing = refused(engine, offered("FROM busybox\nRUN --mount=type=secret,id=no,required true\n"))
    assert missing.error == "secret no: not found"


def test_an_ssh_agent_is_a_socket_for_one_command(engine: Engine) -> None:
    dockerfile = """FROM busybox
RUN --mount=type=ssh ls -l $SSH_AUTH_SOCK; echo at $SSH_AUTH_SOCK
RUN --mount=type=ssh,id=absent test -z "$SSH_AUTH_SOCK"
RUN test ! -e /run/buildkit
"""
    told = built(engine, offered(dockerfile, agents={"default": bytes.upper}))
    assert b"srw-------" in told.log and b"at /run/buildkit/ssh_agent.0" in told.log
    missing = refused(engine, offered("FROM busybox\nRUN --mount=type=ssh,id=no,required true\n"))
    assert missing.error == "unset ssh forward key no"


def test_named_contexts_are_directories_and_images(engine: Engine) -> None:
    dockerfile = "FROM base\nCOPY --from=files x /x\nRUN --mount=from=files,target=/m cat /m/x\n"
    what = offered(dockerfile)
    what.trees["files"] = {"x": b"named"}
    told = built(engine, what, {"context:base": "docker-image://busybox", "context:files": "local:files"})
    assert told.log == b"named"
    assert ran(engine, "cat", "/x") == "named"
    assert "git is not offered" in refused(engine, what, {"context:base": "git:x"}).error


@pytest.mark.parametrize(
    ("dockerfile", "attributes", "told"),
    [
        (
            "FROM busybox\nRUNN x\n",
            {},
            "line 2: unknown instruction: RUNN (did you mean RUN?)",
        ),
        ("FROM busybox\nRUN exit 3\n", {}, 'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3'),
        ("FROM busybox\nCOPY no /\n", {}, "file not found in build context or excluded by .dockerignore"),
        ("FROM busybox\nRUN --mount=type=zip x\n", {}, 'unsupported mount type "zip"'),
        ("# syntax=other/frontend\nFROM busybox\n", {}, "syntax other/frontend is not offered"),
        ("FROM busybox\n", {"filename": "absent"}, "Cannot locate specified Dockerfile: absent"),
        ("FROM busybox\n", {"filename": "../../etc/passwd"}, "Cannot locate specified Dockerfile: etc/passwd"),
        ("FROM busybox\n", {"platform": "linux/amd64,linux/arm64"}, "a build is for one platform"),
        ("FROM busybox\n", {"requestid": "frontend.lint"}, "frontend.lint is not offered"),
        ("FROM busybox\n", {"context": "https://github.com/x/y.git"}, "is not offered: clone it"),
        ("FROM busybox\n", {"force-network-mode": "bridge"}, "invalid network mode: bridge"),
        ("FROM busybox\n", {"shm-size": "big"}, "invalid shm-size: big"),
        ("FROM busybox\n", {"ulimit": "nofile"}, "invalid ulimit: nofile"),
        ("FROM busybox\n", {"add-hosts": "noaddress"}, "invalid key-value pair: noaddress"),
        ("FROM busybox\n", {"target": "absent"}, 'target stage "absent" could not be found'),
    ],
)
def test_what_fails_says_why(engine: Engine, dockerfile: str, attributes: dict[str, str], told: str) -> None:
    answer = refused(engine, offered(dockerfile), attributes)
    assert told in answer.error
    assert engine.api("GET", "/containers/json?all=1").json == []


def test_a_frontend_of_another_kind_is_refused(engine: Engine) -> None:
    client = BuildClient(engine.host, offered("FROM busybox\n"))
    told = asyncio.run(client.build({"source": "other/frontend"}, frontend="gateway.v0"))
    assert "frontend other/frontend is not offered" in told.error
    client = BuildClient(engine.host, offered("FROM busybox\n"))
    assert not asyncio.run(client.build({"source": "docker/dockerfile:1"}, frontend="gateway.v0")).error


def test_the_image_as_a_tar_and_as_a_directory(engine: Engine) -> None:
    dockerfile = "FROM busybox AS b\nRUN mkdir /o && echo hi > /o/f && ln -s f /o/l\nFROM scratch\nCOPY --from=b /o /\n"
    what = offered(dockerfile)
    told = asyncio.run(BuildClient(engine.host, what).build({}, [Exporter(Type="tar")]))
    assert not told.error and told.response == {}
    with tarfile.open(fileobj=io.BytesIO(what.output)) as tar:
        assert {name: tar.getmember(name).type for name in tar.getnames()} == {"f": b"0", "l": b"2"}
    directory = OutputDirectory(what.trees)
    told = asyncio.run(BuildClient(engine.host, directory).build({}, [Exporter(Type="local")]))
    assert not told.error and directory.received == {"f": b"hi\n"}
    other = asyncio.run(BuildClient(engine.host, what).build({}, [Exporter(Type="oci")]))
    assert "exporter oci is not offered" in other.error


def test_a_client_that_drives_the_build_by_the_gateway(engine: Engine) -> None:
    """As buildx does: Solve waits for what the gateway returns."""

    async def drive() -> tuple[dict[str, str], str, int]:
        client = BuildClient(engine.host, offered("FROM busybox\nRUN echo x > /x\n"))
        async with client.connected() as channel:
            control, gateway = ControlStub(channel), LLBBridgeStub(channel)
            of = {"metadata": [("buildkit-controlapi-buildid", "ref-1")]}
            pinging = asyncio.create_task(gateway.Ping(PingRequest(), **of))  # before there is a build
            await asyncio.sleep(0.1)
            exports = [Exporter(Type="moby", Attrs={"name": "it,it:two"})]
            solving = asyncio.create_task(
                control.Solve(SolveRequest(Ref="ref-1", Session=client.session, Exporters=exports))
            )
            caps = {cap.ID for cap in (await pinging).FrontendAPICaps}
            assert {"return", "proto.refarray"} <= caps
            with pytest.raises(GRPCError, match="LLB"):
                await gateway.Solve(GatewaySolve(Definition=b"graph"), **of)
            answer = await gateway.Solve(GatewaySolve(Frontend="dockerfile.v0", allowResultArrayRef=True), **of)
            await gateway.Evaluate(EvaluateRequest(Ref=answer.result.ref.id), **of)
            client.offered.trees["dockerfile"] = {"Dockerfile": b"FROM base\nRUN cat /x > /y\n"}
            linked = GatewaySolve(Frontend="dockerfile.v0", allowResultArrayRef=True)
            linked.FrontendOpt["context:base"] = "input:first"
            linked.FrontendInputs["first"].CopyFrom(getattr(answer.result.ref, "def"))
            answer = await gateway.Solve(linked, **of)
            getattr(linked.FrontendInputs["first"], "def")[0] = b"another graph"
            with pytest.raises(GRPCError, match="graph"):
                await gateway.Solve(linked, **of)
            with pytest.raises(GRPCError, match="no such ref"):
                await gateway.Evaluate(EvaluateRequest(Ref="other"), **of)
            assert not solving.done()
            await gateway.Return(ReturnRequest(result=answer.result), **of)
            told = dict((await solving).ExporterResponse)
            of = {"metadata": [("buildkit-controlapi-buildid", "ref-2")]}
            failing = asyncio.create_task(control.Solve(SolveRequest(Ref="ref-2", Session=client.session)))
            await gateway.Return(ReturnRequest(error=GatewayStatus(code=2, message="my own failure")), **of)
            with pytest.raises(GRPCError) as caught:
                await failing
            empty = asyncio.create_task(control.Solve(SolveRequest(Ref="ref-3", Session=client.session)))
            of = {"metadata": [("buildkit-controlapi-buildid", "ref-3")]}
            await gateway.Return(ReturnRequest(result=Result()), **of)
            return told, caught.value.message or "", len((await empty).ExporterResponse)

    told, error, nothing = asyncio.run(drive())
    assert told["image.name"] == "docker.io/library/it:latest,docker.io/library/it:two"
    assert error == "my own failure" and nothing == 0
    assert ran(engine, "cat", "/y") == "x\n"


def test_what_the_engine_is_and_what_it_keeps(engine: Engine) -> None:
    async def ask() -> None:
        async with BuildClient(engine.host, Offered()).connected() as channel:
            control = ControlStub(channel)
            (worker,) = (await control.ListWorkers(ListWorkersRequest())).record
            assert worker.Labels["org.mobyproject.buildkit.worker.moby.host-gateway-ip"]
            assert "org.mobyproject.buildkit.worker.snapshotter" not in worker.Labels
            assert (await control.Info(InfoRequest())).buildkitVersion.version == worker.BuildkitVersion.version
            (record,) = (await control.DiskUsage(DiskUsageRequest())).record
            assert record.RecordType == "exec.cachemount" and not record.InUse
            assert [one.ID for one in await control.Prune(PruneRequest(all=True))] == [record.ID]
            with pytest.raises(GRPCError, match="history"):
                await control.ListenBuildHistory(BuildHistoryRequest())
            with pytest.raises(GRPCError, match="no such job absent"):
                await control.Status(StatusRequest(Ref="absent"))

    built(engine, offered("FROM busybox\nRUN --mount=type=cache,target=/c true\n"))
    asyncio.run(ask())
    assert engine.api("GET", "/_ping").headers["Builder-Version"] == "2"


def test_a_connection_that_cannot_be(engine: Engine) -> None:
    for headers, status, told in (
        ({}, 400, "a session needs an ID"),
        ({"X-Docker-Expose-Session-Uuid": "x"}, 400, "no upgrade proto in request"),
        ({"X-Docker-Expose-Session-Uuid": "x", "Connection": "Upgrade", "Upgrade": "websocket"}, 400, "not supported"),
    ):
        answer = engine.api("POST", "/session", headers=headers)
        assert (answer.status, told in answer.json["message"]) == (status, True)
    assert engine.api("POST", "/grpc").status == 400

    async def twice() -> None:
        client = BuildClient(engine.host, Offered())
        async with client.connected():
            with pytest.raises(ConnectionError, match="already exists"):
                async with client.connected():
                    pass

    asyncio.run(twice())


def test_a_client_that_goes_away_ends_its_build(engine: Engine) -> None:
    async def leave() -> None:
        client = BuildClient(
            engine.host, offered("FROM busybox\nRUN --mount=type=secret,id=s sleep 1000\n", secrets={"s": b"1"})
        )
        async with client.connected() as channel:
            request = SolveRequest(Ref="gone", Session=client.session, Frontend="dockerfile.v0")
            solving = asyncio.create_task(ControlStub(channel).Solve(request))
            await asyncio.to_thread(wait_for, lambda: engine.api("GET", "/containers/json").json, "its command runs")
            solving.cancel()
            await asyncio.gather(solving, return_exceptions=True)

    asyncio.run(leave())
    wait_for(lambda: engine.api("GET", "/containers/json?all=1").json == [], "its container is gone")
    secrets = Path(engine.exec, "build")
    wait_for(lambda: not secrets.exists() or os.listdir(secrets) == [], "its secrets are gone")
    wait_for(lambda: scratch(engine) == [], "its files are gone")


def test_a_build_asked_for_on_build_with_a_session(engine: Engine) -> None:
    """As docker 20.10 does."""

    def lines(query: str) -> list[dict[str, object]]:
        answer = engine.api("POST", f"/build?version=2&remote=client-session&{query}")
        return [json.loads(line) for line in answer.body.decode().splitlines()]

    async def build(query: str, dockerfile: str) -> list[dict[str, object]]:
        client = BuildClient(engine.host, offered(dockerfile))
        async with client.connected():
            return await asyncio.to_thread(lines, f"session={client.session}&{query}")

    said = asyncio.run(
        build("t=it&buildid=b1&buildargs=%7B%22X%22%3A%221%22%7D", "FROM busybox\nARG X\nRUN echo x$X\n")
    )
    traces = [line for line in said if line["id"] == "moby.buildkit.trace"]
    messages = [StatusResponse.FromString(base64.b64decode(str(line["aux"]))) for line in traces]
    assert b"".join(log.msg for message in messages for log in message.logs) == b"x1\n"
    assert said[-1] == {"id": "moby.image.id", "aux": {"ID": engine.api("GET", "/images/it/json").json["Id"]}}
    (failed,) = [line for line in asyncio.run(build("", "FROM busybox\nRUN false\n")) if "error" in line]
    assert "did not complete successfully" in str(failed["error"])

    async def cancelled() -> list[dict[str, object]]:
        building = asyncio.create_task(build("buildid=b2", "FROM busybox\nRUN sleep 1000\n"))
        await asyncio.to_thread(wait_for, lambda: engine.api("GET", "/containers/json").json, "its command runs")
        assert await asyncio.to_thread(lambda: engine.api("POST", "/build/cancel?id=b2").status) == 200
        return await building

    assert asyncio.run(cancelled())[-1]["error"] == "context canceled"
    assert engine.api("GET", "/containers/json?all=1").json == []


def test_a_context_that_comes_in_a_request_of_its_own(engine: Engine) -> None:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        for name, text in (("Dockerfile", b"FROM busybox\nCOPY f /f\n"), ("f", b"uploaded")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    query = "/build?version=2&remote=upload-request&buildid=u1&t=it"

    async def build() -> None:
        client = BuildClient(engine.host, Offered())
        async with client.connected():
            main = asyncio.to_thread(engine.api, "POST", f"{query}&session={client.session}")
            upload = asyncio.to_thread(
                lambda: engine.api("POST", "/build?version=2&buildid=upload-request%3Au1", body.getvalue(), TAR)
            )
            answers = await asyncio.gather(main, upload)
            assert [answer.status for answer in answers] == [200, 200], answers[0].body

    asyncio.run(build())
    assert ran(engine, "cat", "/f") == "uploaded"


# ---- the real clients ----


def buildx() -> str:
    """Docker's plugin, where this machine has it."""
    places = [Path.home() / ".docker/cli-plugins", Path("/usr/local/lib/docker/cli-plugins"), Path("/usr/lib/docker")]
    places += [Path("/usr/libexec/docker/cli-plugins"), Path("/usr/lib/docker/cli-plugins")]
    found = [str(place / "docker-buildx") for place in places if (place / "docker-buildx").exists()]
    program = shutil.which("docker-buildx") or next(iter(found), "")
    if not program:
        pytest.skip("docker-buildx is not installed")
    return program


def test_buildx(engine: Engine, tmp_path: Path) -> None:
    program = buildx()
    env = {**os.environ, "DOCKER_HOST": engine.host, "DOCKER_CONFIG": str(tmp_path / "config")}
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        "# syntax=docker/dockerfile:1\nFROM busybox AS b\nCOPY f /f\n"
        "RUN --mount=type=secret,id=s --mount=type=cache,target=/c cat /run/secrets/s /f\n"
        "FROM scratch\nCOPY --from=b /f /\n"
    )
    (context / "f").write_text("file")
    (tmp_path / "s").write_text("secret")

    def run(*arguments: str, code: int = 0) -> str:
        command = [program, *arguments]
        done = subprocess.run(command, env=env, cwd=context, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    secret = f"--secret=id=s,src={tmp_path / 's'}"
    said = run("build", "--progress=plain", "-t", "it", secret, ".")
    assert "secretfile" in said and "naming to docker.io/library/it:latest" in said
    assert "CACHED" in run("build", "--progress=plain", secret, ".")
    run("build", "--progress=plain", secret, f"--output={tmp_path / 'out'}", ".")
    assert (tmp_path / "out/f").read_text() == "file"
    assert "exec.cachemount" in run("du", "--verbose")
    (context / "Dockerfile").write_text("FROM busybox\nRUN exit 7\n")
    assert "did not complete successfully: exit code: 7" in run("build", "--progress=plain", ".", code=1)


def test_a_build_that_sigkill_of_the_daemon_ends(fresh_engine: Engine) -> None:
    """Its client is told, its files and secrets are gone after the next start, and another build works."""
    engine = fresh_engine
    what = offered(
        "FROM busybox\nRUN --mount=type=secret,id=s --mount=type=cache,target=/c sleep 1000\n", secrets={"s": b"x"}
    )

    async def killed() -> Told:
        client = BuildClient(engine.host, what)
        building = asyncio.create_task(client.build({}))
        await asyncio.to_thread(wait_for, lambda: engine.api("GET", "/containers/json").json, "its command runs")
        engine.kill("rorquald")
        return await asyncio.wait_for(building, 20)

    try:
        told = asyncio.run(killed())
        assert told.error
    except (StreamTerminatedError, OSError) as e:
        assert e
    engine.start()
    started = time.monotonic()
    wait_for(lambda: engine.api("GET", "/containers/json?all=1").json == [], "its container is gone")
    assert time.monotonic() - started < 20
    assert not os.path.exists(Path(engine.exec, "build"))
    assert scratch(engine) == []
    built(engine, offered("FROM busybox\nRUN --mount=type=cache,target=/c echo ok > /x\n"))


# ---- what must not be ----


def test_cve_2024_23652_nothing_of_the_host_is_taken_away_as_an_empty_place(engine: Engine, tmp_path: Path) -> None:
    """A command that puts a link in the way of its mount's place, which is cleared when it has ended."""
    victim = tmp_path / "victim"
    (victim / "b/c").mkdir(parents=True)
    (victim / "b/file").touch()
    dockerfile = f"""FROM busybox
RUN --mount=type=tmpfs,target=/a/b/c mv /a /z && ln -s {victim} /a
RUN --mount=type=secret,id=s,target=/y/b/file mv /y /x && ln -s {victim} /y
"""
    built(engine, offered(dockerfile, secrets={"s": b"1"}))
    assert (victim / "b/c").is_dir() and (victim / "b/file").is_file()


def test_cve_2024_23651_a_cache_shows_its_own_directory_only(engine: Engine, tmp_path: Path) -> None:
    told = refused(engine, offered("FROM busybox\nRUN --mount=type=cache,target=/c,source=sub ls /c\n"))
    assert "a cache mount that begins as a copy" in told.error
    built(engine, offered(f"FROM busybox\nRUN --mount=type=cache,target=/c,id=../../..{tmp_path} touch /c/made\n"))
    assert os.listdir(tmp_path) == []
    assert [len(name) for name in os.listdir(Path(engine.data, "build-cache/exec.cachemount"))] == [64]


def test_a_mounts_source_does_not_lead_out_of_the_context(engine: Engine) -> None:
    context: Tree = {"out": Link("/etc"), "up": Link("../../../../../../etc")}
    for source in ("out/passwd", "up/passwd", "../../../../../../etc/passwd"):
        step = f"RUN --mount=type=bind,source={source},target=/m cat /m\n"
        assert "not found" in refused(engine, offered(f"FROM busybox\n{step}", context)).error
    evil = "FROM busybox AS evil\nRUN ln -s /proc/1/root/etc /out\nFROM busybox\n"
    step = "RUN --mount=from=evil,source=/out/passwd,target=/m cat /m\n"
    assert "cannot access path" in refused(engine, offered(evil + step)).error


def test_cve_2024_23653_no_command_gets_more_than_its_build_may(engine: Engine) -> None:
    told = refused(engine, offered("FROM busybox\nRUN --security=insecure id\n"))
    assert "--security" in told.error

    async def ask() -> None:
        async with BuildClient(engine.host, Offered()).connected() as channel:
            call = UnaryUnaryMethod(
                channel, "/moby.buildkit.v1.frontend.LLBBridge/NewContainer", PingRequest, PingRequest
            )
            with pytest.raises(GRPCError) as caught:
                await call(PingRequest())
            assert caught.value.status is Status.UNIMPLEMENTED

    asyncio.run(ask())
