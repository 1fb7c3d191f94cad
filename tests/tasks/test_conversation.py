"""Agents' own formats in the common shape. The samples were written by hand from the formats' documentation."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from django.test import Client

from tasks.board.pulse import last_line
from tasks.logs import conversation
from tasks.logs.runlogs import style_of
from tasks.models import ExecutionProcess, Executor, TaskAttempt
from tasks.runs import runfiles
from tasks.supervision.records import record

SAMPLES = Path(__file__).resolve().parent.parent / "data" / "conversations"
STAMP = "2026-01-01T00:00:00.000000Z"


def entries(name: str, style: str | None = None) -> list[dict[str, Any]]:
    lines = (SAMPLES / f"{name}.jsonl").read_text().splitlines()
    records = [{"type": "stdout", "content": line, "timestamp": STAMP} for line in lines]
    return [
        one for record in records for one in conversation.normalise(record, name if style is None else style)
    ]


def test_claude() -> None:
    found = entries("claude")
    assert [one["kind"] for one in found] == [
        *("system", "thinking", "message", "tool", "result", "tool", "result", "raw", "raw"),
        *("message", "usage"),
    ]
    said, tool, result = found[2], found[3], found[4]
    assert (said["role"], said["text"]) == ("assistant", "I'll look at the files first.")
    assert tool["tool"] == {
        "id": "toolu_01",
        "name": "Bash",
        "input": {"command": "ls", "description": "List files"},
    }
    assert (result["text"], result["result"]) == ("README.md\nsrc", {"id": "toolu_01", "is_error": False})
    assert found[6]["text"] == "File does not exist.\n(image not shown)"
    assert found[6]["result"]["is_error"] is True
    assert found[9]["text"] == "Done."
    assert found[10]["usage"] == {"input": 3612, "cached": 3600, "output": 180, "cost": 0.0123}


def test_codex() -> None:
    found = entries("codex")
    assert [one["kind"] for one in found] == [
        *("system", "thinking", "tool", "result", "tool", "result", "tool", "result", "tool", "result"),
        *("tool", "result", "tool", "result", "message", "raw", "usage", "error", "error"),
    ]
    assert found[2]["tool"] == {"id": "item_1", "name": "shell", "input": {"command": "bash -lc ls"}}
    assert (found[3]["text"], found[3]["result"]) == (
        "README.md\nsrc\n",
        {"id": "item_1", "is_error": False},
    )
    assert found[5]["result"] == {"id": "item_2", "is_error": True}
    assert found[7]["text"] == "update README.md\nadd src/new.py"
    assert (found[8]["tool"]["name"], found[9]["text"]) == ("docs.search", "3 results")
    assert found[11]["text"] == "[x] Read\n[ ] Write"
    assert found[16]["usage"] == {"input": 24763, "cached": 24448, "output": 122, "cost": None}
    assert [one["text"] for one in found[17:]] == [
        "The model is overloaded. (Try again later.)",
        "The model is overloaded.",
    ]


def test_gemini() -> None:
    found = entries("gemini")
    assert [one["kind"] for one in found] == [
        *("system", "message", "delta", "delta", "tool", "result", "tool", "result", "tool", "result"),
        *("system", "raw", "error", "usage"),
    ]
    assert [(one["role"], one["text"]) for one in found[1:4]] == [
        ("user", "Look at the files."),
        ("assistant", "I'll look at "),
        ("assistant", "the files first."),
    ]
    assert found[4]["tool"] == {
        "id": "list_directory-1-0",
        "name": "list_directory",
        "input": {"dir_path": "."},
    }
    assert (found[5]["text"], found[5]["result"]) == (
        "Listed 2 item(s).",
        {"id": "list_directory-1-0", "is_error": False},
    )
    assert (found[9]["text"], found[9]["result"]["is_error"]) == ("File not found.", True)
    assert found[12]["text"] == "Reached max session turns"
    assert found[13]["usage"] == {"input": 123, "cached": 6, "output": 18, "cost": None}


def test_opencode() -> None:
    found = entries("opencode")
    assert [one["kind"] for one in found] == [
        *("thinking", "message", "tool", "result", "tool", "result", "usage", "raw", "error", "error"),
    ]
    assert found[1]["text"] == "I'll look at the files first."
    assert found[2]["tool"] == {
        "id": "call_1",
        "name": "bash",
        "input": {"command": "ls", "description": "List files"},
    }
    assert (found[3]["text"], found[3]["result"]) == (
        "README.md\nsrc\n",
        {"id": "call_1", "is_error": False},
    )
    assert (found[5]["text"], found[5]["result"]) == (
        "File not found: none.txt",
        {"id": "call_2", "is_error": True},
    )
    assert found[6]["usage"] == {"input": 31, "cached": 5, "output": 8, "cost": 0.0021}
    assert [one["text"] for one in found[8:]] == ["The model is overloaded.", "MessageAbortedError"]


@pytest.mark.parametrize(
    ("rest", "told"),
    [("", "error_max_turns"), ('"errors":["No conversation found"],', "No conversation found")],
)
def test_an_error_result_of_claude_is_an_error(rest: str, told: str) -> None:
    line = '{"type":"result","subtype":"error_max_turns","is_error":true,' + rest + '"usage":{}}'
    found = conversation.normalise({"type": "stdout", "content": line, "timestamp": STAMP}, "claude")
    assert [(one["kind"], one["text"]) for one in found[:1]] == [("error", told)]


def test_a_command_that_codex_may_not_run_has_failed() -> None:
    item = '{"id":"item_1","type":"command_execution","command":"x","exit_code":null,"status":"declined"}'
    line = '{"type":"item.completed","item":' + item + "}"
    found = conversation.normalise({"type": "stdout", "content": line, "timestamp": STAMP}, "codex")
    assert [one["result"] for one in found] == [{"id": "item_1", "is_error": True}]


def test_a_text_that_was_cut_in_the_middle_of_a_character_is_shown() -> None:
    text = r"half \ud83d, and \uDE00 of \ud83d\ude00, not \\ud83d"
    line = '{"type":"assistant","message":{"role":"assistant","content":"' + text + '"}}'
    found = conversation.normalise({"type": "stdout", "content": line, "timestamp": STAMP}, "claude")
    assert [one["text"] for one in found] == ["half \ufffd, and \ufffd of \U0001f600, not \\ud83d"]


@pytest.mark.parametrize(("status", "kinds"), [("allowed", []), ("rejected", ["raw"])])
def test_that_claude_is_within_its_limits_is_no_entry(status: str, kinds: list[str]) -> None:
    line = '{"type":"rate_limit_event","rate_limit_info":{"status":"' + status + '"}}'
    found = conversation.normalise({"type": "stdout", "content": line, "timestamp": STAMP}, "claude")
    assert [one["kind"] for one in found] == kinds


@pytest.mark.parametrize("style", ["text", ""])
def test_other_output_is_raw(style: str) -> None:
    assert {one["kind"] for one in entries("claude", style)} == {"raw"}


@pytest.mark.parametrize(
    "line",
    [
        *("", "[]", "1", "null", "{", '{"type":null}', '{"type":"assistant"}', '{"type":"user","message":1}'),
        '{"type":"assistant","message":{"role":"assistant","content":[{"type":"tool_use"}]}}',
        '{"type":"assistant","message":{"role":"assistant","content":[7]}}',
        *('{"type":"item.completed","item":[]}', '{"type":"turn.completed"}', '{"type":"error"}'),
        *('{"type":"message","role":"assistant","content":7}', '{"type":"text","part":{"text":null}}'),
        *(
            '{"type":"tool_use","part":{"tool":"read"}}',
            '{"type":"result","status":1,"usage":[1],"stats":[1]}',
        ),
    ],
)
@pytest.mark.parametrize("style", ["claude", "codex", "gemini", "opencode"])
def test_a_line_of_no_known_shape_is_raw_and_never_an_error(line: str, style: str) -> None:
    found = conversation.normalise({"type": "stdout", "content": line, "timestamp": STAMP}, style)
    assert [(one["kind"], one["text"]) for one in found] == [("raw", line)]


def test_standard_error_and_the_boards_own_words_keep_their_kind() -> None:
    for kind, expected in (("stderr", "raw"), ("system", "system"), ("error", "error")):
        found = conversation.normalise({"type": kind, "content": "words", "timestamp": STAMP}, "claude")
        assert [(one["kind"], one["text"], one["timestamp"]) for one in found] == [(expected, "words", STAMP)]


def test_the_session_is_found_in_a_line_that_came_in_parts(tmp_path: Path) -> None:
    log, line = tmp_path / "log.jsonl", '{"type":"system","subtype":"init","session_id":"s1"}'
    log.write_bytes(
        record("stdout", line[:20], STAMP, partial=True)
        + record("stderr", "a warning", STAMP)
        + record("stdout", line[20:], STAMP)
    )
    assert conversation.session_of(str(log), "claude") == "s1"


@pytest.mark.parametrize(
    ("name", "session"),
    [
        ("claude", "3b0a2f5e-7d6c-4f9e-8a51-0c7f2d9e1b44"),
        ("codex", "0199a213-81c0-7800-8aa1-bbab2a035a53"),
        ("gemini", "5f2c7a90-3d41-4e8b-9c06-a1b2c3d4e5f6"),
        ("opencode", "ses_df1bf3820ffeq9IxU1woItxYFR"),
    ],
)
def test_the_session_is_found_in_the_log(tmp_path: Path, name: str, session: str) -> None:
    log = tmp_path / "log.jsonl"
    lines = (SAMPLES / f"{name}.jsonl").read_text().splitlines()
    log.write_bytes(
        b"".join(
            orjson.dumps({"type": "stdout", "content": line, "timestamp": STAMP}) + b"\n" for line in lines
        )
    )
    assert conversation.session_of(str(log), name) == session
    assert conversation.session_of(str(log), "text") == ""
    assert conversation.session_of(str(tmp_path / "nothing"), name) == ""


@pytest.mark.parametrize("said", ["--dangerous", "", "a b", "x" * 251, 7])
def test_what_would_be_an_option_or_is_no_name_is_no_session(tmp_path: Path, said: Any) -> None:
    log = tmp_path / "log.jsonl"
    line = orjson.dumps({"session_id": said}).decode()
    log.write_bytes(orjson.dumps({"type": "stdout", "content": line, "timestamp": STAMP}) + b"\n")
    assert conversation.session_of(str(log), "claude") == ""


ODD = [
    '{"type":"message","role":5,"content":"x"}',
    '{"type":"tool_use","tool_id":"1","tool_name":null,"parameters":{}}',
    '{"type":"tool_use","tool_id":"1","tool_name":"x","parameters":' + "[" * 400 + "]" * 400 + "}",
    '{"type":"result","status":"ok","stats":{"input_tokens":[1]}}',
]


@pytest.mark.parametrize("style", ["claude", "codex", "gemini", "opencode", "odd"])
def test_whatever_an_agent_prints_is_shown(
    style: str, attempt: TaskAttempt, as_admin: Client, settings: Any, tmp_path: Path
) -> None:
    """By the interface, on the cards, and, as JSON, by the stream."""
    settings.VIBE_DATA = tmp_path / "data"
    name = "gemini" if style == "odd" else style
    Executor.objects.create(name="talker", argv=["talker"], output_format=name)
    attempt.executor = "talker"
    attempt.save()
    run = ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="running")
    printed = ODD if style == "odd" else (SAMPLES / f"{name}.jsonl").read_text().splitlines()
    folder = runfiles.folder_of(run.pk)
    folder.make()
    for line in printed:
        Path(folder.log).write_bytes(record("stdout", line, STAMP))
        answer = as_admin.get(f"/api/processes/{run.pk}/logs?view=conversation")
        assert answer.status_code == 200, line
        shown = conversation.normalise({"type": "stdout", "content": line, "timestamp": STAMP}, name)
        assert [one["kind"] for one in answer.json()] == [one["kind"] for one in shown]
        assert orjson.dumps(shown)
        assert isinstance(last_line(run, name), str)


def test_what_an_agent_said_is_read_as_before_once_it_is_switched_off(db: None) -> None:
    Executor.objects.create(name="talker", argv=["talker"], output_format="codex", enabled=False)
    assert style_of("talker") == "codex"
    assert style_of("nobody") == ""
