"""--change: instructions become config, with Docker's own errors."""

import pytest

from rorqual.api.config import ContainerConfig, HealthConfig
from rorqual.builder.dockerfile.words import expand, split
from rorqual.daemon.services.images.changes import apply
from rorqual.errdefs import InvalidArgument


def test_each_instruction_sets_its_field() -> None:
    config = apply(
        ContainerConfig(),
        [
            'CMD ["cat", "/x"]',
            "ENV A=1 B='two words'",
            'ENV C="$A-${B}" A=2 D=$A',
            "EXPOSE 80 53/udp 8000-8002",
            'LABEL a.b="c d" e=f',
            "USER app:app",
            'VOLUME ["/data", "/more"]',
            "WORKDIR /srv",
            "WORKDIR sub/../dir",
            "STOPSIGNAL SIGUSR1",
            "ONBUILD RUN make",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl localhost",
        ],
    )
    assert config == ContainerConfig(
        cmd=("cat", "/x"),
        env=("A=2", "B=two words", "C=1-two words", "D=1"),
        exposed_ports={port: {} for port in ("80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp")},
        labels={"a.b": "c d", "e": "f"},
        user="app:app",
        volumes={"/data": {}, "/more": {}},
        working_dir="/srv/dir",
        stop_signal="SIGUSR1",
        on_build=("RUN make",),
        healthcheck=HealthConfig(("CMD-SHELL", "curl localhost"), 90 * 10**9, 0, 0, 0, 2),
    )


def test_env_replaces_a_variable_where_it_is() -> None:
    config = apply(ContainerConfig(env=("PATH=/bin", "X=old")), ["ENV PATH=$PATH:/sbin", "ENV X new value"])
    assert config.env == ("PATH=/bin:/sbin", "X=new value")


def test_a_new_entrypoint_forgets_the_old_command_unless_a_new_one_was_given() -> None:
    old = ContainerConfig(cmd=("old",))
    assert apply(old, ["ENTRYPOINT run it"]) == ContainerConfig(entrypoint=("/bin/sh", "-c", "run it"))
    assert apply(old, ["CMD new", "ENTRYPOINT x"]).cmd == ("/bin/sh", "-c", "new")


def test_lines_are_continued_and_comments_left_out() -> None:
    assert apply(ContainerConfig(), ["ENV A=1 \\\n  B=2\n# no\nUSER me"]) == ContainerConfig(
        env=("A=1", "B=2"), user="me"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("RUN true", "RUN is not a valid change command"),
        ("COPY a b", "COPY is not a valid change command"),
        ("USER", "USER requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "can't find = in"),
        ("ENV A='x", "single-quote"),
        ("EXPOSE 0", "invalid containerPort: 0"),
        ("EXPOSE http", "invalid containerPort: http"),
        ("STOPSIGNAL NOPE", "invalid signal"),
        ("HEALTHCHECK MAYBE", "Unknown type"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ONBUILD x", "Chaining ONBUILD"),
    ],
)
def test_what_is_wrong_is_refused(change: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        apply(ContainerConfig(), [change])


def test_words_keep_quotes_until_they_are_expanded() -> None:
    assert split("a 'b c' \"d e\"f g\\ h") == ["a", "'b c'", '"d e"f', "g\\ h"]
    assert expand("'$A'\"$A\"${A:-x}${N:-d}${N:+no}${A:+yes}$", {"A": "v"}) == "$Avvdyes$"
    for broken in ("${A", "${}", "${A^x}", '"open'):
        with pytest.raises(InvalidArgument):
            expand(broken, {"A": "v"})
