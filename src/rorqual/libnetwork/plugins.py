"""Network and IPAM plugins: found as Docker finds them, with its text for one that is nowhere; asked with the engine
lent to others meanwhile; and their answers, which may be anything, read with a clear error for what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import Any

from rorqual import errdefs, plugins
from rorqual.libnetwork.baton import Baton
from rorqual.libnetwork.model import check_interface_name
from rorqual.linux.netlink import mac_bytes, mac_text

SOCKETS, SPECS = plugins.SOCKETS, plugins.SPECS
TIMEOUT_S = 30.0  # Docker's: for a plugin that is being started, too
_SHOWN = 100


class NetworkPlugin:
    """A plugin that is called `name` and speaks `protocol`. It is looked for at the first call, and again after one
    that was not answered: it may have been started anew, elsewhere."""

    def __init__(self, name: str, protocol: str, baton: Baton) -> None:
        self.name = name
        self._protocol, self._baton = protocol, baton
        self._found: plugins.Plugin | None = None

    def find(self) -> NetworkPlugin:
        """Itself, if it is there and speaks the protocol. Raises errdefs.NotFound with Docker's text, InvalidArgument
        for a file that describes none, Unavailable, Internal."""
        with self._baton.lent():
            self._plugin()
        return self

    def _plugin(self) -> plugins.Plugin:
        if self._found is None:
            try:
                self._found = plugins.find(self.name, self._protocol, TIMEOUT_S, SOCKETS, SPECS)
            except errdefs.NotFound as error:
                raise errdefs.NotFound(
                    f"could not find plugin {self.name} in v1 plugin registry: plugin not found"
                ) from error
        return self._found

    def call(self, method: str, **body: Any) -> Answer:
        """Ask it `<protocol>.<method>`; others may use the engine until it answers. Raises as `find`."""
        with self._baton.lent():
            try:
                answer = self._plugin().call(f"{self._protocol}.{method}", body)
            except errdefs.Unavailable:
                self._found = None
                raise
        return Answer(self.name, method, answer)


class Answer:
    """What a plugin answered, or an object in it. Every method raises errdefs.Internal, which names plugin, method, key
    and value, for a value that is not what it reads; absent and null are empty."""

    __slots__ = ("_body", "_method", "_plugin")

    def __init__(self, plugin: str, method: str, body: dict[str, Any]) -> None:
        self._plugin, self._method, self._body = plugin, method, body

    def _wrong(self, key: str, value: Any) -> errdefs.Internal:
        shown = ascii(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        return errdefs.Internal(f"plugin {self._plugin} answers {self._method} with an invalid {key}: {shown}")

    def text(self, key: str) -> str:
        """A printable text."""
        value = self._body.get(key)
        if value is None:
            return ""
        if not isinstance(value, str) or not (value.isprintable()):
            raise self._wrong(key, value)
        return value

    def part(self, key: str) -> Answer:
        """An object."""
        value = self._body.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, value)
        return Answer(self._plugin, self._method, value or {})

    def parts(self, key: str) -> Iterator[Answer]:
        """A list of objects."""
        value = self._body.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, dict) for item in value)):
            raise self._wrong(key, value)
        return (Answer(self._plugin, self._method, item) for item in value or ())

    def number(self, key: str) -> int:
        value = self._body.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self._wrong(key, value)
        return value or 0

    def interface(self, key: str) -> IPv4Interface | IPv6Interface | None:
        """An address with its prefix length."""
        text = self.text(key)
        try:
            return ip_interface(text) if text else None
        except ValueError:
            raise self._wrong(key, text) from None

    def address(self, key: str, version: int) -> IPv4Address | IPv6Address | None:
        """An address of that family."""
        text = self.text(key)
        try:
            found = ip_address(text) if text else None
        except ValueError:
            raise self._wrong(key, text) from None
        if found is not None and found.version != version:
            raise self._wrong(key, text)
        return found

    def mac(self, key: str) -> str:
        """A MAC address, as it is written here."""
        text = self.text(key)
        try:
            return mac_text(mac_bytes(text)) if text else ""
        except ValueError:
            raise self._wrong(key, text) from None

    def device(self, key: str) -> str:
        """The name of an interface."""
        text = self.text(key)
        try:
            return check_interface_name(text) if text else ""
        except errdefs.InvalidArgument:
            raise self._wrong(key, text) from None
