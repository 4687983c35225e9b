"""Commands in a container after its start and before its stop. Source: Compose Specification, "post_start"."""

from __future__ import annotations

from collections.abc import Iterable

from rorqual import errdefs
from rorqual.client import Client
from rorqual.client.demux import Demultiplexer
from rorqual.compose.kinds import JSON
from rorqual.compose.observe import Seen


def run(client: Client, seen: Seen, hooks: Iterable[JSON]) -> None:
    """One after the other. Raises: Internal when one fails, with what it said."""
    for hook in hooks:
        config = {
            "Cmd": hook.get("command"),
            "User": hook.get("user", ""),
            "Privileged": bool(hook.get("privileged")),
            "WorkingDir": hook.get("working_dir", ""),
            "Env": [f"{k}={v}" for k, v in (hook.get("environment") or {}).items() if v is not None],
            "AttachStdout": True,
            "AttachStderr": True,
        }
        id = client.containers.exec_create(seen.id, config)
        sock, early = client.containers.exec_start(id, tty=False, console_size=None)
        said = bytearray()
        demux = Demultiplexer()
        try:
            piece = early
            while True:
                for _, payload in demux.feed(memoryview(piece)):
                    said += bytes(payload)
                piece = sock.recv(1 << 16)
                if not piece:
                    break
        finally:
            sock.close()
        code = client.containers.exec_inspect(id)["ExitCode"]
        if code:
            text = said.decode(errors="replace").strip()
            raise errdefs.Internal(
                f"container {seen.name} hook exited with status {code}" + (f": {text}" if text else "")
            )
