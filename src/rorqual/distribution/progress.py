"""What a pull tells while it runs, and Docker's JSON lines made of it.

`pull` emits events; `render` turns each into the object of one line of POST /images/create. Source: Engine API
ImageCreate; moby pkg/jsonmessage for the texts and the bar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum


class LayerState(Enum):
    """Docker's words for what a layer is going through."""

    PULLING = "Pulling fs layer"
    WAITING = "Waiting"
    DOWNLOADING = "Downloading"
    RETRYING = "Retrying"
    VERIFYING = "Verifying Checksum"
    DOWNLOADED = "Download complete"
    EXTRACTING = "Extracting"
    COMPLETE = "Pull complete"
    EXISTS = "Already exists"
    PREPARING = "Preparing"
    PUSHING = "Pushing"
    PUSHED = "Pushed"
    EXISTS_THERE = "Layer already exists"
    MOUNTED = "Mounted from"
    SKIPPED = "Skipped foreign layer"


@dataclass(frozen=True, slots=True)
class Message:
    """A line about the whole pull; `id` is the tag in the first one."""

    status: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class LayerEvent:
    """A line about one layer; `id` has 12 hex digits. `current` and `total` in bytes, or seconds when RETRYING.

    `source`: the repository that a layer was MOUNTED from.
    """

    id: str
    state: LayerState
    current: int = 0
    total: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Aux:
    """A fact for programs, told beside the lines for people."""

    values: Mapping[str, object]


Event = Message | LayerEvent | Aux
# Called in the event loop; must not block.
Progress = Callable[[Event], None]

_BAR_WIDTH = 50
_WITH_BAR = (LayerState.DOWNLOADING, LayerState.EXTRACTING, LayerState.PUSHING)


def render(event: Event) -> dict[str, object]:
    """The JSON object of `event`'s line."""
    if isinstance(event, Message):
        return {"status": event.status, "id": event.id} if event.id else {"status": event.status}
    if isinstance(event, Aux):
        return {"progressDetail": {}, "aux": dict(event.values)}
    if event.state is LayerState.MOUNTED:
        return {"status": f"{event.state.value} {event.source}", "progressDetail": {}, "id": event.id}
    if event.state is LayerState.RETRYING:
        plural = "" if event.current == 1 else "s"
        status = f"Retrying in {event.current} second{plural}"
        return {"status": status, "progressDetail": {}, "id": event.id}
    if event.state not in _WITH_BAR or not event.current:
        return {"status": event.state.value, "progressDetail": {}, "id": event.id}
    return {
        "status": event.state.value,
        "progressDetail": {"current": event.current, "total": event.total},
        "progress": bar(event.current, event.total),
        "id": event.id,
    }


def bar(current: int, total: int) -> str:
    """`[=====>      ]  1.2MB/2.4MB`, as Docker draws it."""
    if total <= 0:
        return f"{human_size(current):>8}"
    filled = min(current * 100 // total // 2, _BAR_WIDTH)
    box = "[" + "=" * filled + ">" + " " * (_BAR_WIDTH - filled) + "] "
    return f"{box}{human_size(min(current, total)):>8}/{human_size(total)}"


def human_size(size: float) -> str:
    """`2.213MB`: four significant digits, powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}TB"
