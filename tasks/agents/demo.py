"""The demo agent: a real program that works on a real repository for about half a minute.

It needs no account, no network and nothing but the standard library and git. It edits, creates, renames
and deletes files, commits, and prints as agents do: colours, a progress bar, standard output and error.
`VIBE_DEMO_SECONDS` is how long it takes (default 30). The prompt arrives on standard input; a follow-up
finds what an earlier run left and goes on from there.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

BOLD, DIM, RED, GREEN, YELLOW, BLUE, OFF = (
    f"\x1b[{code}m" for code in ("1", "2", "31", "32", "33", "34", "0")
)
NOTES = Path("docs/agent-notes.md")
STEPS = 60  # pauses in all: the time is spread over them


def main() -> int:
    prompt = sys.stdin.read().strip() or "Look around and improve something."
    say(f"{BOLD}Demo agent{OFF} in {os.getcwd()}")
    say(f"{BLUE}Task:{OFF} {prompt.splitlines()[0][:200]}")
    survey()
    round_number = 1 + sum(NOTES.read_text().count(mark) for mark in ("## Round",)) if NOTES.exists() else 1
    write_greeter(round_number)
    commit(f"Add a greeter (round {round_number})")
    edit_readme(round_number, prompt)
    progress("Running checks")
    warn("greeter.py: no test covers the empty name, adding one")
    add_test(round_number)
    tidy()
    commit(f"Rename, tidy and test (round {round_number})")
    take_notes(round_number, prompt)
    say(f"{GREEN}Done.{OFF} Two commits, and notes that are not committed yet: look at the diff.")
    return 0


def pause(steps: int = 1) -> None:
    time.sleep(float(os.environ.get("VIBE_DEMO_SECONDS") or 30) / STEPS * steps)


def say(text: str) -> None:
    print(text, flush=True)
    pause()


def warn(text: str) -> None:
    print(f"{YELLOW}warning:{OFF} {text}", file=sys.stderr, flush=True)
    pause()


def survey() -> None:
    files = git("ls-files").splitlines()
    say(f"Reading {len(files)} files")
    for name in files[:12]:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            lines = Path(name).read_text().count("\n")
            say(f"  {DIM}{lines:5d}{OFF} {name}")


def write_greeter(round_number: int) -> None:
    path = Path(f"src/greeter{round_number if round_number > 1 else ''}.py")
    say(f"{GREEN}create{OFF} {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        '"""Greets people, one after the other."""',
        "",
        "",
        "def greet(name: str) -> str:",
        '    """A greeting; strangers are greeted too."""',
        "    return f\"Hello, {name or 'stranger'}!\"",
        "",
        "",
        'if __name__ == "__main__":',
        '    for name in ("Ada", "Grace", ""):',
        "        print(greet(name))",
    ]
    # Line by line, so that whoever looks on sees the diff grow.
    for end in range(3, len(lines) + 1, 2):
        path.write_text("\n".join(lines[:end]) + "\n")
        pause()
    path.write_text("\n".join(lines) + "\n")
    say(f"{DIM}$ python3 {path}{OFF}")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        say(f"  {line}")
    for line in done.stderr.splitlines():
        warn(line)


def edit_readme(round_number: int, prompt: str) -> None:
    path = Path("README.md")
    say(f"{YELLOW}edit{OFF}   {path}")
    text = path.read_text() if path.exists() else "# Project\n"
    heading = prompt.splitlines()[0][:80]
    path.write_text(f"{text.rstrip()}\n\n## What changed in round {round_number}\n\n- {heading}\n")
    pause(2)


def progress(title: str) -> None:
    width = 24
    for done in range(width + 1):
        bar = "█" * done + "░" * (width - done)
        print(f"\r{title} {BLUE}{bar}{OFF} {done * 100 // width:3d}%", end="", flush=True)
        pause()
    print(flush=True)


def add_test(round_number: int) -> None:
    path = Path(f"tests/test_greeter{round_number if round_number > 1 else ''}.py")
    say(f"{GREEN}create{OFF} {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    module = f"greeter{round_number if round_number > 1 else ''}"
    path.write_text(
        f"from src.{module} import greet\n\n\n"
        'def test_strangers_are_greeted() -> None:\n    assert greet("") == "Hello, stranger!"\n'
    )
    pause()


def tidy() -> None:
    old, new = Path("src/util.py"), Path("src/text.py")
    if old.exists() and not new.exists():
        say(f"{BLUE}rename{OFF} {old} → {new}")
        git("mv", str(old), str(new))
        user = Path("src/count.py")
        user.write_text(user.read_text().replace("from util import", "from text import"))
    unused = Path("src/legacy.js")
    if unused.exists():
        say(f"{RED}delete{OFF} {unused}")
        unused.unlink()
    pause()


def take_notes(round_number: int, prompt: str) -> None:
    say(f"{YELLOW}edit{OFF}   {NOTES}")
    NOTES.parent.mkdir(parents=True, exist_ok=True)
    before = NOTES.read_text() if NOTES.exists() else "# Notes of the demo agent\n"
    NOTES.write_text(f"{before}\n## Round {round_number}\n\nAsked for:\n\n> {prompt.splitlines()[0][:200]}\n")


def commit(message: str) -> None:
    git("add", "--all")
    if git("status", "--porcelain"):
        git("commit", "--quiet", "--no-verify", "-m", message)
        say(f"{GREEN}commit{OFF} {git('rev-parse', '--short', 'HEAD').strip()} {message}")


def git(*args: str) -> str:
    identity = ["-c", "user.name=Demo agent", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *args], capture_output=True, text=True)
    if done.returncode:
        print(f"{RED}git {args[0]} failed:{OFF} {done.stderr.strip()}", file=sys.stderr, flush=True)
        sys.exit(1)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
