"""A sandbox's published ports: they are on the endpoint that is its way out, and move with that. Used by the engine's
thread; what it changes in the kernel is undone by the callbacks that it leaves."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from rorqual import errdefs
from rorqual.libnetwork.drivers.base import Driver
from rorqual.libnetwork.model import Endpoint, Network, PortBinding, PublishedPort, Sandbox
from rorqual.libnetwork.ports import PortUnavailable
from rorqual.libnetwork.table import NetworkTable


class Publisher:
    """Opens and closes ports through the endpoints' drivers."""

    def __init__(self, networks: NetworkTable) -> None:
        self._networks = networks

    def settle(
        self, sandbox: Sandbox, wanted: Sequence[PortBinding], undo: ExitStack
    ) -> tuple[Sandbox, list[Endpoint]]:
        """See to it that the sandbox's ports are published on its way out, and nowhere else: those it has, or else
        those `wanted`. The sandbox as it is then, and the endpoints whose ports changed.

        Raises ports.PortUnavailable, errdefs.InvalidArgument.
        """
        holder = _holder(sandbox)
        target = sandbox.gateway
        if target is None or holder is target:
            return sandbox, []
        bindings = bindings_of(holder) if holder is not None else wanted
        if not bindings:
            return sandbox, []
        changed: list[Endpoint] = []
        if holder is not None:
            self._close(holder)
            undo.callback(self._open, replace(holder, ports=(), routed_ports=()), bindings)
            changed.append(replace(holder, ports=(), routed_ports=()))
        opened = self._open(target, bindings)
        undo.callback(self._close, opened)
        changed.append(opened)
        return _with(sandbox, changed), changed

    def change(
        self, sandbox: Sandbox, add: Sequence[PortBinding], remove: Sequence[PortBinding]
    ) -> tuple[Sandbox, Endpoint]:
        """Publish and close ports, all or nothing: the sandbox as it is then, and its endpoint that changed.

        Raises errdefs.NotFound for a port that is not published, InvalidArgument for a sandbox that cannot have any,
        ports.PortUnavailable.
        """
        endpoint = _holder(sandbox) or sandbox.gateway
        if endpoint is None:
            raise errdefs.InvalidArgument(f"container {sandbox.id[:12]} has no network that ports can be published on")
        for binding in remove:
            if not any(_matches(binding, port) for port in endpoint.ports):
                raise errdefs.NotFound(f"port {binding.container_port}/{binding.proto} is not published")
        closing = tuple(port for port in endpoint.ports if any(_matches(binding, port) for binding in remove))
        gone = replace(endpoint, ports=closing, routed_ports=())
        rest = replace(endpoint, ports=tuple(port for port in endpoint.ports if port not in closing))
        # Closed first: a host port may be wanted for another port of the container.
        self._close(gone)
        try:
            changed = self._open(rest, add)
        except BaseException:
            self._open(replace(gone, ports=()), bindings_of(gone))
            raise
        return _with(sandbox, [changed]), changed

    def _open(self, endpoint: Endpoint, bindings: Sequence[PortBinding]) -> Endpoint:
        """The endpoint with these ports too. Raises ports.PortUnavailable with Docker's text."""
        driver, network = self._driver(endpoint)
        try:
            opened = driver.publish(network, endpoint, bindings)
        except PortUnavailable as error:
            where = f"endpoint {endpoint.name} ({endpoint.id})"
            raise PortUnavailable(f"driver failed programming external connectivity on {where}: {error}") from error
        return replace(
            endpoint, ports=(*endpoint.ports, *opened.published), routed_ports=(*endpoint.routed_ports, *opened.routed)
        )

    def _close(self, endpoint: Endpoint) -> None:
        driver, network = self._driver(endpoint)
        driver.unpublish(network, endpoint)

    def _driver(self, endpoint: Endpoint) -> tuple[Driver, Network]:
        entry = self._networks[endpoint.network_id]
        return entry.driver, entry.spec


def bindings_of(endpoint: Endpoint) -> tuple[PortBinding, ...]:
    """The wishes that its published ports amount to."""
    published = tuple(PortBinding(p.container_port, p.proto, p.host_ip, p.host_port) for p in endpoint.ports)
    return published + tuple(PortBinding(port, proto) for port, proto in endpoint.routed_ports)


def _holder(sandbox: Sandbox) -> Endpoint | None:
    return next((e for e in sandbox.endpoints if e.ports or e.routed_ports), None)


def _with(sandbox: Sandbox, changed: Sequence[Endpoint]) -> Sandbox:
    by_id = {endpoint.id: endpoint for endpoint in changed}
    return replace(sandbox, endpoints=tuple(by_id.get(e.id, e) for e in sandbox.endpoints))


def _matches(binding: PortBinding, port: PublishedPort) -> bool:
    return (
        (binding.container_port, binding.proto) == (port.container_port, port.proto)
        and binding.host_port in (0, port.host_port)
        and binding.host_ip in ("", port.host_ip)
    )
