"""Waiting for containers to be as a service that depends on them wants them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from rorqual import errdefs
from rorqual.client import Client
from rorqual.compose.kinds import JSON
from rorqual.compose.observe import Seen
from rorqual.compose.parallel import Progress

_EVERY_S = 0.1


class Unmet(errdefs.Error):
    """A container will not be as something that depends on it needs it."""


def dependency(
    client: Client,
    name: str,
    how: JSON,
    made: Sequence[Seen],
    progress: Progress,
    deadline: float,
    stop: threading.Event,
) -> None:
    """Until a service's containers are as `how` says. Raises: Unmet, DeadlineExceeded, Cancelled by `stop`."""
    condition = how.get("condition", "service_started")
    required = how.get("required", True)
    if not made and required and condition != "service_started":
        raise errdefs.NotFound(f"dependency {name} has no container")
    try:
        for seen in made:
            if condition == "service_healthy":
                _until(client, seen, "Healthy", _healthy, progress, deadline, stop)
            elif condition == "service_completed_successfully":
                _until(client, seen, "Exited", _completed, progress, deadline, stop)
    except Unmet as e:
        if required:
            raise Unmet(f"dependency failed to start: {e}") from None
        progress("Warning", "", f"optional dependency {name} failed to start: {e}")


def ready(client: Client, made: Sequence[Seen], progress: Progress, deadline: float, stop: threading.Event) -> None:
    """Until they run, or are healthy where they have a check. Raises: as `dependency`."""
    for seen in made:
        _until(client, seen, "Healthy", _ready, progress, deadline, stop)


def _until(
    client: Client,
    seen: Seen,
    state: str,
    test: Callable[[str, JSON], bool],
    progress: Progress,
    deadline: float,
    stop: threading.Event,
) -> None:
    progress("Container", seen.name, "Waiting")
    while True:
        info = client.containers.inspect(seen.id)
        try:
            good = test(seen.name, info["State"])
        except Unmet:
            progress("Container", seen.name, "Error")
            raise
        if good:
            progress("Container", seen.name, state)
            return
        if deadline and time.monotonic() > deadline:
            raise errdefs.DeadlineExceeded("application not healthy after the time given")
        if stop.wait(_EVERY_S):
            raise errdefs.Cancelled("interrupted")


def _healthy(name: str, state: JSON) -> bool:
    health = (state.get("Health") or {}).get("Status", "")
    if state["Status"] == "exited":
        raise Unmet(f"container {name} exited ({state['ExitCode']})")
    if health == "unhealthy":
        raise Unmet(f"container {name} is unhealthy")
    if state["Status"] == "running" and health in ("", "none"):
        raise Unmet(f"container {name} has no healthcheck configured")
    return bool(state["Status"] == "running" and health == "healthy")


def _completed(name: str, state: JSON) -> bool:
    if state["Status"] in ("exited", "dead"):
        if state["ExitCode"]:
            raise Unmet(f"container {name} didn't complete successfully: exit {state['ExitCode']}")
        return True
    return False


def _ready(name: str, state: JSON) -> bool:
    health = (state.get("Health") or {}).get("Status", "")
    if state["Status"] in ("exited", "dead"):
        raise Unmet(f"container {name} exited ({state['ExitCode']})")
    if health == "unhealthy":
        raise Unmet(f"container {name} is unhealthy")
    return bool(state["Status"] == "running" and health in ("", "none", "healthy"))
