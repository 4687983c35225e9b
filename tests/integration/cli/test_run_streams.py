"""Streams, terminals and signals: `run`, `create`, `start`, `attach`, `exec` and every flag of theirs about them."""

import json
import signal
import time
from urllib.parse import quote

import pytest
from support.covers import covers
from support.engine import Cli, Engine
from support.processes import wait_for
from support.terminal import CTRL_C, Terminal
from support.verbs import both, started

pytestmark = pytest.mark.root

ECHOES = ("sh", "-c", "while read line; do echo got $line; [ $line = end ] && exit 5; done")


def terminal(cli: Cli, *words: str) -> Terminal:
    return Terminal([*cli.argv, *words], env=cli.environment)


@covers("run", "run --attach", "run --detach", "run --interactive", "create", "create --attach", "create --interactive")
def test_what_is_attached_passes_and_nothing_else(cli: Cli, engine: Engine) -> None:
    script = ("sh", "-c", "cat; echo out; echo err >&2; exit 4")
    result = cli("run", "--rm", "-i", "busybox", *script, stdin=b"in\n", code=4)
    assert (result.out, result.err) == ("in\nout\n", "err\n")
    result = cli("run", "--rm", "busybox", *script, stdin=b"in\n", code=4)
    assert (result.out, result.err) == ("out\n", "err\n")
    result = cli("run", "--rm", "-a", "stderr", "busybox", *script, code=4)
    assert (result.out, result.err) == ("", "err\n")
    assert cli("run", "--rm", "-a", "stdin", "-a", "stdout", "-i", "busybox", *script, stdin=b"in\n", code=4).out == (
        "in\nout\n"
    )
    container = cli.out("run", "-d", "busybox", *script)
    assert len(container) == 64 and cli.out("wait", container) == "4"
    assert "cannot specify both --attach and --detach" in cli("run", "-d", "-a", "stdout", "busybox", code=None).err
    cli("create", "--name", "made", "-a", "stdout", "busybox", *script)
    assert [engine.inspect("made")["Config"][f"Attach{s}"] for s in ("Stdin", "Stdout", "Stderr")] == [
        False, True, False
    ]  # fmt: skip
    cli("create", "--name", "fed", "-i", "busybox", *script)
    assert cli("start", "-ai", "fed", stdin=b"in\n", code=4).out == "in\nout\n"


@covers("run --tty", "create --tty", "run --detach-keys", "start --detach-keys", "attach --detach-keys", "attach")
def test_a_terminal_is_left_by_the_keys_that_were_named(cli: Cli, engine: Engine) -> None:
    with terminal(cli, "run", "-it", "--name", "seat", "--detach-keys", "ctrl-x,q", "busybox", "sh") as person:
        person.line("tty; stty size")
        person.expect("/dev/pts/0")
        person.expect("24 80")
        person.type("\x18q")
        assert person.ends() == 0
    assert engine.running("seat")
    with terminal(cli, "attach", "--detach-keys", "ctrl-y", "seat") as person:
        person.line("echo a$((1+1))b")
        person.expect("a2b")
        person.type("\x19")
        person.ends()
    assert engine.running("seat")
    cli("create", "-it", "--name", "later", "busybox", "sh")
    with terminal(cli, "start", "-ai", "--detach-keys", "ctrl-z,ctrl-z", "later") as person:
        person.line("echo a$((1+1))b")
        person.expect("a2b")
        person.type("\x1a\x1a")
        person.ends()
    assert engine.running("later")
    with terminal(cli, "attach", "later") as person:
        person.line("exit 3")
        assert person.ends() == 3


LOUD = ("sh", "-c", "trap 'echo caught' INT; echo up; while :; do sleep 0.1; done")


@covers("run --sig-proxy", "attach --sig-proxy")
def test_signals_are_passed_on_unless_they_shall_not(cli: Cli, engine: Engine) -> None:
    for verb, flags in (("run", ()), ("attach", ())):
        caught(cli, engine, verb, *flags, reaches=True)
    for verb in ("run", "attach"):
        caught(cli, engine, verb, "--sig-proxy=false", reaches=False)


def attaches(engine: Engine, name: str, since: float) -> int:
    """How many clients have been attached since then."""
    filters = quote(json.dumps({"container": [name], "event": ["attach"]}))
    answer = engine.api("GET", f"/events?since={since:.6f}&until={time.time():.6f}&filters={filters}")
    return len(answer.body.splitlines())


def caught(cli: Cli, engine: Engine, verb: str, *flags: str, reaches: bool) -> None:
    """A SIGINT to the client: whether the container sees it."""
    name, since = f"{verb}{len(flags)}", time.time()
    if verb == "attach":
        started(cli, "run", name, command=LOUD)
        words = ("attach", *flags, name)
    else:
        words = ("run", "--name", name, *flags, "busybox", *LOUD)
    with cli.started(*words) as client:
        wait_for(lambda: "up" in cli("logs", name, code=None).out, "the trap is set")
        wait_for(lambda: attaches(engine, name, since) == 1, "the client is attached")
        time.sleep(0.5)  # and catches signals
        client.send_signal(signal.SIGINT)
        if reaches:
            wait_for(lambda: "caught" in cli.out("logs", name), "the signal arrived")
        elif cli.name == "rorqual":  # the stock one of this age waits for a third signal
            client.wait(10)
    assert engine.running(name) and ("caught" in cli.out("logs", name)) == reaches


@covers("attach --no-stdin", "start", "start --attach", "start --interactive")
def test_input_goes_where_it_is_wanted(cli: Cli, engine: Engine) -> None:
    cli("create", "-i", "--name", "echoes", "busybox", *ECHOES)
    assert cli("start", "-a", "-i", "echoes", stdin=b"one\nend\n", code=5).out == "got one\ngot end\n"
    cli("start", "echoes")
    since = time.time()
    with cli.started("attach", "--no-stdin", "echoes") as deaf, cli.started("attach", "echoes") as heard:
        assert deaf.stdin and deaf.stdout and heard.stdin and heard.stdout
        wait_for(lambda: attaches(engine, "echoes", since) == 2, "both are attached")
        time.sleep(0.2)  # the streams follow the event
        deaf.stdin.write(b"lost\n")
        deaf.stdin.flush()
        heard.stdin.write(b"end\n")
        heard.stdin.flush()
        assert heard.stdout.read() == b"got end\n" == deaf.stdout.read()
        assert (heard.wait(10), deaf.wait(10)) == (5, 5)
    cli("create", "--name", "says", "busybox", "sh", "-c", "echo said")
    assert cli.out("start", "says") == "says" and cli.out("wait", "says") == "0"
    assert cli.out("start", "-a", "says") == "said"
    assert "cannot start and attach multiple" in cli("start", "-a", "says", "echoes", code=1).err


@covers("start --checkpoint", "start --checkpoint-dir")
def test_checkpoints_are_for_experimental_engines(cli: Cli, engine: Engine) -> None:
    cli("create", "--name", "kept", "busybox", "sleep", "600")
    for flags in (("--checkpoint", "one"), ("--checkpoint-dir", "/d")):
        text = f'"{flags[0]}" is only supported on a Docker daemon with experimental features enabled'
        assert text in cli("start", *flags, "kept", code=1).err
    answer = engine.api("POST", "/containers/kept/start?checkpoint=one")
    assert (answer.status, answer.message) == (400, "checkpoint is only supported in experimental mode")
    assert not engine.running("kept")


@covers("exec", *(f"exec --{flag}" for flag in ("env", "env-file", "user", "workdir", "privileged", "detach")))
def test_exec_runs_as_it_was_asked_to(cli: Cli, engine: Engine, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "env").write_text("A=file\nC=3\n")
    started(cli, "run", "box", "-e", "A=1", "--cap-drop", "ALL")
    flags = ("--env-file", str(tmp_path / "env"), "-e", "B=2", "-w", "/tmp", "-u", "alice:daemon")
    script = "echo $A$B$C; pwd; id -u; id -g; exit 7"
    assert cli("exec", *flags, "box", "sh", "-c", script, code=7).out.split() == ["file23", "/tmp", "1000", "1"]
    status = ("sh", "-c", "grep CapEff /proc/self/status")
    assert int(cli.out("exec", "box", *status).split()[1], 16) == 0
    assert int(cli.out("exec", "--privileged", "box", *status).split()[1], 16) >> 21 & 1  # CAP_SYS_ADMIN
    assert cli.out("exec", "-d", "box", "sh", "-c", "echo x >/tmp/detached") == ""
    wait_for(lambda: cli("exec", "box", "cat", "/tmp/detached", code=None).out == "x\n", "the detached one ran")


@covers("exec --interactive", "exec --tty", "exec --detach-keys")
def test_exec_has_input_and_a_terminal(cli: Cli) -> None:
    started(cli, "run", "box")
    assert cli("exec", "-i", "box", "cat", stdin=b"into").out == "into"
    assert cli("exec", "box", "cat", stdin=b"into").out == ""
    with terminal(cli, "exec", "-it", "--detach-keys", "ctrl-x,x", "box", "sh") as person:
        person.line("tty; echo a$((1+1))b")
        person.expect("/dev/pts/")
        person.expect("a2b")
        person.line("trap 'echo caught' INT; echo set")
        person.expect("\nset")
        person.type(CTRL_C)
        person.line("")
        person.expect("caught")
        person.type("\x18x")
        person.ends()
    # Its shell runs on without its person.
    assert cli.out("exec", "box", "ps").count(" sh\n") == 1


@covers(*both("tty"))
def test_a_terminal_asked_for_by_either_verb(cli: Cli, verb: str) -> None:
    started(cli, verb, "painted", "-t", command=("sh", "-c", "tty; echo err >&2; sleep 600"))
    wait_for(lambda: "err" in cli.out("logs", "painted"), "it wrote")
    result = cli("logs", "painted")
    assert result.out.split() == ["/dev/pts/0", "err"] and result.err == ""
