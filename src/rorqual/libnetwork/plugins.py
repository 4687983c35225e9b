"""Network and IPAM plugins: found as Docker finds them, with its text for one that is nowhere."""

from __future__ import annotations

from rorqual import errdefs, plugins

SOCKETS, SPECS = plugins.SOCKETS, plugins.SPECS
TIMEOUT_S = 10.0  # the engine's thread waits for the plugin, and other changes of networks with it


def find(name: str, protocol: str) -> plugins.Plugin:
    """The plugin of that name, which speaks `protocol`. Raises errdefs.NotFound with Docker's text, and as
    `rorqual.plugins.find`."""
    try:
        return plugins.find(name, protocol, TIMEOUT_S, SOCKETS, SPECS)
    except errdefs.NotFound as error:
        raise errdefs.NotFound(f"could not find plugin {name} in v1 plugin registry: plugin not found") from error
