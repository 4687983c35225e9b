"""Links: the variables that they make."""

from rorqual.daemon.services.containers.links import variables


def test_a_port_is_told_in_five_variables() -> None:
    assert variables("/web/my-db", "172.17.0.2", ("5432/tcp",), ()) == [
        "MY_DB_PORT=tcp://172.17.0.2:5432",
        "MY_DB_PORT_5432_TCP=tcp://172.17.0.2:5432",
        "MY_DB_PORT_5432_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_5432_TCP_PORT=5432",
        "MY_DB_PORT_5432_TCP_PROTO=tcp",
        "MY_DB_NAME=/web/my-db",
    ]


def test_neighbouring_ports_are_a_range_and_tcp_comes_first() -> None:
    made = variables("/web/db", "10.0.0.1", ("53/udp", "81/tcp", "80/tcp"), ())
    assert made[0] == "DB_PORT=tcp://10.0.0.1:80"
    assert "DB_PORT_80_TCP_START=tcp://10.0.0.1:80" in made
    assert "DB_PORT_80_TCP_PORT_END=81" in made
    assert "DB_PORT_53_UDP_PROTO=udp" in made
    assert not any(entry.startswith("DB_PORT_53_UDP_START") for entry in made)


def test_the_others_environment_is_passed_without_home_and_path() -> None:
    made = variables("/web/db", "10.0.0.1", (), ("A=1", "PATH=/bin", "HOME=/root", "B"))
    assert made == ["DB_NAME=/web/db", "DB_ENV_A=1"]
