from pathlib import Path

import pytest

from rorqual.distribution import endpoints
from rorqual.distribution.endpoints import Endpoint, RegistryOptions
from rorqual.errdefs import InvalidArgument


def test_docker_io_is_at_registry_1_after_its_mirrors() -> None:
    options = RegistryOptions(mirrors=("https://m.example/p/", "http://127.0.0.1:5000"))
    first, second, hub = endpoints.for_domain("docker.io", options)
    assert first == Endpoint("m.example", ("https",), True, mirror=True, prefix="/p", certs_name="m.example")
    assert second == Endpoint("127.0.0.1:5000", ("http",), False, mirror=True, certs_name="127.0.0.1:5000")
    assert (hub.host, hub.schemes, hub.verify, hub.mirror) == ("registry-1.docker.io", ("https",), True, False)


@pytest.mark.parametrize(
    ("host", "insecure"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("[::1]", True),
        ("10.1.2.3:5000", True),
        ("registry.test:5000", True),
        ("other.test:1", True),
        ("10.2.0.1", False),
        ("registry.test", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("example.com:5000", False),
    ],
)
def test_only_loopback_and_listed_registries_are_insecure(host: str, insecure: bool) -> None:
    options = RegistryOptions(insecure=("10.1.0.0/16", "registry.test:5000", "other.test"))
    (found,) = endpoints.for_domain(host, options)
    assert found.verify is not insecure
    assert found.schemes == (("https", "http") if insecure else ("https",))


@pytest.mark.parametrize("url", ["x", "ftp://x", "https://", "https://user:secret@x"])
def test_bad_mirrors_are_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid mirror"):
        endpoints.for_domain("docker.io", RegistryOptions(mirrors=(url,)))


def test_certs_d_without_a_key_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "r.test:5000"
    place.mkdir()
    (place / "client.cert").write_text("x")
    endpoint = Endpoint("r.test:5000", ("https",), True, certs_name="r.test:5000")
    with pytest.raises(InvalidArgument, match=r"missing key client.key for client certificate client.cert"):
        endpoints.tls_context(endpoint, RegistryOptions(certs_dirs=(str(tmp_path),)))
    (place / "client.cert").unlink()
    (place / "ca.crt").write_text("no certificate")
    with pytest.raises(InvalidArgument, match=r"cannot read .*ca.crt"):
        endpoints.tls_context(endpoint, RegistryOptions(certs_dirs=(str(tmp_path),)))
