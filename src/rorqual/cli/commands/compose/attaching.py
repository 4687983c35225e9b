"""`up` in the foreground: the output of a project's containers until they end or the user stops them."""

from __future__ import annotations

import enum
import queue
import signal
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from rorqual import errdefs
from rorqual.cli.command import Context
from rorqual.cli.commands.compose.following import Printer, copy
from rorqual.cli.starting import REDIAL_EVERY_S, REDIAL_FOR_S
from rorqual.cli.timestamps import to_timestamp
from rorqual.client.errors import ConnectionFailed
from rorqual.compose import labels
from rorqual.compose.observe import Seen

JSON = dict[str, Any]
INTERRUPTED = 130


class _Wish(enum.Enum):
    """What comes into the queue beside events and errors."""

    END = enum.auto()  # of the user's
    ENDED = enum.auto()  # all were stopped, or killed


@dataclass(frozen=True, slots=True)
class Wishes:
    """`abort`: "" | "exit" | "failure": a container's end that ends all; `code_from`: the service whose code counts."""

    abort: str = ""
    code_from: str = ""
    timestamps: bool = False


class Attachment:
    """Made before the containers start, so that nothing of them is missed; `attached` are the services to show.

    The log is read, not the stream: what a container wrote before a look at it is there too, whatever started it.
    """

    def __init__(
        self, context: Context, project: str, attached: Collection[str], printer: Printer, wishes: Wishes
    ) -> None:
        self._context = context
        self._project = project
        self._attached = attached
        self._printer = printer
        self._wishes = wishes
        self._queue: queue.SimpleQueue[JSON | BaseException | _Wish] = queue.SimpleQueue()
        self._since: dict[str, str] = {}  # by container: where its output that was not shown begins
        self._readers: dict[str, threading.Thread] = {}
        self._begun = to_timestamp("since", context.client.system.info()["SystemTime"])
        threading.Thread(target=self._listen, daemon=True, name="events").start()

    def _listen(self) -> None:
        """Events since the beginning; those of an engine that went away when it is back."""
        filters = {"type": ["container"], "label": [f"{labels.PROJECT}={self._project}", f"{labels.ONE_OFF}=False"]}
        since, last_ns = self._begun, 0
        gone_at = 0.0
        while True:
            try:
                for event in self._context.connect(self._context).system.events(since=since, filters=filters):
                    gone_at = 0.0
                    if event["timeNano"] > last_ns:
                        last_ns, since = event["timeNano"], _stamp(event)
                        self._queue.put(event)
                raise ConnectionFailed("the engine ended its events")
            except (errdefs.Error, OSError) as e:
                gone_at = gone_at or time.monotonic()
                if time.monotonic() - gone_at > REDIAL_FOR_S:
                    self._queue.put(e)
                    return
                time.sleep(REDIAL_EVERY_S)

    def follow(
        self,
        made: Sequence[Seen],
        watched: Collection[str],
        start: Callable[[], None],
        stop: Callable[[], None],
        kill: Callable[[], None],
    ) -> int:
        """Starts them, and shows what they write until all of the `watched` services' have ended; the exit code.

        `stop` and `kill` end all of them when the user wants it, or a container's end does. Raises: as `start`.
        """
        names = {seen.id: seen.short(self._project) for seen in made if seen.service in self._attached}
        services = {seen.id: seen.service for seen in made}
        self._printer.know(names.values())
        running = {seen.id for seen in made if seen.service in watched}
        begun = {seen.id for seen in made if seen.state == "running"}  # no start of these will be told
        code = stopping = 0
        ending: threading.Thread | None = None
        # Into the queue, which may be done from a handler: nothing here is interrupted half-way.
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = [signal.signal(number, lambda *_: self._queue.put(_Wish.END)) for number in numbers]
        try:
            for seen in made:
                if seen.id in names and seen.id in begun:
                    self._read(seen, names[seen.id])
            self._meanwhile(start)
            while running:
                event = self._queue.get()
                if event is _Wish.END:
                    stopping, code = stopping + 1, INTERRUPTED
                    if stopping == 1:
                        self._printer.say("Gracefully Stopping... press Ctrl+C again to force")
                    ending = self._meanwhile(stop if stopping == 1 else kill, _Wish.ENDED)
                    continue
                if event is _Wish.ENDED:
                    running &= begun  # the others were never started
                    continue
                if isinstance(event, BaseException):
                    if stopping and isinstance(event, errdefs.Cancelled):
                        continue  # the start, which gave up
                    raise event
                assert isinstance(event, dict)
                id, action = event["Actor"]["ID"], event["Action"]
                if action == "start" and id in services:
                    begun.add(id)
                    if id in names:
                        self._read(next(seen for seen in made if seen.id == id), names[id])
                if action not in ("die", "destroy") or id not in begun:
                    continue
                ended = int(event["Actor"]["Attributes"].get("exitCode", 0))
                if action == "die":
                    self._since[id] = _stamp(event)
                    if self._restarts(id) and not stopping:
                        continue
                    self._drain(id)
                    if id in names:
                        self._printer.say(f"{names[id]} exited with code {ended}")
                running.discard(id)
                begun.discard(id)
                wishes = self._wishes
                if services[id] == wishes.code_from and code != INTERRUPTED:
                    code = ended
                aborts = wishes.abort == "exit" or (wishes.abort == "failure" and ended)
                if not stopping and aborts and services[id] in watched:
                    stopping = 1
                    code = code if wishes.code_from else ended
                    self._printer.say("Aborting on container exit...")
                    ending = self._meanwhile(stop, _Wish.ENDED)
            if ending is not None and stopping == 1:
                ending.join()  # what nobody watches is being stopped too
        finally:
            for number, handler in zip(numbers, previous, strict=True):
                signal.signal(number, handler)
        return code

    def _meanwhile(self, action: Callable[[], None], then: _Wish | None = None) -> threading.Thread:
        """Does it in a thread; an error, or `then`, comes into the queue."""

        def act() -> None:
            try:
                action()
            except (errdefs.Error, OSError) as e:
                self._queue.put(e)
            else:
                if then is not None:
                    self._queue.put(then)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        return thread

    def _restarts(self, id: str) -> bool:
        """Whether the engine will start it again by itself."""
        try:
            state = self._context.client.containers.inspect(id)["State"]
        except errdefs.NotFound:
            return False
        return bool(state["Running"] or state["Restarting"])

    def _read(self, seen: Seen, name: str) -> None:
        """Shows a container's output from where it was left."""
        if seen.id in self._readers and self._readers[seen.id].is_alive():
            self._readers[seen.id].join(1)
        since = self._since.get(seen.id, self._begun)

        def read() -> None:
            try:
                client = self._context.connect(self._context)
                copy(
                    client,
                    seen,
                    name,
                    self._printer,
                    follow=True,
                    since=since,
                    timestamps=self._wishes.timestamps,
                    apart=True,
                )
            except errdefs.NotFound:
                return  # removed meanwhile
            except (errdefs.Error, OSError) as e:
                self._queue.put(e)

        self._readers[seen.id] = threading.Thread(target=read, daemon=True, name=f"logs of {name}")
        self._readers[seen.id].start()

    def _drain(self, id: str) -> None:
        """Its last lines come before what is said of its end."""
        if id in self._readers:
            self._readers[id].join(2)


def _stamp(event: JSON) -> str:
    """When it was, as `since` takes it."""
    seconds, ns = divmod(event["timeNano"], 10**9)
    return f"{seconds}.{ns:09}"
