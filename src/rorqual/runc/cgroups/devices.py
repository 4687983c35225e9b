"""devices: which device nodes may be made, read and written. v1 by files; v2 by an eBPF program (devices_bpf.py)."""

from rorqual.errdefs import InvalidArgument
from rorqual.oci.runtime import DeviceRule
from rorqual.runc.cgroups.settings import Write, Writes

# Allowed in every container: making nodes (harmless without access), and the devices that runtime-spec's default nodes
# and a terminal need. Source: runtime-spec config-linux.md, "Default Devices".
DEFAULT_RULES: tuple[DeviceRule, ...] = (
    DeviceRule(True, "c", None, None, "m"),
    DeviceRule(True, "b", None, None, "m"),
    DeviceRule(True, "c", 1, 3, "rwm"),
    DeviceRule(True, "c", 1, 8, "rwm"),
    DeviceRule(True, "c", 1, 7, "rwm"),
    DeviceRule(True, "c", 5, 0, "rwm"),
    DeviceRule(True, "c", 1, 5, "rwm"),
    DeviceRule(True, "c", 1, 9, "rwm"),
    DeviceRule(True, "c", 136, None, "rwm"),
    DeviceRule(True, "c", 5, 2, "rwm"),
)


def v1(rules: tuple[DeviceRule, ...]) -> Writes:
    """The rules as files take them, in order: `a` (everything) resets what came before."""
    return [Write("devices.allow" if rule.allow else "devices.deny", _line(rule)) for rule in rules]


def kind(rule: DeviceRule) -> str:
    """`a` (all devices, whatever its other members say), `b` or `c`. Raises: InvalidArgument."""
    found = rule.type or "a"
    if found not in ("a", "b", "c"):
        raise InvalidArgument(f"invalid config: linux.resources.devices type must be a, b or c, not {found!r}")
    return found


def access(rule: DeviceRule) -> str:
    """Some of `rwm`. Raises: InvalidArgument."""
    found = rule.access or "rwm"
    if not set(found) <= set("rwm"):
        raise InvalidArgument(f"invalid config: linux.resources.devices access must be of r, w and m, not {found!r}")
    return found


def _line(rule: DeviceRule) -> str:
    found = kind(rule)
    return "a" if found == "a" else f"{found} {_number(rule.major)}:{_number(rule.minor)} {access(rule)}"


def _number(value: int | None) -> str:
    return "*" if value is None or value < 0 else str(value)
