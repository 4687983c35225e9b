"""-p and --expose: `[[ip:]hostPort:]containerPort[/protocol]`, with ranges, and the key=value form.

Source: go-connections/nat. Raises: ValueError with its texts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Binding = dict[str, str]

_PROTOCOLS = frozenset(("tcp", "udp", "sctp"))


def parse_publish(specs: list[str]) -> tuple[dict[str, dict[str, str]], dict[str, list[Binding]]]:
    """(exposed ports, bindings by port) as the API takes them."""
    exposed: dict[str, dict[str, str]] = {}
    bindings: dict[str, list[Binding]] = {}
    for spec in specs:
        for port, binding in _parse_spec(_from_long(spec) if "=" in spec else spec):
            exposed[port] = {}
            bindings.setdefault(port, []).append(binding)
    return exposed, bindings


def _from_long(spec: str) -> str:
    parts = {"protocol": "tcp", "published": "", "target": ""}
    for part in spec.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{part}')")
        parts[key] = value
    return f"{parts['published']}:{parts['target']}/{parts['protocol']}"


def split_parts(spec: str) -> tuple[str, str, str]:
    """(ip, host port, container port with protocol) of a spec; an IPv6 address is in brackets."""
    parts = spec.split(":")
    container = parts[-1]
    if len(parts) == 1:
        return "", "", container
    if len(parts) == 2:
        return "", parts[0], container
    return ":".join(parts[:-2]), parts[-2], container


def _parse_spec(spec: str) -> list[tuple[str, Binding]]:
    ip, host, container = split_parts(spec)
    if ip.startswith("["):
        if not ip.endswith("]"):
            raise ValueError(f"invalid IP address {ip}: missing ']' in address")
        ip = ip[1:-1]
    if ip and not _is_ip(ip):
        raise ValueError(f"invalid IP address: {ip}")
    if not container:
        raise ValueError(f"no port specified: {spec}<empty>")
    port, slash, protocol = container.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    first, last = parse_range(port, f"invalid containerPort: {port}")
    if host:
        host_first, host_last = parse_range(host, f"invalid hostPort: {host}")
    else:
        host_first = host_last = 0
    many = host and last - first != host_last - host_first
    # One container port published on a range: the engine picks one of the range.
    if many and first != last:
        raise ValueError(f"invalid ranges specified for container and host Ports: {port} and {host}")
    if protocol not in _PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    out: list[tuple[str, Binding]] = []
    for offset in range(last - first + 1):
        if not host:
            shown = ""
        elif many:
            shown = f"{host_first}-{host_last}"
        else:
            shown = str(host_first + offset)
        out.append((f"{first + offset}/{protocol}", {"HostIp": ip, "HostPort": shown}))
    return out


def parse_range(text: str, error: str) -> tuple[int, int]:
    """(first, last) of `80` or `80-90`; ValueError(error) when it is neither."""
    low, dash, high = text.partition("-")
    high = high if dash else low
    if not (low.isdecimal() and high.isdecimal()) or int(low) > 65535 or int(high) > 65535 or int(high) < int(low):
        raise ValueError(error)
    return int(low), int(high)


def parse_expose(specs: list[str]) -> list[str]:
    """`80`, `80/udp`, `8000-8010/tcp` as the API's ports."""
    out: list[str] = []
    for spec in specs:
        if ":" in spec:
            raise ValueError(f"invalid port format for --expose: {spec}")
        port, slash, protocol = spec.partition("/")
        first, last = parse_range(port, f"invalid range format for --expose: {port}, error: {_reason(port)}")
        out += [f"{n}/{protocol.lower() if slash else 'tcp'}" for n in range(first, last + 1)]
    return out


def _reason(text: str) -> str:
    """Why `text` is no port or range of ports, in Go's words."""
    for part in text.split("-", 1):
        if not part.isdecimal():
            return f'strconv.ParseUint: parsing "{part}": invalid syntax'
        if int(part) > 65535:
            return f'strconv.ParseUint: parsing "{part}": value out of range'
    return f"invalid range specified for port: {text}"


def _is_ip(text: str) -> bool:
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text.partition("%")[0])
        except OSError:
            continue
        return True
    return False


def is_ip(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address (a zone is allowed)."""
    return _is_ip(text)
