"""POST /auth: asks a registry whether it takes credentials."""

from __future__ import annotations

from rorqual.api.image import AuthConfig
from rorqual.distribution import endpoints
from rorqual.distribution.credentials import Credentials
from rorqual.distribution.endpoints import RegistryOptions
from rorqual.distribution.errors import RegistryError
from rorqual.distribution.transport import Transport
from rorqual.errdefs import NotFound, Unauthenticated, Unavailable

_HUB = frozenset({"", "docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})


class Login:
    """Checks credentials by GET /v2/, as the registry's challenge wants them."""

    def __init__(self, transport: Transport, options: RegistryOptions) -> None:
        self._transport = transport
        self._options = options

    async def check(self, given: AuthConfig) -> str:
        """The identity token, "" when the password goes on being used. Raises: Unauthenticated, Unavailable."""
        host = given.serveraddress.removeprefix("https://").removeprefix("http://").partition("/")[0]
        domain = "docker.io" if host in _HUB else host
        credentials = Credentials(
            username=given.username,
            password=given.password,
            identity_token=given.identitytoken,
            registry_token=given.registrytoken,
            server_address=given.serveraddress,
        )
        endpoint = endpoints.for_domain(domain, RegistryOptions(self._options.insecure))[-1]
        try:
            response = await self._transport.get(endpoint, "/v2/", scope="", credentials=credentials, headers={})
        except (Unauthenticated, NotFound, RegistryError) as e:
            if isinstance(e, RegistryError) and e.code not in ("UNAUTHORIZED", "DENIED"):
                raise Unavailable(str(e)) from e
            url = f"{endpoint.schemes[0]}://{endpoint.host}/v2/"
            raise Unauthenticated(f"login attempt to {url} failed with status: 401 Unauthorized") from e
        response.release()
        if not credentials.username or credentials.identity_token:
            return ""
        try:
            return await self._transport.identity_token(endpoint, credentials)
        except RegistryError:
            return ""  # the password is good; it goes on being used
