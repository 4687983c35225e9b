"""Log drivers, a file each. They run in the shim, so a dead daemon never blocks or loses a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from rorqual.errdefs import InvalidArgument


class LogDriver(Protocol):
    """Where a container's output is kept.

    `write` gets bytes as they were read, in any pieces, and keeps order within a stream; `close` ends unfinished lines.
    `replay` yields (stream, bytes) of what was written before; a driver that cannot read yields nothing.
    """

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """Take output of `stream` ("stdout" or "stderr"), read at time_ns. Raises OSError when it cannot be kept."""

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """What was written before, oldest first."""

    def close(self) -> None:
        """Flush and close; a second call does nothing."""


def open_driver(options: Mapping[str, Any] | None) -> LogDriver | None:
    """The driver that the task's options name; None for no log. Raises InvalidArgument for an unknown one."""
    driver = (options or {}).get("driver", "none")
    if driver == "none" or options is None:
        return None
    if driver == "json-file":
        from rorqual.shim.logdrivers.json_file import JSONFile

        return JSONFile(
            options["path"],
            max_size_bytes=int(options.get("max_size") or -1),
            max_file=int(options.get("max_file") or 1),
            attrs=options.get("attrs") or {},
        )
    raise InvalidArgument(f"logger: no log driver named '{driver}' is registered")
