"""Files of a build's client: what arrives is what was there, and nothing that it says leads out of the directory."""

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest
from grpclib.server import Server
from support.buildclient import GO_DIRECTORY, GO_SYMLINK, Link, Offered, OutputDirectory, Tree

from rorqual.daemon.services.buildkit.filesync import Wanted, receive
from rorqual.daemon.services.buildkit.sending import send
from rorqual.daemon.services.buildkit.sessions import ClientSession
from rorqual.errdefs import Error, InvalidArgument
from rorqual.rpc import h2c
from rorqual.rpc.proto.buildkit_session_pb2 import Packet, Stat

STAT, DATA = Packet.STAT, Packet.DATA
ALL = Wanted("context")


async def connected(offered: Offered) -> tuple[ClientSession, Server]:
    ours, theirs = socket.socketpair()
    server = Server([offered])
    await h2c.serve(server, theirs)
    channel = h2c.TakenChannel(ours)
    await channel.connect()
    return ClientSession("s", "", frozenset(offered.__mapping__()), channel), server


async def received(offered: Offered, root: Path, wanted: Wanted = ALL) -> int:
    session, _ = await connected(offered)
    fd = os.open(root, os.O_PATH)
    try:
        return await receive(session.files(), wanted, fd)
    finally:
        os.close(fd)
        session.channel.close()
        await asyncio.sleep(0)


async def test_a_tree_arrives_as_it_was(tmp_path: Path) -> None:
    tree: Tree = {
        "a": b"text",
        "big": os.urandom(3_000_000),
        "empty": b"",
        "dir": None,
        "dir/sub": None,
        "dir/sub/x": b"1",
        "dir-2": b"after dir/ in no order of bytes",
        "link": Link("../../etc/passwd"),
    } | {f"many{number:04}": b"n" * number for number in range(600)}
    assert await received(Offered({"context": tree}), tmp_path) == sum(
        len(content) for content in tree.values() if isinstance(content, bytes)
    )
    for path, content in tree.items():
        if isinstance(content, bytes):
            assert (tmp_path / path).read_bytes() == content
        elif content is None:
            assert (tmp_path / path).is_dir()
        else:
            assert os.readlink(tmp_path / path) == content.target
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    assert (tmp_path / "a").stat().st_mtime == 1_700_000_000
    assert (tmp_path / "dir").stat().st_mtime == 1_700_000_000


async def test_the_client_is_told_what_is_wanted(tmp_path: Path) -> None:
    offered = Offered({"context": {"a": b"1", "b": b"2"}})
    await received(offered, tmp_path, Wanted("context", ("*.log", "ü"), ("a",)))
    assert sorted(os.listdir(tmp_path)) == ["a"]
    (asked,) = offered.asked
    assert asked["followpaths"] == ["a"]
    assert (asked["exclude-patterns"], asked["exclude-patterns-encoded"]) == (["%2A.log", "%C3%BC"], ["1"])


def one(path: str, mode: int = 0o644, *, size: int = 0, link: str = "") -> Packet:
    return Packet(type=STAT, stat=Stat(path=path, mode=mode, size=size, linkname=link))


async def test_only_what_has_changed_comes_again(tmp_path: Path) -> None:
    first: Tree = {
        "same": b"1", "changed": b"old", "gone": b"3", "d": None, "d/gone": b"4", "was-dir": None, "was-dir/x": b"5",
        "was-file": b"6", "link": Link("same"), "was-link": Link("same"),
    }  # fmt: skip
    assert await received(Offered({"context": first}), tmp_path) == 8
    second: Tree = {
        "same": b"1", "changed": b"longer", "d": None, "was-dir": b"7", "was-file": None, "was-file/y": b"8",
        "link": Link("other"), "was-link": b"9",
    }  # fmt: skip
    assert await received(Offered({"context": second}), tmp_path) == 9, "the six, and three of one byte"
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert found == set(second)
    assert (tmp_path / "changed").read_bytes() == b"longer" and os.readlink(tmp_path / "link") == "other"
    assert await received(Offered({"context": second}), tmp_path) == 0
    with pytest.raises(InvalidArgument):
        await received(Offered(raw={"context": [one("same", size=5), one("../x")]}), tmp_path)
    assert await received(Offered({"context": second}), tmp_path) == 1, "what was cut short is asked for"


async def test_a_directory_of_the_last_time_is_no_way_out(tmp_path: Path) -> None:
    """Files that were links the last time are not written through."""
    victim, root = tmp_path / "victim", tmp_path / "root"
    victim.write_bytes(b"kept")
    root.mkdir()
    await received(Offered({"context": {"a": Link(str(victim)), "d": Link(str(tmp_path))}}), root)
    await received(Offered({"context": {"a": b"new", "d": None, "d/victim": b"new"}}), root)
    assert victim.read_bytes() == b"kept" and (root / "d/victim").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("packets", "told"),
    [
        ([one("../escape")], "invalid path"),
        ([one("/absolute")], "invalid path"),
        ([one("a/../../b")], "invalid path"),
        ([one(".")], "invalid path"),
        ([one("")], "invalid path"),
        ([one("a\0b")], "invalid path"),
        ([one("d", GO_DIRECTORY | 0o755), one("d")], "came twice"),
        ([one("no/parent")], "came before its directory"),
        ([one("out", GO_SYMLINK | 0o777, link="/tmp"), one("out/file")], "came before its directory"),
        ([one("f"), one("f/x")], "came before its directory"),
        ([one("hard", link="/etc/passwd")], "was not sent"),
        ([one("out", GO_SYMLINK | 0o777, link="/etc/passwd"), one("hard", link="out")], "was not sent"),
        ([Packet(type=DATA, ID=7, data=b"x")], "invalid file request 7"),
        ([one("f"), Packet(type=DATA, ID=0, data=b"x")], "invalid file request 0"),
        ([Packet(type=Packet.ERR, data=b"no such directory")], "error from sender: no such directory"),
    ],
)
async def test_what_a_client_may_not_say(tmp_path: Path, packets: list[Packet], told: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(InvalidArgument, match=told):
        await received(Offered(raw={"context": packets}), root)
    assert os.listdir(tmp_path) == ["root"]


async def test_a_client_that_ends_early_is_an_error(tmp_path: Path) -> None:
    session, server = await connected(Offered(raw={"context": [one("f", size=3)]}))
    fd = os.open(tmp_path, os.O_PATH)
    receiving = asyncio.create_task(receive(session.files(), Wanted("context"), fd))
    await asyncio.sleep(0.2)
    for handler in server._handlers:
        handler.close()
    session.channel.close()
    with pytest.raises(Error):
        await asyncio.wait_for(receiving, 5)
    os.close(fd)


async def test_a_device_is_left_out(tmp_path: Path) -> None:
    device = Packet(type=STAT, stat=Stat(path="dev", mode=1 << 26 | 0o666, devmajor=1, devminor=3))
    fifo = Packet(type=STAT, stat=Stat(path="fifo", mode=1 << 25 | 0o666))
    setuid = Packet(type=STAT, stat=Stat(path="su", mode=1 << 23 | 0o755))
    await received(Offered(raw={"context": [device, fifo, setuid, Packet(type=STAT)]}), tmp_path)
    assert os.listdir(tmp_path) == ["su"]
    assert stat.S_IMODE((tmp_path / "su").stat().st_mode) == 0o4755


async def test_a_tree_goes_to_the_client(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_bytes(b"x" * 700_000)
    (tmp_path / "dir-2").write_bytes(b"")
    os.symlink("/etc", tmp_path / "link")
    offered = OutputDirectory()
    session, _ = await connected(offered)
    root = os.open(tmp_path, os.O_PATH)
    assert await send(session.output_directory(), [], root) == 700_000
    os.close(root)
    session.channel.close()
    assert offered.received == {"dir/file": b"x" * 700_000, "dir-2": b""}


async def test_an_agent_is_reached_through_the_session() -> None:
    session, _ = await connected(Offered(agents={"default": bytes.upper}))
    assert await session.has_agent("default")
    assert not await session.has_agent("other")
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    forwarding = asyncio.create_task(session.forward("default", reader, writer))
    mine_reader, mine_writer = await asyncio.open_unix_connection(sock=ours)
    mine_writer.write(b"hello")
    assert await asyncio.wait_for(mine_reader.readexactly(5), 5) == b"HELLO"
    mine_writer.write_eof()
    await asyncio.wait_for(forwarding, 5)
    for end in (writer, mine_writer):
        end.close()
    session.channel.close()


async def test_secrets_are_asked_for() -> None:
    session, _ = await connected(Offered(secrets={"a": b"\0binary"}))
    assert await session.secret("a") == b"\0binary"
    assert await session.secret("b") is None
    assert (await session.credentials("docker.io")).username == ""
    session.channel.close()
