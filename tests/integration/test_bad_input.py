"""What is wrong is refused clearly, with Docker's status and exit codes, and leaves nothing half-made."""

import io
import json
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def nothing_half_made(engine: Engine) -> object:
    """After each case: no container more, no image more, nothing held more than before."""
    held = engine.held()
    images = {image["Id"] for image in engine.api("GET", "/images/json").json}
    yield
    for container in engine.api("GET", "/containers/json?all=1").json:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1")
    assert {image["Id"] for image in engine.api("GET", "/images/json").json} == images
    wait_for(lambda: not engine.held().more_than(held, 12), lambda: str(engine.held().more_than(held, 12)), 20)


# ---- through the command lines -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (("run", "library/UPPER"), 125, "must be lowercase"),
        (("run", "busybox:bad tag"), 125, "invalid reference format"),
        (("run", "--rm", "--memory", "1k", "busybox"), 125, "Minimum memory limit allowed is 6MB"),
        (("run", "--rm", "-p", "70000:80", "busybox"), 125, "nvalid"),
        (("run", "--rm", "-v", "relative:../x", "busybox"), 125, "invalid"),
        (("run", "--rm", "--network", "no-such-network", "busybox"), 125, "network no-such-network not found"),
        (("run", "--rm", "--name", "bad name", "busybox"), 125, "Invalid container name (bad name)"),
        (("run", "--rm", "--cap-add", "NO_SUCH", "busybox"), 125, "nvalid"),
        (("run", "--rm", "-u", "nobody-here", "busybox", "true"), 125, "unable to find user nobody-here"),
        (("run", "--rm", "--stop-signal", "SIGNOPE", "busybox"), 125, "nvalid signal"),
        (("start", "no-such"), 1, "No such container: no-such"),
        (("rm", "no-such"), 1, "No such container: no-such"),
        (("rmi", "no-such"), 1, "No such image: no-such"),
        (("logs", "no-such"), 1, "No such container: no-such"),
        (("exec", "no-such", "true"), 1, "No such container: no-such"),
        (("inspect", "no-such"), 1, "No such object: no-such"),
        (("tag", "no-such:1", "x:1"), 1, "No such image: no-such:1"),
        (("no-such-command",), 1, "no-such-command"),
    ],
)
def test_the_command_line_says_what_is_wrong(cli: Cli, argv: tuple[str, ...], code: int, text: str) -> None:
    assert text.lower() in cli(*argv, code=code).err.lower()


def test_a_taken_name_is_a_conflict(cli: Cli) -> None:
    cli("create", "--name", "taken", "busybox", "true")
    assert (
        'The container name "/taken" is already in use by container'
        in cli("create", "--name", "taken", "busybox", code=1).err
    )


def test_a_port_taken_by_a_container_names_it(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "-p", "18070:80", "busybox", "sleep", "60")
    assert (
        "port is already allocated" in cli("run", "--name", "second", "-p", "18070:80", "busybox", "true", code=125).err
    )
    assert engine.inspect("second")["State"]["Status"] == "created"


def test_a_port_taken_by_another_program_is_refused(cli: Cli, engine: Engine) -> None:
    with engine.inside(), socket.create_server(("0.0.0.0", 18071)):
        assert "address already in use" in cli("run", "-p", "18071:80", "busybox", "true", code=125).err


def test_a_running_container_is_not_removed_without_force(cli: Cli) -> None:
    cli("run", "-d", "--name", "busy", "busybox", "sleep", "60")
    assert "running" in cli("rm", "busy", code=1).err


def test_an_image_in_use_is_not_removed(cli: Cli) -> None:
    cli("tag", "busybox", "only:1")
    cli("create", "--name", "user", "busybox", "true")
    cli("rmi", "only:1")
    assert "is using" in cli("rmi", "busybox", code=1).err


def test_a_registry_that_refuses_is_named(cli: Cli) -> None:
    result = cli("run", "127.0.0.1:1/nothing", code=125)
    assert "connection refused" in result.err


# ---- through the API -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/containers/create", b"{not json", 400),
        ("POST", "/containers/create", b"", 400),
        ("POST", "/containers/create", b"[]", 400),
        ("POST", "/containers/create", {"Image": 7}, 400),
        ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Memory": "much"}}, 400),
        ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"NetworkMode": "container:"}}, 400),
        ("POST", "/containers/create", {"Image": "no-such:1", "Cmd": ["true"]}, 404),
        ("POST", "/containers/create?name=a/b", {"Image": "busybox"}, 400),
        ("POST", "/containers/no-such/start", None, 404),
        ("GET", "/containers/json?filters=%7Bbroken", None, 400),
        ("GET", "/containers/json?filters=%7B%22no-such%22%3A%5B%22x%22%5D%7D", None, 400),
        ("GET", "/containers/json?limit=many", None, 400),
        ("GET", "/no/such/path", None, 404),
        ("GET", "/v1.20/version", None, 400),
        ("GET", "/v9.99/version", None, 400),
        ("POST", "/images/create?fromImage=bad%20name", None, 400),
        ("DELETE", "/images/no-such", None, 404),
        ("POST", "/exec/no-such/start", {"Detach": True}, 404),
    ],
)
def test_the_api_answers_with_dockers_status(engine: Engine, method: str, path: str, body: object, status: int) -> None:
    answer = engine.api(method, path, body)
    assert (answer.status, bool(answer.message)) == (status, True), answer.body


def test_a_body_that_is_too_large_is_refused_and_the_daemon_lives(engine: Engine) -> None:
    body = b'{"Image": "busybox", "Cmd": ["' + b"x" * (20 << 20) + b'"]}'
    try:
        assert engine.api("POST", "/containers/create", body).status in (400, 413)
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused before it was all sent
    assert engine.api("GET", "/_ping").status == 200


def test_deeply_nested_json_is_refused(engine: Engine) -> None:
    body = b'{"Image": "busybox", "HostConfig": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert engine.api("POST", "/containers/create", body).status == 400


def test_starting_twice_is_not_modified_and_stopping_twice_too(engine: Engine) -> None:
    engine.rorqual("run", "-d", "--name", "box-x", "busybox", "sleep", "60")
    assert engine.api("POST", "/containers/box-x/start").status == 304
    assert engine.api("POST", "/containers/box-x/kill").status == 204
    wait_for(lambda: not engine.running("box-x"), "it ended")
    assert engine.api("POST", "/containers/box-x/stop").status == 304
    assert engine.api("POST", "/containers/box-x/kill").status == 409


# ---- malicious images. Ten million entries: see the unpacker's own tests, which lower the bound ----


def tar_of(*fill: Callable[[tarfile.TarFile], None]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for one in fill:
            one(tar)
    return out.getvalue()


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", **more: int
) -> Callable[[tarfile.TarFile], None]:
    def fill(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, len(data)
        info.devmajor, info.devminor = more.get("major", 0), more.get("minor", 0)
        tar.addfile(info, io.BytesIO(data))

    return fill


@pytest.mark.parametrize("case", ["dot-dot", "absolute", "through a link", "hard link out", "device through a link"])
def test_a_malicious_tar_never_writes_outside_its_layer(engine: Engine, tmp_path: Path, case: str) -> None:
    canary = tmp_path / "canary"
    canary.write_text("unchanged")
    outside = str(tmp_path)
    up = "../" * 30
    tars = {
        "dot-dot": tar_of(entry(f"{up}{outside}/written", data=b"x"), entry(f"{up}{outside}/canary", data=b"x")),
        "absolute": tar_of(entry(f"{outside}/written", data=b"x"), entry(f"{outside}/canary", data=b"x")),
        "through a link": tar_of(
            entry("l", tarfile.SYMTYPE, outside), entry("l/written", data=b"x"), entry("l/canary", data=b"x")
        ),
        "hard link out": tar_of(entry("h", tarfile.LNKTYPE, f"{outside}/canary"), entry("h", data=b"x")),
        "device through a link": tar_of(
            entry("l", tarfile.SYMTYPE, outside), entry("l/written", tarfile.CHRTYPE, major=1, minor=3)
        ),
    }
    engine.api("POST", "/images/create?fromSrc=-&repo=evil&tag=1", tars[case], {"Content-Type": "application/x-tar"})
    engine.api("DELETE", "/images/evil:1?force=1")
    assert [path.name for path in tmp_path.iterdir()] == ["canary"]
    assert canary.read_text() == "unchanged"


def test_a_sparse_bomb_takes_no_disk(engine: Engine) -> None:
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": str(1 << 60),
    }
    info.size = 1
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"x"))
    answer = engine.api(
        "POST", "/images/create?fromSrc=-&repo=bomb&tag=1", out.getvalue(), {"Content-Type": "application/x-tar"}
    )
    assert answer.status >= 400 or b'"error"' in answer.body


def test_a_cut_tar_is_refused(engine: Engine) -> None:
    whole = tar_of(entry("file", data=b"x" * 100_000))
    answer = engine.api(
        "POST", "/images/create?fromSrc=-&repo=cut&tag=1", whole[:50_000], {"Content-Type": "application/x-tar"}
    )
    assert answer.status >= 400 or b'"error"' in answer.body
    assert engine.api("GET", "/images/cut:1/json").status == 404


# ---- lying registries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lie", ["wrong digest", "cut in the middle", "wrong size", "manifest confusion", "unauthorized", "unknown"]
)
def test_a_lying_registry_gets_nothing_in(engine: Engine, lie: str) -> None:
    from support.lying_registry import LyingRegistry

    with engine.inside(), LyingRegistry(lie) as registry:
        answer = engine.api("POST", f"/images/create?fromImage={registry.address}/image&tag=1", timeout_s=110)
    lines = [json.loads(line) for line in answer.body.splitlines() if line]
    assert answer.status >= 400 or "error" in lines[-1], answer.body[-500:]
    text = answer.message if answer.status >= 400 else lines[-1]["error"]
    assert text
    assert engine.api("GET", f"/images/{registry.address}/image:1/json").status == 404
