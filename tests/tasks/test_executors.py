"""What may be started, with which arguments, seeing what."""

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command

from tasks import executors
from tasks.errors import Refused
from tasks.models import Executor

pytestmark = pytest.mark.django_db


def command(*words: str) -> str:
    said = StringIO()
    call_command("executor", *words, stdout=said)
    return said.getvalue().strip()


def test_the_command_adds_and_changes_an_executor() -> None:
    assert command("tests", "--", "make", "-k", "--", "test") == "Added tests."
    assert Executor.objects.get(name="tests").argv == ["make", "-k", "--", "test"]
    assert command("--format", "claude", "--env", "KEY", "tests", "--", "run", "--help") == "Changed tests."
    row = Executor.objects.get(name="tests")
    assert (row.argv, row.output_format, row.env) == (["run", "--help"], "claude", ["KEY"])
    assert command("--remove", "tests") == "Removed tests."


def test_options_may_stand_behind_the_name() -> None:
    command("--env", "A", "mine", "--env", "B_*", "--format", "codex", "--", "run", "--env", "C")
    row = Executor.objects.get(name="mine")
    assert (row.argv, row.output_format, row.env) == (["run", "--env", "C"], "codex", ["A", "B_*"])
    assert command("mine", "--remove") == "Removed mine."


@pytest.mark.parametrize(
    "words",
    [
        ["name"],
        ["name", "--"],
        ["bad name", "--", "x"],
        ["name", "make", "test"],
        ["name", "--wrong", "--", "x"],
        ["name", "--format", "none", "--", "x"],
    ],
)
def test_the_command_refuses_what_is_no_executor(words: list[str]) -> None:
    with pytest.raises(CommandError):
        command(*words)
    assert not Executor.objects.exists()


def test_a_row_goes_before_a_shipped_executor() -> None:
    Executor.objects.create(name="claude", argv=["/bin/echo"])
    assert executors.find("claude").argv == ["/bin/echo"]
    Executor.objects.update(enabled=False)
    with pytest.raises(Refused, match="switched off"):
        executors.find("claude")
    assert "claude" not in [found["name"] for found in executors.available()]


def test_what_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = {one["name"]: one for one in executors.available()}
    assert found["gemini"]["installed"] is False
    assert "gemini is not on the PATH" in found["gemini"]["reason"]
    assert found["demo"]["installed"] and found["script"]["installed"]


def test_who_may_start_what() -> None:
    user = User.objects.create_user("ada")
    assert executors.startable(user) == []
    user.user_permissions.add(Permission.objects.get(codename="start_run"))
    assert "script" not in executors.startable(User.objects.get(pk=user.pk))
    assert "demo" in executors.startable(User.objects.get(pk=user.pk))
    user.user_permissions.add(Permission.objects.get(codename="run_script"))
    assert "script" in executors.startable(User.objects.get(pk=user.pk))


@pytest.mark.parametrize(
    ("argv", "prompt", "expected", "stdin"),
    [
        (["agent", "{prompt}"], "do it", ["agent", "do it"], None),
        (
            ["agent", "--ask={prompt}!"],
            "a {prompt} {session}",
            ["agent", "--ask=a {prompt} {session}!"],
            None,
        ),
        (["agent"], "do it", ["agent"], "do it"),
        (["agent", "{other}"], "x", ["agent", "{other}"], "x"),
        (["agent", "{prompt}"], "-rf; $(x) `y`", ["agent", "-rf; $(x) `y`"], None),
    ],
)
def test_the_prompt_is_put_where_it_belongs(
    argv: list[str], prompt: str, expected: list[str], stdin: str | None
) -> None:
    built = executors.build_command(executors.Definition("agent", argv), prompt, "", "script.sh")
    assert (built.argv, built.stdin) == (expected, stdin)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("claude", ["--resume", "s-1"]),
        ("codex", ["resume", "s-1", "-"]),
        ("gemini", ["--resume", "s-1"]),
        ("opencode", ["--session", "s-1"]),
    ],
)
def test_a_follow_up_continues_the_session_where_there_is_one(name: str, words: list[str]) -> None:
    agent = executors.BUILTIN[name]
    first = executors.build_command(agent, "hello", "", "script.sh")
    second = executors.build_command(agent, "and now", "s-1", "script.sh")
    assert words[0] not in first.argv
    assert second.argv[-len(words) :] == words
    # Not an argument: others on the machine see those, and their length is limited.
    assert (first.stdin, second.stdin) == ("hello", "and now")


def test_the_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "SECRET_KEY",
        "DATABASE_URL",
        "VIBE_DATA",
        "AWS_SECRET",
        "OPENAI_API_KEY",
        "LC_TIME",
        "GIT_DIR",
    ):
        monkeypatch.setenv(name, "x")
    plain: Any = executors.environment()
    assert {"SECRET_KEY", "DATABASE_URL", "VIBE_DATA", "AWS_SECRET", "OPENAI_API_KEY", "GIT_DIR"}.isdisjoint(
        plain
    )
    assert "PATH" in plain and "LC_TIME" in plain
    assert "OPENAI_API_KEY" in executors.environment(["OPENAI_*"])
