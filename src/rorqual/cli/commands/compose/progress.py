"""What Compose does, step by step: lines on stderr, or on a terminal one line for each thing, redrawn."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

_DONE = frozenset(
    (
        "Created", "Started", "Running", "Recreated", "Stopped", "Removed", "Healthy", "Exited", "Killed", "Paused",
        "Unpaused", "Restarted", "Pulled", "Built", "Pushed", "Skipped",
    )
)  # fmt: skip
_BAD = frozenset(("Error", "Interrupted"))


class Progress:
    """`mode`: tty, plain, json or quiet. Call it from any thread; use as a context."""

    def __init__(self, title: str, mode: str) -> None:
        self._title = title
        self._mode = mode
        self._lock = threading.Lock()
        self._states: dict[str, tuple[str, float, float]] = {}  # by thing: state, begun, ended
        self._drawn = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *ended: object) -> None:
        with self._lock:
            self._drawn = 0  # what comes now is another list

    def __call__(self, kind: str, name: str, state: str) -> None:
        with self._lock:
            if kind == "Warning":
                self._clear()
                sys.stderr.write(f"WARN[0000] {state}\n")
                if self._drawn:
                    self._drawn = 0
                    self._draw()
            elif self._mode == "plain":
                sys.stderr.write(f" {kind} {name}  {state}\n")
            elif self._mode == "json":
                sys.stderr.write(json.dumps({"id": f"{kind} {name}", "status": state}) + "\n")
            elif self._mode == "tty":
                now = time.monotonic()
                begun = self._states.get(f"{kind} {name}", ("", now, now))[1]
                self._states[f"{kind} {name}"] = (state, begun, now)
                self._clear()
                self._draw()
            sys.stderr.flush()

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\x1b[J")

    def _draw(self) -> None:
        try:
            columns, rows = os.get_terminal_size(2)
        except OSError:
            columns, rows = 80, 24
        done = sum(state in _DONE for state, _, _ in self._states.values())
        lines = [f"[+] {self._title} {done}/{len(self._states)}"]
        width = max(map(len, self._states), default=0)
        for name, (state, begun, ended) in self._states.items():
            mark = "\x1b[32m✔\x1b[0m" if state in _DONE else "\x1b[31m✘\x1b[0m" if state in _BAD else "\x1b[33m⠿\x1b[0m"
            plain = f" {name.ljust(width)}  {state.ljust(10)} {ended - begun:.1f}s"
            lines.append(f" {mark}{plain[: columns - 4]}")
        if len(lines) > rows - 1 > 1:
            lines = [lines[0], *lines[-(rows - 2) :]]
        sys.stderr.write("\n".join(lines) + "\n")
        self._drawn = len(lines)
