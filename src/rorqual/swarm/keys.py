"""What a manager must have before it can read the swarm's state: the key that the state is sealed with, and the node's
own private key. One file, replaced as a whole. While the swarm is locked it is sealed itself, with the unlock key,
which is on no disk.

Sealed is ChaCha20-Poly1305 (RFC 8439): nonce of 12 bytes, then the ciphertext with its tag.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from rorqual.errdefs import DataLoss, InvalidArgument, PermissionDenied
from rorqual.linux.sync import write_durably

_PREFIX = "SWMKEY-1-"
_KEY_BYTES, _NONCE_BYTES = 32, 12


class Sealer:
    """Seals bytes with one key; `name` (the object's place) is bound to them, so that none can stand for another."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, plain: bytes, name: bytes) -> bytes:
        """Another text each time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, name)

    def open(self, sealed: bytes, name: bytes) -> bytes:
        """Raises: DataLoss for what this key did not seal under that name."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name)
        except (InvalidTag, ValueError):
            raise DataLoss(f"{name.decode(errors='replace')} was not sealed with this swarm's key") from None


@dataclass(frozen=True, slots=True)
class Keys:
    """`state` seals the store's values; `node` is the private key of the node's certificate, PEM."""

    state: bytes
    node: str


def new_state_key() -> bytes:
    """For a new swarm."""
    return secrets.token_bytes(_KEY_BYTES)


def new_unlock_key() -> str:
    """As a user reads it."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode().rstrip("=")


def _unlock_bytes(text: str) -> bytes:
    """Raises: InvalidArgument."""
    encoded = text.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_PREFIX) or len(key) != _KEY_BYTES:
        raise InvalidArgument("invalid key: it must be of the form SWMKEY-1-…")
    return key


class KeyFile:
    """The file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def locked(self) -> bool:
        """Whether it takes a key to read it. Raises: DataLoss."""
        return "sealed" in self._read()

    def load(self, unlock_key: str = "") -> Keys:
        """Raises: InvalidArgument for no key at all, PermissionDenied for a wrong one, DataLoss for a broken file."""
        content = self._read()
        try:
            if "sealed" in content:
                sealed = base64.b64decode(content["sealed"])
                try:
                    content = json.loads(Sealer(_unlock_bytes(unlock_key)).open(sealed, b"keys"))
                except DataLoss:
                    raise PermissionDenied("swarm could not be unlocked: invalid key provided") from None
            return Keys(base64.b64decode(content["state"]), content["node"])
        except (KeyError, TypeError, ValueError) as e:
            raise DataLoss(f"{self._path} is damaged: {type(e).__name__}") from None

    def save(self, keys: Keys, unlock_key: str = "") -> None:
        """Sealed with the key, if there is one."""
        content = {"state": base64.b64encode(keys.state).decode(), "node": keys.node}
        if unlock_key:
            sealed = Sealer(_unlock_bytes(unlock_key)).seal(json.dumps(content).encode(), b"keys")
            content = {"sealed": base64.b64encode(sealed).decode()}
        write_durably(str(self._path), json.dumps(content), 0o600)

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self._path.read_bytes())
        except ValueError as e:
            raise DataLoss(f"{self._path} is damaged: {e}") from None
        if not isinstance(content, dict):
            raise DataLoss(f"{self._path} is damaged: it is no object")
        return content
