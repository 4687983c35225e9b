"""Errors of the client: an engine's refusals (their kinds by status: `refusals`), and failures of the connection."""

from __future__ import annotations

from rorqual import errdefs


class ResponseError(errdefs.Error):
    """The engine refused: `str(e)` is its message, `e.status` the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ConnectionFailed(errdefs.Unavailable):
    """No engine answers at that address, or it went away before it answered."""


class ProtocolError(errdefs.Internal):
    """What came back is not HTTP/1.1: the peer's fault."""
