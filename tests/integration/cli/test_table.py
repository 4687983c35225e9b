"""No command and no flag of the container, volume, system and context groups is without a test of its effect."""

from integration.cli import (
    test_container_commands,
    test_run_identity,
    test_run_isolation,
    test_run_mounts,
    test_run_resources,
    test_run_streams,
    test_system_commands,
)
from integration.daemon import test_network_flags, test_networks
from support.command_table import cases
from support.covers import uncovered, unknown

OWN = (
    test_container_commands,
    test_run_identity,
    test_run_isolation,
    test_run_mounts,
    test_run_resources,
    test_run_streams,
    test_system_commands,
)
ROWS = cases("container", "volume", "system", "version", "inspect", "context")


def test_no_row_is_without_a_case() -> None:
    assert len(ROWS) > 350
    assert uncovered(ROWS, *OWN, test_network_flags, test_networks) == []


def test_cases_are_of_rows() -> None:
    assert unknown(ROWS, *OWN) == []
