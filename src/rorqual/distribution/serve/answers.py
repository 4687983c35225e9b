"""Errors and names as distribution-spec has them. Source: distribution-spec, "Error Codes" and "Pulling manifests"."""

from __future__ import annotations

import json
import re

from aiohttp import web

from rorqual.oci.digest import Digest

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "SIZE_INVALID": 400,
    "UNAUTHORIZED": 401,
    "DENIED": 403,
    "UNSUPPORTED": 405,
    "TOOMANYREQUESTS": 429,
    "UNKNOWN": 500,
}


class Refused(Exception):
    """An answer that is an error: `code` as in the specification, which says its status unless another is given."""

    def __init__(self, code: str, message: str, status: int = 0, headers: dict[str, str] | None = None) -> None:
        self.code = code
        self.status = status or _STATUS[code]
        self.headers = headers or {}
        super().__init__(message)

    def response(self) -> web.Response:
        """As JSON."""
        body = {"errors": [{"code": self.code, "message": str(self), "detail": None}]}
        headers = {**self.headers, "Content-Type": "application/json"}
        return web.Response(status=self.status, body=json.dumps(body).encode(), headers=headers)


def digest_of(text: str) -> Digest:
    """The digest. Raises: Refused."""
    if not _DIGEST.fullmatch(text):
        raise Refused("DIGEST_INVALID", f"invalid digest {text[:200]!r}")
    return Digest(text)


def page(names: list[str], request: web.Request) -> tuple[list[str], dict[str, str]]:
    """What ?n= and ?last= ask of the sorted names, and the Link header when there is more. Raises: Refused."""
    last = request.query.get("last", "")
    if last:
        names = [name for name in names if name > last]
    text = request.query.get("n", "")
    if not text:
        return names, {}
    if not text.isdecimal() or len(text) > 9:
        raise Refused("UNSUPPORTED", f"invalid number of results requested: {text[:50]!r}", 400)
    count = int(text)
    if count >= len(names):
        return names, {}
    shown = names[:count]
    following = request.url.with_query({"n": text, "last": shown[-1] if shown else last})
    return shown, {"Link": f'<{following.path_qs}>; rel="next"'}
