"""The closed taxonomy of errors. Every part raises these; each door maps them once to its own codes.

The doors: HTTP status (daemon/api), gRPC and ttrpc status (rpc/status.py), exit codes (cli). Text is lower case where
Docker's is, names the object and the value, and keeps Docker's wording where its clients match on it.
"""


class Error(Exception):
    """Base of all of them; `str(e)` is what a user reads."""


class InvalidArgument(Error):
    """The caller's input is wrong, whatever the state of the system."""


class NotFound(Error):
    """The named object does not exist."""


class AlreadyExists(Error):
    """An object of that name exists."""


class Conflict(Error):
    """The object's present state forbids the operation (running, in use, name taken)."""


class NotModified(Error):
    """The object already is in the asked-for state (start of a running container)."""


class PermissionDenied(Error):
    """The caller, or this process, may not do that."""


class Unauthenticated(Error):
    """Credentials are missing or wrong."""


class ResourceExhausted(Error):
    """A limit was reached: disk, addresses, ports, entries, bytes."""


class Unavailable(Error):
    """A peer (containerd, a registry, a shim) cannot be reached now; trying again may help."""


class DeadlineExceeded(Error):
    """The time allowed is over."""


class Cancelled(Error):
    """The caller gave up."""


class NotImplementedHere(Error):
    """The operation is known and not offered (by this kernel, driver or version)."""


class DataLoss(Error):
    """Stored or received bytes are not what their digest or size says."""


class Internal(Error):
    """A fault of ours."""
