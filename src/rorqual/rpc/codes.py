"""The gRPC status codes of the errors in errdefs, both ways. Imports no gRPC: the shim uses it for ttrpc too.

Source: https://grpc.github.io/grpc/core/md_doc_statuscodes.html; the pairing is containerd's.
"""

from rorqual import errdefs

OK = 0
UNKNOWN = 2

_CODES: dict[type[errdefs.Error], int] = {
    errdefs.Cancelled: 1,
    errdefs.InvalidArgument: 3,
    errdefs.DeadlineExceeded: 4,
    errdefs.NotFound: 5,
    errdefs.AlreadyExists: 6,
    errdefs.PermissionDenied: 7,
    errdefs.ResourceExhausted: 8,
    errdefs.Conflict: 9,  # FAILED_PRECONDITION
    errdefs.NotModified: 9,
    errdefs.NotImplementedHere: 12,
    errdefs.Internal: 13,
    errdefs.Unavailable: 14,
    errdefs.DataLoss: 15,
    errdefs.Unauthenticated: 16,
}
_ERRORS: dict[int, type[errdefs.Error]] = {code: cls for cls, code in reversed(_CODES.items())} | {
    10: errdefs.Conflict,  # ABORTED
    11: errdefs.InvalidArgument,  # OUT_OF_RANGE
}


def code_of(error: BaseException) -> int:
    """The status code to answer with; 2 (unknown) for an error outside the taxonomy."""
    for cls in type(error).__mro__:
        if (code := _CODES.get(cls)) is not None:
            return code
    return UNKNOWN


def error_of(code: int, message: str) -> errdefs.Error:
    """The error a peer's status stands for; errdefs.Error itself for an unknown one."""
    return _ERRORS.get(code, errdefs.Error)(message)


def error_named(name: str, message: str) -> errdefs.Error:
    """The error whose class a peer's JSON answer names ("NotFound"); errdefs.Error itself for an unknown name."""
    kind = getattr(errdefs, name, None)
    if isinstance(kind, type) and issubclass(kind, errdefs.Error):
        return kind(message)
    return errdefs.Error(message)
