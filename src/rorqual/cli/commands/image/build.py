"""`rorqual build`."""

from __future__ import annotations

import io
import os
import sys

from rorqual.cli import buildcontext
from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.errors import CommandError, Exit
from rorqual.cli.options import limits, networks
from rorqual.cli.progress import ProgressError, display
from rorqual.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, TextIO

    from rorqual.cli.flags import Values

_SENDING_EVERY = 1 << 19


def run(context: Context, flags: Values, args: list[str]) -> None:
    if flags.boolean("squash"):
        raise CommandError('"--squash" is only supported on a Docker daemon with experimental features enabled')
    quiet = flags.boolean("quiet")
    out: TextIO = io.StringIO() if quiet else sys.stdout
    source = buildcontext.of(args[0], flags.string("file"))
    found: list[str] = []

    def aux(message: dict[str, Any]) -> None:
        if message.get("ID"):
            found.append(message["ID"])

    try:
        pieces = _told(source.pieces, out) if source.pieces is not None else None
        query = {**_query(context, flags), "dockerfile": source.dockerfile, "remote": source.remote or None}
        display(context.client.images.build(query, pieces, _auths(context)), out, on_aux=aux)
    except ProgressError as e:
        if isinstance(out, io.StringIO):
            sys.stderr.write(out.getvalue())
        raise Exit(e.code or 1, str(e)) from e
    finally:
        source.close()
    if isinstance(out, io.StringIO):
        id = out.getvalue().rsplit("\n", 2)[-2] if "\n" in out.getvalue() else ""
        found.append(id)
        context.out(id)
    if flags.string("iidfile"):
        _write_id(flags.string("iidfile"), found[-1] if found else "")


def _told(pieces: Iterable[bytes], out: TextIO) -> Iterator[bytes]:
    """The pieces, and how many bytes of them were sent."""
    sent = shown = 0
    for piece in pieces:
        yield piece
        sent += len(piece)
        if out.isatty() and sent - shown >= _SENDING_EVERY:
            shown = sent
            out.write(f"\rSending build context to Rorqual daemon  {human_size(sent)}")
    out.write(f"{chr(13) if out.isatty() else ''}Sending build context to Rorqual daemon  {human_size(sent)}\n")
    out.flush()


def _query(context: Context, flags: Values) -> dict[str, object]:
    from rorqual.oci import jsontext

    arguments: dict[str, str | None] = {}
    for entry in flags.many("build-arg"):
        name, equals, value = entry.partition("=")
        arguments[name] = value if equals else os.environ.get(name)
    for entry in context.config.proxy_environment(context.client.host, set(arguments)):
        name, _, arguments[name] = entry.partition("=")
    labels = dict(entry.partition("=")[::2] for entry in flags.many("label"))
    cache_from = [name for entry in flags.many("cache-from") for name in entry.split(",") if name]
    security = [option for entry in flags.many("security-opt") for option in entry.split(",") if option]
    documents: dict[str, object] = {
        "buildargs": arguments,
        "labels": labels,
        "cachefrom": cache_from,
        "ulimits": flags.many("ulimit"),
        "securityopt": security,
    }
    query: dict[str, object] = {name: jsontext.dumps(value) for name, value in documents.items() if value}
    for name, parameter in _TEXTS.items():
        query[parameter] = flags.string(name) or None
    for name, parameter in _NUMBERS.items():
        query[parameter] = flags.integer(name) or None
    query["t"] = flags.many("tag") or None
    query["extrahosts"] = flags.many("add-host") or None
    query |= {"rm": flags.boolean("rm"), "forcerm": flags.boolean("force-rm") or None}
    query |= {"nocache": flags.boolean("no-cache") or None, "pull": flags.boolean("pull") or None}
    query["q"] = flags.boolean("quiet") or None
    return query


def _auths(context: Context) -> str:
    from rorqual.cli.config import encode_auth

    found = context.config.all_credentials()
    return encode_auth(found) if found else ""


def _write_id(path: str, id: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(id)
    except OSError as e:
        raise CommandError(f"open {path}: {(e.strerror or '').lower()}") from e


_TEXTS = {
    "cgroup-parent": "cgroupparent",
    "cpuset-cpus": "cpusetcpus",
    "cpuset-mems": "cpusetmems",
    "isolation": "isolation",
    "network": "networkmode",
    "platform": "platform",
    "target": "target",
}
_NUMBERS = {
    "cpu-period": "cpuperiod",
    "cpu-quota": "cpuquota",
    "cpu-shares": "cpushares",
    "memory": "memory",
    "memory-swap": "memswap",
    "shm-size": "shmsize",
}

COMMAND = Command(
    "[OPTIONS] PATH | URL | -",
    "Build an image from a Dockerfile",
    run,
    flags=(
        ("add-host", "", "list", (), 'Add a custom host-to-IP mapping ("host:ip")'),
        ("build-arg", "", "list", (), "Set build-time variables"),
        ("cache-from", "", "strings", (), "Images to consider as cache sources"),
        ("cgroup-parent", "", "string", "", 'Set the parent cgroup for the "RUN" instructions during build'),
        ("compress", "", "bool", False, "Compress the build context using gzip"),
        ("cpu-period", "", "int", 0, "Limit the CPU CFS (Completely Fair Scheduler) period"),
        ("cpu-quota", "", "int", 0, "Limit the CPU CFS (Completely Fair Scheduler) quota"),
        ("cpu-shares", "c", "int", 0, "CPU shares (relative weight)"),
        ("cpuset-cpus", "", "string", "", "CPUs in which to allow execution (0-3, 0,1)"),
        ("cpuset-mems", "", "string", "", "MEMs in which to allow execution (0-3, 0,1)"),
        ("disable-content-trust", "", "bool", True, "Skip image verification (default true)"),
        ("file", "f", "string", "", 'Name of the Dockerfile (Default is "PATH/Dockerfile")'),
        ("force-rm", "", "bool", False, "Always remove intermediate containers"),
        ("iidfile", "", "string", "", "Write the image ID to the file"),
        ("isolation", "", "string", "", "Container isolation technology"),
        ("label", "", "list", (), "Set metadata for an image"),
        ("memory", "m", "bytes", 0, "Memory limit"),
        ("memory-swap", "", "bytes", 0, "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
        (
            "network", "", "string", "default",
            'Set the networking mode for the RUN instructions during build (default "default")',
        ),
        ("no-cache", "", "bool", False, "Do not use cache when building the image"),
        ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
        ("pull", "", "bool", False, "Always attempt to pull a newer version of the image"),
        ("quiet", "q", "bool", False, "Suppress the build output and print image ID on success"),
        ("rm", "", "bool", True, "Remove intermediate containers after a successful build (default true)"),
        ("security-opt", "", "strings", (), "Security options"),
        ("shm-size", "", "bytes", 0, 'Size of "/dev/shm"'),
        ("squash", "", "bool", False, "Squash newly built layers into a single new layer"),
        ("tag", "t", "list", (), 'Name and optionally a tag in the "name:tag" format'),
        ("target", "", "string", "", "Set the target build stage to build."),
        ("ulimit", "", "ulimit", (), "Ulimit options (default [])"),
    ),
    args=ONE_ARG,
    validators={
        "add-host": networks.parse_extra_host,
        "memory-swap": limits.parse_memory_swap,
        "ulimit": limits.parse_ulimit,
    },
    aliases="image build, build, builder build",
)  # fmt: skip
