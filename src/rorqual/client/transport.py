"""Addresses of engines, and sockets connected to them: unix://, tcp:// (plain or TLS), ssh://, fd://.

A unix socket is made with the C module `_socket`, because importing `socket` costs 2-3 ms that a `rorqual ps` needs for
nothing else; its objects have the same methods.
"""

from __future__ import annotations

import os

from rorqual import errdefs
from rorqual.client.errors import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rorqual.client.http1 import Socket

PRODUCT = "Rorqual"
DEFAULT_PORT = 2375
DEFAULT_TLS_PORT = 2376
SUN_PATH_BYTES = 107


class TLSOptions:
    """Files of the TLS client: `ca`, `cert`, `key` (paths or ""), and whether the server's name is checked."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, ca: str = "", cert: str = "", key: str = "", *, verify: bool = True) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


class Address:
    """An engine's address: `scheme` unix|tcp|ssh, `path` or (`host`, `port`), `url` as the user wrote it."""

    __slots__ = ("base_path", "host", "path", "port", "scheme", "url", "user")

    def __init__(self, url: str, scheme: str, *, path: str = "", host: str = "", port: int = 0) -> None:
        self.url = url
        self.scheme = scheme
        self.path = path
        self.host = host
        self.port = port
        self.user = ""
        self.base_path = ""


def parse_host(text: str, *, tls: bool = False) -> Address:
    """The address that `text` (an -H value or DOCKER_HOST) names, with Docker's defaults.

    Raises: InvalidArgument, with Docker's wording.
    """
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    if scheme == "unix":
        if not rest:
            raise errdefs.InvalidArgument(f"invalid bind address format: {text}")
        return Address(text, "unix", path=rest)
    if scheme not in ("tcp", "http", "https", "ssh"):
        raise errdefs.InvalidArgument(f"invalid bind address format: {text}")
    address = Address(text if separator else f"tcp://{text}", "ssh" if scheme == "ssh" else "tcp")
    authority, slash, path = rest.partition("/")
    address.base_path = (slash + path).rstrip("/")
    if "@" in authority:
        address.user, _, authority = authority.rpartition("@")
    host, colon, port = _split_port(authority)
    if colon and not (port.isdecimal() and int(port) < 65536):
        raise errdefs.InvalidArgument(f"invalid bind address format: {text}")
    address.host = host or "127.0.0.1"
    if scheme == "ssh":
        address.port = int(port) if port else 0
    else:
        address.port = int(port) if port else (DEFAULT_TLS_PORT if tls else DEFAULT_PORT)
    return address


def _split_port(authority: str) -> tuple[str, str, str]:
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        return host, rest[:1], rest[1:]
    return authority.partition(":")


def connector(address: Address, tls: TLSOptions | None) -> Callable[[], Socket]:
    """A function that makes a connected socket; the caller owns what it returns.

    The function raises ConnectionFailed with the text that scripts know from Docker's client.
    """
    if address.scheme == "unix":
        return lambda: _connect_unix(address)
    if address.scheme == "ssh":
        return lambda: _connect_ssh(address)
    return lambda: _connect_tcp(address, tls)


def not_running(address: Address) -> ConnectionFailed:
    return ConnectionFailed(
        f"Cannot connect to the {PRODUCT} daemon at {address.url}. Is the {PRODUCT.lower()} daemon running?"
    )


def _connect_unix(address: Address) -> Socket:
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    path: str | bytes = address.path
    directory = -1
    try:
        if len(os.fsencode(path)) > SUN_PATH_BYTES:
            # A path longer than sun_path is reached through its directory's descriptor.
            directory = os.open(os.path.dirname(address.path), os.O_PATH | os.O_DIRECTORY)
            path = f"/proc/self/fd/{directory}/{os.path.basename(address.path)}"
        sock.connect(path)
    except PermissionError as e:
        sock.close()
        raise ConnectionFailed(
            f"permission denied while trying to connect to the {PRODUCT} daemon socket at {address.url}: "
            f"dial unix {address.path}: connect: permission denied"
        ) from e
    except OSError as e:
        sock.close()
        raise not_running(address) from e
    finally:
        if directory >= 0:
            os.close(directory)
    return sock


def _connect_tcp(address: Address, tls: TLSOptions | None) -> Socket:
    import socket

    try:
        sock = socket.create_connection((address.host, address.port), timeout=30)
    except OSError as e:
        raise not_running(address) from e
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return sock
    return _wrap_tls(sock, address, tls)


def _wrap_tls(sock: object, address: Address, tls: TLSOptions) -> Socket:
    import socket
    import ssl

    from rorqual.client.tls import TLSSocket

    assert isinstance(sock, socket.socket)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if tls.verify:
            if tls.ca:
                context.load_verify_locations(tls.ca)
            else:
                context.load_default_certs()
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert or tls.key:
            context.load_cert_chain(tls.cert, tls.key)
        return TLSSocket(sock, context, address.host)
    except ConnectionFailed:
        sock.close()
        raise
    except (ssl.SSLError, OSError) as e:
        sock.close()
        raise ConnectionFailed(f"error during connect: {address.url}: {e}") from e


def _connect_ssh(address: Address) -> Socket:
    """Run `ssh HOST rorqual system dial-stdio` on one end of a socket pair, as Docker's client does."""
    import socket
    import subprocess

    ours, theirs = socket.socketpair()
    command = ["ssh", "-o", "ConnectTimeout=30", "-T"]
    if address.user:
        command += ["-l", address.user]
    if address.port:
        command += ["-p", str(address.port)]
    # "--" and a name that cannot begin with a dash: a host is never read as an option (CVE-2017-1000117's class).
    command += ["--", address.host, "rorqual", "system", "dial-stdio"]
    try:
        subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), start_new_session=True)
    except OSError as e:
        ours.close()
        raise ConnectionFailed(f"error during connect: cannot run ssh: {e.strerror}") from e
    finally:
        theirs.close()
    return ours
