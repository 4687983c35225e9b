"""Debian's docker-registry on a free port of 127.0.0.1, with its data in a directory of the test, and pushes to it."""

import base64
import contextlib
import datetime
import http.client
import ipaddress
import json
import random
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.image import BuiltImage, build

USERNAME, PASSWORD = "alice", "correct horse"
# bcrypt of PASSWORD, cost 5: the registry takes no other kind.
_HTPASSWD = f"{USERNAME}:$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n"


class Registry:
    """A context manager, sync or async. `address` is `127.0.0.1:port`, a free one if 0; `ca_path` with `tls`."""

    def __init__(self, directory: Path, *, htpasswd: bool = False, tls: bool = False, port: int = 0) -> None:
        if not shutil.which("docker-registry"):
            pytest.skip("docker-registry is not installed")
        self._directory = directory
        self._htpasswd = htpasswd
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or _free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.ca_path = directory / "ca.crt"

    def __enter__(self) -> "Registry":
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "config.yml"
        # JSON is YAML.
        config.write_text(json.dumps(self._config()))
        with open(self._directory / "log", "wb") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._directory / "log").read_text()) from None
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    async def __aenter__(self) -> "Registry":
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def _config(self) -> dict[str, object]:
        http_config: dict[str, object] = {"addr": self.address, "secret": "for-tests"}
        found: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self._directory / "data")}},
            "http": http_config,
        }
        if self._tls:
            certificate, key = make_certificates(self._directory)
            http_config["tls"] = {"certificate": str(certificate), "key": str(key)}
        if self._htpasswd:
            path = self._directory / "htpasswd"
            path.write_text(_HTPASSWD)
            found["auth"] = {"htpasswd": {"realm": "test", "path": str(path)}}
        return found

    def connection(self) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        context = ssl.create_default_context(cafile=str(self.ca_path))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)

    @property
    def headers(self) -> dict[str, str]:
        if not self._htpasswd:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()}


def push_image(
    registry: Registry,
    name: str,
    layers: Sequence[bytes],
    config: Mapping[str, object] | None = None,
    *,
    tag: str = "latest",
    level: int = 1,
) -> BuiltImage:
    """Pushes an image of `layers` (tars, the bottom first) as `<registry>/<name>:<tag>` and tells what it is."""
    image = build(layers, config, level=level)
    push_built(registry, name, image, tag)
    return image


def push_built(registry: Registry, name: str, image: BuiltImage, tag: str = "latest") -> None:
    connection = registry.connection()
    try:
        for digest, blob in image.blobs.items():
            location = _expect(connection, registry, "POST", f"/v2/{name}/blobs/uploads/", b"", {}, 202)
            path = location.split(registry.address, 1)[-1]
            path += ("&" if "?" in path else "?") + f"digest={digest}"
            _expect(connection, registry, "PUT", path, blob, {"Content-Type": "application/octet-stream"}, 201)
        push_manifest(registry, name, tag, image.manifest, image.manifest_type, connection)
    finally:
        connection.close()


def push_manifest(
    registry: Registry,
    name: str,
    tag: str,
    manifest: bytes,
    media_type: str,
    connection: http.client.HTTPConnection | None = None,
) -> None:
    """Puts a manifest or an index whose blobs are there."""
    own = connection or registry.connection()
    try:
        _expect(own, registry, "PUT", f"/v2/{name}/manifests/{tag}", manifest, {"Content-Type": media_type}, 201)
    finally:
        if connection is None:
            own.close()


def _expect(
    connection: http.client.HTTPConnection,
    registry: Registry,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
) -> str:
    """The Location of an answer that must have `status`."""
    connection.request(method, path, body, {**registry.headers, **headers})
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == status, f"{method} {path}: {answer.status} {said[:300]!r}"
    return answer.headers.get("Location", "")


def _free_port() -> int:
    """One that nobody listens on; below those that the kernel gives to others' sockets until it is served."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def make_certificates(
    directory: Path, name: str = "127.0.0.1", hosts: Sequence[str] = ("localhost",), ca: Path | None = None
) -> tuple[Path, Path]:
    """A CA (`ca.crt`, `ca.key`) and a certificate and key for the address `name` and `hosts`, written into `directory`.

    With `ca`, a directory that has one already, that CA signs.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def certificate(
        subject: str, issuer: str, public: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePrivateKey, ca: bool
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(name)), *map(x509.DNSName, hosts)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256())

    pem = serialization.Encoding.PEM
    directory.mkdir(exist_ok=True)
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    if ca is not None:
        known = serialization.load_pem_private_key((ca / "ca.key").read_bytes(), None)
        assert isinstance(known, ec.EllipticCurvePrivateKey)
        ca_key = known
    else:
        authority = certificate("test CA", "test CA", ca_key.public_key(), ca_key, True)
        (directory / "ca.crt").write_bytes(authority.public_bytes(pem))
    server = certificate("registry", "test CA", server_key.public_key(), ca_key, False)
    (directory / "server.crt").write_bytes(server.public_bytes(pem))
    for name_of, key in (("server.key", server_key), ("ca.key", ca_key)):
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (directory / name_of).write_bytes(private)
    return directory / "server.crt", directory / "server.key"
