"""syslog: udp, tcp, tcp+tls, unix, unixgram; the local format, RFC 3164, RFC 5424 (with micro, in microseconds).

Source: https://docs.docker.com/engine/logging/drivers/syslog/, RFC 3164, RFC 5424, RFC 5425 (framing over TLS).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from rorqual.errdefs import InvalidArgument
from rorqual.shim.logdrivers.remote import Info, Line
from rorqual.shim.logdrivers.sender import Sender, connect_datagram, connect_stream, connect_unix
from rorqual.shim.loop import Loop

_NAMES = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp"
FACILITIES = {name: number for number, name in enumerate(_NAMES.split())} | {f"local{n}": 16 + n for n in range(8)}
_SEVERITY = {"stdout": 6, "stderr": 3}
_DEFAULT_PORT = 514
_LOCAL_SOCKETS = ("/dev/log", "/var/run/syslog", "/var/run/log")


class Syslog:
    """Makes messages of the chosen format."""

    def __init__(self, info: Info) -> None:
        # It may hold the image's words ({{.Command}}): none of them ends the message and begins another.
        self._tag = "".join(c if c.isprintable() else "?" for c in info.tag)
        self._facility = facility(info.config.get("syslog-facility", ""))
        self._format = info.config.get("syslog-format", "")
        self._scheme = urlsplit(info.config.get("syslog-address", "")).scheme
        self._hostname = socket.gethostname()
        self._pid = os.getpid()

    def encode(self, line: Line) -> list[bytes]:
        """See Encoder."""
        priority = self._facility * 8 + _SEVERITY[line.stream]
        message = self._header(priority, line.time_ns).encode() + line.text
        if self._scheme == "tcp+tls" and self._format.startswith("rfc5424"):
            return [b"%d %s" % (len(message), message)]
        return [message + b"\n"]

    def _header(self, priority: int, time_ns: int) -> str:
        seconds = time_ns // 1_000_000_000
        if self._format.startswith("rfc5424"):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
            if self._format == "rfc5424micro":
                stamp += f".{time_ns // 1000 % 1_000_000:06}"
            return f"<{priority}>1 {stamp}Z {self._hostname} {self._tag} {self._pid} {self._tag} - "
        t = time.localtime(seconds)
        stamp = time.strftime("%b ", t) + f"{t.tm_mday:2}" + time.strftime(" %H:%M:%S", t)
        host = f" {self._hostname}" if self._format == "rfc3164" else ""
        return f"<{priority}>{stamp}{host} {self._tag}[{self._pid}]: "


def facility(text: str) -> int:
    """Its number. Raises InvalidArgument."""
    if not text:
        return FACILITIES["daemon"]
    if text in FACILITIES:
        return FACILITIES[text]
    if text.isdigit() and int(text) <= 23:
        return int(text)
    raise InvalidArgument("invalid syslog facility")


def sender(info: Info, loop: Loop) -> Sender:
    """To the receiver that the options name; this machine's syslog without one. Raises Unavailable."""
    address = info.config.get("syslog-address", "")
    if not address:
        return Sender(loop, _connect_local, datagrams=True)
    url = urlsplit(address)
    host, port = url.hostname or "127.0.0.1", url.port or _DEFAULT_PORT
    match url.scheme:
        case "udp":
            return Sender(loop, lambda: connect_datagram(host, port), datagrams=True)
        case "tcp":
            return Sender(loop, lambda: connect_stream(host, port), datagrams=False)
        case "tcp+tls":
            return Sender(loop, lambda: _connect_tls(host, port, info.config), datagrams=False)
        case "unix":
            return Sender(loop, lambda: connect_unix(url.path, socket.SOCK_STREAM), datagrams=False)
        case "unixgram":
            return Sender(loop, lambda: connect_unix(url.path, socket.SOCK_DGRAM), datagrams=True)
    raise InvalidArgument(f"unsupported scheme: '{url.scheme}'")


def _connect_local() -> socket.socket:
    for path in _LOCAL_SOCKETS:
        try:
            return connect_unix(path, socket.SOCK_DGRAM)
        except OSError:
            continue
    raise OSError("unix syslog delivery error")


def _connect_tls(host: str, port: int, config: Mapping[str, str]) -> socket.socket:
    import ssl

    context = ssl.create_default_context(cafile=config.get("syslog-tls-ca-cert") or None)
    if "syslog-tls-skip-verify" in config:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if config.get("syslog-tls-cert"):
        context.load_cert_chain(config["syslog-tls-cert"], config.get("syslog-tls-key") or None)
    plain = connect_stream(host, port)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except OSError:
        plain.close()
        raise
