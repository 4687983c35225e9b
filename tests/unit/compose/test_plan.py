"""What is decided of a service's containers."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.compose import labels
from rorqual.compose.observe import Seen
from rorqual.compose.plan import Create, Facts, Keep, Policy, Recreate, Remove, Rename, plan
from rorqual.compose.project import config_hash

SERVICE = {"image": "x"}
FACTS = Facts("sha256:1", {"it_default": "n1"})


def seen(number: int, **more: Any) -> Seen:
    own = {labels.NUMBER: str(number), labels.CONFIG_HASH: config_hash(SERVICE), labels.IMAGE: "sha256:1"}
    networks: Mapping[str, Any] = more.pop("networks", {"it_default": {"NetworkID": "n1"}})
    return Seen(
        {
            "Id": f"id{number}{more.get('name', '')}",
            "Names": [f"/{more.get('name', f'it-web-{number}')}"],
            "Labels": {**own, **more.get("labels", {})},
            "State": more.get("state", "running"),
            "ImageID": "sha256:1",
            "NetworkSettings": {"Networks": networks},
        }
    )


def actions(there: list[Seen], want: int, policy: Policy = "diverged", facts: Facts = FACTS) -> list[Any]:
    return plan(SERVICE, there, want, policy, facts)


def test_what_is_missing_is_made_behind_what_is_there() -> None:
    assert actions([], 2) == [Create(1), Create(2)]
    assert actions([seen(3)], 3) == [Keep(seen(3)), Create(4), Create(5)]


def test_one_too_many_goes_the_youngest_first() -> None:
    assert actions([seen(1), seen(2), seen(3)], 1) == [Remove(seen(2)), Remove(seen(3)), Keep(seen(1))]
    assert actions([seen(1, state="exited"), seen(2)], 1) == [Remove(seen(1, state="exited")), Keep(seen(2))]
    stale = seen(1, labels={labels.CONFIG_HASH: "old"})
    assert actions([stale, seen(2)], 1) == [Remove(stale), Keep(seen(2))]
    assert actions([seen(1)], 0) == [Remove(seen(1))]


@pytest.mark.parametrize(
    "stale",
    [
        seen(1, labels={labels.CONFIG_HASH: "old"}),
        seen(1, labels={labels.IMAGE: "sha256:0"}),
        seen(1, networks={"it_default": {"NetworkID": "n0"}}),
        seen(1, networks={}),
    ],
)
def test_one_that_was_made_for_something_else_is_made_anew(stale: Seen) -> None:
    assert actions([stale], 1) == [Recreate(stale)]
    assert actions([stale], 1, "never") == [Keep(stale)]


def test_one_that_never_ran_has_no_network_id_yet() -> None:
    created = seen(1, networks={"it_default": {"NetworkID": ""}})
    assert actions([created], 1) == [Keep(created)]


def test_policy_and_what_it_shares() -> None:
    assert actions([seen(1)], 1, "force") == [Recreate(seen(1))]
    assert actions([seen(1)], 1, facts=Facts("sha256:1", {}, moved=True)) == [Recreate(seen(1))]


def test_what_an_attempt_before_left() -> None:
    """Killed between the steps of making one anew: the copy, the old one's end, the new one's name."""
    copy = seen(1, name="0123_it-web-1", labels={labels.REPLACES: "it-web-1"}, state="created")
    assert actions([seen(1), copy], 1) == [Remove(copy), Keep(seen(1))]
    assert actions([copy], 1) == [Rename(copy, "it-web-1"), Keep(copy)]
    renamed = seen(1, labels={labels.REPLACES: "it-web-1"})
    assert actions([renamed], 1) == [Keep(renamed)]


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.booleans(), st.sampled_from(["running", "exited"])), unique_by=lambda t: t[0]
    ),
    st.integers(0, 9),
    st.sampled_from(["diverged", "force", "never"]),
)
def test_there_are_as_many_as_wanted_afterwards(there: list[tuple[int, bool, str]], want: int, policy: Policy) -> None:
    containers = [
        seen(number, state=state, labels={labels.CONFIG_HASH: "old"} if old else {}) for number, old, state in there
    ]
    found = actions(containers, want, policy)
    left = [a for a in found if isinstance(a, Keep | Recreate | Create)]
    assert len(left) == want
    assert len([a for a in found if isinstance(a, Remove)]) == max(0, len(containers) - want)
    numbers = [a.number if isinstance(a, Create) else a.seen.number for a in left]
    assert len(set(numbers)) == len(numbers)
