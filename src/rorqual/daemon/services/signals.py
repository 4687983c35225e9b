"""Signal names as Docker takes them: `9`, `KILL`, `SIGKILL`, `SIGRTMIN+3`."""

from __future__ import annotations

import signal

from rorqual.errdefs import InvalidArgument

_RTMIN, _RTMAX = 34, 64  # glibc's: what Docker's table says too


def _table() -> dict[str, int]:
    names = {s.name.removeprefix("SIG"): int(s) for s in signal.Signals if not s.name.startswith("SIGRT")}
    names |= {f"RTMIN+{n}": _RTMIN + n for n in range(16)} | {f"RTMAX-{n}": _RTMAX - n for n in range(15)}
    return names | {"RTMIN": _RTMIN, "RTMAX": _RTMAX}


_SIGNALS = _table()


def parse(text: str) -> int:
    """The number. Raises: InvalidArgument with Docker's text."""
    if text.isdigit():
        number = int(text)
        if 1 <= number <= 64:
            return number
    else:
        found = _SIGNALS.get(text.upper().removeprefix("SIG"))
        if found is not None:
            return found
    raise InvalidArgument(f"invalid signal: {text}")
