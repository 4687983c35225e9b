"""Dockerfile instructions that set an image's config: a build's, and --change of commit and import.

Source: Engine API ImageCommit and ImageCreate; Dockerfile reference; texts as moby's builder/dockerfile.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rorqual.api.config import ContainerConfig, HealthConfig
from rorqual.builder.dockerfile.parser import json_list
from rorqual.builder.dockerfile.words import expand, split
from rorqual.daemon.services import signals
from rorqual.errdefs import InvalidArgument

_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(?:\d+(?:-\d+)?)(?:/(?:tcp|udp|sctp))?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNIT_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_MAX_BYTES = 256 << 10


def apply(config: ContainerConfig, changes: Sequence[str]) -> ContainerConfig:
    """`config` after the instructions. Raises: InvalidArgument with Docker's texts."""
    if sum(map(len, changes)) > _MAX_BYTES:
        raise InvalidArgument(f"changes of more than {_MAX_BYTES} bytes")
    editor = ConfigEditor(config)
    for line in _lines(changes):
        name, _, rest = line.partition(" ")
        if name.upper() not in editor.instructions or name.upper() == "SHELL":
            raise InvalidArgument(f"{name} is not a valid change command")
        editor.run(name.upper(), rest.strip())
    return editor.config


def _lines(changes: Sequence[str]) -> list[str]:
    """One instruction each; a backslash at a line's end continues it, comments are left out."""
    found: list[str] = []
    pending = ""
    for line in "\n".join(changes).splitlines():
        if line.lstrip().startswith("#") or not (line.strip() or pending):
            continue
        pending += line.rstrip()
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        found.append(pending.strip())
        pending = ""
    if pending.strip():
        found.append(pending.strip())
    return found


class ConfigEditor:
    """A config under its instructions. `arguments` are variables beside the config's own, which go before them.

    `cmd_set`: CMD was among the instructions before these, so that an ENTRYPOINT leaves it.
    """

    def __init__(
        self,
        config: ContainerConfig,
        arguments: Mapping[str, str] | None = None,
        escape: str = "\\",
        *,
        cmd_set: bool = False,
    ) -> None:
        self.config = config
        self.arguments = dict(arguments or {})
        self._escape = escape
        self._cmd_set = cmd_set
        self.instructions: dict[str, Callable[[str], None]] = {
            "CMD": self._cmd,
            "ENTRYPOINT": self._entrypoint,
            "ENV": self._env,
            "EXPOSE": self._expose,
            "HEALTHCHECK": self._healthcheck,
            "LABEL": self._label,
            "ONBUILD": self._onbuild,
            "SHELL": self._shell,
            "STOPSIGNAL": self._stopsignal,
            "USER": self._user,
            "VOLUME": self._volume,
            "WORKDIR": self._workdir,
        }

    def run(self, name: str, text: str) -> None:
        """One of `instructions`. Raises: InvalidArgument."""
        if not text and name not in ("CMD", "ENTRYPOINT"):
            raise InvalidArgument(f"{name} requires at least one argument")
        self.instructions[name](text)

    def variables(self) -> dict[str, str]:
        """What $name stands for."""
        pairs = (entry.partition("=") for entry in self.config.env or ())
        return {**self.arguments, **{name: value for name, _, value in pairs}}

    def expanded(self, text: str) -> str:
        """A text with its variables replaced and its quotes taken away. Raises: InvalidArgument."""
        return expand(text, self.variables(), self._escape)

    def command(self, text: str) -> tuple[str, ...]:
        """The exec form as it is, the shell form behind the shell."""
        listed = json_list(text)
        if listed is not None:
            return listed
        return (*(self.config.shell or _SHELL), text) if text else ()

    def _cmd(self, text: str) -> None:
        self._cmd_set = True
        self.config = replace(self.config, cmd=self.command(text))

    def _entrypoint(self, text: str) -> None:
        cmd = self.config.cmd if self._cmd_set else None
        self.config = replace(self.config, entrypoint=self.command(text) or None, cmd=cmd)

    def _pairs(self, text: str, name: str) -> list[tuple[str, str]]:
        """`A=b C="d e"`, or the older `A b c`, which takes the whole rest."""
        words = split(text, self._escape)
        if "=" not in words[0]:
            key, _, value = text.partition(" ")
            if not value.strip():
                raise InvalidArgument(f"{name} must have two arguments")
            return [(self.expanded(key), self.expanded(value.strip()))]
        found: list[tuple[str, str]] = []
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise InvalidArgument(
                    f"Syntax error - can't find = in {json.dumps(word)}. Must be of the form: name=value"
                )
            key = self.expanded(key)
            if not key:
                raise InvalidArgument(f"{name} names can not be blank")
            found.append((key, self.expanded(value)))
        return found

    def _env(self, text: str) -> None:
        env = list(self.config.env or ())
        for key, value in self._pairs(text, "ENV"):
            entry = f"{key}={value}"
            for number, old in enumerate(env):
                if old.partition("=")[0] == key:
                    env[number] = entry
                    break
            else:
                env.append(entry)
        self.config = replace(self.config, env=tuple(env))

    def _label(self, text: str) -> None:
        self.config = replace(self.config, labels={**(self.config.labels or {}), **dict(self._pairs(text, "LABEL"))})

    def _expose(self, text: str) -> None:
        ports = dict(self.config.exposed_ports or {})
        for word in split(text, self._escape):
            spec = self.expanded(word)
            if not _PORT.fullmatch(spec):
                raise InvalidArgument(f"invalid containerPort: {spec}")
            span, _, protocol = spec.partition("/")
            first, _, last = span.partition("-")
            low, high = int(first), int(last or first)
            if not 0 < low <= high <= 65535:
                raise InvalidArgument(f"invalid containerPort: {spec}")
            ports |= {f"{port}/{protocol.lower() or 'tcp'}": {} for port in range(low, high + 1)}
        self.config = replace(self.config, exposed_ports=ports)

    def _volume(self, text: str) -> None:
        volumes = dict(self.config.volumes or {})
        for word in json_list(text) or tuple(split(text, self._escape)):
            path = self.expanded(word).strip()
            if not path:
                raise InvalidArgument("VOLUME specified can not be an empty string")
            volumes[path] = {}
        self.config = replace(self.config, volumes=volumes)

    def _user(self, text: str) -> None:
        self.config = replace(self.config, user=self.expanded(text))

    def _workdir(self, text: str) -> None:
        path = posixpath.normpath(posixpath.join(self.config.working_dir or "/", self.expanded(text)))
        self.config = replace(self.config, working_dir=path)

    def _stopsignal(self, text: str) -> None:
        name = self.expanded(text)
        signals.parse(name)
        self.config = replace(self.config, stop_signal=name)

    def _shell(self, text: str) -> None:
        listed = json_list(text)
        if listed is None:
            raise InvalidArgument("SHELL requires the arguments to be in JSON form")
        if not listed:
            raise InvalidArgument("SHELL requires at least one argument")
        self.config = replace(self.config, shell=listed)

    def _onbuild(self, text: str) -> None:
        trigger = text.partition(" ")[0].upper()
        if trigger == "ONBUILD":
            raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
        if trigger in ("MAINTAINER", "FROM"):
            raise InvalidArgument(f"{trigger} isn't allowed as an ONBUILD trigger")
        self.config = replace(self.config, on_build=(*(self.config.on_build or ()), text))

    def _healthcheck(self, text: str) -> None:
        options: dict[str, str] = {}
        while match := re.match(r"--([a-z-]+)=(\S+)\s*", text):
            options[match[1]] = match[2]
            text = text[match.end() :]
        kind, _, rest = text.partition(" ")
        if kind.upper() == "NONE":
            self.config = replace(self.config, healthcheck=HealthConfig(test=("NONE",)))
            return
        if kind.upper() != "CMD":
            raise InvalidArgument(f"Unknown type {json.dumps(kind.upper())} in HEALTHCHECK (try CMD)")
        listed = json_list(rest.strip())
        test = ("CMD", *listed) if listed is not None else ("CMD-SHELL", rest.strip())
        if len(test) < 2 or not test[1]:
            raise InvalidArgument("Missing command after HEALTHCHECK CMD")
        times = {name: _duration_ns(options.pop(name, "0s")) for name in ("interval", "timeout", "start-period")}
        start_interval = _duration_ns(options.pop("start-interval", "0s"))
        retries = options.pop("retries", "0")
        if options or not retries.isdecimal():
            raise InvalidArgument(f"Unknown flag: {next(iter(options), 'retries')}")
        self.config = replace(
            self.config,
            healthcheck=HealthConfig(
                test, times["interval"], times["timeout"], times["start-period"], start_interval, int(retries)
            ),
        )


def _duration_ns(text: str) -> int:
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise InvalidArgument(f"time: invalid duration {json.dumps(text)}")
    return round(sum(float(number) * _UNIT_NS[unit] for number, unit in parts))
