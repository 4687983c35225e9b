"""Names, profiles, environment and consistency of a project. Source: Compose Specification."""

from pathlib import Path
from typing import Any

import pytest
from support.composeproject import IMAGE, make

from rorqual.compose import project
from rorqual.errdefs import InvalidArgument, NotFound


def test_names_and_defaults() -> None:
    found = make(
        {
            "a": {"build": "."},
            "b": {**IMAGE, "network_mode": "host"},
            "c": {**IMAGE, "networks": ["n"], "volumes": ["v:/v"]},
        },
        networks={"n": {}},
        volumes={"v": None, "e": {"external": True, "name": "real"}, "o": {"external": True}},
    )
    assert found.networks == {"n": {"name": "it_n"}, "default": {"name": "it_default"}}
    assert {key: value["name"] for key, value in found.volumes.items()} == {"v": "it_v", "e": "real", "o": "o"}
    assert found.image("a") == "it-a" and found.image("b") == "x"
    assert found.services["a"]["build"] == {"context": "/p", "dockerfile": "Dockerfile"}
    assert found.services["a"]["networks"] == {"default": None} and "networks" not in found.services["b"]


def test_the_environment_is_of_files_then_its_own(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("A=1\nB=1\nC=$OWN\n")
    (tmp_path / "two").write_text("B=2\nD='$X'\nF=${E}x")
    service = {
        **IMAGE,
        "env_file": ["one", "two", {"path": "none", "required": False}],
        "environment": ["C", "OWN", "NO", "E=5"],
    }
    found = make({"a": service}, directory=str(tmp_path), environment={"OWN": "o"})
    # C alone says that it is not to be set, whatever the files say.
    assert found.services["a"]["environment"] == {"A": "1", "B": "2", "D": "$X", "OWN": "o", "E": "5", "F": "5x"}
    assert "env_file" not in found.services["a"]


def test_a_missing_file_of_variables_matters_to_who_wants_it() -> None:
    services = {"a": IMAGE, "b": {**IMAGE, "env_file": "none"}, "c": {**IMAGE, "depends_on": ["b"]}}
    assert make(services, wanted=["a"]).services["a"]["image"] == "x"
    for wanted in ([], ["b"], ["c"]):
        with pytest.raises(InvalidArgument, match="env file /p/none not found: no such file or directory"):
            make(services, wanted=wanted)


def test_profiles() -> None:
    services = {
        "a": IMAGE,
        "b": {**IMAGE, "profiles": ["p", "q"]},
        "c": {**IMAGE, "profiles": ["r"], "depends_on": ["a"]},
    }
    assert set(make(services).services) == {"a"}
    assert set(make(services, "q").services) == {"a", "b"}
    assert set(make(services, "*").services) == {"a", "b", "c"}
    assert set(make(services).selected(["c"]).services) == {"a", "c"}
    assert set(make(services).selected(["c"], dependencies=False).services) == {"c"}
    with pytest.raises(NotFound, match="no such service: none"):
        make(services).selected(["none"])


def test_a_named_service_brings_its_profile() -> None:
    """Compose Specification, "Profiles": bar is pulled in."""
    services = {"bar": {**IMAGE, "profiles": ["test"]}, "baz": {**IMAGE, "profiles": ["test"], "depends_on": ["bar"]}}
    assert set(make(services).selected(["baz"]).services) == {"bar", "baz"}


def test_a_service_may_be_called_like_an_extension() -> None:
    assert set(make({"x-ray": {**IMAGE, "ports": ["80"]}}).services) == {"x-ray"}


def test_one_that_needs_a_disabled_one() -> None:
    services = {"a": {**IMAGE, "depends_on": ["b"]}, "b": {**IMAGE, "profiles": ["p"]}}
    with pytest.raises(InvalidArgument, match=r'service "b" is required by "a" but is disabled.*profiles \["p"\]'):
        make(services)
    services["a"] = {**IMAGE, "depends_on": {"b": {"required": False}}}
    assert set(make(services).selected(["a"]).services) == {"a"}


def test_order_is_by_every_kind_of_dependency() -> None:
    services = {
        "a": {**IMAGE, "network_mode": "service:b"},
        "b": {**IMAGE, "links": ["c:alias"]},
        "c": {**IMAGE, "volumes_from": ["d:ro", "container:x"]},
        "d": {**IMAGE, "pid": "service:e"},
        "e": IMAGE,
    }
    found = make(services)
    assert project.order(found.services) == ["e", "d", "c", "b", "a"]
    assert found.services["a"]["depends_on"]["b"] == {"condition": "service_started", "required": True, "restart": True}


@pytest.mark.parametrize(
    ("services", "told"),
    [
        ({"a": {}}, 'service "a" has neither an image nor a build context specified: invalid compose project'),
        ({"a": {**IMAGE, "networks": ["n"]}}, 'service "a" refers to undefined network n: invalid compose project'),
        ({"a": {**IMAGE, "volumes": ["v:/v"]}}, 'service "a" refers to undefined volume v'),
        ({"a": {**IMAGE, "secrets": ["s"]}}, 'service "a" refers to undefined secret s'),
        ({"a": {**IMAGE, "configs": ["s"]}}, 'service "a" refers to undefined config s'),
        ({"a": {**IMAGE, "depends_on": ["b"]}}, 'service "a" depends on undefined service "b"'),
        ({"a": {**IMAGE, "depends_on": ["a"]}}, "dependency cycle detected: a -> a"),
        (
            {"a": {**IMAGE, "depends_on": ["b"]}, "b": {**IMAGE, "links": ["c"]}, "c": {**IMAGE, "depends_on": ["a"]}},
            "dependency cycle detected: a -> b -> c -> a: invalid compose project",
        ),
        ({"a": {**IMAGE, "network_mode": "host", "networks": ["default"]}}, "mutually exclusive"),
        ({"a": {**IMAGE, "container_name": "xx", "scale": 2}}, "container name must be unique"),
        ({"a": {**IMAGE, "scale": 2, "deploy": {"replicas": 3}}}, "can't set distinct values"),
    ],
)
def test_what_is_not_consistent(services: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument) as e:
        make(services)
    assert told in str(e.value)


@pytest.mark.parametrize(("text", "name"), [("My App_1.0", "myapp_10"), ("_-x", "x"), ("ÄB", "b"), ("...", "")])
def test_a_directorys_name(text: str, name: str) -> None:
    assert project.normal_name(text) == name


@pytest.mark.parametrize("name", ["A", "-a", "a b", "", "_a", "a/b"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid project name"):
        project.check_name(name)


def test_the_hash_is_of_what_a_container_is_made_with() -> None:
    def hash_of(**service: Any) -> str:
        return project.config_hash(make({"a": {**IMAGE, **service}, "b": IMAGE}).services["a"])

    same = hash_of()
    assert hash_of(scale=3) == hash_of(depends_on=["b"]) == hash_of(pull_policy="always") == same
    assert hash_of(deploy={"replicas": 2}) == hash_of(deploy={})
    assert hash_of(command="x") != same and hash_of(environment=["A=1"]) != same


def test_variables_are_the_processs_then_the_files(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=file\nB=file\nC=${A}\n")
    (tmp_path / "other").write_text("D=$A")
    own = {"A": "own"}
    assert project.environment_of(str(tmp_path), [], own, missing_ok=False) == {"A": "own", "B": "file", "C": "own"}
    assert project.environment_of(str(tmp_path), ["other"], own, missing_ok=False) == {"A": "own", "D": "own"}
    with pytest.raises(InvalidArgument, match="couldn't find env file"):
        project.environment_of(str(tmp_path), ["none"], own, missing_ok=False)
