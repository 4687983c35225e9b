"""Volumes and mounts of every type, with both command lines."""

import json
from pathlib import Path

import pytest
from support.covers import covers
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def no_volumes(engine: Engine) -> None:
    """Those of earlier tests are gone."""
    for container in engine.api("GET", "/containers/json?all=1").json:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for volume in engine.api("GET", "/volumes").json["Volumes"] or ():
        engine.api("DELETE", f"/volumes/{volume['Name']}?force=1")


def mounts_below(engine: Engine, name: str) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if f"{engine.data}/volumes/{name}/" in line]


def shell(cli: Cli, script: str, *flags: str, code: int = 0) -> str:
    return cli("run", "--rm", *flags, "busybox", "sh", "-c", script, code=code).out


def test_a_tmpfs_volume_is_shared_by_those_who_run_and_gone_after(cli: Cli, engine: Engine) -> None:
    cli("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,uid=1000", "memory")
    cli("run", "-d", "--name", "holds", "-v", "memory:/m", "busybox", "sh", "-c", "echo x >/m/f; sleep 1000")
    wait_for(lambda: cli("exec", "holds", "cat", "/m/f", code=None).code == 0, "the file is there")
    shown = shell(cli, "cat /m/f; stat -c %u /m; grep ' /m ' /proc/mounts", "-v", "memory:/m")
    assert shown.startswith("x\n1000\n") and "size=1024k" in shown
    assert len(mounts_below(engine, "memory")) == 1
    cli("rm", "-f", "holds")
    wait_for(lambda: not mounts_below(engine, "memory"), "it is unmounted")
    assert shell(cli, "ls /m", "-v", "memory:/m") == ""


def test_a_bind_volume_keeps_its_options_and_the_hosts_files(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host\n")
    options = ("--opt", "type=none", "--opt", f"device={tmp_path}", "--opt", "o=bind,ro")
    cli("volume", "create", *options, "bound")
    assert shell(cli, "cat /b/f; touch /b/g 2>/dev/null || echo refused", "-v", "bound:/b") == "host\nrefused\n"
    cli("volume", "rm", "bound")
    assert (tmp_path / "f").read_text() == "host\n"


def test_what_the_kernel_cannot_mount_is_told(cli: Cli) -> None:
    cli("volume", "create", "--opt", "type=nofs", "--opt", "device=:/x", "--opt", "o=addr=127.0.0.1", "far")
    error = cli("run", "--rm", "-v", "far:/f", "busybox", "true", code=125).err
    assert "failed to mount local volume: mount :/x:" in error and "no such device" in error
    cli("volume", "rm", "far")


def test_options_and_drivers_that_are_refused(cli: Cli) -> None:
    assert 'create x1: invalid option: "foo"' in cli("volume", "create", "--opt", "foo=1", "x1", code=1).err
    assert 'plugin "nope" not found' in cli("volume", "create", "-d", "nope", "x1", code=1).err
    assert "includes invalid characters" in cli("volume", "create", "a/b", code=1).err


def test_labels_filters_and_prune(cli: Cli, engine: Engine) -> None:
    cli("volume", "create", "--label", "tier=front", "first")
    cli("volume", "create", "--label", "keep", "second")
    cli("volume", "create", "third")
    cli("run", "--name", "user", "-v", "third:/v", "-v", "/anonymous", "busybox", "true")
    assert cli.out("volume", "ls", "-q", "-f", "label=tier=front") == "first"
    assert cli.out("volume", "ls", "-q", "-f", "dangling=true").split() == ["first", "second"]
    assert cli.out("volume", "ls", "-q", "-f", "name=thi") == "third"
    assert "volume is in use" in cli("volume", "rm", "third", code=1).err
    cli("volume", "prune", "-f", "-a", "--filter", "label!=keep")
    left = cli.out("volume", "ls", "-q").split()
    assert "first" not in left and {"second", "third"} <= set(left) and len(left) == 3
    cli("rm", "-v", "user")
    assert cli.out("volume", "ls", "-q").split() == ["second", "third"]
    cli("volume", "prune", "-f")
    assert cli.out("volume", "ls", "-q").split() == ["second", "third"]
    inspected = json.loads(cli.out("volume", "inspect", "second"))[0]
    assert inspected["Labels"] == {"keep": ""} and inspected["Scope"] == "local" and inspected["Driver"] == "local"


def test_volumes_from_brings_them_all_and_their_mode(cli: Cli) -> None:
    cli("volume", "create", "shared")
    cli("create", "--name", "owner", "-v", "shared:/s:ro", "-v", "/own", "busybox")
    script = "touch /own/f && ls /own; touch /s/f 2>/dev/null || echo read-only"
    assert shell(cli, script, "--volumes-from", "owner") == "f\nread-only\n"
    assert shell(cli, "touch /own/g 2>/dev/null || echo read-only", "--volumes-from", "owner:ro") == "read-only\n"


def test_a_subpath_is_mounted_and_leads_nowhere_else(cli: Cli, engine: Engine) -> None:
    cli("volume", "create", "deep")
    script = "mkdir -p /v/a/b; echo found >/v/a/b/f; ln -s /etc /v/out; ln -s a /v/in; ln -s ../../.. /v/up"
    shell(cli, script, "-v", "deep:/v")

    def mount(subpath: str) -> tuple[str, str]:
        return "--mount", f"type=volume,source=deep,target=/s,volume-subpath={subpath}"

    assert shell(cli, "cat /s/f", *mount("a/b")) == "found\n"
    assert shell(cli, "cat /s", *mount("in/b/f")) == "found\n"
    for subpath in ("out", "up", "../deep", "/etc", "missing"):
        result = cli("run", "--rm", *mount(subpath), "busybox", "true", code=None)
        assert result.code in (125, 127) and ("ubpath" in result.err or "cannot access path" in result.err), result
    assert not list((engine.exec / "subpaths").iterdir())
    assert cli.out("volume", "ls", "-q") == "deep"


def test_an_image_can_be_mounted_and_is_then_in_use(cli: Cli, engine: Engine) -> None:
    mount = "type=image,source=busybox,target=/image"
    assert shell(cli, "ls /image/bin/busybox; touch /image/x 2>/dev/null || echo refused", "--mount", mount) == (
        "/image/bin/busybox\nrefused\n"
    )


def test_a_subpath_of_an_image(cli: Cli, engine: Engine) -> None:
    script = "mkdir -p /d/deep; echo found >/d/deep/f; ln -sfn /etc /d/out; ln -sfn deep /d/in; echo plain >/plain"
    for image in ("one", "two"):  # the second has two layers, the first that of busybox below its own
        cli("run", "--name", f"make-{image}", "busybox" if image == "one" else "one", "sh", "-c", script)
        cli("commit", f"make-{image}", image)

    def mount(image: str, subpath: str) -> tuple[str, str]:
        return "--mount", f"type=image,source={image},target=/s,image-subpath={subpath}"

    for image in ("one", "two"):
        script = "cat /s/f; touch /s/x 2>/dev/null || echo refused"
        assert shell(cli, script, *mount(image, "d/deep")) == "found\nrefused\n"
    assert shell(cli, "cat /s/f; ls /s", *mount("two", "d/in")) == "found\nf\n"
    assert shell(cli, "cat /s", *mount("two", "plain")) == "plain\n"
    for subpath in ("d/out", "../etc", "missing"):
        result = cli("run", "--rm", *mount("two", subpath), "busybox", "true", code=None)
        assert result.code in (125, 127) and ("ubpath" in result.err or "cannot access path" in result.err), result
    assert not list((engine.exec / "subpaths").iterdir())
    shown = engine.api(
        "POST",
        "/containers/create",
        {
            "Image": "busybox",
            "HostConfig": {
                "Mounts": [{"Type": "image", "Source": "two", "Target": "/s", "ImageOptions": {"Subpath": "d"}}]
            },
        },
    )
    assert shown.status == 201
    assert engine.inspect(shown.json["Id"])["HostConfig"]["Mounts"][0]["ImageOptions"] == {"Subpath": "d"}


def test_tmpfs_mounts_have_their_options(cli: Cli) -> None:
    shown = shell(cli, "grep ' /t ' /proc/mounts", "--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770")
    assert "size=1024k" in shown and "mode=1770" in shown and "noexec" in shown
    shown = shell(cli, "grep ' /t ' /proc/mounts", "--tmpfs", "/t:exec,size=2m")
    assert "size=2048k" in shown and "noexec" not in shown


def test_binds_with_their_propagation_and_recursion(cli: Cli, tmp_path: Path) -> None:
    flags = f"type=bind,source={tmp_path},target=/b"
    assert "master:" not in shell(cli, "grep ' /b ' /proc/self/mountinfo", "--mount", flags)
    missing = cli("run", "--rm", "--mount", f"type=bind,source={tmp_path}/no,target=/b", "busybox", "true", code=125)
    assert "bind source path does not exist" in missing.err
    if cli.name == "rorqual":  # the stock command line of that age does not know the key
        shell(cli, "true", "--mount", f"type=bind,source={tmp_path}/made,target=/b,bind-create-src")
        assert (tmp_path / "made").is_dir()


def test_copy_up_and_nocopy(cli: Cli) -> None:
    assert shell(cli, "ls /etc | head -1", "-v", "filled:/etc:rw").strip()
    assert (
        shell(cli, "ls /bin/sh >/dev/null; ls /x", "--mount", "type=volume,source=empty,target=/x,volume-nocopy") == ""
    )


def test_an_anonymous_volume_that_is_asked_for_by_its_name_is_its_users(cli: Cli, engine: Engine) -> None:
    """Whoever saves what is in one must not lose it by --rm."""
    id = cli.out("create", "-v", "/v", "busybox", "true")
    (name,) = [mount["Name"] for mount in engine.inspect(id)["Mounts"]]
    cli("run", "--rm", "-v", f"{name}:/v", "busybox", "touch", "/v/kept")
    cli("rm", id)
    for flags in (("-v", f"{name}:/v"), ("--mount", f"src={name},dst=/v")):
        assert cli.out("run", "--rm", *flags, "busybox", "ls", "/v") == "kept"
    cli("volume", "rm", name)
    id = cli.out("create", "-v", "/v", "busybox", "true")
    cli("rm", "-v", id)
    assert cli.out("volume", "ls", "-q") == ""


def test_events_of_a_volumes_life(engine: Engine) -> None:
    engine.rorqual("volume", "create", "told")
    engine.rorqual("run", "--rm", "--name", "user", "-v", "told:/v:ro", "busybox", "true")
    engine.rorqual("volume", "rm", "told")
    filters = json.dumps({"volume": ["told"]}).replace(" ", "")
    import time

    lines = engine.api("GET", f"/events?since=1&until={time.time():.6f}&filters={filters}").body.splitlines()
    events = [json.loads(line) for line in lines][-4:]
    assert [e["Action"] for e in events] == ["create", "mount", "unmount", "destroy"]
    assert events[1]["Actor"]["Attributes"]["read/write"] == "false"


def test_a_mounted_volume_survives_the_daemon_and_is_unmounted_at_the_end(fresh_engine: Engine) -> None:
    engine = fresh_engine
    run = engine.rorqual
    run("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "memory")
    run("run", "-d", "--name", "holds", "-v", "memory:/m", "busybox", "sh", "-c", "echo x >/m/f; sleep 1000")
    wait_for(lambda: run("exec", "holds", "cat", "/m/f", code=None).code == 0, "the file is there")
    engine.kill("rorquald")
    engine.start()
    assert run.out("run", "--rm", "-v", "memory:/m", "busybox", "cat", "/m/f") == "x"
    assert "volume is in use" in run("volume", "rm", "memory", code=1).err
    run("rm", "-f", "holds")
    wait_for(lambda: not mounts_below(engine, "memory"), "it is unmounted")
    run("volume", "rm", "memory")


@covers("VolumeUpdate body:body", "VolumeUpdate version")
def test_cluster_volumes_need_a_swarm(cli: Cli, engine: Engine) -> None:
    assert "not a swarm manager" in cli("volume", "create", "--type", "block", "far", code=1).err
    assert engine.api("GET", "/volumes/far").status == 404
    cli("volume", "create", "near")
    assert "can only update cluster volumes" in cli("volume", "update", "--availability", "pause", "near", code=1).err
    assert engine.api("PUT", "/volumes/near", {"Spec": {}}).status == 503
