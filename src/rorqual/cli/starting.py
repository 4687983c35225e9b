"""Creating a container and following it to its end: what run, create, start and attach share.

`create` pulls a missing image first. `Waiter` holds the wait request while the streams run, and asks again when the
engine was restarted meanwhile: an attached container outlives the daemon.
"""

from __future__ import annotations

import os
import sys
import time

from rorqual import errdefs
from rorqual.cli import terminal
from rorqual.cli.errors import CommandError, Exit
from rorqual.client.errors import ConnectionFailed
from rorqual.oci import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any

    from rorqual.cli.command import Context
    from rorqual.cli.flags import Values
    from rorqual.cli.streams import Signals, Streamer
    from rorqual.client.engine import Client
    from rorqual.client.http1 import Response

    JSON = dict[str, Any]
else:
    import _signal as signal  # the module itself imports `enum`: a tenth of a short command's time

EXIT_ENGINE, EXIT_CANNOT_INVOKE, EXIT_NOT_FOUND = 125, 126, 127
REDIAL_FOR_S = 30.0
REDIAL_EVERY_S = 0.2
MAX_TERMINATIONS = 3
_PULLS = ("always", "missing", "never")


def check_pull_option(value: str) -> None:
    """Raises: CommandError."""
    if value and value not in _PULLS:
        raise CommandError(f'invalid pull option: \'{value}\': must be one of "always", "missing" or "never"')


def create(context: Context, flags: Values, body: JSON) -> str:
    """Create the container, pulling its image when it is missing (or --pull always); returns the id.

    Raises: ResponseError, CommandError.
    """
    image = body["Image"]
    if not image:
        raise CommandError("invalid reference format")
    path = flags.string("cidfile")
    if path and os.path.exists(path):
        raise CommandError(f"container ID file found, make sure the other container isn't running or delete {path}")
    if ("DOCKER_CONTENT_TRUST" in os.environ or flags.changed("disable-content-trust")) and _is_tagged(image):
        from rorqual.cli.commands.image.trust import refuse_content_trust

        refuse_content_trust(flags)
    if flags.boolean("use-api-socket"):
        _share_api_socket(context, body)
    platform, name, pull = flags.string("platform"), flags.string("name"), flags.string("pull") or "missing"
    cid_file = open(path, "w", encoding="ascii") if path else None  # noqa: SIM115 (closed below on every path)
    try:
        if pull == "always":
            pull_image(context, image, platform, quiet=flags.boolean("quiet"))
        containers = context.client.containers
        body["HostConfig"]["ConsoleSize"] = list(terminal.size())
        try:
            answer = containers.create(body, name=name, platform=platform)
        except errdefs.InvalidArgument as e:
            raise _as_if_looked_at_here(e) from e
        except errdefs.NotFound as e:
            if pull != "missing" or not _is_missing_image(e):
                raise
            if not flags.boolean("quiet"):
                from rorqual.cli.references import familiar_with_tag

                context.err(f"Unable to find image '{familiar_with_tag(image)}' locally")
            pull_image(context, image, platform, quiet=flags.boolean("quiet"))
            answer = containers.create(body, name=name, platform=platform)
    except BaseException:
        if cid_file is not None:
            cid_file.close()
            os.unlink(path)
        raise
    for warning in answer.get("Warnings") or ():
        context.err(f"WARNING: {warning}")
    id: str = answer["Id"]
    if cid_file is not None:
        with cid_file:
            cid_file.write(id)
    return id


def _is_tagged(image: str) -> bool:
    """False for a digest or an id, which name what they are: Docker looks for no signature of them either."""
    hexadecimal = image.removeprefix("sha256:")
    return "@" not in image and not (len(hexadecimal) == 64 and not hexadecimal.strip("0123456789abcdef"))


def _as_if_looked_at_here(error: errdefs.Error) -> errdefs.Error:
    """The stock command line looks at references and platforms itself; what does that takes long to import."""
    text = str(error)
    if text.startswith("invalid reference format"):
        return CommandError(text)
    if "unknown operating system or architecture" in text or "platform specifier" in text:
        return CommandError(f"error parsing specified platform: {text}: invalid argument")
    return error


def _is_missing_image(error: errdefs.Error) -> bool:
    # 404 is also the answer for a network or a volumes-from container that does not exist.
    return "no such image" in str(error).lower()


def _share_api_socket(context: Context, body: JSON) -> None:
    address = context.client.address
    if address.scheme != "unix":
        raise CommandError("flag --use-api-socket needs an engine on a unix socket")
    mount = {"Type": "bind", "Source": address.path, "Target": "/var/run/docker.sock", "BindOptions": {}}
    body["HostConfig"]["Mounts"] = [*(body["HostConfig"].get("Mounts") or ()), mount]


def pull_image(context: Context, image: str, platform: str, *, quiet: bool) -> None:
    """Pull with the progress on stderr. Raises: ResponseError, ProgressError, InvalidArgument."""
    from rorqual.cli.progress import display
    from rorqual.cli.references import parse

    ref = parse(image).with_default_tag()
    tag = str(ref.digest) if ref.digest else ref.tag or ""
    messages = context.client.images.pull(
        ref.familiar_name, tag, platform=platform, auth=context.config.auth_header(ref.domain)
    )
    if quiet:
        with open(os.devnull, "w", encoding="ascii") as sink:
            display(messages, sink)
    else:
        display(messages, sys.stderr)


class Waiter:
    """A container's exit code, asked for before it starts so that none is missed.

    It has a connection of its own; `result` blocks until the container's end.
    """

    __slots__ = ("_client", "_condition", "_id", "_response")

    def __init__(self, client: Client, id: str, *, removed: bool, running: bool = False) -> None:
        self._client = client
        self._id = id
        self._condition = "removed" if removed else "not-running" if running else "next-exit"
        self._response: Response | None = client.containers.open_wait(id, self._condition)

    def result(self) -> int:
        """The exit code; 125 when the engine cannot tell it.

        Raises: ConnectionFailed when the engine is gone for good.
        """
        deadline = 0.0
        while True:
            try:
                if self._response is None:
                    condition = "removed" if self._condition == "removed" else "not-running"
                    self._response = self._client.containers.open_wait(self._id, condition)
                answer = jsontext.loads(self._response.read())
            except ConnectionFailed:
                self._response = None
                deadline = deadline or time.monotonic() + REDIAL_FOR_S
                if time.monotonic() > deadline:
                    raise
                time.sleep(REDIAL_EVERY_S)
                continue
            except errdefs.NotFound as e:
                # The engine was away when the container ended and was removed: nobody kept its code.
                raise Exit(EXIT_ENGINE, f"error waiting for container: {e}") from e
            failure = (answer.get("Error") or {}).get("Message")
            if failure:
                sys.stderr.write(f"Error waiting for container: {failure}\n")
                return EXIT_ENGINE
            return int(answer["StatusCode"])

    def drop(self) -> None:
        """Stop waiting."""
        if self._response is not None:
            self._response.close()
            self._response = None


def start_exit_code(message: str) -> int:
    """The exit code of a container that the runtime could not start: 127, 126 or 125 by the reason."""
    text = message.lower()
    if any(
        s in text
        for s in ("executable file not found", "no such file or directory", "system cannot find the file specified")
    ):
        return EXIT_NOT_FOUND
    if any(s in text for s in ("permission denied", "not a directory", "is a directory")):
        return EXIT_CANNOT_INVOKE
    return EXIT_ENGINE


def proxied_signals() -> tuple[int, ...]:
    """The signals that an attached client passes on: all that can be caught but those of its own I/O."""
    kept = ("SIGCHLD", "SIGPIPE", "SIGURG", "SIGWINCH", "SIGKILL", "SIGSTOP", "SIGTTIN", "SIGTTOU", "SIGTSTP")
    faults = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS")
    left_out = {getattr(signal, name) for name in kept + faults}
    return tuple(n for n in signal.valid_signals() if n not in left_out and n < signal.SIGRTMIN)


def resizer(resize: Callable[[int, int], None]) -> Callable[[], None]:
    """A function that tells the engine this terminal's size; a terminal that is gone is no reason to stop."""

    def apply() -> None:
        height, width = terminal.size()
        if height and width:
            try:
                resize(height, width)
            except errdefs.Error:
                # The process has ended or has no terminal yet, or the engine is away: the next change sets it.
                return

    return apply


class Follower:
    """What an attached client does besides copying: it passes signals on, and its terminal's size.

    `numbers` are the signals to catch. `proxy`: the signals that are for the program go to the container.
    """

    __slots__ = ("_containers", "_id", "_resize", "_terminations", "numbers")

    def __init__(self, context: Context, id: str, *, tty: bool, proxy: bool) -> None:
        self._containers = containers = context.client.containers
        self._id = id
        self._terminations = 0
        self._resize = resizer(lambda h, w: containers.resize(id, h, w)) if tty and os.isatty(1) else None
        self.numbers = proxied_signals() if proxy else ()
        if self._resize is not None:
            self.numbers = (*self.numbers, signal.SIGWINCH)

    def run(self, streamer: Streamer, signals: Signals) -> None:
        """Copy until the streams end; the container runs. Raises: as `Streamer.run`; Exit (third ^C)."""
        if self._resize is not None:
            self._resize()
        streamer.signals = signals
        streamer.on_signal = self._on_signal
        streamer.run()

    def _on_signal(self, number: int) -> None:
        from contextlib import suppress
        from signal import Signals as Names

        if number == signal.SIGWINCH:
            if self._resize is not None:
                self._resize()
            return
        # It may have ended in this moment, or the engine be away: the stream's end tells.
        with suppress(errdefs.Error):
            self._containers.kill(self._id, Names(number).name.removeprefix("SIG"))
        # A program that ignores them must not hold its user: docker's client, too, gives up at the third.
        self._terminations += number in (signal.SIGINT, signal.SIGTERM)
        if self._terminations == MAX_TERMINATIONS:
            raise Exit(1, f"\ngot {MAX_TERMINATIONS} SIGTERM/SIGINTs, forcefully exiting")


def attached(context: Context, id: str, body: JSON, keys: str, *, start: Callable[[], None], proxy: bool) -> int:
    """Attach to a new container as its `body` says, start it, copy until its end; its exit code.

    0 when the detach keys `keys` were typed. Raises: what `start` raises; as `Streamer.run`.
    """
    from rorqual.cli import streams

    client, tty = context.client, body["Tty"]
    sock, early = client.containers.attach(
        id,
        stdin=body["AttachStdin"],
        stdout=body["AttachStdout"],
        stderr=body["AttachStderr"],
        detach_keys=keys,
    )
    stderr = (1 if tty else 2) if body["AttachStderr"] else -1
    streamer = streams.Streamer(
        sock,
        early,
        tty=tty,
        stdin=0 if body["AttachStdin"] else -1,
        stdout=1 if body["AttachStdout"] else -1,
        stderr=stderr,
        detach_keys=terminal.parse_detach_keys(keys),
    )
    follower = Follower(context, id, tty=tty, proxy=proxy)
    with streams.Signals(follower.numbers) as signals:
        waiter = Waiter(client, id, removed=body["HostConfig"].get("AutoRemove", False))
        try:
            start()
        except Exit as e:
            sock.close()
            if body["HostConfig"].get("AutoRemove") and not isinstance(e.__cause__, ConnectionFailed):
                waiter.result()  # an engine that is gone may never have heard of the start
            raise
        try:
            follower.run(streamer, signals)
        except streams.Detached:
            waiter.drop()
            return 0
        return waiter.result()
