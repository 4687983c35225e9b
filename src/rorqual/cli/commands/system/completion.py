"""`rorqual completion`: a script for bash, zsh or fish. It asks `rorqual __complete` for words."""

from __future__ import annotations

import sys

from rorqual.cli.command import ONE_ARG, PROGRAM, Command, Context
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

_BASH = """# bash completion for {program}
_{program}() {{
    local IFS=$'\\n' line
    COMPREPLY=()
    while read -r line; do
        COMPREPLY+=("${{line%%$'\\t'*}}")
    done < <({program} __complete "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null)
    if [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *= ]]; then
        compopt -o nospace
    fi
}}
complete -o bashdefault -o default -F _{program} {program} rq
"""
_ZSH = """#compdef {program} rq
_{program}() {{
    local -a words_ found
    local line
    while IFS= read -r line; do
        found+=("${{${{line%%$'\\t'*}}//:/\\\\:}}:${{line#*$'\\t'}}")
    done < <({program} __complete "${{(@)words[2,CURRENT]}}" 2>/dev/null)
    if (( ${{#found}} )); then
        _describe '{program}' found
    else
        _files
    fi
}}
compdef _{program} {program} rq
"""
_FISH = """# fish completion for {program}
function __{program}_complete
    set -l words (commandline -opc) (commandline -ct)
    {program} __complete $words[2..-1] 2>/dev/null
end
complete -c {program} -a '(__{program}_complete)'
complete -c rq -a '(__{program}_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run(context: Context, flags: Values, args: list[str]) -> None:
    script = _SCRIPTS.get(args[0])
    if script is None:
        raise CommandError(f'unsupported shell "{args[0]}": must be one of "bash", "zsh" or "fish"')
    sys.stdout.write(script.format(program=PROGRAM))


COMMAND = Command(
    "bash|zsh|fish",
    "Generate the autocompletion script for the specified shell",
    run,
    args=ONE_ARG,
)
