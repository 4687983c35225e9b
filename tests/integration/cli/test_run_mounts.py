"""Flags of `run` and `create` that mount something: what the container finds there."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.covers import covers
from support.engine import Cli, Engine
from support.verbs import both, shell, started

pytestmark = pytest.mark.root


@covers(*both("volume", "mount", "tmpfs"))
def test_binds_volumes_and_memory(cli: Cli, engine: Engine, verb: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    script = "cat /data/in; echo back >/data/out; touch /ro/x 2>/dev/null || echo refused"
    out = shell(cli, verb, script, "-v", f"{tmp_path}:/data", "-v", f"{tmp_path}:/ro:ro").out
    assert out == "from the host\nrefused\n" and (tmp_path / "out").read_text() == "back\n"
    binds = ("--mount", f"type=bind,src={tmp_path},dst=/data", "--mount", f"type=bind,src={tmp_path},dst=/ro,readonly")
    assert shell(cli, verb, script, *binds).out == "from the host\nrefused\n"
    memory = ("--tmpfs", "/scratch:size=1m,mode=1770", "--mount", "type=tmpfs,dst=/more,tmpfs-size=2m,tmpfs-mode=0711")
    lines = shell(cli, verb, "grep -E ' /(scratch|more) ' /proc/mounts", *memory).out.splitlines()
    shown = {line.split()[1]: set(line.split()[3].split(",")) for line in lines}
    assert {"size=1024k", "mode=1770", "nosuid", "nodev", "noexec"} <= shown["/scratch"]
    assert {"size=2048k", "mode=711"} <= shown["/more"]
    # A named volume outlives its containers, with what the image has at that place.
    shell(cli, verb, "ls /kept/passwd; echo x >/kept/f", "-v", "etc:/kept", code=None)
    assert shell(cli, verb, "cat /kept/f", "--mount", "type=volume,src=etc,dst=/kept").out == "x\n"
    assert "passwd" in shell(cli, verb, "ls /etc", "--mount", "type=volume,src=filled,dst=/etc").out
    missing = cli(verb, "--mount", f"type=bind,src={tmp_path}/no,dst=/d", "busybox", "true", code=None)
    assert missing.code and "bind source path does not exist" in missing.err
    for name in ("etc", "filled"):
        cli("volume", "rm", name)


@contextmanager
def mounted(where: Path, propagation: str) -> Iterator[None]:
    """A tmpfs of the host's."""
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", f"--make-{propagation}", "t", str(where)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


@covers(*both("mount"))
def test_how_far_mounts_reach(cli: Cli, engine: Engine, verb: str, tmp_path: Path) -> None:
    """The options of --mount about mounts below a bind, and those of volumes."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "below").touch()
    listing = "ls /d/inner; touch /d/inner/new 2>/dev/null || echo refused"
    mount = f"type=bind,src={tmp_path},dst=/d"
    with mounted(inner, "private"):
        (inner / "above").touch()
        assert shell(cli, verb, "ls /d/inner", "--mount", mount).out.split() == ["above"]
        assert shell(cli, verb, "ls /d/inner", "--mount", f"{mount},bind-recursive=disabled").out.split() == ["below"]
        strict = f"{mount},readonly,bind-recursive=readonly,bind-propagation=rprivate"
        assert shell(cli, verb, listing, "--mount", strict).out.split() == ["above", "refused"]
        writable = f"{mount},readonly,bind-recursive=writable"
        assert shell(cli, verb, listing, "--mount", writable).out.split() == ["above"]
    empty = "type=volume,src=bare,dst=/etc,volume-nocopy,volume-label=a=b"
    assert "passwd" not in shell(cli, verb, "ls /etc", "--mount", empty).out
    assert engine.api("GET", "/volumes/bare").json["Labels"] == {"a": "b"}
    options = "type=volume,src=small,dst=/v,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=1m"
    assert "size=1024k" in shell(cli, verb, "grep ' /v ' /proc/mounts", "--mount", options).out
    for name in ("bare", "small"):
        cli("volume", "rm", name)


@covers(*both("mount"))
def test_mounts_made_later_pass_as_far_as_they_shall(cli: Cli, engine: Engine, verb: str, tmp_path: Path) -> None:
    sources = {kind: tmp_path / kind for kind in ("shared", "private")}
    with mounted(sources["shared"], "shared"), mounted(sources["private"], "private"):
        for kind in ("rshared", "rslave", "rprivate"):
            (sources["shared"] / kind).mkdir()
            flag = f"type=bind,src={sources['shared']},dst=/d,bind-propagation={kind}"
            started(cli, verb, kind, "--mount", flag)
            with mounted(sources["shared"] / kind, "private"):
                lines = cli.out("exec", kind, "cat", "/proc/mounts")
                assert (f" /d/{kind} " in lines) == (kind != "rprivate"), kind
            cli("rm", "-f", kind)
        for kind, text in (("rshared", "a shared mount"), ("rslave", "a shared or slave mount")):
            source = sources["private"]
            result = shell(cli, verb, "true", "-v", f"{source}:/d:{kind}", code=None)
            assert result.code and f"path {source} is mounted on {source} but it is not {text}" in result.err
    # What holds the engine's own directories may be asked for it all the same: monitors do so with the host's root.
    assert shell(cli, verb, "ls -d /host/etc", "-v", "/:/host:ro,rslave").out == "/host/etc\n"


@covers(*both("volumes-from", "volume-driver"))
def test_anothers_volumes_and_drivers(cli: Cli, engine: Engine, verb: str) -> None:
    started(cli, verb, "owner", "-v", "shared:/s", "-v", "/own", "--volume-driver", "local")
    assert engine.api("GET", "/volumes/shared").json["Driver"] == "local"
    cli("exec", "owner", "sh", "-c", "echo x >/s/f; echo y >/own/g")
    script = "cat /s/f /own/g; touch /s/x 2>/dev/null || echo refused"
    assert shell(cli, verb, script, "--volumes-from", "owner").out == "x\ny\n"
    assert shell(cli, verb, script, "--volumes-from", "owner:ro").out == "x\ny\nrefused\n"
    refused = cli(verb, "--pull", "never", "--volume-driver", "nosuch", "-v", "other:/o", "busybox", "true", code=None)
    assert refused.code and 'plugin "nosuch" not found' in refused.err
    cli("rm", "-f", "-v", "owner")
    cli("volume", "rm", "shared")


@covers(*both("use-api-socket"))
def test_the_engine_can_be_spoken_to_from_inside(cli: Cli, engine: Engine, verb: str) -> None:
    started(cli, verb, "inside", "--use-api-socket")
    seen = Path(f"/proc/{engine.inspect('inside')['State']['Pid']}/root/var/run/docker.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(seen))
        client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 OK\r\n")
