"""A stage's instructions.

    RUN      a container, its changes a layer
    COPY ADD files straight into a layer's tar: neither a container nor a comparison
    others   a new config on the same layers

Source: Dockerfile reference; what history shows as moby's builder/dockerfile.
"""

from __future__ import annotations

import asyncio
import json
import posixpath
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from rorqual.api.config import ContainerConfig, HostConfig
from rorqual.builder import copying
from rorqual.builder.dockerfile import words
from rorqual.builder.dockerfile.mounts import parse as parse_mount
from rorqual.builder.dockerfile.parser import Instruction
from rorqual.builder.dockerfile.stages import Stage
from rorqual.daemon.services.build import runmounts
from rorqual.daemon.services.build.images import State
from rorqual.daemon.services.build.session import Arguments, Session
from rorqual.daemon.services.containers.archive import user_ids
from rorqual.daemon.services.images.changes import ConfigEditor
from rorqual.daemon.services.images.making import MadeLayer
from rorqual.distribution.pack import Stream
from rorqual.errdefs import Error, InvalidArgument, NotFound
from rorqual.patterns import Ignore

_PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
# Given by every build, used in RUN without being declared, and no part of what is looked for in the cache.
PROXIES = frozenset((*_PROXY_NAMES, *(name.lower() for name in _PROXY_NAMES)))
_SHELL = ("/bin/sh", "-c")
_FLAGS: dict[str, frozenset[str]] = {
    "ADD": frozenset(("chown", "chmod", "checksum", "link", "exclude")),
    "COPY": frozenset(("from", "chown", "chmod", "link", "exclude", "parents")),
    "HEALTHCHECK": frozenset(("interval", "timeout", "start-period", "start-interval", "retries")),
    "RUN": frozenset(("network", "mount")),
}
_NEEDS_SESSION = frozenset((("RUN", "mount"), ("COPY", "parents")))
_NEEDS_BUILDKIT = frozenset((("RUN", "security"), ("RUN", "device"), ("ADD", "keep-git-dir")))
_NETWORKS = ("default", "none", "host")


class CommandFailed(Error):
    """A RUN that ended otherwise than with 0."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"The command '{command}' returned a non-zero code: {code}")
        self.command = command
        self.code = code


class StageBuild:
    """A stage under way; `state` is what its instructions have come to."""

    def __init__(self, session: Session, stage: Stage, state: State, inherited: Arguments) -> None:
        self._session = session
        self._stage = stage
        self._inherited = inherited
        self._arguments = Arguments()
        self._cmd_set = False
        self._client = session.options.client is not None
        self.state = state

    async def do(self, instruction: Instruction) -> None:
        """One instruction. Raises: InvalidArgument, CommandFailed, NotFound, what the engine's parts raise."""
        name = instruction.name
        for flag, _ in instruction.flags:
            if (name, flag) in _NEEDS_BUILDKIT or ((name, flag) in _NEEDS_SESSION and not self._client):
                raise InvalidArgument(
                    f"the --{flag} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn "
                    "how to build images with BuildKit enabled"
                )
            if flag not in _FLAGS.get(name, ()):
                raise InvalidArgument(f"unknown flag: --{flag}")
        if name == "RUN":
            await self._run(instruction)
        elif name in ("COPY", "ADD"):
            await self._copy(instruction)
        elif name == "ARG":
            variables = self._editor().variables()
            self._session.declare(instruction, self._arguments, variables, self._inherited.known())
            await self._configured(self.state.config, f"ARG {instruction.text}")
        elif name == "WORKDIR":
            await self._workdir(instruction)
        elif name == "MAINTAINER":
            self.state = replace(self.state, author=instruction.text)
            await self._configured(self.state.config, f"MAINTAINER {instruction.text}")
        else:
            await self._edit(instruction)

    async def label(self, labels: Mapping[str, str], text: str) -> None:
        """The labels that were asked for beside the Dockerfile's."""
        config = replace(self.state.config, labels={**(self.state.config.labels or {}), **labels})
        await self._configured(config, text)

    # ---- the config ----

    def _editor(self) -> ConfigEditor:
        escape = self._session.recipe.escape
        return ConfigEditor(self.state.config, self._arguments.known(), escape, cmd_set=self._cmd_set)

    async def _edit(self, instruction: Instruction) -> None:
        editor, before = self._editor(), self.state.config
        flags = "".join(f"--{name}={value} " for name, value in instruction.flags)
        editor.run(instruction.name, flags + instruction.text)
        self._cmd_set |= instruction.name == "CMD"
        await self._configured(editor.config, f"{instruction.name} {_shown(instruction, before, editor.config)}")

    async def _configured(self, config: ContainerConfig, text: str) -> None:
        made_by = self._nothing(text)
        found = await self._known(config, made_by)
        self.state = found or await self._session.images.made(self.state, config, made_by, None)

    async def _known(self, config: ContainerConfig, made_by: str) -> State | None:
        """The step's image, when it was made before."""
        if self._stage.name in self._session.options.uncached:
            return None
        return await self._session.cached(self.state, config, made_by)

    def _nothing(self, text: str) -> str:
        """What history shows of a step that ran nothing."""
        return f"{' '.join(self.state.config.shell or _SHELL)} #(nop)  {text}"

    # ---- files ----

    async def _workdir(self, instruction: Instruction) -> None:
        editor = self._editor()
        editor.run("WORKDIR", instruction.text)
        made_by = self._nothing(f"WORKDIR {editor.config.working_dir}")
        found = await self._known(editor.config, made_by)
        if found is not None:
            self.state = found
            return
        async with self._session.root(self.state.image) as root:
            copy = await asyncio.to_thread(copying.directory, editor.config.working_dir, root)
            layer = await self._layer(copy) if copy.parents else None
        await self._made(editor.config, made_by, layer)

    async def _made(self, config: ContainerConfig, made_by: str, layer: MadeLayer | None) -> None:
        try:
            self.state = await self._session.images.made(self.state, config, made_by, layer)
        except BaseException:
            if layer is not None:
                await asyncio.shield(self._session.parts.maker.drop(layer))
            raise

    async def _layer(self, copy: copying.Copy) -> MadeLayer:
        async with Stream(copy.pack) as stream:
            return await self._session.parts.maker.layer(aiter(stream))

    async def _copy(self, instruction: Instruction) -> None:
        editor, name = self._editor(), instruction.name
        flags = {flag: editor.expanded(value) for flag, value in instruction.flags if flag != "exclude"}
        listed = instruction.listed()
        split = list(listed) if listed is not None else words.split(instruction.text, self._session.recipe.escape)
        if len(split) < 2:
            raise InvalidArgument(
                f"{name} requires at least two arguments, but only one was provided. "
                "Destination could not be determined."
            )
        made, plain = self._heredocs(instruction, split[:-1], editor)
        destination = _absolute(editor.expanded(split[-1]), self.state.config.working_dir)
        async with AsyncExitStack() as stack:
            target = await stack.enter_async_context(self._session.root(self.state.image))
            sources = await self._sources(name, [editor.expanded(word) for word in plain], flags, stack)
            into = any(source.path == "/" and unpacked for source, unpacked in sources)
            copy = await asyncio.to_thread(
                copying.plan,
                [source for source, _ in sources],
                made,
                destination,
                target,
                what=name,
                into=into,
                keep_parents=flags.get("parents", "false") == "true",
            )
            stack.callback(copy.close)
            copy.keep_owner = "from" in flags
            if "chown" in flags:
                copy.owner = copying.Owner(*await asyncio.to_thread(_owner, target, flags["chown"]))
            copy.mode = _mode(flags["chmod"]) if "chmod" in flags else None
            excluded = [editor.expanded(value) for flag, value in instruction.flags if flag == "exclude"]
            copy.excluded = Ignore(excluded) if excluded else None
            digest = await asyncio.to_thread(copy.digest)
            made_by = self._nothing(f"{name} {_kind(copy)}:{digest} in {destination} ")
            found = await self._known(self.state.config, made_by)
            if found is not None:
                self.state = found
                return
            await self._made(self.state.config, made_by, await self._layer(copy))

    def _heredocs(
        self, instruction: Instruction, sources: Sequence[str], editor: ConfigEditor
    ) -> tuple[list[copying.Made], list[str]]:
        """The files that here-documents are, and the other sources."""
        heredocs = {("<<-" if one.chomp else "<<") + one.name: one for one in instruction.heredocs}
        made: list[copying.Made] = []
        plain: list[str] = []
        for source in sources:
            heredoc = heredocs.get(source.replace("'", "").replace('"', ""))
            if heredoc is None:
                plain.append(source)
                continue
            text = heredoc.content
            if heredoc.expand:
                text = words.expand_heredoc(text, editor.variables(), self._session.recipe.escape)
            made.append(copying.Made(heredoc.name, text.encode()))
        return made, plain

    async def _sources(
        self, name: str, given: Sequence[str], flags: Mapping[str, str], stack: AsyncExitStack
    ) -> list[tuple[copying.Source, bool]]:
        """Where each is, and whether it is what was in an archive; for as long as the stack is open."""
        context = self._session.context
        if (named := self._session.options.contexts.get(flags.get("from", ""))) is not None and named.root >= 0:
            return [(copying.Source(named.root, path), False) for path in given]
        if "from" in flags:
            image = await self._session.source(flags["from"], self._stage)
            root = await stack.enter_async_context(self._session.root(image)) if image is not None else None
            if root is None:
                raise NotFound(f"{name} failed: no source files were specified")
            return [(copying.Source(root, path), False) for path in given]
        urls = [path for path in given if name == "ADD" and path.startswith(("http://", "https://"))]
        if "checksum" in flags and len(urls) != len(given):
            raise InvalidArgument("checksum can't be specified for non-HTTP(S) sources")
        found: list[tuple[copying.Source, bool]] = []
        fetcher = self._session.parts.fetcher
        for path in given:
            if path in urls:
                file = await stack.enter_async_context(fetcher.file(path, flags.get("checksum", "")))
                found.append((file, False))
            elif posixpath.normpath(path.lstrip("/")).startswith(".."):
                raise InvalidArgument(f"{name} failed: forbidden path outside the build context: {path} ()")
            elif name == "ADD" and await asyncio.to_thread(copying.is_archive, context.root, path):
                inside = await stack.enter_async_context(fetcher.unpacked(context.root, path))
                found.append((copying.Source(inside, "/"), True))
            else:
                found.append((copying.Source(context.root, path, context.ignored), False))
        return found

    # ---- RUN ----

    async def _run(self, instruction: Instruction) -> None:
        network = dict(instruction.flags).get("network", "default")
        if network not in _NETWORKS:
            raise InvalidArgument(f"invalid network mode: {network}")
        command = self._command(instruction)
        flags = [value for flag, value in instruction.flags if flag == "mount"]
        mounts = [parse_mount(text, self._editor().expanded, self.state.config.working_dir) for text in flags]
        if self.state.image is None:
            raise InvalidArgument("RUN needs files: nothing was copied onto scratch yet")
        own = {entry.partition("=")[0] for entry in self.state.config.env or ()}
        given = {name: value for name, value in self._arguments.known().items() if name not in own}
        counted = sorted(f"{name}={value}" for name, value in given.items() if name not in PROXIES)
        made_by = " ".join([f"|{len(counted)}", *counted, *command] if counted else command)
        if key := await runmounts.key(self._session, self._stage, mounts):
            made_by += f" # mounts {key}"
        found = await self._known(self.state.config, made_by)
        if found is not None:
            self.state = found
            return
        for name, value in self._session.options.arguments.items():
            if name in PROXIES and value is not None and name not in own:
                given.setdefault(name, value)
        env = [*(self.state.config.env or ()), *(f"{name}={value}" for name, value in sorted(given.items()))]
        host = self._session.options.host
        if network != "default":
            host = replace(host, network_mode=network)
        async with runmounts.mounted(self._session, self._stage, self.state.id, mounts) as extra:
            host = replace(host, mounts=(*(host.mounts or ()), *extra.mounts) or None)
            await self._in_container(command, [*env, *extra.env], host, made_by, extra.stubs)

    def _command(self, instruction: Instruction) -> tuple[str, ...]:
        """RUN's words; a here-document is the script, or goes behind the command that it is for."""
        shell = self.state.config.shell or _SHELL
        if not instruction.heredocs:
            return self._editor().command(instruction.text)
        first = instruction.heredocs[0]
        if len(instruction.text.split()) > 1:
            documents = [one.content + one.name for one in instruction.heredocs]
            return (*shell, "\n".join([instruction.text, *documents]) + "\n")
        if not first.content.startswith("#!"):
            return (*shell, first.content)
        # Run by its own interpreter, as a file.
        quoted = "'" + first.content.replace("'", "'\\''") + "'"
        return (*shell, f"f=$(mktemp) && printf %s {quoted} >$f && chmod +x $f && $f; r=$?; rm -f $f; exit $r")

    async def _in_container(
        self, command: Sequence[str], env: Sequence[str], host: HostConfig, made_by: str, stubs: Sequence[str]
    ) -> None:
        parts, options, teller = self._session.parts, self._session.options, self._session.teller
        container = await parts.runner.create(self.state.id, self.state.config, command, env, host)
        await teller.running(container.short_id)
        remove = options.force_remove
        try:
            code = await parts.runner.run(container, teller)
            if code:
                raise CommandFailed(" ".join(command), code)
            await runmounts.unstub(self._session, container.snapshot_key, stubs)
            await self._made(self.state.config, made_by, await parts.committer.layer(container, pause=False))
            remove = remove or options.remove
        finally:
            await asyncio.shield(parts.runner.remove(container) if remove else parts.runner.keep(container))
        if remove:
            await teller.removed(container.short_id)


def _owner(root: int | None, text: str) -> tuple[int, int]:
    """Of --chown: a user alone stands for its group too, a number for the same number."""
    name, colon, _ = text.partition(":")
    if not colon and name.isdecimal():
        text = f"{name}:{name}"
    return user_ids(root, text)


def _kind(copy: copying.Copy) -> str:
    if len(copy.items) + len(copy.made) != 1:
        return "multi"
    return "dir" if copy.items and not copy.items[0].name else "file"


def _absolute(destination: str, working_dir: str) -> str:
    """A destination in the image, its last slash kept."""
    slash = "/" if destination.endswith(("/", "/.", "/..")) or destination in (".", "..") else ""
    whole = posixpath.normpath(posixpath.join(working_dir or "/", destination))
    return whole if whole == "/" else f"{whole}{slash}"


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise InvalidArgument(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
    return mode


def _shown(instruction: Instruction, before: ContainerConfig, after: ContainerConfig) -> str:
    """What history shows of an instruction: a command as the list that it became."""
    lists = {"CMD": after.cmd, "ENTRYPOINT": after.entrypoint, "SHELL": after.shell}
    if (kept := lists.get(instruction.name)) is not None:
        return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in kept) + "]"
    if instruction.name not in ("ENV", "LABEL"):
        return instruction.text
    if instruction.name == "LABEL":
        old, new = dict(before.labels or {}), dict(after.labels or {})
    else:
        old, new = _pairs(before.env), _pairs(after.env)
    changed = [f"{name}={value}" for name, value in new.items() if old.get(name) != value]
    return " ".join(changed) or instruction.text


def _pairs(env: Sequence[str] | None) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in env or ())}
