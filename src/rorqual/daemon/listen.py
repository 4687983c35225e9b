"""The sockets of the API: unix (0660, group docker), tcp (TLS), or passed by systemd."""

from __future__ import annotations

import grp
import logging
import os
import socket
import ssl

from rorqual.daemon.config import DaemonConfig
from rorqual.errdefs import InvalidArgument
from rorqual.rpc import unixsock

log = logging.getLogger(__name__)

BACKLOG = 4096  # on a unix socket a full queue is EAGAIN at once, and Go's clients fail of it
_FIRST_FD = 3  # sd_listen_fds(3)


def sockets(config: DaemonConfig) -> list[tuple[str, socket.socket]]:
    """(what it is called, listening socket) of each host. Raises: InvalidArgument, OSError."""
    found: list[tuple[str, socket.socket]] = []
    for host in config.hosts:
        scheme, _, address = host.partition("://")
        if scheme == "unix":
            found.append((address, _unix(address, config.group)))
        elif scheme == "tcp":
            found.append(_tcp(address, config))
        else:
            found += [(f"fd {s.fileno()}", s) for s in _passed()]
    return found


def _unix(path: str, group: str) -> socket.socket:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    _refuse_if_in_use(path)
    sock = unixsock.listen(path, mode=0o660, backlog=BACKLOG)
    try:
        gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        log.warning("group %s not found: the API socket belongs to root alone", group)
        return sock
    try:
        os.chown(path, 0, gid)
    except OSError as e:
        log.warning("%s: its group could not be set: %s", path, e.strerror)
    return sock


def _refuse_if_in_use(path: str) -> None:
    try:
        unixsock.connect(path, timeout_s=1.0).close()
    except OSError:
        return
    raise InvalidArgument(f"failed to load listeners: unix socket {path} is in use by another process")


def _tcp(address: str, config: DaemonConfig) -> tuple[str, socket.socket]:
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        host, port = address, "2376" if config.tls or config.tlsverify else "2375"
    if not (config.tls or config.tlsverify):
        log.warning("[DEPRECATION NOTICE]: API is accessible on http://%s:%s without encryption", host, port)
        log.warning("Access to the remote API is equivalent to root access on the host")
    sock = socket.create_server((host.strip("[]") or "0.0.0.0", int(port)), backlog=BACKLOG)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}", sock


def _passed() -> list[socket.socket]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise InvalidArgument("no sockets found via socket activation: make sure the service was started by systemd")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=fd) for fd in range(_FIRST_FD, _FIRST_FD + count)]


def tls_context(config: DaemonConfig) -> ssl.SSLContext | None:
    """For tcp sockets; None without TLS. Raises: InvalidArgument for files that can't be loaded."""
    if not (config.tls or config.tlsverify):
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tlscert, config.tlskey)
        if config.tlsverify:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(config.tlscacert)
    except (OSError, ssl.SSLError) as e:
        raise InvalidArgument(f"could not load X509 key pair: {e}") from e
    return context
