"""`rorqual ps`."""

from __future__ import annotations

from rorqual.cli import units
from rorqual.cli.command import Command, Context
from rorqual.cli.errors import Exit
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.table import Listing
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]

_TYPE = "*formatter.ContainerContext"
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
_HEADERS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "HealthStatus": "HEALTH STATUS",
}
_JSON_FIELDS = (
    "Command", "CreatedAt", "ID", "Image", "Labels", "LocalVolumes", "Mounts", "Names", "Networks", "Platform",
    "Ports", "RunningFor", "Size", "State", "Status",
)  # fmt: skip


class Fields:
    """The columns of one container; `truncated` False is --no-trunc."""

    __slots__ = ("_methods", "_truncated")

    def __init__(self, truncated: bool) -> None:
        self._truncated = truncated
        self._methods = {name: getattr(self, f"_{name.lower()}") for name in (*_HEADERS, "Label")}

    def get(self, item: object, name: str) -> object:
        return self._methods[name](item)

    def _id(self, c: JSON) -> str:
        return units.truncate_id(c["Id"]) if self._truncated else c["Id"]

    def _names(self, c: JSON) -> str:
        names = c.get("Names") or ()
        if self._truncated:  # without those that links gave it: /other/alias
            return next((name[1:] for name in names if name.rfind("/") == 0), "")
        return ",".join([name.removeprefix("/") for name in names])

    def _image(self, c: JSON) -> str:
        image: str = c.get("Image", "")
        if not image:
            return "<no image>"
        if not self._truncated:
            return image
        short = units.truncate_id(c.get("ImageID", ""))
        if short == units.truncate_id(image):
            return short
        # Only a name with a digest or the default domain looks different to people.
        if "@" not in image and not image.startswith(("docker.io/", "index.docker.io/")):
            return image
        return _familiar(image)

    def _command(self, c: JSON) -> str:
        command = c.get("Command", "")
        return values.quote(units.ellipsis(command, 20) if self._truncated else command)

    def _createdat(self, c: JSON) -> str:
        return units.local_time(c["Created"])

    def _runningfor(self, c: JSON) -> str:
        return units.ago(c["Created"])

    def _ports(self, c: JSON) -> str:
        ports = c.get("Ports")
        return displayable_ports(ports) if ports else ""

    def _state(self, c: JSON) -> str:
        state: str = c.get("State", "")
        return state

    def _status(self, c: JSON) -> str:
        status: str = c.get("Status", "")
        return status

    def _size(self, c: JSON) -> str:
        text = units.human_size(c.get("SizeRw", 0), 3)
        root = c.get("SizeRootFs", 0)
        return f"{text} (virtual {units.human_size(root, 3)})" if root > 0 else text

    def _labels(self, c: JSON) -> str:
        return ",".join(sorted(f"{k}={v}" for k, v in (c.get("Labels") or {}).items()))

    def _label(self, c: JSON) -> object:
        labels = c.get("Labels") or {}
        return lambda name: labels.get(name, "")

    def _mounts(self, c: JSON) -> str:
        names = [m.get("Name") or m.get("Source", "") for m in c.get("Mounts") or ()]
        return ",".join(units.ellipsis(n, 15) if self._truncated else n for n in names)

    def _localvolumes(self, c: JSON) -> str:
        return str(sum(m.get("Driver") == "local" for m in c.get("Mounts") or ()))

    def _networks(self, c: JSON) -> str:
        return ",".join((c.get("NetworkSettings") or {}).get("Networks") or {})

    def _platform(self, c: JSON) -> object:
        platform = (c.get("ImageManifestDescriptor") or {}).get("platform")
        return "/".join(platform[k] for k in ("os", "architecture", "variant") if platform.get(k)) if platform else None

    def _healthstatus(self, c: JSON) -> str:
        health = (c.get("Health") or {}).get("Status") or ""
        if not health and (status := c.get("Status", "")).endswith(")"):
            health = status.partition("(")[2][:-1].removeprefix("health: ")
        return health if health in ("healthy", "unhealthy", "starting") else ""


def _familiar(image: str) -> str:
    from rorqual import errdefs
    from rorqual.cli.references import parse

    try:
        ref = parse(image)
    except errdefs.InvalidArgument:
        return image
    return ref.familiar_name + (f":{ref.tag}" if ref.tag else "")


def displayable_ports(ports: list[JSON]) -> str:
    """`0.0.0.0:80->80/tcp, 9988-9990/tcp`: neighbouring ports that map to themselves as ranges."""
    groups: dict[tuple[str, str], list[tuple[int, int]]] = {}
    mapped: list[str] = []
    for port in sorted(ports, key=_port_key):
        ip, private, public, kind = port.get("IP", ""), port["PrivatePort"], port.get("PublicPort", 0), port["Type"]
        if ip and public != private:
            mapped.append(f"{_join(ip, str(public))}->{private}/{kind}")
            continue
        runs = groups.setdefault((ip, kind), [])
        if runs and private == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], private)
        elif not runs or private != runs[-1][1]:
            runs.append((private, private))
    out = []
    for (ip, kind), runs in groups.items():
        for first, last in runs:
            text = str(first) if first == last else f"{first}-{last}"
            out.append(f"{_join(ip, text)}->{text}/{kind}" if ip else f"{text}/{kind}")
    return ", ".join(out + mapped)


def _port_key(port: JSON) -> tuple[int, str, int, str]:
    return port["PrivatePort"], port.get("IP", ""), port.get("PublicPort", 0), port["Type"]


def _join(ip: str, port: str) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _shows_size(format: str) -> bool:
    """Docker tries a format out before it asks the engine, to see whether it wants sizes. Raises: Exit."""
    from rorqual.cli.gotemplate import Object, TemplateError, parse
    from rorqual.cli.gotemplate.docker import FUNCTIONS

    used = set()
    try:
        template = parse("", format, FUNCTIONS)
    except TemplateError as e:
        raise Exit(1, f"failed to parse template: {e}") from e

    def field(name: str) -> object:
        used.add(name)
        if name == "Label":
            return lambda key: ""
        return "" if name in _HEADERS or name in _JSON_FIELDS else _no_field(name)

    try:
        template.execute(Object(_TYPE, field, _JSON_FIELDS))
    except TemplateError as e:
        raise Exit(1, f"failed to execute template: {e}") from e
    return "Size" in used


def _no_field(name: str) -> object:
    raise KeyError(name)


def run(context: Context, flags: Values, args: list[str]) -> None:
    format = flags.string("format")
    quiet = flags.boolean("quiet")
    if not format and not quiet:
        format = context.config.text("psFormat")
    last = flags.integer("last")
    if flags.boolean("latest") and last <= 0:
        last = 1
    size = flags.boolean("size") or bool(format and _shows_size(format))
    containers = context.client.containers.list(
        all=flags.boolean("all"),
        limit=last if last > 0 else None,
        size=size,
        filters=values.merge_filters(flags.many("filter")),
    )
    fields = Fields(not flags.boolean("no-trunc"))
    if quiet:
        if format not in ("", "table"):
            context.err("WARNING: Ignoring custom format, because both --format and --quiet are set.")
        for container in containers:
            context.out(str(fields.get(container, "ID")))
        return
    columns = (*_COLUMNS, "Size") if flags.boolean("size") else _COLUMNS
    Listing(_TYPE, _HEADERS, columns, fields.get, _JSON_FIELDS).write(containers, format)


COMMAND = Command(
    "[OPTIONS]",
    "List containers",
    run,
    flags=(
        ("all", "a", "bool", False, "Show all containers (default shows just running)"),
        ("filter", "f", "filter", (), "Filter output based on conditions provided"),
        LIST_FORMAT,
        ("last", "n", "int", -1, "Show n last created containers (includes all states) (default -1)"),
        ("latest", "l", "bool", False, "Show the latest created container (includes all states)"),
        ("no-trunc", "", "bool", False, "Don't truncate output"),
        ("quiet", "q", "bool", False, "Only display container IDs"),
        ("size", "s", "bool", False, "Display total file sizes"),
    ),
    aliases="container ls, container list, container ps, ps",
)
