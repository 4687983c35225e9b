import asyncio
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from rorqual.distribution.challenge import Challenge
from rorqual.distribution.credentials import ANONYMOUS, Credentials
from rorqual.distribution.errors import RegistryError
from rorqual.distribution.tokens import Answer, TokenCache
from rorqual.errdefs import InvalidArgument


class Server:
    """A token server that counts."""

    def __init__(self, **answer: object) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes | None]] = []
        self.answer = answer
        self.status: dict[str, int] = {}

    async def exchange(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        self.requests.append((method, url, headers, body))
        await asyncio.sleep(0)
        document = {"token": f"t{len(self.requests)}", **self.answer}
        return Answer(self.status.get(method, 200), json.dumps(document).encode())


def bearer(realm: str = "https://auth.test/token?x=1") -> Challenge:
    return Challenge("bearer", {"realm": realm, "service": "registry.test"})


async def test_tokens_are_shared_by_concurrent_callers_and_kept() -> None:
    server = Server()
    cache = TokenCache(server)
    ask = [cache.get(bearer(), "repository:a:pull", ANONYMOUS, secure=True) for _ in range(5)]
    assert await asyncio.gather(*ask) == ["t1"] * 5
    assert await cache.get(bearer(), "repository:b:pull", ANONYMOUS, secure=True) == "t2"
    assert await cache.get(bearer(), "repository:a:pull", Credentials("u", "p"), secure=True) == "t3"
    assert parse_qs(urlsplit(server.requests[0][1]).query) == {
        "x": ["1"],
        "service": ["registry.test"],
        "scope": ["repository:a:pull"],
    }


async def test_expired_and_refused_tokens_are_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("rorqual.distribution.tokens.time.monotonic", lambda: now[0])
    cache = TokenCache(Server(expires_in=300))
    assert await cache.get(bearer(), "s", ANONYMOUS, secure=True) == "t1"
    now[0] += 280
    assert await cache.get(bearer(), "s", ANONYMOUS, secure=True) == "t1"
    now[0] += 15
    assert await cache.get(bearer(), "s", ANONYMOUS, secure=True) == "t2"
    assert await cache.get(bearer(), "s", ANONYMOUS, secure=True, refused="t2") == "t3"


async def test_oauth_only_servers_get_a_post() -> None:
    server = Server(token=None, access_token="access")
    server.status = {"GET": 405}
    assert await TokenCache(server).get(bearer(), "s", Credentials("u", "p"), secure=True) == "access"
    form = parse_qs((server.requests[1][3] or b"").decode())
    assert form["grant_type"] == ["password"] and form["username"] == ["u"] and form["password"] == ["p"]


@pytest.mark.parametrize("realm", ["", "ftp://x/", "https://user@x/", "http://auth.test/token"])
async def test_bad_realms_get_no_credentials(realm: str) -> None:
    server = Server()
    with pytest.raises(InvalidArgument):
        await TokenCache(server).get(bearer(realm), "s", Credentials("u", "p"), secure=True)
    assert server.requests == []


@pytest.mark.parametrize("answer", [{"token": ""}, {"token": 5}, {"token": "a\r\nX: y"}, {"expires_in": "x"}])
async def test_bad_answers_are_refused(answer: dict[str, object]) -> None:
    with pytest.raises(RegistryError, match="did not include a token"):
        await TokenCache(Server(**answer)).get(bearer(), "s", ANONYMOUS, secure=True)


async def test_the_cache_does_not_grow_without_bound() -> None:
    cache = TokenCache(Server())
    for number in range(600):
        await cache.get(bearer(), f"scope-{number}", ANONYMOUS, secure=True)
    assert len(cache._tokens) <= 256 and len(cache._locks) <= 257


async def test_a_login_gets_the_refresh_token_that_stands_for_the_password() -> None:
    server = Server(refresh_token="refresh")
    cache = TokenCache(server)
    assert await cache.identity(bearer(), Credentials("u", "p"), secure=True) == "refresh"
    method, url, headers, _ = server.requests[0]
    assert method == "GET" and headers["Authorization"].startswith("Basic ")
    query = parse_qs(urlsplit(url).query)
    assert query["offline_token"] == ["true"] and query["client_id"] == ["docker"] and query["account"] == ["u"]
    assert await TokenCache(Server()).identity(bearer(), Credentials("u", "p"), secure=True) == ""
    server.status["GET"] = 401
    with pytest.raises(RegistryError):
        await cache.identity(bearer(), Credentials("u", "wrong"), secure=True)
