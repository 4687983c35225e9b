"""TaskOptions: what rorquald tells a shim beside the runtime spec. Shape: docs/architecture.md."""

from __future__ import annotations

import json

from rorqual.errdefs import InvalidArgument
from rorqual.record import record
from rorqual.rpc.wire import Any_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPE_URL = "rorqual.shim.v1.TaskOptions"


@record
class TaskOptions:
    """`console_size` is (height, width) in cells; `runtime` is a path to an OCI runtime, or "" for the built-in one."""

    log: dict[str, Any] | None = None
    open_stdin: bool = False
    stdin_once: bool = False
    console_size: tuple[int, int] | None = None
    runtime: str = ""
    runtime_args: tuple[str, ...] = ()
    health: dict[str, Any] | None = None  # rorqual.shim.health.HealthOptions

    @classmethod
    def parse(cls, message: Any_ | None) -> TaskOptions:
        """From CreateTaskRequest.options; other types' options mean the defaults. Raises InvalidArgument."""
        if message is None or message.type_url.rsplit("/", 1)[-1] != TYPE_URL:
            return cls()
        try:
            values = json.loads(message.value)
            size = values.get("console_size")
            runtime = values.get("runtime") or ""
            return cls(
                log=values.get("log"),
                open_stdin=bool(values.get("open_stdin")),
                stdin_once=bool(values.get("stdin_once")),
                console_size=(int(size[0]), int(size[1])) if size and any(size) else None,
                runtime="" if runtime == "rorqual" else runtime,
                runtime_args=tuple(values.get("runtime_args") or ()),
                health=values.get("health"),
            )
        except (ValueError, TypeError, AttributeError, LookupError) as e:
            raise InvalidArgument(f"{TYPE_URL}: {e}") from e
