"""Errors on gRPC: errdefs to grpclib's GRPCError and back. For ttrpc the codes module alone is enough.

Used by rorqual-containerd (server) and rorquald (client).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.protocol import Connection

from rorqual import errdefs
from rorqual.rpc import codes

log = logging.getLogger(__name__)

# A disk's state, not a fault of ours; the texts are those that Docker's users search for.
_DISK = {
    errno.ENOSPC: "no space left on device",
    errno.EDQUOT: "disk quota exceeded",
    errno.EROFS: "read-only file system",
}


def to_grpc(error: Exception) -> GRPCError:
    """The status a server answers with. An error outside the taxonomy is ours: INTERNAL, and logged with its trace."""
    if isinstance(error, GRPCError):
        return error
    if isinstance(error, errdefs.Error):
        return GRPCError(Status(codes.code_of(error)), str(error))
    if isinstance(error, OSError) and error.errno in _DISK:
        return GRPCError(Status.RESOURCE_EXHAUSTED, f"{error.filename or 'write'}: {_DISK[error.errno]}")
    log.error("unexpected error: %s", error, exc_info=error)
    return GRPCError(Status.INTERNAL, f"{type(error).__name__}: {error}")


def from_grpc(error: GRPCError) -> errdefs.Error:
    """The error that a server's status stands for."""
    return codes.error_of(error.status.value, error.message or error.status.name.lower())


class ConnectionLost(errdefs.Unavailable):
    """The server went away before it answered: whether it did what was asked is unknown."""


@contextmanager
def translated(server: str = "containerd") -> Iterator[None]:
    """Around a client's calls: raises errdefs' classes for the server's statuses, ConnectionLost for none."""
    try:
        yield
    except GRPCError as e:
        raise from_grpc(e) from e
    except (StreamTerminatedError, ProtocolError, OSError) as e:
        raise ConnectionLost(f"{server}: {e or type(e).__name__}") from e
    except AttributeError as e:
        # grpclib takes the transport from a connection that is lost, also from the calls that come to use it next.
        if e.name != "_transport" or not isinstance(e.obj, Connection):
            raise
        raise ConnectionLost(f"{server}: Connection lost") from e


class Service(Protocol):
    """What grpclib's server takes."""

    def __mapping__(self) -> dict[str, Handler]:
        """Handlers by path."""


class Guarded:
    """A service whose handlers' errors become gRPC statuses."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __mapping__(self) -> dict[str, Handler]:
        return {
            path: handler._replace(func=_guarded(handler.func)) for path, handler in self._service.__mapping__().items()
        }


def _guarded(func: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    async def call(stream: Any) -> None:
        try:
            await func(stream)
        except StreamTerminatedError:
            return  # the client went away; nobody is left to be told
        except Exception as e:
            raise to_grpc(e) from e

    return call
