"""Every `system`, `volume` and `context` command with its flags, and `version`, `info` and `events`: what each does."""

import io
import json
import re
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.covers import covers
from support.engine import Cli, Engine
from support.verbs import started

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def no_volumes(engine: Engine) -> Iterator[None]:
    """Those of earlier tests are gone, and this one's afterwards."""
    remove_all(engine)
    yield
    remove_all(engine)


def remove_all(engine: Engine) -> None:
    for container in engine.api("GET", "/containers/json?all=1").json:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for volume in engine.api("GET", "/volumes").json["Volumes"] or ():
        assert engine.api("DELETE", f"/volumes/{volume['Name']}").status == 204


def volumes(cli: Cli, *flags: str) -> list[str]:
    return cli.out("volume", "ls", "-q", *flags).split()


@covers("volume create", *(f"volume create --{flag}" for flag in ("driver", "label", "opt")), "volume inspect", "volume inspect --format")  # fmt: skip # noqa: E501
def test_volume_create_and_inspect(cli: Cli) -> None:
    assert len(cli.out("volume", "create")) == 64
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "-o", "o=size=1m")
    assert cli.out("volume", "create", "-d", "local", "--label", "a=b", "--label", "c", *options, "memory") == "memory"
    (shown,) = json.loads(cli.out("volume", "inspect", "memory"))
    assert shown["Labels"] == {"a": "b", "c": ""} and shown["Driver"] == "local" and shown["Options"]["o"] == "size=1m"
    assert cli.out("volume", "inspect", "-f", "{{.Name}} {{.Scope}} {{.Labels.a}}", "memory") == "memory local b"
    assert "size=1024k" in cli.out("run", "--rm", "-v", "memory:/m", "busybox", "grep", " /m ", "/proc/mounts")
    assert 'plugin "nosuch" not found' in cli("volume", "create", "-d", "nosuch", "x1", code=1).err
    result = cli("volume", "inspect", "nosuch", "memory", code=1)
    assert json.loads(result.out)[0]["Name"] == "memory" and "get nosuch: no such volume" in result.err


CLUSTER = {
    "availability": "pause", "group": "g", "limit-bytes": "1m", "required-bytes": "1m", "scope": "multi",
    "secret": "a=b", "sharing": "all", "topology-preferred": "a=b", "topology-required": "a=b", "type": "mount",
}  # fmt: skip


@covers(*(f"volume create --{flag}" for flag in CLUSTER), "volume update", "volume update --availability")
def test_cluster_volumes_are_a_swarms(cli: Cli) -> None:
    """Each flag makes the request one for a cluster volume, which an engine outside of a swarm refuses.

    Topologies alone do not, and secrets not with the stock command line: they say more of what is one already.
    """
    for flag, value in CLUSTER.items():
        more = ("--type", "block") if flag.startswith(("topology", "secret")) else ()
        assert "not a swarm manager" in cli("volume", "create", *more, f"--{flag}", value, "far", code=1).err, flag
    assert volumes(cli) == []
    cli("volume", "create", "near")
    assert "can only update cluster volumes" in cli("volume", "update", "--availability", "pause", "near", code=1).err


@covers("volume ls", *(f"volume ls --{flag}" for flag in ("cluster", "filter", "format", "quiet")))
def test_volume_ls(cli: Cli) -> None:
    cli("volume", "create", "--label", "tier=front", "first")
    cli("volume", "create", "second")
    cli("create", "--name", "user", "-v", "second:/v", "busybox")
    lines = cli.out("volume", "ls").splitlines()
    assert lines[0].split() == ["DRIVER", "VOLUME", "NAME"] and lines[1].split() == ["local", "first"]
    assert volumes(cli) == ["first", "second"]
    assert volumes(cli, "--filter", "label=tier=front") == ["first"] == volumes(cli, "-f", "dangling=true")
    assert volumes(cli, "-f", "name=sec") == ["second"] and volumes(cli, "-f", "driver=nosuch") == []
    assert cli.out("volume", "ls", "--format", "{{.Name}}:{{.Driver}}").split() == ["first:local", "second:local"]
    assert json.loads(cli.out("volume", "ls", "--format", "json", "-f", "name=first"))["Labels"] == "tier=front"
    assert cli.out("volume", "ls", "--cluster").split() == [
        "VOLUME",
        "NAME",
        "GROUP",
        "DRIVER",
        "AVAILABILITY",
        "STATUS",
    ]
    assert "invalid filter 'odd'" in cli("volume", "ls", "-f", "odd=1", code=1).err


@covers(
    "volume rm", "volume rm --force", "volume prune", *(f"volume prune --{flag}" for flag in ("all", "filter", "force"))
)
def test_volume_rm_and_prune(cli: Cli) -> None:
    for name in ("one", "two", "kept", "used"):
        cli("volume", "create", *(["--label", "keep"] if name == "kept" else []), name)
    anonymous = cli.out("volume", "create")
    cli("create", "--name", "user", "-v", "used:/v", "busybox")
    assert cli.out("volume", "rm", "one") == "one"
    assert "get one: no such volume" in cli("volume", "rm", "one", code=1).err
    assert cli.out("volume", "rm", "-f", "one") == "one"
    assert "volume is in use" in cli("volume", "rm", "used", code=1).err
    assert "Total reclaimed" not in cli("volume", "prune", stdin=b"n\n", code=None).out
    assert anonymous in volumes(cli)
    cli("volume", "prune", stdin=b"y\n")
    assert volumes(cli) == ["kept", "two", "used"]  # the nameless alone
    cli("volume", "prune", "--force", "--all", "--filter", "label!=keep")
    assert volumes(cli) == ["kept", "used"]
    cli("volume", "prune", "-f", "-a")
    assert volumes(cli) == ["used"]


@covers("info", "info --format", "version", "version --format")
def test_info_and_version(cli: Cli, engine: Engine) -> None:
    started(cli, "run", "runs")
    lines = [line.strip() for line in cli.out("info").splitlines()]
    assert {"Containers: 1", "Running: 1", f"Docker Root Dir: {engine.data}"} <= set(lines)
    assert cli.out("info", "-f", "{{.ContainersRunning}} {{.DockerRootDir}}") == f"1 {engine.data}"
    assert cli.out("system", "info", "--format", "{{.OSType}}") == "linux"
    answer = engine.api("GET", "/version").json
    shown = json.loads(cli.out("version", "-f", "json"))
    assert shown["Server"]["Version"] == answer["Version"] and shown["Client"]["Os"] == "linux"
    text = cli.out("version")
    assert text.startswith("Client") and f"Version:          {answer['Version']}" in text
    assert cli.out("version", "--format", "{{.Server.APIVersion}}") == answer["ApiVersion"]


@covers("events", *(f"events --{flag}" for flag in ("filter", "format", "since", "until")))
def test_events(cli: Cli) -> None:
    before = time.time()
    container = cli.out("create", "--name", "seen", "-l", "a=b", "busybox")
    middle = time.time()
    cli("volume", "create", "told")
    cli("rm", "seen")
    after = time.time()

    def told(*flags: str, since: float = before, until: float = after) -> list[str]:
        span = ("--since", f"{since:.6f}", "--until", f"{until:.6f}")
        return cli.out("events", *span, "--format", "{{.Type}} {{.Action}}", *flags).splitlines()

    assert told() == ["container create", "volume create", "container destroy"]
    assert told(until=middle) == ["container create"] and told(since=middle) == ["volume create", "container destroy"]
    for given in ("type=volume", "volume=told"):
        assert told("--filter", given) == ["volume create"]
    for given in (f"container={container}", "container=seen", "label=a=b", "image=busybox"):
        assert told("-f", given) == ["container create", "container destroy"], given
    assert told("-f", "event=create", "-f", "type=container") == ["container create"]
    line = cli.out("events", "--since", f"{before:.6f}", "--until", f"{middle:.6f}")
    assert f"container create {container} (" in line and "a=b" in line and "name=seen" in line
    raw = cli.out("events", "--since", f"{before:.6f}", "--until", f"{middle:.6f}", "--format", "json")
    assert json.loads(raw)["Actor"]["ID"] == container
    assert 'failed to parse value as time or duration: "odd"' in cli("events", "--since", "odd", code=1).err


@covers("system df", "system df --format", "system df --verbose")
def test_system_df(cli: Cli) -> None:
    cli("run", "--name", "ended", "-v", "kept:/v", "busybox", "sh", "-c", "head -c 3000000 /dev/zero | tee /f >/v/f")
    rows = {line.split("  ")[0]: line.split() for line in cli.out("system", "df").splitlines()[1:]}
    assert rows["Images"][1:3] == ["1", "1"] and rows["Containers"][1:3] == ["1", "0"]
    assert rows["Containers"][3].startswith("3") and rows["Local Volumes"][2:4] == ["1", "1"]
    assert rows["Local Volumes"][4].startswith("3") and rows["Local Volumes"][4].endswith("MB")
    shown = cli.out("system", "df", "--format", "{{.Type}}:{{.TotalCount}}:{{.Active}}").splitlines()
    assert {"Images:1:1", "Containers:1:0", "Local Volumes:1:1"} <= set(shown)
    verbose = cli.out("system", "df", "-v")
    assert "kept" in verbose and "ended" in verbose and "busybox" in verbose
    assert not {"kept", "ended"} & set(cli.out("system", "df").split())


@covers("system prune", *(f"system prune --{flag}" for flag in ("all", "filter", "force", "volumes")))
def test_system_prune(fresh_cli: Cli) -> None:
    cli = fresh_cli
    cli("create", "--name", "kept", "-l", "keep", "busybox")
    cli("create", "--name", "other", "busybox")
    anonymous = cli.out("volume", "create")
    cli("network", "create", "unused")
    assert "WARNING! This will remove:" in cli("system", "prune", stdin=b"n\n", code=None).out
    assert cli.out("ps", "-aq") and "unused" in cli.out("network", "ls", "--format", "{{.Name}}")
    cli("system", "prune", "-f", "--filter", "label!=keep")
    assert cli.out("ps", "-a", "--format", "{{.Names}}") == "kept"
    cli("system", "prune", stdin=b"y\n")
    assert not cli.out("ps", "-aq") and cli.out("images", "-q") and cli.out("volume", "ls", "-q") == anonymous
    cli("system", "prune", "--force", "--volumes")
    assert not cli.out("volume", "ls", "-q") and cli.out("images", "-q")
    cli("system", "prune", "-f", "-a")
    assert not cli.out("images", "-q")


CONTEXT = [
    f"context {row}"
    for row in (
        "create", "create --description", "create --docker", "create --from", "export", "import", "inspect",
        "inspect --format", "ls", "ls --format", "ls --quiet", "rm", "rm --force", "show", "update",
        "update --description", "update --docker", "use",
    )
]  # fmt: skip


@covers(*CONTEXT)
def test_contexts_choose_the_engine(cli: Cli, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.env, "DOCKER_CONFIG", str(tmp_path / "config"))
    monkeypatch.setitem(cli.env, "DOCKER_HOST", "")
    plain = Cli(engine, cli.name, cli.env)
    program = cli.argv[:1]

    def run(*words: str, code: int = 0, stdin: bytes = b"") -> str:
        import subprocess

        done = subprocess.run([*program, *words], capture_output=True, input=stdin, env=plain.environment, check=False)
        assert done.returncode == code, done
        return (done.stdout + done.stderr).decode(errors="replace").strip()

    run("context", "create", "here", "--description", "this engine", "--docker", f"host=unix://{engine.socket}")
    assert run("context", "ls", "-q").split() == ["default", "here"] and run("context", "show") == "default"
    assert run("--context", "here", "images", "--format", "{{.Repository}}") == "busybox"
    assert run("context", "use", "here").splitlines()[0] == "here" and run("context", "show") == "here"
    assert run("images", "--format", "{{.Repository}}") == "busybox"
    assert run("context", "ls", "--format", "{{.Name}}|{{.Description}}").splitlines()[1] == "here|this engine"
    assert json.loads(run("context", "inspect", "here"))[0]["Endpoints"]["docker"]["Host"] == f"unix://{engine.socket}"
    assert run("context", "inspect", "-f", "{{.Name}}", "here") == "here"
    run("context", "create", "copy", "--from", "here")
    assert run("context", "inspect", "-f", "{{.Endpoints.docker.Host}}", "copy") == f"unix://{engine.socket}"
    run("context", "update", "copy", "--description", "another", "--docker", "host=unix:///nowhere")
    (shown,) = json.loads(run("context", "inspect", "copy"))
    assert (shown["Metadata"]["Description"], shown["Endpoints"]["docker"]["Host"]) == ("another", "unix:///nowhere")
    run("context", "export", "here", str(tmp_path / "here.tar"))
    with tarfile.open(tmp_path / "here.tar") as tar:
        assert "meta.json" in tar.getnames()
    run("context", "import", "again", str(tmp_path / "here.tar"))
    assert run("--context", "again", "images", "--format", "{{.Repository}}") == "busybox"
    run("context", "import", "piped", "-", stdin=(tmp_path / "here.tar").read_bytes())
    assert 'context "here"' in run("context", "rm", "here", code=1)  # in use
    assert run("context", "rm", "copy", "again").split() == ["copy", "again"]
    run("context", "rm", "-f", "here", "nosuch")
    assert run("context", "ls", "-q").split() == ["default", "piped"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.}}", "{{it {of two words map[]} map[docker:{tcp://127.0.0.1:1 false}]} map[] {META TLS}}"),
        ("{{.Name}} {{len .Endpoints}}", "it 1"),
        ("{{.Metadata}}", "{it {of two words map[]} map[docker:{tcp://127.0.0.1:1 false}]}"),
        ("{{.Metadata.Metadata.Description}}", "of two words"),
        ("{{.Metadata.Description}}", "can't evaluate field Description in type store.Metadata"),
        ("{{.Endpoints.docker.X}}", "can't evaluate field X in type interface {}"),
        ("{{.Endpoints.other}} {{.TLSMaterial.docker}}", "<no value> <no value>"),
        ('{{printf "%T %T" . .Endpoints.docker}}', "context.contextWithTLSListing context.EndpointMetaBase"),
        ("{{json .Metadata.Metadata}}", '{"Description":"of two words"}'),
        ("{{.Storage.X}}", "can't evaluate field X in type store.StorageInfo"),
    ],
)
def test_a_context_is_to_a_template_what_docker_makes_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str, text: str
) -> None:
    monkeypatch.setitem(cli.env, "DOCKER_CONFIG", str(tmp_path))
    cli("context", "create", "it", "--description", "of two words", "--docker", "host=tcp://127.0.0.1:1")
    done = cli("context", "inspect", "it", "-f", template, code=None)
    shown = re.sub(r"/\S+/meta/[0-9a-f]{64}", "META", done.out + done.err)
    assert text in re.sub(r"/\S+/tls/[0-9a-f]{64}", "TLS", shown)


TEMPLATES = {
    ("info",): [
        "{{.ClientErrors}} {{json .ServerErrors}} {{len .DiscoveredDevices}} {{json .DefaultAddressPools}}",
        "{{.KernelMemory}} {{.ProductLicense}} {{.GenericResources}} {{.RegistryConfig.Mirrors}}",
        "{{.Containerd.Address}} {{.Containerd}} {{.FirewallBackend}} {{.ContainerdCommit}} {{.InitCommit}}",
        "{{range $name, $runtime := .Runtimes}}{{$name}} {{$runtime.Path}} {{$runtime}}{{end}}",
        "{{.Containerd.Nope}}",
        "{{.RegistryConfig.Nope}}",
        "{{.Nope}}",
        "{{.ClientInfo.Os}} {{.ClientInfo.Arch}}",
    ],
    ("system", "df"): ['{{printf "%T" .}}', "{{.Nope}}", "{{.Type}} {{.TotalCount}} {{.Size}} {{.Reclaimable}}"],
}


STOCK = pytest.mark.skipif(not shutil.which("docker"), reason="the stock docker CLI is not installed")


@STOCK
@pytest.mark.parametrize(("command", "template"), [(c, t) for c, templates in TEMPLATES.items() for t in templates])
def test_a_template_gives_what_docker_gives(engine: Engine, command: tuple[str, ...], template: str) -> None:
    theirs, ours = (c(*command, "--format", template, code=None) for c in (engine.docker, engine.rorqual))
    assert (ours.code, ours.out, ours.err.lower()) == (theirs.code, theirs.out, theirs.err.lower())


@STOCK
def test_the_members_of_info_are_in_docker_s_order(engine: Engine) -> None:
    theirs, ours = (json.loads(c.out("info", "--format", "{{json .}}")) for c in (engine.docker, engine.rorqual))
    assert list(ours) == list(theirs) and list(ours["ClientInfo"]) == list(theirs["ClientInfo"])


def test_dial_stdio_is_a_connection_to_the_engine(cli: Cli) -> None:
    out = cli("system", "dial-stdio", stdin=b"GET /_ping HTTP/1.0\r\n\r\n").out
    assert out.startswith("HTTP/1.") and out.endswith("OK") and io.StringIO(out).readline().split()[1] == "200"
