import pytest

from rorqual import errdefs
from rorqual.libnetwork.model import ControllerOptions, check_interface_name


@pytest.mark.parametrize("name", ["", "a" * 16, 'x"; flush ruleset; "', "a b", "a/b", "-x"])
def test_names_that_could_leave_the_text_of_a_command_are_refused(name: str) -> None:
    with pytest.raises(errdefs.InvalidArgument):
        check_interface_name(name)


@pytest.mark.parametrize(
    "bridge,table", [("rorqual0", "rorqual0"), ("map", "rorqual_map"), ("br-x.1", "rorqual_br_x_1")]
)
def test_table_is_named_after_the_bridge(bridge: str, table: str) -> None:
    assert ControllerOptions(bridge_name=bridge).table == table


def test_bad_table_name() -> None:
    with pytest.raises(errdefs.InvalidArgument):
        ControllerOptions(table_name="a; flush ruleset")
