"""The client's config file, config.json: formats, detach keys, HTTP headers, proxies, contexts, registry credentials.

It is Docker's own file (~/.docker/config.json), so a login with either client serves both. Source: docker/cli's
configuration file reference. Credential helpers are the programs `docker-credential-NAME`.
"""

from __future__ import annotations

import os

from rorqual.cli.errors import CommandError
from rorqual.oci import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rorqual.client.transport import TLSOptions

    JSON = dict[str, Any]

_URL_SAFE = str.maketrans("+/", "-_")  # RFC 4648 section 5
DOCKER_HUB = "https://index.docker.io/v1/"


class Config:
    """The file's content; `path` is where it is (or would be) stored."""

    __slots__ = ("data", "path")

    def __init__(self, path: str, data: JSON) -> None:
        self.path = path
        self.data = data

    @classmethod
    def load(cls, directory: str) -> Config:
        """Raises: CommandError when the file is there and unreadable."""
        path = os.path.join(directory, "config.json")
        try:
            with open(path, encoding="utf-8") as file:
                data = jsontext.loads(file.read())
        except FileNotFoundError:
            return cls(path, {})
        except (OSError, ValueError) as e:
            raise CommandError(f"Error loading config file: {path}: {e}") from e
        return cls(path, data if isinstance(data, dict) else {})

    def text(self, key: str) -> str:
        value = self.data.get(key, "")
        return value if isinstance(value, str) else ""

    def http_headers(self) -> dict[str, str]:
        headers = self.data.get("HttpHeaders") or {}
        return {str(k): str(v) for k, v in headers.items() if k.lower() != "user-agent"}

    def save(self) -> None:
        """Write the file atomically, 0600."""
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        temporary = f"{self.path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(jsontext.dumps_indented(self.data, "\t"))
            os.replace(temporary, os.path.realpath(self.path))
        except BaseException:
            os.unlink(temporary)
            raise

    # Contexts

    def context_endpoint(self, name: str) -> tuple[str | None, TLSOptions | None]:
        """(host, TLS files) of a context: the named, DOCKER_CONTEXT's or current one; (None, None) for default."""
        name = name or os.environ.get("DOCKER_CONTEXT", "") or self.text("currentContext")
        if not name or name == "default":
            return None, None
        import hashlib

        directory = os.path.join(os.path.dirname(self.path), "contexts")
        key = hashlib.sha256(name.encode()).hexdigest()
        try:
            with open(os.path.join(directory, "meta", key, "meta.json"), encoding="utf-8") as file:
                endpoint = jsontext.loads(file.read())["Endpoints"]["docker"]
        except FileNotFoundError as e:
            raise CommandError(
                f'Failed to initialize: unable to resolve docker endpoint: context "{name}": context not found: '
                f"open {e.filename}: no such file or directory"
            ) from e
        except (OSError, ValueError, KeyError) as e:
            raise CommandError(f'Failed to initialize: unable to read context "{name}": {e}') from e
        files = os.path.join(directory, "tls", key, "docker")
        if not os.path.isdir(files):
            return endpoint.get("Host"), None
        from rorqual.client.transport import TLSOptions

        paths = [os.path.join(files, n) for n in ("ca.pem", "cert.pem", "key.pem")]
        present = [p if os.path.exists(p) else "" for p in paths]
        return endpoint.get("Host"), TLSOptions(*present, verify=not endpoint.get("SkipTLSVerify", False))

    # Registry credentials

    def auth_header(self, registry: str) -> str:
        """X-Registry-Auth for that registry ("docker.io" or host[:port]); "" when there are no credentials."""
        auth = self.credentials(registry)
        return encode_auth(auth) if auth else ""

    def credentials(self, registry: str) -> JSON:
        """AuthConfig of that registry; {} when there is none.

        Raises: CommandError when a credential helper fails.
        """
        server = DOCKER_HUB if registry in ("docker.io", "index.docker.io", "") else registry
        helper = (self.data.get("credHelpers") or {}).get(server) or self.text("credsStore")
        if helper:
            return _ask_helper(helper, server)
        auths: Mapping[str, JSON] = self.data.get("auths") or {}
        entry = auths.get(server)
        if entry is None:
            entry = next((v for k, v in auths.items() if _hostname(k) == _hostname(server)), None)
        return _decode_entry(server, entry) if entry else {}

    def all_credentials(self) -> dict[str, JSON]:
        """AuthConfigs of all registries that the file names. Raises: as credentials."""
        servers = {**(self.data.get("auths") or {}), **(self.data.get("credHelpers") or {})}
        found = {server: self.credentials(server) for server in servers}
        return {server: auth for server, auth in found.items() if auth}

    def store(self, auth: JSON) -> None:
        """Remember a login. Raises: CommandError when the helper refuses."""
        server = auth["serveraddress"]
        helper = (self.data.get("credHelpers") or {}).get(server) or self.text("credsStore")
        if helper:
            token = bool(auth.get("identitytoken"))
            payload = {
                "ServerURL": server,
                "Username": "<token>" if token else auth["username"],
                "Secret": auth["identitytoken"] if token else auth["password"],
            }
            _run_helper(helper, "store", jsontext.dumps(payload))
            self.data.setdefault("auths", {})[server] = {}
        else:
            from binascii import b2a_base64

            pair = f"{auth.get('username', '')}:{auth.get('password', '')}".encode()
            entry: JSON = {"auth": b2a_base64(pair, newline=False).decode()}
            if auth.get("identitytoken"):
                entry["identitytoken"] = auth["identitytoken"]
            self.data.setdefault("auths", {})[server] = entry
        self.save()

    def erase(self, registry: str) -> bool:
        """Forget a login; whether there was one."""
        helper = (self.data.get("credHelpers") or {}).get(registry) or self.text("credsStore")
        if helper:
            _run_helper(helper, "erase", registry)
        found = (self.data.get("auths") or {}).pop(registry, None) is not None
        if found:
            self.save()
        return found or bool(helper)

    def proxy_environment(self, host: str, given: set[str]) -> list[str]:
        """Environment entries that the file's "proxies" add to a container, less those already `given`."""
        proxies = self.data.get("proxies") or {}
        chosen = proxies.get(host) or proxies.get("default") or {}
        out = []
        for key, name in (
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ):
            value = chosen.get(key)
            if value:
                out += [f"{n}={value}" for n in (name, name.lower()) if n not in given]
        return out


def encode_auth(auth: JSON) -> str:
    from binascii import b2a_base64

    return b2a_base64(jsontext.dumps(auth).encode(), newline=False).decode().translate(_URL_SAFE)


def _decode_entry(server: str, entry: JSON) -> JSON:
    out: JSON = {"serveraddress": server}
    if entry.get("auth"):
        from binascii import a2b_base64

        try:
            user, _, password = a2b_base64(entry["auth"]).decode().partition(":")
        except ValueError as e:
            raise CommandError(f"Invalid auth configuration file: {server}") from e
        out["username"], out["password"] = user, password.rstrip("\x00")
    for key in ("username", "password", "identitytoken", "registrytoken"):
        if entry.get(key):
            out[key] = entry[key]
    return out if len(out) > 1 else {}


def _hostname(address: str) -> str:
    return address.removeprefix("http://").removeprefix("https://").partition("/")[0]


def _ask_helper(helper: str, server: str) -> JSON:
    try:
        answer = jsontext.loads(_run_helper(helper, "get", server))
    except ValueError as e:
        raise CommandError(f"error getting credentials - docker-credential-{helper} wrote no JSON: {e}") from e
    except CommandError as e:
        if "credentials not found" in str(e):
            return {}
        raise
    if answer.get("Username") == "<token>":
        return {"serveraddress": server, "identitytoken": answer.get("Secret", "")}
    return {"serveraddress": server, "username": answer.get("Username", ""), "password": answer.get("Secret", "")}


def _run_helper(helper: str, verb: str, given: str) -> str:
    import subprocess

    if "/" in helper:
        raise CommandError(f"bad credential helper name {helper!r}")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, verb], input=given, capture_output=True, text=True, check=False)
    except OSError as e:
        raise CommandError(
            f'error getting credentials - err: exec: "{program}": executable file not found in $PATH'
        ) from e
    if done.returncode:
        raise CommandError(f"error getting credentials - {program}: {(done.stdout or done.stderr).strip()}")
    return done.stdout
