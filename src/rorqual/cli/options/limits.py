"""Values of resource limits and policies: ulimits, block I/O, restart policies, sysctls, keyed maps.

Each reader takes one flag value and returns what the API takes. Raises: ValueError with Docker's text.
"""

from __future__ import annotations

from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    JSON = dict[str, Any]

_RLIMITS = frozenset(
    (
        "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
        "rtprio", "rttime", "sigpending", "stack",
    )
)  # fmt: skip


def parse_ulimit(text: str) -> JSON:
    """`nofile=1024:2048` as {"Name", "Soft", "Hard"}."""
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _RLIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = limits.partition(":")
    if ":" in hard_text:
        raise ValueError(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    soft = _limit(soft_text)
    hard = _limit(hard_text) if colon else soft
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {_shown(soft)} > {hard}")
    return {"Name": name, "Soft": soft, "Hard": hard}


def _shown(value: int) -> str:
    return str(value)


def _limit(text: str) -> int:
    try:
        return int(text, 10)
    except ValueError as e:
        raise ValueError(f"strconv.ParseInt: parsing {values.quote(text)}: invalid syntax") from e


def parse_memory_swap(text: str) -> int:
    """Bytes, or -1 for no limit."""
    return -1 if text == "-1" else values.parse_bytes(text)


def parse_weight_device(text: str) -> JSON:
    path, colon, weight = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    if not weight.isdecimal() or not (int(weight) == 0 or 10 <= int(weight) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(weight)}


def _throttle(text: str) -> tuple[str, str]:
    path, colon, rate = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, rate


def parse_throttle_bps(text: str) -> JSON:
    path, rate = _throttle(text)
    try:
        value = values.parse_bytes(rate)
    except ValueError:
        value = -1
    if value < 0:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    return {"Path": path, "Rate": value}


def parse_throttle_iops(text: str) -> JSON:
    path, rate = _throttle(text)
    if not rate.isdecimal():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return {"Path": path, "Rate": int(rate)}


def parse_restart_policy(text: str) -> JSON:
    """`on-failure:3` as {"Name", "MaximumRetryCount"}."""
    name, colon, count = text.partition(":")
    if not text:
        return {"Name": "", "MaximumRetryCount": 0}
    if colon and not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    retries = 0
    if colon:
        try:
            retries = int(count)
        except ValueError as e:
            raise ValueError("invalid restart policy format: maximum retry count must be an integer") from e
    return {"Name": name, "MaximumRetryCount": retries}


def parse_sysctl(text: str) -> str:
    """`key=value`; which keys are allowed in a container is the kernel's and the engine's to say."""
    if "=" not in text:
        raise ValueError(f"sysctl '{text}' is not allowed")
    return text


def to_map(pairs: list[str]) -> dict[str, str]:
    """`key=value` texts as a map; a key alone has the value ""."""
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
