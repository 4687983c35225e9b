"""Files over each other, what they extend and include. Source: Compose Specification, "extends", "include", "Merge"."""

from pathlib import Path
from typing import Any

import pytest

from rorqual.compose import loader
from rorqual.compose.loader import Loader, Options
from rorqual.errdefs import InvalidArgument


def load(directory: Path, *files: str, **environment: str) -> dict[str, Any]:
    return Loader(Options(environment)).load([str(directory / name) for name in files], str(directory))


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        path = directory / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_later_files_go_over_earlier_ones(tmp_path: Path) -> None:
    write(
        tmp_path,
        a="services: {web: {image: a, environment: {X: 1}, dns: [1.1.1.1], ports: [80]}, gone: {image: a}}",
        b="services: {web: {image: $IMAGE, environment: [Y=2], dns: [2.2.2.2]}, more: {image: c}}",
        c="services: {web: {ports: !override [81], environment: !reset null}, gone: !reset null}",
    )
    found = load(tmp_path, "a.yaml", "b.yaml", "c.yaml", IMAGE="b")["services"]
    assert set(found) == {"web", "more"} and found["web"]["image"] == "b"
    assert found["web"]["dns"] == ["1.1.1.1", "2.2.2.2"] and "environment" not in found["web"]
    assert [port["target"] for port in found["web"]["ports"]] == [81]


def test_documents_of_one_file_are_files_too(tmp_path: Path) -> None:
    write(tmp_path, a="services: {web: {image: a}}\n---\nservices: {web: {image: b}}\n")
    assert load(tmp_path, "a.yaml")["services"] == {"web": {"image": "b"}}


def test_services_extend_others(tmp_path: Path) -> None:
    write(
        tmp_path,
        a="""
services:
  base: {image: a, environment: {A: 1, B: 1}, depends_on: [db], cap_add: [X]}
  web: {extends: base, environment: {B: 2}, cap_add: [Y]}
  far: {extends: {service: one, file: other/b.yaml}, working_dir: /}
  db: {image: d}
""",
        other__b="""
services:
  zero: {build: ., depends_on: [x], volumes: ["./data:/d"], env_file: e}
  one: {extends: {service: zero}, command: b}
""",
    )
    found = load(tmp_path, "a.yaml")["services"]
    web = found["web"]
    assert web["image"] == "a" and web["environment"] == {"A": "1", "B": "2"} and web["cap_add"] == ["X", "Y"]
    assert list(web["depends_on"]) == ["db"] and "extends" not in web
    far = found["far"]
    other = tmp_path / "other"
    assert far["build"] == {"context": str(other)} and far["volumes"][0]["source"] == str(other / "data")
    assert far["env_file"][0]["path"] == str(other / "e") and far["command"] == ["b"] and far["working_dir"] == "/"
    assert list(far["depends_on"]) == ["x"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("services: {a: {extends: b}, b: {extends: a}}", "Circular reference:"),
        ("services: {a: {extends: a}}", "Circular reference:"),
        ("services: {a: {extends: none}}", 'cannot extend service "a" in .*: service "none" not found'),
        ("services: {a: {extends: {service: b, file: none.yaml}}}", "none.yaml: no such file"),
        ("include: [a.yaml]", "include cycle detected"),
        ("include: [none.yaml]", "none.yaml: no such file"),
        ("[]", "top-level object must be a mapping"),
        ("services: []", "services must be a mapping"),
        ("services: {'a b': {image: x}}", "additional properties 'a b' not allowed"),
        ("odd: {}", r"\(root\) additional properties 'odd' not allowed"),
        ("services: {a: null}", r"services\.a must be a mapping"),
        ("services: {a: {image: '${'}}", r"invalid interpolation format for services\.a\.image"),
        ("volumes: {a: {external: true, driver: x}}", 'conflicting parameters "external" and "driver"'),
        ("secrets: {a: {file: x, environment: Y}}", "mutually exclusive"),
    ],
)
def test_what_is_refused_names_where(tmp_path: Path, text: str, told: str) -> None:
    write(tmp_path, a=text)
    with pytest.raises(InvalidArgument, match=told):
        load(tmp_path, "a.yaml")


def test_what_is_included_is_relative_to_itself(tmp_path: Path) -> None:
    write(
        tmp_path,
        a="include: [sub/b.yaml, {path: [sub/c.yaml, sub/d.yaml], env_file: sub/c.env, project_directory: .}]\n"
        "services: {web: {image: a, depends_on: [db]}}",
        sub__b="services: {db: {image: '${TAG:-none}', volumes: ['./x:/x']}}\nvolumes: {v: {}}",
        sub__c="services: {c: {image: '$TAG', volumes: ['./x:/x']}}",
        sub__d="services: {c: {command: over}}",
    )
    (tmp_path / "sub/.env").write_text("TAG=dotenv\n")
    (tmp_path / "sub/c.env").write_text("TAG=given\n")
    found = load(tmp_path, "a.yaml")
    assert found["services"]["db"]["image"] == "dotenv" and found["volumes"] == {"v": {}}
    assert found["services"]["db"]["volumes"][0]["source"] == str(tmp_path / "sub/x")
    assert found["services"]["c"]["image"] == "given" and found["services"]["c"]["command"] == ["over"]
    assert found["services"]["c"]["volumes"][0]["source"] == str(tmp_path / "x")
    assert load(tmp_path, "a.yaml", TAG="own")["services"]["c"]["image"] == "own"


def test_what_is_here_goes_over_what_is_included(tmp_path: Path) -> None:
    write(
        tmp_path,
        a="include: [b/b.yaml]\nservices: {db: {image: a}, far: {extends: base}}",
        b__b="services: {db: {image: b, command: x}, base: {image: c, environment: [V]}}",
    )
    (tmp_path / "b/.env").write_text("V=theirs")
    found = load(tmp_path, "a.yaml")["services"]
    assert found["db"] == {"image": "a", "command": ["x"]}
    assert found["far"] == {"image": "c", "environment": {"V": "theirs"}} == found["base"]


def test_tags_under_more_layers(tmp_path: Path) -> None:
    write(
        tmp_path,
        a="services: {a: {image: x, ports: !override [1], env_file: [!reset a, b], extends: !reset null}}",
        b="services: {a: {ports: !reset [], command: null}}",
        c="services: {a: {ports: [3]}}",
    )
    assert [port["target"] for port in load(tmp_path, "a.yaml", "b.yaml", "c.yaml")["services"]["a"]["ports"]] == [3]
    assert [port["target"] for port in load(tmp_path, "a.yaml", "c.yaml")["services"]["a"]["ports"]] == [1, 3]


def test_without_interpolation_texts_are_left_alone(tmp_path: Path) -> None:
    write(
        tmp_path,
        a="services: {a: {image: '$I', ports: ['${P:-80}:80', 81], mem_limit: '${M}', init: '$X', volumes: ['$V']}}",
    )
    options = Options({}, interpolate=False)
    found = Loader(options).load([str(tmp_path / "a.yaml")], str(tmp_path))["services"]["a"]
    assert found["image"] == "$I" and found["ports"][0] == "${P:-80}:80" and found["ports"][1]["target"] == 81
    assert (found["mem_limit"], found["init"], found["volumes"]) == ("${M}", "$X", ["$V"])


def test_files_are_found_above_with_their_override(tmp_path: Path) -> None:
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    assert not [path for path in loader.find(str(below)) if path.startswith(str(tmp_path))]
    (tmp_path / "docker-compose.yml").touch()
    (tmp_path / "compose.override.yaml").touch()
    assert loader.find(str(below)) == [str(tmp_path / "docker-compose.yml"), str(tmp_path / "compose.override.yaml")]
    (tmp_path / "a/compose.yaml").touch()
    assert loader.find(str(below)) == [str(tmp_path / "a/compose.yaml")]


def test_stdin_is_a_file() -> None:
    options = Options({}, stdin=lambda: b"services: {a: {build: .}}")
    assert Loader(options).load(["-"], "/base")["services"]["a"]["build"] == {"context": "/base"}


def test_an_obsolete_version_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    write(tmp_path, a="version: '3'\nservices: {a: {image: x}}")
    document = Loader(Options({}, warn=told.append)).load([str(tmp_path / "a.yaml")], str(tmp_path))
    assert "version" not in document and "`version` is obsolete" in told[0]
