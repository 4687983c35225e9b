"""`inspect` of anything: the engine's JSON indented as it came, or through a template.

Objects that exist are printed even when others are missing, whose errors follow, with exit code 1.
"""

from __future__ import annotations

import json
import re
import sys

from rorqual import errdefs
from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.errors import Exit
from rorqual.cli.formats import INSPECT_FORMAT
from rorqual.cli.render import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rorqual.cli.flags import Flag, Values
    from rorqual.client import Client

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
EXIT_TEMPLATE = 64
# Fields that are maps in Go; null in any field is an empty map or slice to a template, but for the pointers below.
_MAPS = frozenset(
    (
        "Labels", "Ports", "ExposedPorts", "Volumes", "Options", "Sysctls", "Tmpfs", "StorageOpt", "PortBindings",
        "Networks", "Annotations", "DriverOpts", "Containers", "Data",
    )
)  # fmt: skip
_NULL_POINTERS = frozenset(
    (
        "GraphDriver", "Healthcheck", "Health", "IPAMConfig", "ConfigFrom", "OomKillDisable", "PidsLimit", "Init",
        "MemorySwappiness", "StopTimeout", "ExecDriver", "UsageData", "ImageManifestDescriptor", "Descriptor",
    )
)  # fmt: skip


# Go's names of fields that are spelt otherwise in JSON: a template may use either.
_GO_NAMES = {
    "ID": "Id", "HostIP": "HostIp", "NanoCPUs": "NanoCpus", "CPUShares": "CpuShares", "CPUPeriod": "CpuPeriod",
    "CPUQuota": "CpuQuota", "CPURealtimePeriod": "CpuRealtimePeriod", "CPURealtimeRuntime": "CpuRealtimeRuntime",
    "CPUCount": "CpuCount", "CPUPercent": "CpuPercent", "DNS": "Dns", "DNSOptions": "DnsOptions",
    "DNSSearch": "DnsSearch",
}  # fmt: skip
# An image's fields that its JSON leaves out when they are empty.
_IMAGE_OMITTED = ("Author", "Comment", "DockerVersion", "OsVersion", "Parent", "Variant")
_IMAGE_TEXTS = frozenset(("User", "WorkingDir", "StopSignal"))
_IMAGE_CONFIG = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck",
    "OnBuild", "Shell",
)  # fmt: skip


# Structs told by fields they always have, and the fields that their JSON leaves out when empty.
_OMITTED: tuple[tuple[frozenset[str], dict[str, Any]], ...] = (
    (frozenset(("Running", "Pid", "Dead")), {"Health": None}),
    (
        frozenset(("Cmd", "Env", "Entrypoint")),
        {"Healthcheck": None, "StopSignal": "", "StopTimeout": None, "MacAddress": "", "OnBuild": []},
    ),
)


def inspect_command(
    kind: str, doc: str, fetch: Callable[[Client, Values, str], bytes], flags: Sequence[Flag] = ()
) -> Command:
    """`inspect` of one kind of object; `fetch` asks the engine for one by its name."""

    def run(context: Context, values: Values, args: list[str]) -> int:
        return inspect(args, lambda name: fetch(context.client, values, name), values.string("format"))

    return Command(f"[OPTIONS] {kind} [{kind}...]", doc, run, flags=(INSPECT_FORMAT, *flags), args=AT_LEAST_ONE)


def inspect(
    names: Sequence[str], fetch: Callable[[str], bytes], format: str, typed: Callable[[bytes], Any] | None = None
) -> int:
    """Print the objects; the exit code. `typed` makes of an object the struct that a template is given.

    Raises: Exit (64) for a template that cannot be read.
    """
    render = None if format in ("", "json") else _renderer(format, typed)
    raw: list[bytes] = []
    out: list[str] = []
    failures: list[str] = []
    for name in names:
        try:
            data = fetch(name)
        except errdefs.Error as e:
            failures.append(error_text(e))
            continue
        if render is None:
            raw.append(data)
            continue
        try:
            out.append(render(data))
        except errdefs.Error as e:
            failures.append(f"template parsing error: {e}")
    if format == "json":
        sys.stdout.write(compact(b"[" + b",".join(raw) + b"]") + "\n")
    elif render is None:
        sys.stdout.write(indent(b"[" + b",".join(raw) + b"]") + "\n")
    else:
        sys.stdout.write("".join(line + "\n" for line in out) or "\n")
    if not failures:
        return 0
    raise Exit(1, "\n".join(failures))


def _renderer(format: str, typed: Callable[[bytes], Any] | None) -> Callable[[bytes], str]:
    from rorqual.cli.gotemplate import Number, TemplateError, parse
    from rorqual.cli.gotemplate.docker import FUNCTIONS

    try:
        template = parse("", format, FUNCTIONS)
    except TemplateError as e:
        raise Exit(EXIT_TEMPLATE, f"template parsing error: {e}") from e

    def render(data: bytes) -> str:
        if typed is not None:
            return template.execute(typed(data))
        value = json.loads(data, parse_float=Number, object_pairs_hook=_with_empties)
        try:
            return template.execute(value, missing_key_error=True)
        except TemplateError:
            # Docker, too, tries Go's struct first, and then what the engine sent; errors are the second's.
            return template.execute(json.loads(data, parse_float=Number), missing_key_error=True)

    return render


def _with_empties(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    from rorqual.cli.gotemplate import NilMap, NilSlice, Struct

    def empty(key: str) -> Any:
        return None if key in _NULL_POINTERS else NilMap() if key in _MAPS else NilSlice()

    # The engine's objects are structs, printed {a b} and in their order, but for those known to be maps.
    out = Struct()
    for key, value in pairs:
        if value is None:
            out[key] = empty(key)
        elif key in _MAPS and isinstance(value, Struct):
            out[key] = dict(value)
        else:
            out[key] = value
    for marks, omitted in _OMITTED:
        if marks <= out.keys():
            out.omitted = {k: v for k, v in omitted.items() if k not in out}
    if "RootFS" in out and isinstance(out.get("Config"), Struct):
        config = out["Config"]
        config.omitted = {k: "" if k in _IMAGE_TEXTS else empty(k) for k in _IMAGE_CONFIG if k not in config}
        out.omitted = {k: "" for k in _IMAGE_OMITTED if k not in out}
    if out.keys() == {"Type", "Config"} and isinstance(out["Config"], Struct):  # LogConfig
        out["Config"] = dict(out["Config"])
    out.spelt = {name: key for name, key in _GO_NAMES.items() if key in out}
    return out


def indent(data: bytes, step: str = "    ") -> str:
    """JSON text with its values as they were written, one a line, as Go's json.Indent."""
    out: list[str] = []
    depth = 0
    opened = False
    for match in _TOKEN.finditer(data):
        token = match[0]
        if token in (b"}", b"]"):
            depth -= 1
            if not opened:
                out.append("\n" + step * depth)
            opened = False
            out.append(token.decode())
            continue
        if opened:
            out.append("\n" + step * depth)
            opened = False
        if token in (b"{", b"["):
            depth += 1
            opened = True
            out.append(token.decode())
        elif token == b",":
            out.append(",\n" + step * depth)
        elif token == b":":
            out.append(": ")
        else:
            out.append(token.decode("utf-8", "replace"))
    return "".join(out)


def compact(data: bytes) -> str:
    """JSON text without the space between its tokens."""
    return b"".join(m[0] for m in _TOKEN.finditer(data)).decode("utf-8", "replace")
