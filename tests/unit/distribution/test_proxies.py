"""Which requests go through which proxy."""

import pytest

from rorqual.distribution.proxies import Proxies, masked
from rorqual.errdefs import InvalidArgument

PROXY = "http://proxy.test:3128"


def test_each_scheme_has_its_proxy() -> None:
    found = Proxies(http="plain.test:3128", https="https://secure.test")
    assert found.choose("http://r.test/v2/") == "http://plain.test:3128"
    assert found.choose("https://r.test/v2/") == "https://secure.test"
    assert Proxies(http=PROXY).choose("https://r.test/") is None


def test_the_daemons_own_come_before_the_environments() -> None:
    environment = {"HTTP_PROXY": "http://a", "http_proxy": "http://b", "https_proxy": "http://c", "NO_PROXY": "d"}
    assert Proxies(http="http://own").over(environment) == Proxies("http://own", "http://c", "d")
    assert Proxies().over(environment) == Proxies("http://a", "http://c", "d")


@pytest.mark.parametrize("url", ["http://localhost:5000/", "http://127.3.2.1/", "https://[::1]:5000/"])
def test_loopback_is_never_proxied(url: str) -> None:
    assert Proxies(PROXY, PROXY).choose(url) is None


@pytest.mark.parametrize(
    ("none", "host", "direct"),
    [
        ("*", "r.test", True),
        ("", "r.test", False),
        ("r.test", "r.test", True),
        ("R.test", "r.test", True),
        ("r.test", "sub.r.test", True),
        ("r.test", "other-r.test", False),
        (".r.test", "sub.r.test", True),
        (".r.test", "r.test", False),
        ("*.r.test", "sub.r.test", True),
        ("a.test, r.test", "r.test", True),
        ("r.test:5000", "r.test:5000", True),
        ("r.test:5000", "r.test:5001", False),
        ("r.test:80", "r.test", True),
        ("10.1.2.3", "10.1.2.3:5000", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("10.1.2.3:5000", "10.1.2.3:5000", True),
        ("10.0.0.0/8", "10.200.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "r.test", False),
        ("fd00::/8", "[fd00::7]:5000", True),
        ("fd00::7", "[fd00::7]", True),
        ("nonsense/8", "r.test", False),
    ],
)
def test_what_needs_no_proxy(none: str, host: str, direct: bool) -> None:
    assert (Proxies(PROXY, PROXY, none).choose(f"http://{host}/v2/") is None) is direct


def test_proxies_that_cannot_be_used_are_refused_without_their_password() -> None:
    with pytest.raises(InvalidArgument, match=r"proxy socks5://xxxxx:xxxxx@p.test: scheme 'socks5' is not supported"):
        Proxies("socks5://me:secret@p.test").choose("http://r.test/")


def test_credentials_are_masked() -> None:
    assert masked("http://me:se@cret@p.test:1/x") == "http://xxxxx:xxxxx@p.test:1/x"
    assert masked("me:secret@p.test") == "xxxxx:xxxxx@p.test"
    assert masked(PROXY) == PROXY
