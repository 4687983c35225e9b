"""Errors of the client: the engine's answers as errors of our taxonomy, and failures of the connection.

`error_for` is the one place where HTTP status becomes a class of `rorqual.errdefs`.
"""

from __future__ import annotations

from rorqual import errdefs


class ResponseError(errdefs.Error):
    """The engine refused: `str(e)` is its message, `e.status` the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class BadRequest(ResponseError, errdefs.InvalidArgument):
    """400"""


class Unauthorized(ResponseError, errdefs.Unauthenticated):
    """401"""


class Forbidden(ResponseError, errdefs.PermissionDenied):
    """403"""


class NoSuchObject(ResponseError, errdefs.NotFound):
    """404"""


class Conflicting(ResponseError, errdefs.Conflict):
    """409"""


class Unchanged(ResponseError, errdefs.NotModified):
    """304"""


class NotOffered(ResponseError, errdefs.NotImplementedHere):
    """501"""


class NotNow(ResponseError, errdefs.Unavailable):
    """503"""


class EngineFault(ResponseError, errdefs.Internal):
    """500 and whatever else is not named above."""


class ConnectionFailed(errdefs.Unavailable):
    """No engine answers at that address, or it went away before it answered."""


class ProtocolError(errdefs.Internal):
    """What came back is not HTTP/1.1: the peer's fault."""


_BY_STATUS: dict[int, type[ResponseError]] = {
    304: Unchanged,
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NoSuchObject,
    409: Conflicting,
    501: NotOffered,
    503: NotNow,
}


def error_for(status: int, message: str) -> ResponseError:
    """The error that an answer of that HTTP status stands for."""
    return _BY_STATUS.get(status, EngineFault)(message, status)
