"""Log drivers, a file each. They run in the shim, so a dead daemon never blocks or loses a line.

A driver's module is imported only where it is used: a container's shim should hold nothing that it does not need.
"""

from __future__ import annotations

from rorqual.errdefs import InvalidArgument
from rorqual.shim.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Protocol
else:
    Protocol = object


class LogDriver(Protocol):
    """Where a container's output is kept.

    `write` gets bytes as they were read, in any pieces, and keeps order within a stream; `close` ends unfinished lines.
    `replay` yields (stream, bytes) of what was written before; a driver that cannot read yields nothing.
    While `full`, the container's output should not be read; `on_room`, set by the owner, is called when it may again.
    """

    on_room: Callable[[], None] | None

    @property
    def full(self) -> bool:
        """Whether it has taken as much as it can hold for now (mode=blocking with a slow receiver)."""

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """Take output of `stream` ("stdout" or "stderr"), read at time_ns. Raises OSError when it cannot be kept."""

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """What was written before, oldest first."""

    def close(self) -> None:
        """Flush and close; a second call does nothing."""


def open_driver(options: Mapping[str, Any] | None, loop: Loop) -> LogDriver | None:
    """The driver that the task's options name; None for no log. Raises InvalidArgument for an unknown one."""
    driver = (options or {}).get("driver", "none")
    if driver == "none" or options is None:
        return None
    if driver == "json-file":
        from rorqual.shim.logdrivers.json_file import JSONFile

        return JSONFile(_rotating(options), options.get("attrs") or {})
    if driver == "local":
        from rorqual.shim.logdrivers.local import Local

        return Local(_rotating(options))
    return _remote(driver, options, loop)


def _remote(driver: str, options: Mapping[str, Any], loop: Loop) -> LogDriver:
    from rorqual.shim.logdrivers.remote import open_remote

    remote: LogDriver = open_remote(driver, options, loop)
    cache = options.get("cache")
    if not cache:
        return remote
    from rorqual.shim.logdrivers.local import Local
    from rorqual.shim.logdrivers.tee import Tee

    try:
        return Tee(remote, Local(_rotating(cache)))
    except BaseException:
        remote.close()
        raise


def _rotating(options: Mapping[str, Any]) -> Any:
    from rorqual.shim.logdrivers.rotating import RotatingFile

    try:
        return RotatingFile(
            options["path"],
            max_size_bytes=int(options.get("max_size") or -1),
            max_file=int(options.get("max_file") or 1),
            compress=bool(options.get("compress")),
        )
    except (KeyError, ValueError, TypeError) as e:
        raise InvalidArgument(f"log options: {e}") from e
