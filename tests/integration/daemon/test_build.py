"""`build` by both command lines: each instruction, flag and refusal is shown by what came of it in the image."""

import gzip
import http.server
import io
import json
import os
import re
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.covers import covers
from support.engine import Cli, Engine, Result
from support.processes import wait_for

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def cleaned(engine: Engine) -> Iterator[None]:
    """What a test made goes with it."""
    yield
    clean(engine)


@pytest.fixture(autouse=True)
def classic(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The stock CLI speaks to the classic builder."""
    if "cli" in request.fixturenames:
        monkeypatch.setitem(request.getfixturevalue("cli").env, "DOCKER_BUILDKIT", "0")


def clean(engine: Engine) -> None:
    for container in engine.api("GET", "/containers/json?all=1").json:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for image in engine.api("GET", "/images/json").json:
        for tag in image["RepoTags"] or ():
            if tag != "busybox:latest":
                engine.api("DELETE", f"/images/{tag}?force=1")
    engine.api("POST", "/images/prune?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D")


def context(path: Path, dockerfile: str, files: Mapping[str, str] | None = None) -> str:
    path.mkdir(exist_ok=True)
    for name, text in {"Dockerfile": dockerfile, **(files or {})}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return str(path)


def build(cli: Cli, path: str, *flags: str, code: int | None = 0, stdin: bytes | None = None) -> Result:
    return cli("build", "-t", "it", *flags, path, code=code, stdin=stdin)


def ran(cli: Cli, *command: str, image: str = "it") -> str:
    return cli.out("run", "--rm", image, *command)


def config(engine: Engine, image: str = "it") -> Any:
    return engine.api("GET", f"/images/{image}/json").json["Config"]


def test_every_instruction_of_the_config(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    text = """
    FROM busybox
    MAINTAINER me <me@example.org>
    ENV A=1 B="two words"
    ENV C $A-$B
    ENV PATH=/opt/bin:$PATH
    LABEL a.b="c d" e=$A
    EXPOSE 80 53/udp 8000-8001
    VOLUME /data /other
    VOLUME ["/more"]
    USER 7:8
    WORKDIR /srv
    WORKDIR sub
    STOPSIGNAL SIGUSR1
    HEALTHCHECK --interval=5s --retries=2 CMD true
    SHELL ["/bin/sh", "-ec"]
    ENTRYPOINT echo $0
    CMD ["x", "y"]
    ONBUILD RUN true
    """
    build(cli, context(tmp_path, text))
    found = config(engine)
    assert (
        found["Env"][-4:] == ["A=1", "B=two words", "C=1-two words", found["Env"][-1]]
        or "C=1-two words" in found["Env"]
    )
    assert any(entry.startswith("PATH=/opt/bin:") for entry in found["Env"])
    assert found["Labels"] == {"a.b": "c d", "e": "1"} and found["User"] == "7:8" and found["WorkingDir"] == "/srv/sub"
    assert set(found["ExposedPorts"]) == {"80/tcp", "53/udp", "8000/tcp", "8001/tcp"}
    assert {"/data", "/more"} < set(found["Volumes"]) and found["StopSignal"] == "SIGUSR1"
    assert found["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9, "Retries": 2}
    assert found["Entrypoint"] == ["/bin/sh", "-ec", "echo $0"] and found["Cmd"] == ["x", "y"]
    assert found["OnBuild"] == ["RUN true"] and found["Shell"] == ["/bin/sh", "-ec"]
    assert engine.api("GET", "/images/it/json").json["Author"] == "me <me@example.org>"
    made_by = cli.out("history", "--no-trunc", "--format", "{{.CreatedBy}}", "it").splitlines()
    assert made_by[0] == "/bin/sh -ec #(nop)  ONBUILD RUN true"
    assert "/bin/sh -c #(nop)  ENV A=1 B=two words" in made_by


def test_entrypoint_clears_the_base_s_command_and_keeps_its_own(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    build(cli, context(tmp_path, 'FROM busybox\nENTRYPOINT ["echo"]'))
    assert not config(engine).get("Cmd")
    build(cli, context(tmp_path, 'FROM busybox\nCMD ["mine"]\nENTRYPOINT ["echo"]'))
    assert ran(cli) == "mine"


def test_run_forms_environment_and_here_documents(cli: Cli, tmp_path: Path) -> None:
    text = """FROM busybox
ENV NAME=value
WORKDIR /w
RUN ["touch", "/exec form"]
RUN echo $NAME > shell && \\
    # a comment within
    pwd >> shell
RUN <<EOF
set -e
echo one > doc
echo $NAME >> doc
EOF
RUN cat <<A <<'B' > both
first
A
$second
B
RUN <<EOF
#!/bin/sh
echo "by $0" | cut -c1-5 > by
EOF
USER 9
RUN id -u > /tmp/id
"""
    if cli.engine.__class__.__name__ == "Dockerd":
        pytest.skip("dockerd's classic builder has no here-documents")
    build(cli, context(tmp_path, text))
    assert ran(cli, "cat", "shell", "doc", "both", "by", "/tmp/id").split() == [
        "value", "/w", "one", "value", "$second", "by", "/t", "9",
    ]  # fmt: skip
    assert ran(cli, "ls", "/exec form") == "/exec form"


def test_copy_and_add(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    text = """FROM busybox
RUN echo web:x:77:78::/:/bin/sh >> /etc/passwd && echo web:x:78: >> /etc/group && mkdir -p /real && ln -s real /linked
COPY a.txt /one
COPY a.txt b.txt /many/
COPY *.txt /glob/
COPY dir /dir
COPY --chown=web dir/x /owned/
COPY --chown=5 a.txt /five
COPY a.txt /linked/
COPY ["with space", "/spaced"]
WORKDIR /w
COPY a.txt .
ADD archive.tar.gz /unpacked/
ADD a.txt /added
"""
    path = context(tmp_path, text, {"a.txt": "A", "b.txt": "B", "dir/x": "X", "dir/sub/y": "Y", "with space": "S"})
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "dir", "inside")
    build(cli, path)
    found = ran(cli, "find", "/one", "/many", "/glob", "/dir", "/unpacked", "/real", "/w", "/added", "-type", "f")
    assert sorted(found.split()) == [
        "/added", "/dir/sub/y", "/dir/x", "/glob/a.txt", "/glob/b.txt", "/many/a.txt", "/many/b.txt", "/one",
        "/real/a.txt", "/unpacked/inside/sub/y", "/unpacked/inside/x", "/w/a.txt",
    ]  # fmt: skip
    assert ran(cli, "stat", "-c", "%u:%g", "/owned/x", "/five", "/one").split() == ["77:78", "5:5", "0:0"]
    assert ran(cli, "cat", "/unpacked/inside/sub/y", "/linked/a.txt", "/spaced") == "YAS"


def test_copies_go_over_what_was_there(cli: Cli, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN mkdir -p /d/sub && echo old > /d/x && echo kept > /d/kept && chmod 700 /d\nCOPY d /d\n"
    build(cli, context(tmp_path, text, {"d/x": "new", "d/sub/y": "Y"}))
    assert ran(cli, "sh", "-c", "cat /d/x /d/kept /d/sub/y; stat -c %a /d").split() == ["newkept", "Y700"]


def test_stages(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    text = """ARG BASE=busybox
FROM $BASE AS first
RUN echo from first > /made && chown 3:4 /made
FROM busybox AS unneeded
RUN false
FROM scratch AS files
COPY --from=first /made /made
COPY --from=busybox /bin/busybox /bin/
FROM first
COPY --from=files /made /again
COPY --from=0 /etc /etc0
"""
    if engine.__class__.__name__ == "Dockerd":
        text = text.replace("RUN false", "RUN true")  # the classic builder there builds every stage
    build(cli, context(tmp_path, text))
    assert ran(cli, "cat", "/made", "/again") == "from first\nfrom first"
    assert "passwd" in ran(cli, "ls", "/etc0").split()
    build(cli, str(tmp_path), "--target", "files")
    assert ran(cli, "/bin/busybox", "cat", "/made") == "from first"
    refused = build(cli, str(tmp_path), "--target", "nosuch", code=1).err
    assert 'target stage "nosuch" could not be found' in refused or "nosuch" in refused


def test_arguments(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    text = """ARG GLOBAL=g
FROM busybox
RUN echo "[$GLOBAL]" > /scope
ARG GLOBAL
ARG OWN=default
ARG BOTH=arg
ENV BOTH=env
RUN echo "$GLOBAL $OWN $BOTH $HTTP_PROXY" >> /scope
FROM busybox
COPY --from=0 /scope /scope
RUN echo "[$OWN]" >> /scope
"""
    path = context(tmp_path, text)
    done = build(cli, path, "--build-arg", "OWN=given", "--build-arg", "HTTP_PROXY=http://p", "--build-arg", "NOPE=1")
    assert ran(cli, "cat", "/scope").splitlines() == ["[]", "g given env http://p", "[]"]
    assert "[NOPE] were not consumed" in done.out + done.err
    history = cli.out("history", "--no-trunc", "it")
    assert "http://p" not in history
    assert "http://p" not in json.dumps(config(engine))


def test_what_was_done_is_reused_until_something_of_it_changes(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    text = "FROM busybox\nCOPY a /a\nRUN echo ran > /ran\nWORKDIR /w\nENV X=1\nARG Y=1\nRUN echo $Y\n"
    path = context(tmp_path, text, {"a": "1"})

    def cached(*flags: str) -> int:
        return build(cli, path, *flags).out.count("Using cache")

    assert cached("--no-cache") == 0
    first = engine.api("GET", "/images/it/json").json["Id"]
    os.utime(tmp_path / "a", (1, 1))
    assert cached() == 6 and engine.api("GET", "/images/it/json").json["Id"] == first
    assert cached("--build-arg", "Y=2") == 5
    (tmp_path / "a").write_text("2")
    assert cached() == 0
    os.chmod(tmp_path / "a", 0o600)
    assert cached() == 0
    assert cached("--no-cache") == 0


def test_cve_2024_24557_an_image_from_elsewhere_is_no_cache(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    """One that tells of itself, word for word, how this build's steps would be made."""
    path = context(tmp_path / "c", "FROM scratch\nCOPY f /f\n", {"f": "good"})
    build(cli, path)
    honest = engine.api("GET", "/images/it/json").json["Id"]
    cli("save", "-o", str(tmp_path / "it.tar"), "it")
    clean(engine)
    assert not any(image["Id"] == honest for image in engine.api("GET", "/images/json?all=1").json)
    cli("load", "-i", str(tmp_path / "it.tar"))  # its own image: what it says is what a liar's would say
    assert "Using cache" not in build(cli, path).out


@pytest.mark.parametrize(
    "line", ["HEALTHCHECK CMD {}", "ONBUILD RUN {}", 'ENTRYPOINT ["{}"]', "STOPSIGNAL {}", "USER {}"]
)
def test_cve_2024_24557_every_instruction_counts(cli: Cli, tmp_path: Path, line: str) -> None:
    for word in ("1", "2"):
        text = f"FROM busybox\n{line.format(word)}\n"
        assert "Using cache" not in build(cli, context(tmp_path, text)).out
        assert "Using cache" in build(cli, str(tmp_path)).out


def test_cache_from_reuses_an_image_that_came_from_elsewhere(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    path = (
        context(tmp_path / "c", "FROM busybox\nRUN echo $$ > /random\nENV A=b\n")
        if (tmp_path / "c").mkdir() is None
        else ""
    )
    build(cli, path)
    number = ran(cli, "cat", "/random")
    cli("save", "-o", str(tmp_path / "it.tar"), "it")
    cli("rmi", "-f", "it")
    clean(engine)
    cli("load", "-i", str(tmp_path / "it.tar"))
    done = build(cli, path, "--cache-from", "it")
    assert done.out.count("Using cache") == 2 and ran(cli, "cat", "/random") == number
    assert build(cli, path, "--cache-from", "nosuch").out.count("Using cache") == 0


def test_a_command_that_fails_fails_the_build(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    path = context(tmp_path, "FROM busybox\nRUN echo said; echo complained >&2; exit 7\n")
    failed = build(cli, path, "--force-rm", code=7)
    assert "said" in failed.out and "complained" in failed.out
    assert "The command '/bin/sh -c echo said; echo complained >&2; exit 7' returned a non-zero code: 7" in failed.err
    assert engine.api("GET", "/containers/json?all=1").json == [] and engine.api("GET", "/images/it/json").status == 404
    build(cli, path, code=7)
    assert len(engine.api("GET", "/containers/json?all=1").json) == 1, "to be looked at"
    quiet = build(cli, path, "-q", code=7)
    assert "said" in quiet.err and quiet.out.strip() == ""


def test_containers_of_steps_can_be_kept(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    path = context(tmp_path, "FROM busybox\nRUN true\nRUN echo\n")
    build(cli, path, "--no-cache")
    assert engine.api("GET", "/containers/json?all=1").json == []
    build(cli, path, "--no-cache", "--rm=false")
    assert len(engine.api("GET", "/containers/json?all=1").json) == 2


@covers("build --file", "build --quiet", "build --iidfile", "build --tag")
def test_where_the_dockerfile_and_the_files_come_from(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    path = (
        context(tmp_path / "c", "FROM busybox\nRUN false\n", {"other/D": "FROM busybox\nCOPY f /f\n", "f": "F"})
        if (tmp_path / "c").mkdir() is None
        else ""
    )
    outside = tmp_path / "outside"
    outside.write_text("FROM busybox\nCOPY f /g\n")
    build(cli, path, "-f", f"{path}/other/D")
    assert ran(cli, "cat", "/f") == "F"
    build(cli, path, "-f", str(outside))
    assert ran(cli, "cat", "/g") == "F"
    build(cli, path, "-f", "-", stdin=b"FROM busybox\nCOPY f /h\n")
    assert ran(cli, "cat", "/h") == "F"
    build(cli, "-", stdin=b"FROM busybox\nRUN echo text > /i\n")
    assert ran(cli, "cat", "/i") == "text"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:  # the stock CLI looks no further
        for name in ("f", "other/D"):
            tar.add(f"{path}/{name}", name)
    for data in (buffer.getvalue(), gzip.compress(buffer.getvalue())):
        build(cli, "-", "-f", "other/D", stdin=data)
        assert ran(cli, "cat", "/f") == "F"
    id = cli.out(
        "build",
        "-q",
        "-t",
        "one",
        "-t",
        "example.org/two:v1",
        "--iidfile",
        str(tmp_path / "id"),
        "-f",
        f"{path}/other/D",
        path,
    )
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", id) and (tmp_path / "id").read_text().strip() == id
    tags = engine.api("GET", f"/images/{id}/json").json["RepoTags"]
    assert {"one:latest", "example.org/two:v1"} <= set(tags)


def test_dockerignore(cli: Cli, tmp_path: Path) -> None:
    files = {
        ".dockerignore": "# comment\n*.log\nsecret\n!secret/public\nDockerfile\n.dockerignore\n",
        "a.log": "", "b.txt": "", "secret/key": "", "secret/public": "", "d/c.log": "",
    }  # fmt: skip
    build(cli, context(tmp_path, "FROM busybox\nCOPY . /all\n", files))
    assert sorted(ran(cli, "find", "/all", "-type", "f").split()) == [
        "/all/b.txt",
        "/all/d/c.log",
        "/all/secret/public",
    ]


@covers(
    "build --add-host", "build --build-arg", "build --cache-from", "build --cgroup-parent", "build --cpu-period",
    "build --cpu-quota", "build --cpu-shares", "build --label", "build --memory", "build --network", "build --shm-size",
    "build --ulimit", "build --pull", "build --platform",
)  # fmt: skip
def test_limits_and_surroundings_of_run(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    text = """FROM busybox
RUN (cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max) > /seen 2>/dev/null; true
RUN ulimit -n >> /seen; grep extra /etc/hosts >> /seen; ls /sys/class/net >> /seen; df -k /dev/shm | tail -1 >> /seen
"""
    flags = ("-m", "64m", "--ulimit", "nofile=100:200", "--add-host", "extra:10.1.2.3", "--network", "none")
    build(cli, context(tmp_path, text), *flags, "--shm-size", "2m", "--label", "k=v w", "--cpu-shares", "512")
    seen = ran(cli, "cat", "/seen")
    assert "67108864" in seen and "100" in seen.split() and "10.1.2.3\textra" in seen and "eth0" not in seen
    assert " 2048 " in seen and config(engine)["Labels"] == {"k": "v w"}


class Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        kind = "text/plain" if "Dockerfile" in self.path else "application/octet-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Last-Modified", "Fri, 13 Feb 2009 23:31:30 GMT")
        self.end_headers()
        self.wfile.write(b"FROM busybox\nRUN echo remote > /r\n" if "Dockerfile" in self.path else b"downloaded")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(engine: Engine) -> Iterator[str]:
    """A web server where the engine is."""
    with engine.inside():
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_add_of_a_url(cli: Cli, engine: Engine, url: str, tmp_path: Path) -> None:
    build(cli, context(tmp_path, f"FROM busybox\nADD {url}/path/file /d/\n"))
    assert ran(cli, "sh", "-c", "cat /d/file; stat -c ' %a %Y' /d/file") == "downloaded 600 1234567890"
    if cli.name == "rorqual":  # the stock CLI fetches a URL itself, from where it runs
        build(cli, f"{url}/Dockerfile")
        assert ran(cli, "cat", "/r") == "remote"


def test_add_checks_the_digest(engine: Engine, url: str, tmp_path: Path) -> None:
    good = "sha256:df4ae9a4a8ce5ff0fe0ef06ff7a2af3c1a6ee7b3cd5a1b0e3d0b9a8b5b6c7d8e"
    done = engine.rorqual("build", context(tmp_path, f"FROM busybox\nADD --checksum={good} {url}/f /f\n"), code=1)
    assert "digest mismatch sha256:" in done.err


def test_triggers_of_the_base_are_carried_out(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    base = context(tmp_path, "FROM busybox\nONBUILD COPY f /f\nONBUILD RUN echo $0 >> /f\n")
    cli("build", "-t", "base", base)
    done = build(cli, context(tmp_path, "FROM base\nENV A=b\n", {"f": "file "}))
    assert "# Executing 2 build triggers" in done.out and ran(cli, "cat", "/f") == "file /bin/sh"
    assert not config(engine).get("OnBuild")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "cannot be empty"),
        ("RUN x", "no build stage in current context"),
        ("FROM busybox\nXYZZY a", "unknown instruction: XYZZY"),
        ("FROM busybox\nCOPY a", "COPY requires at least two arguments"),
        ("FROM busybox\nCOPY nosuch /", "file not found in build context or excluded by .dockerignore"),
        ("FROM busybox\nCOPY ../../etc/passwd /", "forbidden path outside the build context: ../../etc/passwd"),
        ("FROM busybox\nCOPY --from=nosuch.invalid/x /a /b", "nosuch.invalid"),
        ("FROM nosuch.invalid/x", "nosuch.invalid"),
        ("FROM busybox\nENV A", "ENV must have two arguments"),
        ("FROM busybox\nEXPOSE x", "invalid containerPort: x"),
        ("FROM busybox\nUSER nosuchuser\nRUN id", "unable to find user nosuchuser"),
        ("FROM busybox\nCOPY --nope=1 a b", "nope"),
        ("FROM busybox\nRUN --mount=type=cache,target=/c true", "the --mount option requires BuildKit"),
        ("FROM busybox\nSHELL sh", "SHELL requires the arguments to be in JSON form"),
        ("FROM scratch\n", "No image was generated"),
    ],
)
def test_what_is_wrong_is_told(engine: Engine, tmp_path: Path, text: str, error: str) -> None:
    before = {image["Id"] for image in engine.api("GET", "/images/json?all=1").json}
    done = engine.rorqual("build", context(tmp_path, text), "--force-rm", code=None)
    assert done.code not in (0, 64) and error in done.err, str(done)
    assert not any("Traceback" in line for line in (done.err, engine.log_tail(30)))
    assert engine.api("GET", "/containers/json?all=1").json == []
    assert before <= {image["Id"] for image in engine.api("GET", "/images/json?all=1").json}


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("t=UPPER", 400, "invalid"),
        ("t=a@sha256:" + "0" * 64, 400, "digest"),
        ("buildargs=x", 400, "buildargs"),
        ("labels=[1]", 400, "labels"),
        ("dockerfile=nosuch", 400, "Cannot locate specified Dockerfile: nosuch"),
        ("dockerfile=../../../etc/passwd", 400, "forbidden path outside the build context"),
        ("remote=ftp://x", 400, "remote URL"),
        ("platform=nosuch/nosuch/x/y", 400, "platform"),
        ("memory=x", 400, "x"),
        ("version=2", 400, "needs a session"),
    ],
)
def test_what_the_api_refuses(engine: Engine, query: str, status: int, error: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("Dockerfile"), io.BytesIO())
    answer = engine.api("POST", f"/build?{query}", buffer.getvalue(), {"Content-Type": "application/x-tar"})
    assert answer.status == status and error in answer.message, answer.body


@pytest.mark.parametrize("body", [b"x", b"{}", b"\x1f\x8b", bytes(range(256)) * 4, b"x" * 511])
def test_what_is_no_archive_is_refused(engine: Engine, body: bytes) -> None:
    answer = engine.api("POST", "/build", body, {"Content-Type": "application/x-tar"})
    assert answer.status == 400 and "Error processing tar file" in answer.message


def tar_of(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


def test_a_hostile_context_reaches_nothing_of_the_host(engine: Engine, tmp_path: Path) -> None:
    """Links to the host, names that climb, and a Dockerfile that is a link."""
    secret = tmp_path / "secret"
    secret.write_text("FROM busybox\nLABEL secret=told\n")
    head = {"Content-Type": "application/x-tar"}
    answer = engine.api("POST", "/build", tar_of(link("Dockerfile", str(secret))), head)
    assert answer.status == 400 and b"told" not in answer.body
    for target in (str(secret), "../" * 12 + str(secret), f"/proc/self/root{secret}"):
        text = b"FROM busybox\nCOPY l /l\nADD d /d\n"
        data = tar_of((tarfile.TarInfo("Dockerfile"), text), link("l", target), link("d", str(tmp_path)))
        answer = engine.api("POST", "/build?t=it", data, head)
        assert b"file not found in build context" in answer.body, answer.body
    climbing = tar_of((tarfile.TarInfo("Dockerfile"), b"FROM busybox\n"), (tarfile.TarInfo("../../climbed"), b"x"))
    engine.api("POST", "/build", climbing, head)
    # Not rglob, which what an earlier build leaves to be removed would make fail.
    found = [top for top, directories, files in os.walk(engine.data) if "climbed" in (*directories, *files)]
    assert not found and not (engine.data.parent / "climbed").exists()


def test_a_hostile_image_reaches_nothing_of_the_host(engine: Engine, tmp_path: Path) -> None:
    """The destination and --from go through links of an image."""
    text = f"""FROM busybox AS bad
RUN ln -s {tmp_path} /out && ln -s ../../../../../..{tmp_path} /up && ln -s /proc/1/root /proot
FROM bad
COPY f /out/written
COPY f /up/written
COPY f /proot{tmp_path}/written
"""
    engine.rorqual("build", "-t", "it", context(tmp_path / "c", text, {"f": "F"}), code=None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]
    (tmp_path / "secret").write_text("told")
    for way in ("/out", "/up", f"/proot{tmp_path}"):
        reading = f"FROM busybox\nCOPY --from=it {way}/secret /s\n"
        done = engine.rorqual("build", context(tmp_path / "d", reading), code=1)
        assert "file not found in build context" in done.err
    assert not (engine.data.parent / "written").exists()


def test_a_client_that_goes_away_ends_its_build(engine: Engine, tmp_path: Path) -> None:
    path = context(tmp_path, "FROM busybox\nRUN sleep 1000\n")
    with engine.rorqual.started("build", "--force-rm", path):
        wait_for(lambda: engine.api("GET", "/containers/json").json, "the command runs", 20)
    wait_for(lambda: engine.api("GET", "/containers/json?all=1").json == [], "it was killed and removed", 20)
    wait_for(lambda: not list((engine.data / "tmp").iterdir()), "its files are gone")


def test_a_client_that_goes_away_at_any_moment_leaves_nothing_running(engine: Engine, tmp_path: Path) -> None:
    """Also while the command's container is being made or started: once it was taken for running for ever."""
    path = context(tmp_path, "FROM busybox\nRUN sleep 1000\n")
    for part in range(60):
        with engine.rorqual.started("build", "--force-rm", path) as client:
            before = part * 0.001  # a start takes some thirty milliseconds
            wait_for(lambda: engine.api("GET", "/containers/json?all=1").json, "the container is made", 20, 0.001)
            time.sleep(before)
            client.kill()
        wait_for(lambda: engine.api("GET", "/containers/json?all=1").json == [], "it was killed and removed", 20)
    wait_for(lambda: not list((engine.data / "tmp").iterdir()), "their files are gone")


def test_what_a_build_stands_on_is_not_removed_meanwhile(engine: Engine, tmp_path: Path) -> None:
    first = "FROM busybox AS a\nRUN echo kept > /f\n"
    second = "FROM busybox\nRUN until [ -e /go ]; do usleep 50000; done\nCOPY --from=a /f /f\n"
    path = context(tmp_path, first + second)
    with engine.rorqual.started("build", "-t", "it", path) as client:
        wait_for(lambda: "usleep" in commands(engine), "the second stage's command runs", 20)
        container = next(c for c in engine.api("GET", "/containers/json").json if "usleep" in c["Command"])
        stage = next(
            image["Id"] for image in engine.api("GET", "/images/json?all=1").json if image["Id"] != container["ImageID"]
        )
        assert engine.api("POST", "/images/prune").json["ImagesDeleted"] is None
        refused = engine.rorqual("rmi", "-f", stage, code=1)
        assert "image is being used by a build" in refused.err
        (engine.data.parent / "go").write_text("")
        engine.docker("cp", str(engine.data.parent / "go"), f"{container['Id']}:/go")
        client.communicate(timeout=60)
        assert client.returncode == 0
    assert ran(engine.rorqual, "cat", "/f") == "kept"
    deleted = engine.api("POST", "/images/prune").json["ImagesDeleted"]
    assert stage in [item.get("Deleted") for item in deleted]


def test_many_builds_at_once(engine: Engine, tmp_path: Path) -> None:
    results: list[Result] = []

    def one(number: int) -> None:
        path = tmp_path / str(number)
        text = f"FROM busybox\nCOPY f /f\nRUN cat /f > /g\nRUN echo {number} >> /g\n"
        results.append(engine.rorqual("build", "-q", "-t", f"it{number}", context(path, text, {"f": f"{number} "})))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ran(engine.rorqual, "cat", "/g", image=f"it{number}") for number in range(6)] == [
        f"{n} {n}" for n in range(6)
    ]


def test_nothing_is_left_of_builds(engine: Engine, tmp_path: Path) -> None:
    path = context(tmp_path, "FROM busybox\nCOPY f /f\nWORKDIR /w\nRUN echo 1 > x\nADD t.tar /t/\n", {"f": "F"})
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "f", "f")
    engine.rorqual("build", path)
    clean(engine)
    before = engine.held()
    for _ in range(3):
        engine.rorqual("build", "--no-cache", "-t", "it", path)
        bad = context(tmp_path / "bad", "FROM busybox\nRUN false\n")
        engine.rorqual("build", "--no-cache", "--force-rm", bad, code=1)
        clean(engine)
    wait_for(lambda: not engine.held().more_than(before, 12), lambda: str(engine.held().more_than(before, 12)))
    wait_for(lambda: not list((engine.data / "tmp").iterdir()), "its files are gone")


def commands(engine: Engine) -> str:
    """What the containers that run were started with."""
    return "\n".join(container["Command"] for container in engine.api("GET", "/containers/json").json)


@pytest.mark.parametrize("victim", ["rorquald", "containerd"])
def test_a_build_that_was_killed_can_be_done_again(fresh_engine: Engine, tmp_path: Path, victim: str) -> None:
    engine = fresh_engine
    path = context(tmp_path, "FROM busybox\nRUN echo 1 > /x\nCOPY f /f\nRUN sleep 2; echo 2 > /y\n", {"f": "F"})
    with engine.rorqual.started("build", "-t", "it", path) as client:
        wait_for(lambda: "sleep 2" in commands(engine), "the last command runs", 20)
        time.sleep(0.2)
        engine.kill(victim)
        client.wait(20)
    if victim == "rorquald":
        engine.start()
    wait_for(lambda: engine.api("GET", "/_ping").status == 200, "it is back")
    if victim == "rorquald":
        wait_for(lambda: engine.api("GET", "/containers/json?all=1").json == [], "its command ended with it")
        assert not list((engine.data / "tmp").iterdir())
    done = engine.rorqual("build", "-t", "it", path)
    assert done.out.count("Using cache") >= 2
    assert ran(engine.rorqual, "cat", "/x", "/f", "/y") == "1\nF2"
    engine.rorqual("system", "check")
