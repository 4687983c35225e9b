"""Log drivers through the whole engine: what arrives, what `logs` shows, and that nothing depends on the daemon."""

import socket
from collections.abc import Iterator

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def receiver(engine: Engine) -> Iterator[socket.socket]:
    """A UDP socket on the engine's loopback."""
    with engine.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.settimeout(10)
        yield sock


def received(sock: socket.socket, count: int) -> list[str]:
    return [sock.recv(65536).decode() for _ in range(count)]


def test_local_is_read_with_every_option_of_logs(cli: Cli) -> None:
    script = "for i in 1 2 3 4 5; do echo out $i; done; echo err >&2"
    options = ("--log-driver", "local", "--log-opt", "labels=tier", "-l", "tier=front")
    cli("run", "--name", "box", *options, "busybox", "sh", "-c", script)
    assert cli("logs", "box").out.split() == ["out", "1", "out", "2", "out", "3", "out", "4", "out", "5"]
    assert cli("logs", "box").err == "err\n"
    both = cli("logs", "--tail", "2", "box")
    assert (both.out, both.err) == ("out 5\n", "err\n")
    assert cli.out("logs", "--details", "-n", "2", "box") == "tier=front out 5"
    stamp = cli.out("logs", "-t", "box").splitlines()[4].split()[0]
    assert cli.out("logs", "--since", stamp, "box").splitlines()[-1] == "out 5"
    assert cli.out("logs", "--until", "2001-01-01T00:00:00Z", "box") == ""


def test_rotated_and_compressed_files_are_read_too(cli: Cli, engine: Engine) -> None:
    for driver in ("json-file", "local"):
        options = ("max-size=20k", "max-file=4", "compress=true")
        flags = [word for option in options for word in ("--log-opt", option)]
        cli("run", "--name", driver, "--log-driver", driver, *flags, "busybox", "seq", "1", "1500")
        files = engine.data / "containers" / engine.inspect(driver)["Id"]
        wait_for(lambda files=files: list(files.glob("**/*.gz")), "a file is compressed")  # type: ignore[misc]
        numbers = [int(line) for line in cli.out("logs", driver).splitlines()]
        assert numbers == list(range(numbers[0], 1501)) and len(numbers) > 400
        assert cli.out("logs", "--tail", "1200", driver).splitlines() == [str(n) for n in numbers[-1200:]]


def test_syslog_is_sent_and_kept_for_logs(cli: Cli, receiver: socket.socket) -> None:
    address = f"syslog-address=udp://127.0.0.1:{receiver.getsockname()[1]}"
    options = ("--log-driver", "syslog", "--log-opt", address, "--log-opt", "tag={{.Name}}")
    cli("run", "--name", "box", *options, "busybox", "sh", "-c", "echo one; echo two >&2")
    first, second = sorted(received(receiver, 2))
    assert first.startswith("<27>") and " box[" in first and first.endswith("two\n")
    assert second.startswith("<30>") and second.endswith("one\n")
    assert (cli("logs", "box").out, cli("logs", "box").err) == ("one\n", "two\n")


def test_what_has_no_cache_cannot_be_read(cli: Cli, receiver: socket.socket) -> None:
    address = f"syslog-address=udp://127.0.0.1:{receiver.getsockname()[1]}"
    options = ("--log-driver", "syslog", "--log-opt", address, "--log-opt", "cache-disabled=true")
    cli("run", "--name", "box", *options, "busybox", "echo", "one")
    text = "configured logging driver does not support reading"
    assert text in cli("logs", "box", code=1).err
    cli("run", "--name", "none", "--log-driver", "none", "busybox", "echo", "one")
    assert text in cli("logs", "none", code=1).err


def test_a_receiver_that_is_not_there_refuses_the_start(cli: Cli) -> None:
    options = ("--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:9")
    result = cli("run", *options, "busybox", "true", code=125)
    assert "failed to initialize logging driver: connection refused" in result.err
    result = cli("run", "--log-driver", "journald", "busybox", "true", code=125)
    assert "journald is not enabled on this host" in result.err


def test_a_receiver_that_does_not_read_blocks_the_container_and_nothing_else(cli: Cli, engine: Engine) -> None:
    with engine.inside(), socket.create_server(("127.0.0.1", 0)) as server:
        address = f"syslog-address=tcp://127.0.0.1:{server.getsockname()[1]}"
        options = ("--log-driver", "syslog", "--log-opt", address, "--log-opt", "cache-disabled=true")
        script = "yes $(seq 1 200 | tr -d '\\n') & sleep 1000"
        cli("run", "-d", "--name", "box", *options, "busybox", "sh", "-c", script)
        connection, _ = server.accept()
        with connection:
            assert cli.out("exec", "box", "echo", "alive") == "alive"
            assert "sleep" in cli.out("top", "box")
            cli("rm", "-f", "box")


def test_lines_written_while_the_daemons_are_dead_arrive(fresh_engine: Engine) -> None:
    engine = fresh_engine
    with engine.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.settimeout(10)
        address = f"syslog-address=udp://127.0.0.1:{sock.getsockname()[1]}"
        options = ("--log-driver", "syslog", "--log-opt", address)
        script = "while [ ! -e /go ]; do sleep 0.05; done; seq 1 2000; sleep 1000"
        engine.rorqual("run", "-d", "--name", "box", *options, "busybox", "sh", "-c", script)
        pid = engine.inspect("box")["State"]["Pid"]
        engine.kill("rorquald")
        engine.kill("containerd")
        with open(f"/proc/{pid}/root/go", "w"):
            pass
        numbers = [int(text.rsplit(": ", 1)[1]) for text in received(sock, 2000)]
        assert numbers == list(range(1, 2001))
        engine.start()
        assert engine.rorqual.out("logs", "box").splitlines() == [str(n) for n in range(1, 2001)]
