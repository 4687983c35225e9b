"""What the global options say, for every command."""

import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Context:
    """`root`: where the state is. `log`: a file, "" for standard error."""

    root: str
    log: str = ""
    log_format: str = "text"
    debug: bool = False
    systemd_cgroup: bool = False
    rootless: str = "auto"
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"))

    def report(self, level: str, text: str) -> None:
        """One line of log. Engines read the last `error` of a JSON log for the reason of a failure."""
        if self.log_format == "json":
            import json

            line = json.dumps({"level": level, "msg": text, "time": self.started})
        else:
            quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            line = f'time="{self.started}" level={level} msg="{quoted}"'
        if not self.log:
            sys.stderr.write(line + "\n")
            return
        fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, line.encode() + b"\n")
        finally:
            os.close(fd)

    def warn(self, texts: "list[str] | tuple[str, ...]") -> None:
        for text in texts:
            self.report("warning", text)
