"""What attempts may run: the executors that ship with the board, and those an administrator added.

An executor is an argument list. `{prompt}` inside an argument stands for the prompt, `{session}` in the
arguments of a follow-up for the agent's own session; where no argument has `{prompt}`, the prompt arrives on
standard input. A row of the table Executor goes before a shipped one of the same name.
"""

import fnmatch
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypedDict

from tasks import permissions
from tasks.errors import Refused
from tasks.models import Executor

_DEMO_PROGRAM: Final = str(Path(__file__).resolve().parent / "agents" / "demo.py")
DEMO: Final = "demo"
SCRIPT: Final = "script"
SHELL: Final = "/bin/sh"

# What every program may see of the server's environment: where things are, not what opens them.
_BASE_ENVIRONMENT: Final = (
    *("PATH", "HOME", "LANG", "LANGUAGE", "LC_*", "TERM", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR"),
    *("XDG_*", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)


@dataclass(frozen=True, slots=True)
class Command:
    """A program ready to start: `stdin` is the text for its standard input, None for none."""

    argv: list[str]
    stdin: str | None


@dataclass(frozen=True, slots=True)
class Definition:
    name: str
    argv: Sequence[str]
    resume_argv: Sequence[str] = ()
    output_format: str = Executor.OutputFormat.TEXT
    env: Sequence[str] = ()
    builtin: bool = field(default=False, compare=False)
    enabled: bool = True


class Availability(TypedDict):
    name: str
    installed: bool
    builtin: bool
    reason: str


def _shipped(name: str, argv: Sequence[str], **rest: Sequence[str]) -> Definition:
    return Definition(name, argv, builtin=True, **rest)  # type: ignore[arg-type]


_CLAUDE = (
    *("claude", "--print", "--verbose", "--output-format", "stream-json"),
    *("--permission-mode", "acceptEdits"),
)
_CODEX = ("codex", "exec", "--json", "--sandbox", "workspace-write")
# A worktree is a folder that Gemini does not know yet, and in one that it does not trust it edits nothing.
_GEMINI = ("gemini", "--skip-trust", "--approval-mode", "auto_edit", "--output-format", "stream-json")
_OPENCODE = ("opencode", "run", "--format", "json")

BUILTIN: Final = {
    definition.name: definition
    for definition in (
        _shipped(DEMO, (sys.executable, "-X", "utf8", _DEMO_PROGRAM), env=("VIBE_DEMO_SECONDS",)),
        _shipped(SCRIPT, (SHELL, "{script}")),
        _shipped(
            "claude",
            _CLAUDE,
            resume_argv=(*_CLAUDE, "--resume", "{session}"),
            output_format=Executor.OutputFormat.CLAUDE,
            env=("ANTHROPIC_*", "CLAUDE_*"),
        ),
        _shipped(
            "codex",
            (*_CODEX, "-"),
            resume_argv=(*_CODEX, "resume", "{session}", "-"),
            output_format=Executor.OutputFormat.CODEX,
            env=("OPENAI_*", "CODEX_*"),
        ),
        _shipped(
            "gemini",
            _GEMINI,
            resume_argv=(*_GEMINI, "--resume", "{session}"),
            output_format=Executor.OutputFormat.GEMINI,
            env=("GEMINI_*", "GOOGLE_*"),
        ),
        _shipped(
            "opencode",
            _OPENCODE,
            resume_argv=(*_OPENCODE, "--session", "{session}"),
            output_format=Executor.OutputFormat.OPENCODE,
            env=("OPENCODE_*",),
        ),
    )
}


def definitions() -> dict[str, Definition]:
    """All executors by name, also those that are not installed or not enabled."""
    rows = {row.name: _of_row(row) for row in Executor.objects.all()}
    return BUILTIN | rows


def styles() -> dict[str, str]:
    """How the output of each reads (Executor.OutputFormat); of those too that are switched off, for their logs stay."""
    return {name: str(found.output_format) for name, found in definitions().items()}


def find(name: str) -> Definition:
    """Raises Refused for a name that does not exist or that an administrator switched off."""
    row = Executor.objects.filter(name=name).first()
    found = _of_row(row) if row else BUILTIN.get(name)
    if found is None:
        raise Refused(f"There is no executor called {name!r}. There are: {', '.join(definitions())}.", 422)
    if not found.enabled:
        raise Refused(f"The executor {name!r} is switched off.", 422)
    return found


def _of_row(row: Executor) -> Definition:
    return Definition(row.name, row.argv, row.resume_argv, row.output_format, row.env, enabled=row.enabled)


def why_not_installed(definition: Definition) -> str:
    """Empty where its program is there."""
    program = definition.argv[0]
    if shutil.which(program):
        return ""
    return (
        f"{program} is not on the PATH of the server."
        if os.sep not in program
        else f"{program} is not there."
    )


def available(known: Mapping[str, Definition] | None = None) -> list[Availability]:
    """Every executor that is switched on, installed or not; of `known`, where the caller has the definitions."""
    return [
        Availability(
            name=name,
            installed=not (reason := why_not_installed(found)),
            builtin=found.builtin,
            reason=reason,
        )
        for name, found in (definitions() if known is None else known).items()
        if found.enabled
    ]


def missing(offered: Iterable[Availability]) -> list[Availability]:
    """Those that are switched on but not installed, with the reason."""
    return [found for found in offered if not found["installed"]]


def startable(user: permissions.Caller, offered: Iterable[Availability] | None = None) -> list[str]:
    """The names that this person may start on this machine now; those that need no agent come last."""
    if not permissions.has(user, permissions.START_RUN):
        return []
    offered = available() if offered is None else offered
    scripts = user.has_perm(permissions.RUN_SCRIPT)
    names = [
        found["name"] for found in offered if found["installed"] and (scripts or found["name"] != SCRIPT)
    ]
    return sorted(names, key=lambda name: name in (DEMO, SCRIPT))


def build_command(definition: Definition, prompt: str, session: str, script: str) -> Command:
    """The arguments for one run. `session` is empty for a first run; `script` is the file for a script's text."""
    resumed = bool(session and definition.resume_argv)
    template = definition.resume_argv if resumed else definition.argv
    if definition.builtin and definition.name == SCRIPT:
        return Command([SHELL, script], None)
    values = {"{prompt}": prompt, "{session}": session}
    argv = [_filled(argument, values) for argument in template]
    in_arguments = any("{prompt}" in argument for argument in template)
    return Command(argv, None if in_arguments else prompt)


def _filled(argument: str, values: dict[str, str]) -> str:
    """One pass, so that a prompt that itself says {session} stays as it is."""
    before, found, after = argument, "", ""
    for name in values:
        head, mark, tail = argument.partition(name)
        if mark and len(head) < len(before):
            before, found, after = head, name, tail
    return before + values[found] + _filled(after, values) if found else argument


def environment(names: Sequence[str] = ()) -> dict[str, str]:
    """The part of the server's environment that a program may see; `names` are patterns of more of it."""
    allowed = (*_BASE_ENVIRONMENT, *names)
    return {
        key: value
        for key, value in os.environ.items()
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in allowed)
    }
