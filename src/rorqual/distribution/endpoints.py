"""Where a domain's registry is and how it may be spoken to: mirrors, plain HTTP, certificates.

    docker.io     the mirrors in their order, then https://registry-1.docker.io
    localhost, 127.0.0.0/8, ::1, insecure-registries (names, host:port, CIDR)    https unverified, then plain http
    others        https, verified with the system's CAs and those of certs.d/<host[:port]>/*.crt

Source: dockerd's insecure-registries and registry-mirrors; Docker docs, "Verify repository client with certificates".
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from rorqual.distribution.proxies import Proxies
from rorqual.errdefs import InvalidArgument
from rorqual.oci.reference import DEFAULT_DOMAIN

_HUB_HOST = "registry-1.docker.io"
_HUB_CERTS = "docker.io"
_LOOPBACKS = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """The daemon's keys `insecure-registries`, `registry-mirrors`, `proxies`; directories in the layout of certs.d."""

    insecure: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    certs_dirs: tuple[str, ...] = ("/etc/rorqual/certs.d", "/etc/docker/certs.d")
    # Without a byte for so long, a connection counts as stalled.
    stall_s: float = 30.0
    connect_s: float = 30.0
    proxies: Proxies = field(default_factory=Proxies)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host to ask. `schemes` in the order to try; `prefix` is a mirror's path in front of /v2/."""

    host: str
    schemes: tuple[str, ...]
    verify: bool
    mirror: bool = False
    prefix: str = ""
    certs_name: str = ""


def for_domain(domain: str, options: RegistryOptions) -> tuple[Endpoint, ...]:
    """The endpoints of `domain` (of a reference), the first to ask first.

    Raises: InvalidArgument for a mirror that is no URL.
    """
    if domain != DEFAULT_DOMAIN:
        return (_of_host(domain, options),)
    mirrors = tuple(_of_mirror(url, options) for url in options.mirrors)
    return (*mirrors, Endpoint(_HUB_HOST, ("https",), verify=True, certs_name=_HUB_CERTS))


def _of_host(host: str, options: RegistryOptions) -> Endpoint:
    if is_insecure(host, options.insecure):
        return Endpoint(host, ("https", "http"), verify=False, certs_name=host)
    return Endpoint(host, ("https",), verify=True, certs_name=host)


def _of_mirror(url: str, options: RegistryOptions) -> Endpoint:
    scheme, separator, rest = url.partition("://")
    host, _, prefix = rest.partition("/")
    if not separator or scheme not in ("http", "https") or not host or "@" in host:
        raise InvalidArgument(f"invalid mirror: {url!r} must be http:// or https:// and a host")
    prefix = prefix.strip("/")
    verify = scheme == "https" and not is_insecure(host, options.insecure)
    return Endpoint(host, (scheme,), verify, mirror=True, prefix=f"/{prefix}" if prefix else "", certs_name=host)


def is_insecure(host: str, insecure: tuple[str, ...]) -> bool:
    """Whether `host` (with or without port) may be spoken to unverified."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]")
    if name == "localhost" or host in insecure or name in insecure:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    networks = list(_LOOPBACKS)
    for entry in insecure:
        if "/" in entry:
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError as error:
                raise InvalidArgument(f"invalid insecure registry {entry!r}: {error}") from error
    return any(address in network for network in networks if network.version == address.version)


def tls_context(endpoint: Endpoint, options: RegistryOptions) -> ssl.SSLContext:
    """The context for `endpoint`; reads files, so call it in a thread.

    Raises: InvalidArgument naming a bad file of certs.d.
    """
    context = ssl.create_default_context()
    if not endpoint.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for base in options.certs_dirs:
        directory = Path(base) / (endpoint.certs_name or endpoint.host)
        try:
            names = sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            _load(context, directory, name, names)
        break
    return context


def _load(context: ssl.SSLContext, directory: Path, name: str, names: list[str]) -> None:
    path = directory / name
    try:
        if name.endswith(".crt"):
            context.load_verify_locations(path)
        elif name.endswith(".cert"):
            key = name[:-5] + ".key"
            if key not in names:
                raise InvalidArgument(f"missing key {key} for client certificate {name}. CA certificates must use .crt")
            context.load_cert_chain(path, directory / key)
        elif name.endswith(".key") and name[:-4] + ".cert" not in names:
            raise InvalidArgument(f"missing client certificate {name[:-4]}.cert for key {name}")
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"cannot read {path}: {error}") from error
