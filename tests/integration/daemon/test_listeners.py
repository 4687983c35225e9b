"""The API's sockets: tcp with mutual TLS (streams are copied), the unix socket's mode, sockets passed by systemd."""

import grp
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import Engine, command
from support.processes import wait_for
from support.registry import make_certificates

pytestmark = pytest.mark.root

PORT = 2376


class TlsEngine(Engine):
    """On its unix socket, and on tcp for clients with a certificate of the CA in `certificates`."""

    certificates = Path()

    @property
    def daemon_argv(self) -> list[str]:
        files = {"--tlscacert": "ca.crt", "--tlscert": "server.crt", "--tlskey": "server.key"}
        flags = [f"{flag}={self.certificates / name}" for flag, name in files.items()]
        return [*super().daemon_argv, f"--host=tcp://127.0.0.1:{PORT}", "--tlsverify", *flags]


@pytest.fixture(scope="module")
def tls_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsEngine]:
    directory = tmp_path_factory.mktemp("tls")
    make_certificates(directory)  # the certificate serves both sides: the clients' names are not looked at
    for ours, docker in (("ca.crt", "ca.pem"), ("server.crt", "cert.pem"), ("server.key", "key.pem")):
        shutil.copy(directory / ours, directory / docker)
    TlsEngine.certificates = directory
    with TlsEngine() as engine:
        yield engine


@pytest.fixture(params=["docker", "rorqual"])
def over_tls(request: pytest.FixtureRequest, tls_engine: TlsEngine) -> list[str]:
    """A command line that reaches the engine by TLS alone."""
    program = shutil.which("docker") if request.param == "docker" else command("rorqual")
    if program is None:
        pytest.skip("the stock docker CLI is not installed")
    return [program, "-H", f"tcp://127.0.0.1:{PORT}", "--tlsverify"]


def run(engine: TlsEngine, argv: list[str], stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    environment = {**engine.rorqual.environment, "DOCKER_CERT_PATH": str(engine.certificates)}
    with engine.inside():
        return subprocess.run(argv, input=stdin, capture_output=True, env=environment, timeout=30, check=False)


def test_streams_pass_through_tls_whole_and_end(tls_engine: TlsEngine, over_tls: list[str]) -> None:
    data = os.urandom(3 << 20)
    done = run(tls_engine, [*over_tls, "run", "--rm", "-i", "--network", "none", "busybox", "cat"], data)
    assert done.returncode == 0, done.stderr
    assert done.stdout == data


def test_exit_codes_and_both_streams_pass_through_tls(tls_engine: TlsEngine, over_tls: list[str]) -> None:
    shell = ["sh", "-c", "echo out; echo err >&2; exit 7"]
    done = run(tls_engine, [*over_tls, "run", "--rm", "--network", "none", "busybox", *shell])
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_exec_and_logs_pass_through_tls(tls_engine: TlsEngine, over_tls: list[str]) -> None:
    name = run(tls_engine, [*over_tls, "run", "-d", "--network", "none", "busybox", "sh", "-c", "echo hi; sleep 60"])
    container = name.stdout.decode().strip()
    try:
        done = run(tls_engine, [*over_tls, "exec", "-i", container, "cat"], b"typed")
        assert (done.returncode, done.stdout) == (0, b"typed")
        wait_for(lambda: run(tls_engine, [*over_tls, "logs", container]).stdout == b"hi\n", "the log is there")
    finally:
        run(tls_engine, [*over_tls, "rm", "-f", container])


def test_a_client_without_a_certificate_of_the_ca_gets_nothing(tls_engine: TlsEngine, tmp_path: Path) -> None:
    make_certificates(tmp_path)  # another CA's
    anonymous, stranger = (ssl.create_default_context(cafile=str(tls_engine.certificates / "ca.crt")) for _ in range(2))
    stranger.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    for context in (anonymous, stranger):
        with tls_engine.inside(), socket.create_connection(("127.0.0.1", PORT)) as sock:
            sock.settimeout(10)
            # TLS 1.3 tells it with the first read.
            with (
                pytest.raises((ssl.SSLError, ConnectionError)),
                context.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
            ):
                tls.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
                if tls.recv(100) == b"":
                    raise ConnectionResetError


def test_plain_http_on_the_tls_port_gets_nothing(tls_engine: TlsEngine) -> None:
    with tls_engine.inside(), socket.create_connection(("127.0.0.1", PORT)) as sock:
        sock.settimeout(10)
        sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert b"HTTP/1.1 200" not in sock.recv(1000)


def test_the_unix_socket_is_for_root_and_its_group(engine: Engine) -> None:
    found = engine.socket.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    wanted = next((group.gr_gid for group in grp.getgrall() if group.gr_name == "docker"), 0)
    assert (found.st_uid, found.st_gid) == (0, wanted)


def test_a_group_is_chosen_by_number(engine_kind: type[Engine]) -> None:
    with engine_kind("--group=54321", image=False) as engine:
        assert engine.socket.stat().st_gid == 54321


def test_sockets_passed_by_the_service_manager_are_served(tmp_path: Path) -> None:
    """As systemd passes them: LISTEN_PID, LISTEN_FDS, descriptors from 3 on."""
    path = tmp_path / "passed.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        class Passed(Engine):
            @property
            def daemon_argv(self) -> list[str]:
                program = (
                    f"import os, sys; os.dup2({listener.fileno()}, 3)\n"
                    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
                    "os.execv(sys.argv[1], sys.argv[1:])"
                )
                return [sys.executable, "-c", program, *super().daemon_argv, "--host=fd://"]

        os.set_inheritable(listener.fileno(), True)
        original = subprocess.Popen.__init__

        def inheriting(self: object, *args: object, **options: object) -> None:
            original(self, *args, **{**options, "close_fds": False})  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess.Popen, "__init__", inheriting)
            engine = Passed(image=False)
        with engine, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            answer = b""
            while piece := client.recv(65536):
                answer += piece
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["ApiVersion"]


@pytest.mark.parametrize("host", ["tcp://0.0.0.0:2375", "tcp://[::]:2375", "tcp://:2375", "tcp://192.0.2.1"])
def test_tcp_for_everybody_needs_tls_or_the_word_that_it_shall_not(host: str, tmp_path: Path) -> None:
    argv = [command("rorquald"), f"--config-file={tmp_path / 'daemon.json'}", f"--host={host}", "--validate"]
    (tmp_path / "daemon.json").write_text("{}")
    refused = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "without TLS is root on this machine" in refused.stderr
    allowed = subprocess.run([*argv, "--tls=false"], capture_output=True, text=True, check=False)
    assert (allowed.returncode, allowed.stdout) == (0, "configuration OK\n")


EVIL = {"Host": "127.0.0.1:2375", "Origin": "http://evil.example"}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Host": "127.0.0.1:2375"}, 200),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        (EVIL, 403),
        ({"Host": "evil.example:2375", "Origin": "http://evil.example:2375"}, 403),
        ({"Host": "evil.example:2375"}, 403),
    ],
)
def test_a_web_page_does_not_reach_the_engine_on_the_loopback(
    loopback_engine: Engine, fields: dict[str, str], status: int
) -> None:
    """By a request of any page, or by one whose name means 127.0.0.1: neither plainly nor over a WebSocket."""
    key = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    for path, more, served in (("/_ping", {}, 200), ("/containers/page/attach/ws?stream=1&stdout=1", key, 101)):
        with loopback_engine.inside(), socket.create_connection(("127.0.0.1", 2375), timeout=10) as sock:
            lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (fields | more).items())]
            sock.sendall("\r\n".join([*lines, "", ""]).encode())
            assert int(sock.recv(1000).split()[1]) == (served if status == 200 else status)


@pytest.fixture(scope="module")
def loopback_engine(engine_kind: type[Engine]) -> Iterator[Engine]:
    class Loopback(engine_kind):  # type: ignore[misc, valid-type]
        @property
        def daemon_argv(self) -> list[str]:
            return [*super().daemon_argv, "--host=tcp://127.0.0.1:2375"]

    with Loopback() as engine:
        engine.rorqual("create", "--name", "page", "busybox", "true")
        yield engine


def test_a_hangup_reloads_the_level_of_the_log_and_ends_nothing(engine_kind: type[Engine]) -> None:
    with engine_kind(image=False) as engine:
        assert engine.daemon is not None
        for text, said in (
            ('{"debug": true}', "the log's level is DEBUG"),
            ("{", "the configuration was not reloaded"),
            ("{}", "the log's level is INFO"),
        ):
            (engine.root / "daemon.json").write_text(text)
            engine.daemon.send_signal(signal.SIGHUP)
            wait_for(lambda said=said: said in engine.log.read_text(), said)  # type: ignore[misc]
        assert engine.api("GET", "/_ping").status == 200
