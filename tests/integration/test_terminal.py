"""`run -it` and friends on a real pseudo-terminal: a person could not tell it from a local shell."""

import signal
import time

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for
from support.terminal import CTRL_C, CTRL_D, CTRL_P, CTRL_Q, Terminal

pytestmark = pytest.mark.root

PROMPT = r"/ # "


def on_terminal(cli: Cli, *args: str, rows: int = 24, columns: int = 80) -> Terminal:
    return Terminal([*cli.argv, *args], cli.environment, rows, columns)


def test_a_shell_prompts_echoes_and_ends(cli: Cli) -> None:
    with on_terminal(cli, "run", "--rm", "-it", "busybox", "sh") as terminal:
        terminal.expect(PROMPT)
        terminal.line("tty; echo $((6*7))")
        terminal.expect(r"/dev/pts/0\s+42")
        terminal.expect(PROMPT)
        terminal.line("exit 6")
        assert terminal.ends() == 6


def test_ctrl_c_interrupts_the_program_and_not_the_container(cli: Cli) -> None:
    with on_terminal(cli, "run", "--rm", "-it", "--name", "box-c", "busybox", "sh") as terminal:
        terminal.expect(PROMPT)
        terminal.line("sleep 1000")
        terminal.expect("sleep 1000\r\n")
        # The shell forks and hands the terminal to the program.
        wait_for(lambda: "sleep 1000" in cli.out("top", "box-c"), "the program runs")
        terminal.type(CTRL_C)
        terminal.expect(PROMPT)
        terminal.line("echo status $?")
        terminal.expect("status 130")
        terminal.expect(PROMPT)
        terminal.type(CTRL_D)
        assert terminal.ends() == 0


def test_the_window_has_its_size_from_the_start_and_follows_changes(cli: Cli) -> None:
    with on_terminal(cli, "run", "--rm", "-it", "busybox", "sh", rows=30, columns=100) as terminal:
        terminal.expect(PROMPT)
        terminal.line("stty size")
        terminal.expect(r"\b30 100\b")
        terminal.expect(PROMPT)
        terminal.resize(41, 122)
        terminal.line("until stty size | grep '41 12[2]'; do sleep 0.1; done")  # not as it will be shown
        terminal.expect(r"\b41 122\b")
        terminal.expect(PROMPT)
        terminal.line("exit")
        assert terminal.ends() == 0


def test_ctrl_p_ctrl_q_detaches_and_attach_comes_back(cli: Cli, engine: Engine) -> None:
    with on_terminal(cli, "run", "-it", "--name", "box-d", "busybox", "sh") as terminal:
        terminal.expect(PROMPT)
        terminal.type(CTRL_P)
        terminal.type(CTRL_Q)
        assert terminal.ends() == 0
    assert engine.running("box-d")
    with on_terminal(cli, "attach", "box-d") as terminal:
        terminal.line("echo still $((40+2))")
        terminal.expect("still 42")
        terminal.expect(PROMPT)
        terminal.line("exit 3")
        assert terminal.ends() == 3


def test_other_detach_keys_and_a_ctrl_p_alone_reaches_the_program(cli: Cli, engine: Engine) -> None:
    with on_terminal(cli, "run", "-it", "--name", "box-k", "--detach-keys", "ctrl-x,z", "busybox", "sh") as terminal:
        terminal.expect(PROMPT)
        terminal.line("echo before")
        terminal.expect(r"before\r\n")
        terminal.type("\x18")
        terminal.type("z")
        assert terminal.ends() == 0
    assert engine.running("box-k")


def test_exec_it_is_a_terminal_too(cli: Cli) -> None:
    cli("run", "-d", "--name", "box-e", "busybox", "sleep", "60")
    with on_terminal(cli, "exec", "-it", "box-e", "sh", rows=20, columns=70) as terminal:
        terminal.expect(PROMPT)
        terminal.line("stty size; tty")
        terminal.expect(r"20 70\s+/dev/pts/\d")
        terminal.expect(PROMPT)
        terminal.line("exit 8")
        assert terminal.ends() == 8


def test_the_terminal_of_the_client_is_as_before_afterwards(cli: Cli) -> None:
    with Terminal(["sh"], cli.environment) as terminal:
        terminal.line("PS1='host> '; stty -g >/tmp/before-$$")
        terminal.expect("host> $")
        terminal.line(" ".join([*cli.argv, "run", "--rm", "-it", "busybox", "true"]))
        terminal.expect("host> ")
        terminal.line("stty -g | cmp - /tmp/before-$$ && echo same; rm /tmp/before-$$")
        terminal.expect("same\r\n")


def test_t_without_a_terminal_is_refused_by_the_client(cli: Cli) -> None:
    result = cli("run", "--rm", "-it", "busybox", "true", code=1, stdin=b"")
    assert "the input device is not a TTY" in result.err


def test_programs_that_paint_the_whole_screen_work(cli: Cli) -> None:
    with on_terminal(cli, "run", "--rm", "-it", "busybox", "vi", "/tmp/new") as terminal:
        terminal.expect(r"~")
        terminal.type("ihello")
        terminal.expect("hello")
        terminal.type("\x1b")
        terminal.expect("- /tmp/new")  # alone it is the Escape key, with more behind it the start of a sequence
        terminal.type(":wq\r")
        assert terminal.ends() == 0


def test_a_person_who_closes_the_window_does_not_stop_the_container(cli: Cli, engine: Engine) -> None:
    with on_terminal(cli, "run", "-it", "--name", "box-w", "busybox", "sh") as terminal:
        terminal.expect(PROMPT)
    wait_for(lambda: engine.running("box-w"), "the container goes on")


def test_the_third_signal_ends_the_client_of_a_program_that_ignores_them(cli: Cli, engine: Engine) -> None:
    with cli.started("run", "--name", "deaf", "busybox", "sleep", "1000") as client:  # process 1: it has no handler
        wait_for(lambda: engine.api("GET", "/containers/deaf/json").status == 200 and engine.running("deaf"), "it runs")
        for _ in range(20):
            client.send_signal(signal.SIGINT)
            time.sleep(0.5)  # signals of one kind that wait are one
            if client.poll() is not None:
                break
        assert client.wait(10) == 1
        assert client.stderr is not None
        assert client.stderr.read() == b"\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n"
    assert engine.running("deaf")
