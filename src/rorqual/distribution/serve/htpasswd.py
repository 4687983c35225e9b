"""Users and passwords as `htpasswd -B` writes them: bcrypt, checked by the C library's crypt(3).

A check costs what bcrypt was told to cost, some 50 ms: it runs in a thread kept for that, and what was right once is
remembered as a keyed hash in memory. Few may wait for a check: strangers who guess must cost the others nothing.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import hmac
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rorqual.errdefs import InvalidArgument, Unavailable

_REMEMBERED_MAX = 1024
_WAITING_MAX = 64
_FILE_MAX_BYTES = 1 << 20
_NOBODY = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"  # as costly as somebody


class Htpasswd:
    """The file, read once. Raises: InvalidArgument for a line that is not bcrypt's, OSError."""

    def __init__(self, path: Path) -> None:
        text = path.read_bytes()[:_FILE_MAX_BYTES].decode()
        self._hashes: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            user, colon, hashed = line.strip().partition(":")
            if not colon or not hashed.startswith(("$2a$", "$2b$", "$2y$")):
                raise InvalidArgument(f"{path}:{number}: not a bcrypt entry (htpasswd -B makes them)")
            self._hashes[user] = hashed
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="htpasswd")
        self._waiting = 0

    async def allows(self, authorization: str) -> bool:
        """Whether an Authorization header's user and password are right. Raises: Unavailable while many wait."""
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        seen = hmac.digest(self._key, authorization.encode(), "sha256")
        if seen in self._right:
            return True
        try:
            user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return False
        hashed = self._hashes.get(user, "")
        if self._waiting >= _WAITING_MAX:
            raise Unavailable("too many sign-ins at once")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._checker, _matches, password, hashed or _NOBODY)
        finally:
            self._waiting -= 1
        if not (colon and hashed and right):
            return False
        if len(self._right) >= _REMEMBERED_MAX:
            self._right.clear()
        self._right.add(seen)
        return True


_crypt_lock = threading.Lock()


def _matches(password: str, hashed: str) -> bool:
    if "\0" in password:
        return False
    with _crypt_lock:  # crypt(3) has one buffer
        library = ctypes.CDLL("libcrypt.so.1")
        library.crypt.restype = ctypes.c_char_p
        library.crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        made = library.crypt(password.encode(), hashed.encode())
        return made is not None and hmac.compare_digest(bytes(made), hashed.encode())
