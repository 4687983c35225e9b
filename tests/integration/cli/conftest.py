"""Fixtures of the tests of commands."""

import pytest
from support.verbs import VERBS


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest) -> str:
    """`run` and `create`, which share their flags."""
    return str(request.param)
