"""What the global options say, for every command."""

from __future__ import annotations

import os
import sys
import time

from rorqual.errdefs import InvalidArgument
from rorqual.oci import jsontext
from rorqual.record import record


@record
class Context:
    """`root`: where the state is. `log`: a file, "" for standard error."""

    root: str
    log: str = ""
    log_format: str = "text"
    debug: bool = False
    systemd_cgroup: bool = False
    rootless: str = "auto"

    def is_rootless(self) -> bool | None:
        """What --rootless says; None: as the caller is. Raises: InvalidArgument."""
        known = {"auto": None, "": None, "true": True, "false": False}
        if self.rootless not in known:
            raise InvalidArgument(f'invalid value "{self.rootless}" for --rootless: must be true, false or auto')
        return known[self.rootless]

    def check_log(self) -> None:
        """Raises: OSError when the log file can't be written: better at once than at the first error."""
        if self.log:
            os.close(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644))

    def report(self, level: str, text: str) -> None:
        """One line of log. Engines read the last `error` of a JSON log for the reason of a failure."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.log_format == "json":
            line = jsontext.dumps({"level": level, "msg": text, "time": now})
        else:
            quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            line = f'time="{now}" level={level} msg="{quoted}"'
        if not self.log:
            sys.stderr.write(line + "\n")
            return
        fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, line.encode() + b"\n")
        finally:
            os.close(fd)

    def warn(self, texts: list[str] | tuple[str, ...]) -> None:
        for text in texts:
            self.report("warning", text)
