"""The codec follows Go's encoding/json, which Docker's clients were written against."""

import json

import pytest

from rorqual.api import codec
from rorqual.api.config import ContainerConfig, HostConfig
from rorqual.api.container import ContainerInspect, CreateRequest
from rorqual.api.image import ImageInspect
from rorqual.api.system import EventMessage, Info
from rorqual.errdefs import InvalidArgument


def test_a_string_is_taken_as_a_command_of_one_word():
    assert codec.from_json(ContainerConfig, {"Cmd": "true"}).cmd == ("true",)


def test_null_leaves_the_default_and_unknown_keys_are_ignored():
    config = codec.from_json(ContainerConfig, {"Tty": None, "Env": None, "Nonsense": 1})
    assert config.tty is False
    assert config.env is None


def test_a_key_in_another_case_still_matches():
    assert codec.from_json(ContainerConfig, {"image": "x"}).image == "x"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"Tty": "yes"}, "CreateRequest.Tty"),
        ({"Env": "A=b"}, "CreateRequest.Env"),
        ({"HostConfig": {"Memory": "1g"}}, "HostConfig.Memory"),
        ({"HostConfig": {"Memory": True}}, "HostConfig.Memory"),
        ({"HostConfig": []}, "HostConfig"),
        ({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": 80}]}}}, "PortBinding.HostPort"),
    ],
)
def test_a_wrong_type_names_its_field(body, field):
    with pytest.raises(InvalidArgument, match=field):
        codec.from_json(CreateRequest, body)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "invalid JSON: got EOF while reading request body"),
        (b"{} {}", "unexpected content after JSON"),
        (b"{", "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
        (b"\xff\xfe{}", "invalid JSON"),
    ],
)
def test_what_is_no_json_is_refused(raw, text):
    with pytest.raises(InvalidArgument, match=text):
        codec.from_bytes(CreateRequest, raw)


def test_false_behind_a_pointer_is_said_and_absence_is_not():
    assert codec.to_json(HostConfig(init=False))["Init"] is False
    assert "Init" not in codec.to_json(HostConfig())


def test_a_create_request_survives_the_round_trip():
    body = {
        "Image": "x",
        "Cmd": ["a", "b"],
        "HostConfig": {
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "53/udp": None},
            "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b"}],
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        },
        "NetworkingConfig": {"EndpointsConfig": {"n": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}}}},
    }
    first = codec.from_json(CreateRequest, body)
    again = codec.from_bytes(CreateRequest, codec.to_bytes(first))
    assert again == first
    assert again.host_config is not None
    assert again.host_config.port_bindings == first.host_config.port_bindings


@pytest.mark.parametrize("cls", [ContainerInspect, ImageInspect, Info, EventMessage, HostConfig])
def test_every_default_can_be_sent(cls):
    assert isinstance(json.loads(codec.to_bytes(cls())), dict)


@pytest.mark.parametrize(
    "raw", [rb'{"User": "a\ud800b"}', rb'{"User": "a\uDC00b"}', b'{"User": "a\xed\xa0\x80b"}', '{"User": "a\ud800b"}']
)
def test_half_of_a_surrogate_pair_is_replaced_as_go_does(raw):
    assert codec.from_bytes(ContainerConfig, raw).user == "a\ufffdb"


def test_whole_pairs_and_keys_stay_what_they_are():
    found = codec.loads(rb'{"\ud83d\ude00": ["\ud83d\ude00", {"\udc00": 1}], "caf\u00e9": "\u00e9"}')
    assert found == {"\U0001f600": ["\U0001f600", {"\ufffd": 1}], "caf\u00e9": "\u00e9"}


def test_what_no_client_could_decode_is_never_sent():
    assert codec.to_bytes({"name": "caf\udce9"}) == '{"name":"caf\ufffd"}'.encode()
