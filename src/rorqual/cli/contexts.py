"""The store of contexts: named endpoints with their TLS files, shared with Docker's command line.

    <config>/contexts/meta/<sha256 of the name>/meta.json     {"Name", "Metadata", "Endpoints": {"docker": {...}}}
    <config>/contexts/tls/<sha256 of the name>/docker/        ca.pem, cert.pem, key.pem
    <config>/config.json                                      "currentContext"

The context `default` is not stored: it is DOCKER_HOST, or the engine's own socket. An exported context is a tar of
meta.json and tls/docker/*. Source: docker/cli's context store.
"""

from __future__ import annotations

import hashlib
import json
import os
import re

from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rorqual.cli.config import Config

    JSON = dict[str, Any]

DEFAULT = "default"
DEFAULT_DESCRIPTION = "Current DOCKER_HOST based configuration"
TLS_FILES = ("ca.pem", "cert.pem", "key.pem")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+")
_FILE_MAX = 10 << 20  # bytes of a file that is read or imported; Docker's bound


class Stored:
    """One context: its metadata as they are stored, and its TLS files by name."""

    __slots__ = ("meta", "tls")

    def __init__(self, meta: JSON, tls: dict[str, bytes] | None = None) -> None:
        self.meta = meta
        self.tls = tls or {}

    @property
    def name(self) -> str:
        return str(self.meta.get("Name", ""))

    @property
    def description(self) -> str:
        return str((self.meta.get("Metadata") or {}).get("Description", ""))

    @property
    def endpoint(self) -> JSON:
        endpoint: JSON = (self.meta.get("Endpoints") or {}).get("docker") or {}
        return endpoint


def new(name: str, description: str, endpoint: JSON, tls: dict[str, bytes]) -> Stored:
    """A context that is not stored yet."""
    metadata = {"Description": description} if description else {}
    return Stored({"Name": name, "Metadata": metadata, "Endpoints": {"docker": endpoint}}, tls)


def check_name(name: str) -> None:
    """Raises: CommandError for a name that is reserved or no name."""
    if name == DEFAULT:
        raise CommandError('"default" is a reserved context name')
    if not _NAME.fullmatch(name):
        raise CommandError(
            f'context name "{name}" is invalid, names are validated against regexp "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"'
        )


def endpoint_of(text: list[str], store: Store) -> tuple[JSON, dict[str, bytes]]:
    """(endpoint, TLS files) of --docker's `key=value` pairs. Raises: CommandError."""
    keys: dict[str, str] = {}
    for pair in text:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CommandError(f"{pair} must be formatted as key=value")
        keys[key] = value
    failed = "unable to create docker endpoint config: "
    for key in keys:
        if key not in ("from", "host", "ca", "cert", "key", "skip-tls-verify"):
            raise CommandError(f"{failed}unrecognized config key: {key}")
    if "from" in keys:
        source = store.get(keys["from"])
        return source.endpoint, source.tls
    skip = keys.get("skip-tls-verify", "false").lower()
    if skip not in ("1", "t", "true", "0", "f", "false", ""):
        raise CommandError(f'{failed}strconv.ParseBool: parsing "{skip}": invalid syntax')
    tls = {}
    for key, name in (("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")):
        if keys.get(key):
            try:
                tls[name] = read_file(os.path.expanduser(keys[key]))
            except OSError as e:
                raise CommandError(f"{failed}open {keys[key]}: {(e.strerror or str(e)).lower()}") from e
    _check_tls(keys, tls, failed)
    return {"Host": keys.get("host", ""), "SkipTLSVerify": skip in ("1", "t", "true")}, tls


def _check_tls(keys: dict[str, str], tls: dict[str, bytes], failed: str) -> None:
    """Raises: CommandError for files that no connection could be made with."""
    if not tls:
        return
    import ssl

    failed += "invalid docker endpoint options: failed to retrieve context tls info: "
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if "ca.pem" in tls:
            context.load_verify_locations(cadata=tls["ca.pem"].decode("latin-1"))
    except ssl.SSLError as e:
        raise CommandError(f"{failed}ca.pem seems invalid") from e
    try:
        if "cert.pem" in tls or "key.pem" in tls:
            cert, key = (os.path.expanduser(keys.get(name, "")) for name in ("cert", "key"))
            context.load_cert_chain(cert or os.devnull, key or os.devnull)
    except (ssl.SSLError, OSError) as e:
        raise CommandError(f"{failed}could not load X509 key pair: {e}") from e


def read_file(path: str) -> bytes:
    """Raises: OSError, CommandError when it is too large."""
    with open(path, "rb") as file:
        data = file.read(_FILE_MAX + 1)
    if len(data) > _FILE_MAX:
        raise CommandError(f"{path}: the file is larger than {_FILE_MAX} bytes")
    return data


def environment_host() -> str:
    """The engine that the environment names, whatever context was chosen."""
    return os.environ.get("RORQUAL_HOST") or os.environ.get("DOCKER_HOST") or ""


class Store:
    """The contexts of one configuration directory."""

    __slots__ = ("_chosen", "_config", "_root")

    def __init__(self, config: Config, chosen: str = "") -> None:
        """`chosen`: the context that the command line names."""
        self._config = config
        self._chosen = chosen
        self._root = os.path.join(os.path.dirname(config.path), "contexts")

    def meta_directory(self, name: str) -> str:
        return os.path.join(self._root, "meta", hashlib.sha256(name.encode()).hexdigest())

    def tls_directory(self, name: str) -> str:
        return os.path.join(self._root, "tls", hashlib.sha256(name.encode()).hexdigest())

    def current(self) -> str:
        """The context in force: --context, else DOCKER_HOST's (`default`), DOCKER_CONTEXT or the one set by `use`."""
        if self._chosen:
            return self._chosen
        if environment_host():
            return DEFAULT
        return os.environ.get("DOCKER_CONTEXT") or self._config.text("currentContext") or DEFAULT

    def default(self) -> Stored:
        from rorqual.client.engine import DEFAULT_HOST

        host = environment_host() or DEFAULT_HOST
        return Stored(
            {
                "Name": DEFAULT,
                "Metadata": {},
                "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}},
            }
        )

    def __contains__(self, name: str) -> bool:
        return os.path.exists(os.path.join(self.meta_directory(name), "meta.json"))

    def __iter__(self) -> Iterator[Stored]:
        """All that are stored, by name; not the default."""
        found = []
        top = os.path.join(self._root, "meta")
        for entry in os.listdir(top) if os.path.isdir(top) else ():
            path = os.path.join(top, entry, "meta.json")
            if os.path.exists(path):
                found.append(Stored(_load(path)))
        yield from sorted(found, key=lambda stored: stored.name)

    def get(self, name: str) -> Stored:
        """The context with its TLS files. Raises: CommandError when there is none of that name."""
        if name == DEFAULT:
            return self.default()
        path = os.path.join(self.meta_directory(name), "meta.json")
        if not os.path.exists(path):
            raise CommandError(f'context "{name}": context not found: open {path}: no such file or directory')
        files = os.path.join(self.tls_directory(name), "docker")
        names = sorted(os.listdir(files)) if os.path.isdir(files) else []
        return Stored(_load(path), {n: read_file(os.path.join(files, n)) for n in names})

    def put(self, stored: Stored) -> None:
        """Write it whole, in place of one of that name."""
        directory = self.meta_directory(stored.name)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        _write(os.path.join(directory, "meta.json"), json.dumps(stored.meta, separators=(",", ":")).encode(), 0o644)
        self._remove_tls(stored.name)
        if stored.tls:
            files = os.path.join(self.tls_directory(stored.name), "docker")
            os.makedirs(files, mode=0o700, exist_ok=True)
            for name, data in stored.tls.items():
                _write(os.path.join(files, name), data, 0o600)

    def remove(self, name: str) -> None:
        """Forget a context that is stored."""
        os.unlink(os.path.join(self.meta_directory(name), "meta.json"))
        os.rmdir(self.meta_directory(name))
        self._remove_tls(name)

    def use(self, name: str) -> None:
        """Make it the current one."""
        if name == DEFAULT:
            self._config.data.pop("currentContext", None)
        else:
            self._config.data["currentContext"] = name
        self._config.save()

    def _remove_tls(self, name: str) -> None:
        import shutil

        if os.path.isdir(self.tls_directory(name)):
            shutil.rmtree(self.tls_directory(name))


def _load(path: str) -> JSON:
    try:
        meta = json.loads(read_file(path))
    except (OSError, ValueError) as e:
        raise CommandError(f"parsing {path}: {e}") from e
    if not isinstance(meta, dict):
        raise CommandError(f"parsing {path}: not an object")
    return meta


def _write(path: str, data: bytes, mode: int) -> None:
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    os.replace(temporary, path)


def pack(stored: Stored) -> bytes:
    """The tar that `context export` writes."""
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:

        def add(name: str, data: bytes | None, mode: int) -> None:
            member = tarfile.TarInfo(name)
            member.mode = mode
            member.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            member.size = len(data or b"")
            archive.addfile(member, io.BytesIO(data or b""))

        add("meta.json", json.dumps(stored.meta, separators=(",", ":")).encode(), 0o644)
        add("tls", None, 0o700)
        if stored.tls:
            add("tls/docker", None, 0o700)
        for name, data in stored.tls.items():
            add(f"tls/docker/{name}", data, 0o600)
    return out.getvalue()


def unpack(data: bytes, name: str) -> Stored:
    """What `context import` reads, a tar or a zip, under a new name. Raises: CommandError."""
    raw, tls = b"", {}
    for path, content in _zip_files(data) if data[:2] == b"PK" else _tar_files(data):
        parts = path.split("/")
        if path == "meta.json":
            raw = content
        elif len(parts) == 3 and parts[:2] == ["tls", "docker"] and parts[2] in TLS_FILES:
            tls[parts[2]] = content
        else:
            # At once: a small archive can hold any number of large files.
            raise CommandError(f"unexpected context file: {path}")
    try:
        meta = json.loads(raw)
        endpoints = meta["Endpoints"]
    except (KeyError, TypeError, ValueError) as e:
        raise CommandError("invalid context: no context found") from e
    return Stored({"Name": name, "Metadata": meta.get("Metadata") or {}, "Endpoints": endpoints}, tls)


def _tar_files(data: bytes) -> Iterator[tuple[str, bytes]]:
    import io
    import tarfile

    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            for member in archive:
                if member.isdir():
                    continue
                if not member.isfile() or member.size > _FILE_MAX:
                    raise CommandError(f"unexpected context file: {member.name}")
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read()
    except tarfile.TarError as e:
        raise CommandError(f"unable to read the context: {e}") from e


def _zip_files(data: bytes) -> Iterator[tuple[str, bytes]]:
    import io
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                if entry.is_dir():
                    continue
                if entry.file_size > _FILE_MAX:
                    raise CommandError(f"unexpected context file: {entry.filename}")
                yield entry.filename, archive.read(entry)
    except zipfile.BadZipFile as e:
        raise CommandError(f"unable to read the context: {e}") from e
