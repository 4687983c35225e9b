"""The stock command line and ours against one engine: the same words, columns and exit codes."""

import shutil
import subprocess

import pytest
from support.engine import Engine, command

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("docker") is None, reason="the stock command line is not installed"),
]

NAME = "parity"

LINES: list[list[str]] = [
    ["ps"],
    ["ps", "-a", "--no-trunc"],
    ["ps", "-aq"],
    ["ps", "-as"],
    ["ps", "--format", "table {{.Names}}\t{{.Status}}"],
    ["ps", "--format", "{{.Foo}}"],
    ["ps", "--filter", "foo"],
    ["images"],
    ["images", "--digests", "--no-trunc"],
    ["image", "ls", "-q"],
    ["network", "ls"],
    ["volume", "ls"],
    ["inspect", NAME],
    ["inspect", "busybox"],
    ["inspect", "nosuch"],
    ["inspect", "--type", "foo", "x"],
    ["inspect", "-f", "{{.Name}} {{.State.Running}} {{.HostConfig.Memory}} {{.Config.Labels}}", NAME],
    ["inspect", "-f", "{{json .Config.Env}}{{.Foo}}", NAME],
    ["inspect", "-f", "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{end}}", NAME],
    ["inspect", "-f", "{{.ID}} {{.HostConfig.NanoCPUs}} {{.HostConfig.LogConfig}}", NAME],
    ["inspect", "-f", "{{.Id}} {{.State}}", "nosuch", NAME],
    ["inspect", "-f", "{{.ID}}{{.Nope}}", NAME],
    ["inspect", "--type", "container", "--format", "json", "nosuch"],
    ["image", "inspect", "-f", "{{.Config.Env}} {{json .Config.Labels}} {{.Author}}|", "busybox"],
    ["volume", "inspect", "-f", "json", "nosuch"],
    ["inspect", "-f", "{{.Name", NAME],
    ["inspect", "-f", "{{upper 3}}", NAME],
    ["port", NAME],
    ["diff", NAME],
    ["logs", NAME],
    ["logs", "nosuch"],
    ["exec", NAME, "sh", "-c", "echo out; echo err >&2; exit 3"],
    ["exec", "-e", "A=b", "-w", "/bin", NAME, "sh", "-c", "echo $A; pwd"],
    ["exec", "-it", NAME, "sh"],
    ["exec", "nosuch", "sh"],
    ["stop"],
    ["stop", "nosuch"],
    ["stop", "-t", "abc", "x"],
    ["rm", "nosuch", "nosuch2"],
    ["rm", "-f", "nosuch"],
    ["rmi", "nosuch"],
    ["start", "nosuch"],
    ["kill", "nosuch"],
    ["wait", "nosuch"],
    ["tag", "busybox", "A/b"],
    ["tag", "nosuch", "b"],
    ["history", "busybox"],
    ["run"],
    ["run", "-x"],
    ["run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 7"],
    ["run", "--pull", "never", "nosuch"],
    ["run", "--memory", "abc", "busybox"],
    ["run", "-p", "99999:1", "busybox"],
    ["run", "--rm", "--restart", "always", "busybox"],
    ["run", "--cpus", "abc", "busybox"],
    ["run", "--mount", "foo", "busybox"],
    ["run", "--device", "a:b:c:d", "busybox"],
    ["run", "--env-file", "/nosuch", "busybox"],
    ["run", "-e", "=x", "busybox"],
    ["create", "--pull", "foo", "busybox"],
    ["pull", "a/b/C"],
    ["pull"],
    ["foo"],
    ["container", "foo"],
    ["volume", "foo"],
    ["volume", "--foo"],
    ["system", "--foo"],
    ["rename", "nosuch", "x"],
    ["rename", NAME, "a b"],
    ["port", NAME, "odd"],
    ["port", NAME, "99999"],
    ["system", "df", "-v"],
    ["system", "df", "-v", "--format", "json"],
    ["system", "df", "-v", "--format", "{{range .Containers}}{{.Names}} {{.Size}};{{end}}{{len .Volumes}}"],
    ["system", "df", "-v", "--format", "table {{range .Images}}{{.Repository}} {{.ID}}{{end}}"],
    ["system", "df", "-v", "--format", "{{.Odd}}"],
    ["system", "df", "-v", "--format", "{{.Images"],
    ["system", "prune", "-f", "--volumes", "--filter", "until=1h"],
    ["run", "BUSYBOX"],
    ["run", "busybox:"],
    ["run", ""],
    ["run", "--platform", "odd", "busybox"],
    ["create", "--platform", "a/b/c/d", "busybox"],
    ["run", "--cap-add", "odd", "busybox"],
    ["run", "--add-host", "x:odd", "busybox"],
    ["run", "--cpuset-mems", "99", "busybox"],
    ["run", "--cpu-count", "1", "busybox"],
    ["run", "--pid", "container:nosuch", "busybox"],
    ["run", "--volumes-from", "nosuch", "busybox"],
    ["run", "-v", "/tmp:/x:odd", "busybox"],
    ["run", "-v", "/tmp:/", "busybox"],
    ["run", "--label-file", "/nosuch", "busybox"],
    ["kill", "-s", "odd", NAME],
    ["update", "--memory", "1", NAME],
    ["ps", "-f", "is-task=odd"],
    ["ps", "-f", "health=odd"],
    ["top", NAME, "-odd"],
    ["exec", NAME, "nosuch"],
    ["exec", NAME, "/etc"],
    ["start", "--checkpoint", "x", NAME],
    ["volume", "create", "x"],
    ["volume", "ls", "--cluster"],
    ["volume", "prune", "-f", "--filter", "odd=1"],
    ["-x", "ps"],
    ["info", "-f", "{{.Name}}"],
    ["info", "-f", "{{.Plugins}}\\t{{json .Plugins}} {{.Swarm.LocalNodeState}}"],
    ["info", "-f", "{{.Name}} {{.Nope}}"],
    ["version", "-f", "{{.Server.Platform}} {{range .Server.Components}}{{.Name}}{{end}}"],
    ["version", "-f", "{{.Server.Version}}{{.Nope}}"],
    ["ps", "-a", "--format", "{{json .}}"],
    ["ps", "-a", "--format", "{{.Names}} {{.Size}}"],
    ["ps", "-a", "--format", "json"],
    ["ps", "--format", "{{call .ID}}"],
    ["images", "--format", "{{range $i, $r := .Repository}}{{end}}"],
    ["version", "-f", "{{.Server.Version}}"],
    ["cp", "a", "b"],
    ["cp", f"{NAME}:/nosuch", "/tmp"],
    ["events", "--since", "foo"],
    ["network", "inspect", "none"],
    ["volume", "inspect", "nosuch"],
]


@pytest.fixture(scope="module")
def engine(shared_engine: Engine) -> Engine:
    host = f"unix://{shared_engine.socket}"
    stock = ["docker", "-H", host]
    subprocess.run([*stock, "rm", "-f", NAME], capture_output=True, check=False)
    create = ["run", "-d", "--name", NAME, "-l", "a=b", "--network", "none", "busybox", "sleep", "1000"]
    subprocess.run([*stock, *create], capture_output=True, check=True)
    yield shared_engine
    subprocess.run([*stock, "rm", "-f", NAME], capture_output=True, check=True)


def run(program: str, engine: Engine, line: list[str]) -> tuple[int, str, str]:
    argv = [program, "-H", f"unix://{engine.socket}", *line]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    own = "rorqual" if "rorqual" in program else "docker"
    return done.returncode, done.stdout, done.stderr.replace(f"{own}: ", "CLI: ").replace(f"{own} ", "CLI ")


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_both_command_lines_say_the_same(engine: Engine, line: list[str]) -> None:
    stock, ours = run("docker", engine, line), run(command("rorqual"), engine, line)
    for _ in range(4):
        if stock == ours:
            break
        # An age or a size has changed between the two: in seconds it may do so after each of them.
        stock, ours = run("docker", engine, line), run(command("rorqual"), engine, line)
    assert ours == stock
