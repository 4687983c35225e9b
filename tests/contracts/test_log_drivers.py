"""One suite that every log driver passes: each line arrives, in order, whole; the container never suffers for it."""

import datetime
import ipaddress
import json
import os
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rorqual import errdefs
from rorqual.shim import leftovers, logdrivers
from rorqual.shim.logdrivers import LogDriver, journald
from rorqual.shim.logdrivers.lines import LINE_MAX
from rorqual.shim.loop import Loop

NOW = 1_700_000_000_123_456_789
INFO = {
    "id": "ab" * 32,
    "name": "web",
    "image_id": "sha256:" + "cd" * 32,
    "image": "busybox",
    "command": "sh -c true",
    "created": "2026-01-01T00:00:00Z",
}
REMOTE = ("syslog-udp", "syslog-tcp", "syslog-unix", "syslog-rfc5424", "gelf-udp", "gelf-tcp", "fluentd", "journald")
FILES = ("json-file", "local")
Entry = tuple[str, str]  # stream and text


class Receiver:
    """The other end: takes packets or a stream's bytes in a thread, as fast as it may."""

    def __init__(self, family: int, kind: int, address: Any) -> None:
        self.sock = socket.socket(family, kind)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(address)
        self.packets: list[bytes] = []
        self.stream = bytearray()
        self.reading = threading.Event()
        self.reading.set()
        self._stop = False
        self._thread = threading.Thread(target=self._packets if kind == socket.SOCK_DGRAM else self._accept)
        if kind == socket.SOCK_STREAM:
            self.sock.listen()
        else:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.settimeout(0.05)
        self._thread.start()

    def _packets(self) -> None:
        while not self._stop:
            try:
                self.packets.append(self.sock.recv(1 << 20))
            except TimeoutError:
                continue

    def _accept(self) -> None:
        while not self._stop:
            try:
                connection, _ = self.sock.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(0.05)
                self._read(connection)

    def _read(self, connection: socket.socket) -> None:
        while not self._stop:
            if not self.reading.wait(0.05):
                continue
            try:
                data = connection.recv(65536)
            except TimeoutError:
                continue
            if not data:
                return
            self.stream += data

    def close(self) -> None:
        self._stop = True
        self.reading.set()
        self._thread.join()
        self.sock.close()


class Rig:
    """A driver, its receiver, and the way to read what arrived."""

    def __init__(self, kind: str, directory: Path, mode: str = "blocking", buffer: int = 1_000_000) -> None:
        self.loop = Loop()
        self.kind = kind
        self.path = directory / "log"
        self.receiver: Receiver | None = None
        options = self._options(kind, directory)
        options |= {"mode": mode, "max_buffer_bytes": buffer}
        self.driver: LogDriver | None = logdrivers.open_driver(options, self.loop)
        assert self.driver is not None

    def _options(self, kind: str, directory: Path) -> dict[str, Any]:
        driver, _, variant = kind.partition("-")
        if kind in FILES:
            return {"driver": kind, "path": str(self.path), "max_size": -1, "max_file": 1, "attrs": {}}
        config: dict[str, str] = {}
        if driver == "journald":
            self.receiver = Receiver(socket.AF_UNIX, socket.SOCK_DGRAM, str(directory / "journal"))
        elif variant == "unix":
            self.receiver = Receiver(socket.AF_UNIX, socket.SOCK_STREAM, str(directory / "syslog"))
            config["syslog-address"] = f"unix://{directory}/syslog"
        else:
            udp = variant == "udp"
            kind_ = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
            self.receiver = Receiver(socket.AF_INET, kind_, ("127.0.0.1", 0))
            port = self.receiver.sock.getsockname()[1]
            config[f"{driver}-address"] = f"{'udp' if udp else 'tcp'}://127.0.0.1:{port}"
        if variant == "rfc5424":
            config["syslog-format"] = "rfc5424micro"
        return {"driver": driver, "config": config, "tag": "web", "attrs": {"tier": "front"}, "info": INFO}

    def turn(self, seconds: float = 0.0) -> None:
        """Let the loop serve what is ready."""
        self.loop._running = True
        self.loop.call_later(seconds, self.loop.stop)
        self.loop.run()

    def messages(self) -> int:
        """How many have arrived; cheap. A packet in several chunks counts as one."""
        if self.receiver is None:
            return self.path.read_bytes().count(b"\n")
        if self.receiver.packets:
            return sum(p[:2] != b"\x1e\x0f" or p[10] == 0 for p in self.receiver.packets)
        end = {"gelf": b"\0", "fluentd": b"\x93\xa3web"}.get(self.kind.partition("-")[0], b"\n")
        return self.receiver.stream.count(end)

    def arrived(self) -> list[Entry]:
        """The lines so far, as this driver's receiver understands them."""
        if self.kind == "json-file":
            return [(e["stream"], e["log"]) for e in map(json.loads, self.path.read_bytes().splitlines())]
        if self.kind == "local":
            entries = self.path.read_bytes().splitlines(keepends=True)
            names = {b"o": "stdout", b"e": "stderr", b"O": "stdout", b"E": "stderr"}
            return [(names[e[20:21]], (e[22:] if e[20:21] in b"oe" else e[22:-1]).decode()) for e in entries]
        assert self.receiver is not None
        driver = self.kind.partition("-")[0]
        return list(_READERS[driver](self.receiver))

    def end(self) -> None:
        """Close the driver and let it send what it still has."""
        assert self.driver is not None
        self.driver.close()
        deadline = time.monotonic() + 10
        while self.loop.last_words:
            assert time.monotonic() < deadline, "it neither sends nor gives up"
            self.turn(0.01)

    def close(self) -> None:
        self.end()
        if self.receiver is not None:
            self.receiver.close()
        self.loop.close()


def _syslog(receiver: Receiver) -> Iterator[Entry]:
    messages = receiver.packets or receiver.stream.split(b"\n")
    for message in filter(None, (m.rstrip(b"\n") for m in messages)):
        priority, _, rest = message[1:].partition(b">")
        assert int(priority) // 8 == 3  # daemon
        text = rest.split(b" - ", 1)[1] if rest.startswith(b"1 ") else rest.split(b"]: ", 1)[1]
        yield ("stderr" if int(priority) % 8 == 3 else "stdout"), text.decode()


def _gelf(receiver: Receiver) -> Iterator[Entry]:
    whole: list[bytes] = []
    chunks: dict[bytes, dict[int, bytes]] = {}
    for packet in receiver.packets:
        if packet[:2] != b"\x1e\x0f":
            whole.append(packet)
            continue
        parts = chunks.setdefault(packet[2:10], {})
        parts[packet[10]] = packet[12:]
        if len(parts) == packet[11]:
            whole.append(b"".join(parts[n] for n in range(packet[11])))
    documents = [zlib.decompress(p, 47) for p in whole] or receiver.stream.split(b"\0")
    for document in filter(None, documents):
        entry = json.loads(document)
        assert entry["version"] == "1.1" and entry["_container_name"] == "web" and entry["_tier"] == "front"
        yield ("stderr" if entry["level"] == 3 else "stdout"), entry["short_message"]


def _fluentd(receiver: Receiver) -> Iterator[Entry]:
    rest = memoryview(bytes(receiver.stream))
    while rest:
        (tag, _time, record), rest = _unpack(rest)
        assert tag == b"web" and record[b"container_name"] == b"/web" and record[b"tier"] == b"front"
        yield record[b"source"].decode(), record[b"log"].decode()


def _unpack(data: memoryview) -> tuple[Any, memoryview]:
    """One MessagePack value, of the kinds that are sent."""
    head, data = data[0], data[1:]
    if head & 0xF0 == 0x90:
        items = []
        for _ in range(head & 15):
            item, data = _unpack(data)
            items.append(item)
        return items, data
    if head & 0xF0 == 0x80:
        record = {}
        for _ in range(head & 15):
            key, data = _unpack(data)
            record[key], data = _unpack(data)
        return record, data
    if head == 0xCE:
        return struct.unpack(">I", data[:4])[0], data[4:]
    sizes = {0xD9: (1, ">B"), 0xDA: (2, ">H"), 0xDB: (4, ">I")}
    size = head & 31 if head & 0xE0 == 0xA0 else -1
    if size < 0:
        width, form = sizes[head]
        size, data = struct.unpack(form, data[:width])[0], data[width:]
    return bytes(data[:size]), data[size:]


def _journald(receiver: Receiver) -> Iterator[Entry]:
    for packet in receiver.packets:
        fields = dict(line.split(b"=", 1) for line in packet.splitlines())
        assert fields[b"CONTAINER_NAME"] == b"web" and fields[b"TIER"] == b"front"
        yield ("stderr" if fields[b"PRIORITY"] == b"3" else "stdout"), fields[b"MESSAGE"].decode()


_READERS: dict[str, Callable[[Receiver], Iterator[Entry]]] = {
    "syslog": _syslog,
    "gelf": _gelf,
    "fluentd": _fluentd,
    "journald": _journald,
}


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []
    original = journald.sender
    monkeypatch.setattr(journald, "sender", lambda loop: original(loop, str(tmp_path / "journal")))

    def make(kind: str, **options: Any) -> Rig:
        made.append(Rig(kind, tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def settle(one: Rig, count: int) -> list[Entry]:
    """What has arrived once there are `count` lines; newlines, which only files keep, taken off."""
    deadline = time.monotonic() + 20
    while one.messages() < count and time.monotonic() < deadline:
        one.turn(0.01)
    return [(stream, text.removesuffix("\n")) for stream, text in one.arrived()]


every = pytest.mark.parametrize("kind", [*FILES, *REMOTE])
remote = pytest.mark.parametrize("kind", REMOTE)


@every
def test_lines_arrive_in_order_with_their_streams(rig: Callable[..., Rig], kind: str) -> None:
    one = rig(kind)
    one.driver.write("stdout", b"first\nsec", NOW)
    one.driver.write("stderr", b"oops\n", NOW + 1)
    one.driver.write("stdout", "ond – ünï\n".encode(), NOW + 2)
    assert settle(one, 3) == [("stdout", "first"), ("stderr", "oops"), ("stdout", "second – ünï")]


@every
def test_an_unfinished_line_is_kept_at_the_end(rig: Callable[..., Rig], kind: str) -> None:
    one = rig(kind)
    one.driver.write("stdout", b"no newline", NOW)
    one.driver.close()
    one.driver.close()
    assert settle(one, 1) == [("stdout", "no newline")]


@every
def test_a_long_line_is_cut_and_nothing_of_it_is_lost(rig: Callable[..., Rig], kind: str) -> None:
    one = rig(kind)
    text = "".join(chr(97 + n % 26) for n in range(3 * LINE_MAX + 100))
    one.driver.write("stdout", text.encode() + b"\nafter\n", NOW)
    found = settle(one, 5)
    assert "".join(t for _, t in found[:-1]) == text and found[-1][1] == "after"
    assert max(len(t) for _, t in found) <= LINE_MAX


@every
def test_many_lines_all_arrive(rig: Callable[..., Rig], kind: str) -> None:
    one = rig(kind)
    for block in range(20):
        lines = b"".join(b"line %05d\n" % n for n in range(block * 100, block * 100 + 100))
        one.driver.write("stdout", lines, NOW + block)
        one.turn()
    assert settle(one, 2000) == [("stdout", f"line {n:05}") for n in range(2000)]


@pytest.mark.parametrize("kind", FILES)
def test_what_was_written_can_be_replayed(rig: Callable[..., Rig], kind: str) -> None:
    one = rig(kind)
    one.driver.write("stdout", b"a\nb\n", NOW)
    one.driver.write("stderr", b"c\r\n", NOW)
    assert list(one.driver.replay()) == [("stdout", b"a\n"), ("stdout", b"b\n"), ("stderr", b"c\r\n")]


@pytest.mark.parametrize("kind", FILES)
def test_rotation_keeps_the_newest_files_and_compresses_them(tmp_path: Path, kind: str) -> None:
    loop = Loop()
    path = tmp_path / "logs" / "log"
    options = {"driver": kind, "path": str(path), "max_size": 2000, "max_file": 3, "compress": True}
    driver = logdrivers.open_driver(options, loop)
    assert driver is not None
    for n in range(400):
        driver.write("stdout", b"line %04d\n" % n, NOW)
    driver.close()
    deadline = time.monotonic() + 10
    while {f.name for f in path.parent.iterdir()} != {"log", "log.1.gz", "log.2.gz"}:
        assert time.monotonic() < deadline, list(path.parent.iterdir())
        time.sleep(0.01)
    again = logdrivers.open_driver(options, loop)
    assert again is not None
    replayed = b"".join(text for _, text in again.replay()).split()[1::2]
    assert replayed == [b"%04d" % n for n in range(400 - len(replayed), 400)] and len(replayed) > 50
    again.close()
    loop.close()
    driver._file._finish_compression()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["syslog-tcp", "gelf-tcp", "fluentd", "syslog-unix"])
def test_a_blocking_driver_is_full_while_its_receiver_does_not_read_and_loses_nothing(
    rig: Callable[..., Rig], kind: str
) -> None:
    one = rig(kind)
    assert one.receiver is not None
    one.receiver.reading.clear()
    room: list[bool] = []
    one.driver.on_room = lambda: room.append(True)
    written = 0
    while not one.driver.full:
        assert written < 30_000, "it takes without end"
        lines = b"".join(b"%07d %s\n" % (n, b"x" * 1000) for n in range(written, written + 100))
        one.driver.write("stdout", lines, NOW)
        written += 100
        one.turn()
    one.receiver.reading.set()
    deadline = time.monotonic() + 20
    while one.driver.full:
        assert time.monotonic() < deadline
        one.turn(0.02)
    assert room
    found = settle(one, written)
    assert [int(text.split()[0]) for _, text in found] == list(range(written))


@pytest.mark.parametrize("kind", ["syslog-tcp", "gelf-tcp", "fluentd"])
def test_a_nonblocking_driver_is_never_full_and_drops(rig: Callable[..., Rig], kind: str) -> None:
    one = rig(kind, mode="non-blocking", buffer=100_000)
    assert one.receiver is not None
    one.receiver.reading.clear()
    for n in range(100):
        one.driver.write("stdout", b"".join(b"%07d %s\n" % (n, b"x" * 1000) for _ in range(150)), NOW)
        assert not one.driver.full
    assert one.driver.dropped > 0 and one.driver._sender.waiting_bytes <= 100_000  # type: ignore[attr-defined]
    one.receiver.reading.set()


@pytest.mark.parametrize("kind", ["syslog-tcp", "fluentd", "gelf-tcp"])
def test_a_receiver_that_comes_back_gets_what_was_written_meanwhile(rig: Callable[..., Rig], kind: str) -> None:
    one = rig(kind)
    assert one.receiver is not None
    one.driver.write("stdout", b"before\n", NOW)
    settle(one, 1)
    port = one.receiver.sock.getsockname()[1]
    one.receiver.close()
    one.turn(0.05)
    for n in range(3):
        one.driver.write("stdout", b"meanwhile %d\n" % n, NOW)
        one.turn(0.02)
    one.receiver = Receiver(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port))
    found = settle(one, 3)
    assert [t for _, t in found] == ["meanwhile 0", "meanwhile 1", "meanwhile 2"]


def swallowing(port: int) -> tuple[socket.socket, list[socket.socket]]:
    """A listener whose queue is full, so that the kernel drops each SYN; and what fills it."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(0)
    fillers = []
    for _ in range(3):
        fillers.append(socket.socket())
        fillers[-1].setblocking(False)
        fillers[-1].connect_ex(("127.0.0.1", port))
    return server, fillers


@pytest.mark.parametrize("kind", ["syslog-tcp", "fluentd"])
def test_a_receiver_that_swallows_packets_does_not_stop_the_loop(rig: Callable[..., Rig], kind: str) -> None:
    one = rig(kind)
    assert one.receiver is not None
    one.driver.write("stdout", b"before\n", NOW)
    settle(one, 1)
    port = one.receiver.sock.getsockname()[1]
    one.receiver.close()
    one.turn(0.05)
    server, fillers = swallowing(port)
    try:
        began, longest = time.monotonic(), 0.0
        while time.monotonic() < began + 2.5:  # the second attempt begins after 0.75 s, and would take 5
            turn_began = time.monotonic()
            one.driver.write("stdout", b"meanwhile\n", NOW)
            one.turn(0.01)
            longest = max(longest, time.monotonic() - turn_began)
        assert longest < 4
    finally:
        for sock in (server, *fillers):
            sock.close()
    one.receiver = Receiver(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port))
    assert settle(one, 20)[-1] == ("stdout", "meanwhile")  # it came back


def full(one: Rig) -> int:
    """Write until the driver wants no more; how many lines."""
    written = 0
    while not one.driver.full:
        lines = b"".join(b"%07d %s\n" % (n, b"x" * 1000) for n in range(written, written + 100))
        one.driver.write("stdout", lines, NOW)
        written += 100
        one.turn()
    return written


def test_an_end_waits_for_no_receiver_and_what_is_queued_is_still_sent(rig: Callable[..., Rig]) -> None:
    one = rig("syslog-tcp")
    assert one.receiver is not None
    one.receiver.reading.clear()
    written = full(one)
    began = time.monotonic()
    one.driver.close()
    assert time.monotonic() < began + 2.5  # what is queued would be waited for three seconds
    assert one.loop.last_words
    one.receiver.reading.set()
    assert len(settle(one, written)) == written


def test_what_is_queued_at_the_shims_end_is_sent_by_a_child(rig: Callable[..., Rig]) -> None:
    one = rig("syslog-tcp")
    assert one.receiver is not None
    one.receiver.reading.clear()
    written = full(one)
    one.driver.close()
    leftovers.finish([(words, fd()) for words, fd in one.loop.last_words.items()])
    one.receiver.reading.set()
    deadline = time.monotonic() + 20
    while one.messages() < written and time.monotonic() < deadline:
        time.sleep(0.01)  # nothing of the loop is served here
    assert [int(text.split()[0]) for _, text in one.arrived()] == list(range(written))
    assert os.wait()[1] == 0
    one.driver._sender._queue.clear()  # type: ignore[attr-defined]  # as the shim, which has ended, forgets it


def test_a_receiver_that_never_reads_is_given_up_at_the_end(rig: Callable[..., Rig]) -> None:
    one = rig("syslog-tcp")
    assert one.receiver is not None
    one.receiver.reading.clear()
    full(one)
    began = time.monotonic()
    one.end()  # fails unless it ends
    assert time.monotonic() > began + 1


@pytest.mark.parametrize("driver", ["syslog", "gelf", "fluentd"])
def test_a_receiver_that_is_not_there_is_told_at_once(driver: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    options = {
        "driver": driver,
        "config": {f"{driver}-address": f"tcp://127.0.0.1:{port}"},
        "tag": "x",
        "info": INFO,
    }
    loop = Loop()
    with pytest.raises(errdefs.Unavailable, match="connection refused"):
        logdrivers.open_driver(options, loop)
    loop.close()


def certificate(directory: Path) -> tuple[str, str]:
    """A self-signed one for 127.0.0.1: (certificate, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    day = datetime.timedelta(days=1)
    today = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), today - day, today + day
    )
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    (directory / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(secret)
    return str(directory / "cert.pem"), str(directory / "key.pem")


def test_syslog_over_tls_checks_its_receiver_and_sends_everything(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    got = bytearray()

    def serve(server: socket.socket) -> None:
        while True:
            try:
                plain, _ = server.accept()
                with context.wrap_socket(plain, server_side=True) as connection:
                    while data := connection.recv(65536):
                        got.extend(data)
                    return
            except OSError:
                continue  # a client that does not trust the certificate

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        address = f"tcp+tls://127.0.0.1:{server.getsockname()[1]}"
        config = {"syslog-address": address, "syslog-format": "rfc5424"}
        options: dict[str, Any] = {"driver": "syslog", "tag": "web", "info": INFO, "config": config}
        loop = Loop()
        with pytest.raises(errdefs.Unavailable):
            logdrivers.open_driver(options, loop)
        config["syslog-tls-ca-cert"] = cert
        driver = logdrivers.open_driver(options, loop)
        assert driver is not None
        for n in range(2000):
            driver.write("stdout", b"line %05d\n" % n, NOW)
        loop.call_later(0.2, loop.stop)
        loop.run()
        driver.close()
        deadline = time.monotonic() + 20
        while loop.last_words and time.monotonic() < deadline:
            loop.call_later(0.01, loop.stop)
            loop._running = True
            loop.run()
        thread.join()
        loop.close()
    texts = []
    rest = bytes(got)
    while rest:
        length, _, rest = rest.partition(b" ")  # RFC 5425: a message is preceded by its length
        texts.append(rest[: int(length)].rsplit(b" - ", 1)[1])
        rest = rest[int(length) :]
    assert texts == [b"line %05d" % n for n in range(2000)]


def test_fluentd_async_waits_for_its_receiver(rig: Callable[..., Rig]) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    config = {"fluentd-address": f"127.0.0.1:{port}", "fluentd-async": "true"}
    loop = Loop()
    driver = logdrivers.open_driver({"driver": "fluentd", "config": config, "tag": "x", "info": INFO}, loop)
    assert driver is not None
    driver.write("stdout", b"kept\n", NOW)
    assert not driver.full
    while not loop._timers:  # the first attempt, in its thread, has failed: another is due
        loop.call_later(0.01, loop.stop)
        loop._running = True
        loop.run()
    driver.close()
    with socket.create_server(("127.0.0.1", port)) as server:
        leftovers.finish([(words, fd()) for words, fd in loop.last_words.items()])
        server.settimeout(10)
        connection, _ = server.accept()
        with connection:
            assert b"kept" in connection.recv(4096)
    os.wait()
    loop.close()


def test_journald_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journald.sender, "__defaults__", (str(tmp_path / "nothing"),))
    loop = Loop()
    with pytest.raises(errdefs.InvalidArgument, match="journald is not enabled on this host"):
        logdrivers.open_driver({"driver": "journald", "tag": "x", "info": INFO}, loop)
    loop.close()


def test_what_is_sent_away_is_cached_for_reading(rig: Callable[..., Rig], tmp_path: Path) -> None:
    one = rig("syslog-udp")
    assert one.receiver is not None
    port = one.receiver.sock.getsockname()[1]
    cache = {"path": str(tmp_path / "cache"), "max_size": 1 << 20, "max_file": 2, "compress": False}
    config = {"syslog-address": f"udp://127.0.0.1:{port}"}
    options = {"driver": "syslog", "config": config, "tag": "web", "attrs": {}, "info": INFO, "cache": cache}
    driver = logdrivers.open_driver(options, one.loop)
    assert driver is not None
    driver.write("stdout", b"both\n", NOW)
    assert settle(one, 1) == [("stdout", "both")]
    assert list(driver.replay()) == [("stdout", b"both\n")]
    driver.close()


def test_an_unknown_driver_is_refused() -> None:
    loop = Loop()
    with pytest.raises(errdefs.InvalidArgument, match="no log driver named 'carrier-pigeon'"):
        logdrivers.open_driver({"driver": "carrier-pigeon", "tag": "", "info": INFO}, loop)
    loop.close()
