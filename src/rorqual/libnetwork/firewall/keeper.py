"""Keeps the kernel's table equal to what the engine wants, against other programs too. Used by the engine's threads,
one at a time."""

import logging
import secrets
from collections.abc import Callable, Iterable, Sequence

from rorqual.libnetwork.firewall import elements, ruleset
from rorqual.libnetwork.firewall.elements import BridgeRules, Member, Publication, Source
from rorqual.libnetwork.netns import name_thread
from rorqual.linux.nfelements import Element, ElementSocket
from rorqual.linux.nftables import Generation, Nft, NftError

log = logging.getLogger(__name__)


class Firewall:
    """The engine's table. It changes the comm of the threads that use it (the one that creates it among them): that is
    how the kernel's notifications of our own transactions are told from others'."""

    def __init__(self, table: str, user_chain: str) -> None:
        self._table, self._user_chain = table, user_chain
        self._nft = Nft()
        self._elements = ElementSocket()
        self._bridges: dict[str, BridgeRules] = {}
        self._ports: dict[tuple[object, ...], Publication] = {}
        self._sources: dict[str, frozenset[Source]] = {}
        self._comm = f"rq-net-{secrets.token_hex(4)}"
        self.adopt_thread()

    def adopt_thread(self) -> None:
        """What the calling thread commits is ours too."""
        name_thread(self._comm)

    def close(self) -> None:
        """Frees what this process holds; the table stays and goes on working."""
        self._nft.close()
        self._elements.close()

    def replace(self, bridges: Iterable[BridgeRules], ports: Iterable[Publication]) -> None:
        """Make the table whole, in one transaction: live traffic meets the old rules or the new ones."""
        self._bridges = {bridge.interface: bridge for bridge in bridges}
        self._ports = {_key(port): port for port in ports}
        self.repair()

    def repair(self) -> None:
        """Write the whole table again from what is wanted."""
        text = ruleset.whole(self._table, self._user_chain, self._bridges.values(), self._ports.values(), self.sources)
        try:
            self._nft.run(text)
        except NftError as error:
            # A table of another version of this program, whose sets or chains have other types: replaced, still in one
            # transaction, the administrator's chain carried over.
            log.warning("replacing nftables table inet %s: %s", self._table, error)
            try:
                rules = self._nft.run(f"list chain inet {self._table} {self._user_chain}")
            except NftError:
                raise error from None  # there is no table: what failed first is what is wrong
            self._nft.run(f"delete table inet {self._table}\n{text}{rules}")

    def remove(self) -> None:
        """Remove the table, the administrator's chain too; gone already is no error."""
        self._nft.run(f"add table inet {self._table}\ndelete table inet {self._table}\n")

    def add_bridge(self, bridge: BridgeRules) -> None:
        self._bridges[bridge.interface] = bridge
        self._change(self._elements.add, elements.members([bridge]))

    def remove_bridge(self, interface: str) -> None:
        bridge = self._bridges.pop(interface, None)
        if bridge is not None:
            self._change(self._elements.delete, elements.members([bridge]))

    def publish(self, ports: Sequence[Publication]) -> None:
        self._ports.update((_key(port), port) for port in ports)
        self._change(self._elements.add, elements.members(ports=ports))

    def unpublish(self, ports: Sequence[Publication]) -> None:
        """Ports that are not published are passed over."""
        known = [port for port in ports if self._ports.pop(_key(port), None) is not None]
        self._change(self._elements.delete, elements.members(ports=known))

    @property
    def sources(self) -> list[Source]:
        return [source for found in self._sources.values() for source in sorted(found, key=str)]

    def let_in(self, sandbox: str, sources: Iterable[Source], *, now: bool = True) -> None:
        """Those are all of this sandbox; without `now` the table is written later, by `replace`."""
        had, has = self._sources.pop(sandbox, frozenset()), frozenset(sources)
        if has:
            self._sources[sandbox] = has
        if now:
            self._change(self._elements.delete, elements.members(sources=had - has))
            self._change(self._elements.add, elements.members(sources=has - had))

    def _change(self, act: Callable[[str, Sequence[Element]], None], members: Sequence[Member]) -> None:
        try:
            act(self._table, [member.packed for member in members])
        except OSError as error:
            # What is there is not what we left: someone flushed or changed the table. The whole has the change too.
            log.warning(
                "nftables table inet %s was changed by another program, writing it again: %s", self._table, error
            )
            self.repair()

    def disturbed_by(self, generations: Iterable[Generation]) -> str:
        """Who else changed our table in these transactions ("" for nobody; rules in the administrator's chain and
        other tables do not count)."""
        for generation in generations:
            if generation.lost:
                return "an unknown program (notifications were lost)"
            if generation.process == self._comm:
                continue
            if any(table == self._table and chain != self._user_chain for table, chain in generation.changes):
                return generation.process or "an unknown program"
        return ""


def _key(port: Publication) -> tuple[object, ...]:
    if not port.host_port:
        return (port.proto, port.ip, 0, port.port)
    return (port.proto, port.host_ip, port.host_port)
