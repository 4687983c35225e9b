"""Rules: which repositories they are for, and what is no rule."""

from pathlib import Path
from typing import Any

import pytest
from support.signing import signer

from rorqual.distribution.signatures import policy
from rorqual.errdefs import InvalidArgument
from rorqual.oci import reference as references


def test_the_first_rule_that_fits_counts(tmp_path: Path) -> None:
    key = signer().write(tmp_path / "k.pub")
    found = policy.parse(
        [
            {"repository": "registry.test/team/free", "keys": []},
            {"repository": "registry.test/team/*", "keys": [key]},
            {"repository": "docker.io/library/busybox", "keys": [key], "same-repository": True},
        ]
    )

    def pattern(name: str) -> str | None:
        rule = found.rule_for(references.parse(name))
        return rule.pattern if rule is not None else None

    assert pattern("registry.test/team/app:1") == pattern("registry.test/team/deep/app") == "registry.test/team/*"
    assert pattern("Registry.TEST/team/app") == "registry.test/team/*"
    assert pattern("registry.test/team/free:1") is None
    assert pattern("registry.test/other:1") is None and pattern("registry.test:5000/team/app") is None
    assert pattern("busybox") == pattern("busybox@sha256:" + "a" * 64) == "docker.io/library/busybox"


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"repository": "busybox", "keys": []}, "must be whole, such as docker.io/library/busybox"),
        ({"repository": 7, "keys": []}, "must be a name or a pattern"),
        ({"repository": "a b/c", "keys": []}, "must be a name or a pattern"),
        ({"repository": "*", "keys": "/k"}, "must be a list of absolute paths"),
        ({"repository": "*", "keys": ["k.pub"]}, "must be a list of absolute paths"),
        ({"repository": "*"}, "must be a list of absolute paths"),
        ({"repository": "*", "keys": [], "key": 1}, "unknown field 'key'"),
        ({"repository": "*", "keys": [], "same-repository": 1}, "true or false"),
        ({"repository": "*", "keys": ["/no/such/key"]}, "key /no/such/key: no such file"),
    ],
)
def test_what_is_no_rule_is_refused_by_its_place(entry: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        policy.parse([entry])
