"""What an engine's refusal is in our taxonomy: the one place where an HTTP status becomes a class of `rorqual.errdefs`.

Apart from `errors`, because most commands are not refused and a dozen classes take half a millisecond.
"""

from __future__ import annotations

from rorqual import errdefs
from rorqual.client.errors import ResponseError


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
