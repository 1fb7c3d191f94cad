"""What coding agents print as JSON lines, in one common shape.

An entry is `{"kind", "role", "text", "tool", "result", "usage", "timestamp"}`:

| kind | |
| --- | --- |
| message | `role` ("assistant" or "user") says `text` |
| thinking | the agent's reasoning in `text` |
| tool | the agent calls `tool`: `{"id", "name", "input"}` |
| result | what the tool answered in `text`; `result` is `{"id", "is_error"}` with the id of the call |
| usage | `usage` is `{"input", "cached", "output", "cost"}`: tokens, and US dollars or null |
| error, system | something went wrong, or is worth knowing |
| raw | a line of no known shape, as it is; `role` is "stdout" or "stderr" |

Sources: Claude Code's `--output-format stream-json` (code.claude.com/docs/en/headless and the Agent SDK's
message types) and Codex's `exec --json` (developers.openai.com/codex/noninteractive).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import orjson

from tasks.models import Executor

Entry = dict[str, Any]
_HEAD_BYTES: Final = 256 * 1024


def entry(kind: str, text: str = "", **rest: Any) -> Entry:
    return {
        "kind": kind, "role": None, "text": text, "tool": None, "result": None, "usage": None, "timestamp": "", **rest
    }  # fmt: skip


def normalise(record: dict[str, Any], style: str) -> list[Entry]:
    """The entries of one log record (a whole line); none for a line that only marks a beginning."""
    content, stamp = str(record.get("content", "")), record.get("timestamp", "")
    kind = record.get("type")
    if kind in ("system", "error"):
        found = [entry(str(kind), content)]
    else:
        known = _of_line(content, style) if kind == "stdout" else None
        found = [entry("raw", content, role=kind)] if known is None else known
    return [{**one, "timestamp": stamp} for one in found]


def session_of(log: str, style: str) -> str:
    """The agent's own name for its session, from the beginning of its log; empty where it gave none."""
    if style not in _READERS:
        return ""
    try:
        with open(log, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return ""
    for line in head.splitlines():
        said = _json(_json(line).get("content", ""))
        for name in ("session_id", "thread_id"):
            if isinstance(said.get(name), str):
                return str(said[name])[:250]
    return ""


def _of_line(content: str, style: str) -> list[Entry] | None:
    reader = _READERS.get(style)
    said = _json(content)
    if reader is None or not said:
        return None
    try:
        return reader(said)
    except (AttributeError, KeyError, TypeError):  # a shape that only looked familiar
        return None


def _json(text: str | bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


# -- Claude ------------------------------------------------------------------------------------


def _claude(said: dict[str, Any]) -> list[Entry] | None:
    match said.get("type"):
        case "system" if said.get("subtype") == "init":
            return [entry("system", f"Session {said['session_id']}, model {said.get('model', 'unknown')}")]
        case "assistant" | "user":
            return _claude_message(said["message"])
        case "result":
            return list(_claude_result(said))
    return None


def _claude_message(message: dict[str, Any]) -> list[Entry] | None:
    role, content = message["role"], message["content"]
    if isinstance(content, str):
        return [entry("message", content, role=role)]
    found = [_claude_block(block, role) for block in content]
    return None if None in found else [one for one in found if one is not None]


def _claude_block(block: dict[str, Any], role: str) -> Entry | None:
    match block["type"]:
        case "text":
            return entry("message", block["text"], role=role)
        case "thinking":
            return entry("thinking", block["thinking"], role=role)
        case "redacted_thinking":
            return entry("thinking", "(not shown)", role=role)
        case "tool_use" | "server_tool_use":
            tool = {"id": block["id"], "name": block["name"], "input": block["input"]}
            return entry("tool", role=role, tool=tool)
        case "tool_result":
            result = {"id": block["tool_use_id"], "is_error": bool(block.get("is_error"))}
            return entry("result", _text(block.get("content")), role="tool", result=result)
    return None


def _claude_result(said: dict[str, Any]) -> Iterator[Entry]:
    if said.get("is_error") or str(said.get("subtype", "")).startswith("error"):
        yield entry("error", str(said.get("result") or said.get("subtype")))
    usage = said.get("usage") or {}
    cached = usage.get("cache_read_input_tokens", 0) + usage.get("cache_creation_input_tokens", 0)
    yield entry(
        "usage",
        usage={
            "input": usage.get("input_tokens", 0) + cached,
            "cached": cached,
            "output": usage.get("output_tokens", 0),
            "cost": said.get("total_cost_usd"),
        },
    )


def _text(content: Any) -> str:
    """The text of a tool's answer, which is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    parts: Iterable[Any] = content or []
    return "\n".join(
        part["text"] if part.get("type") == "text" else f"({part.get('type', 'something')} not shown)"
        for part in parts
    )


# -- Codex -------------------------------------------------------------------------------------


def _codex(said: dict[str, Any]) -> list[Entry] | None:
    match said.get("type"):
        case "thread.started":
            return [entry("system", f"Session {said['thread_id']}")]
        case "turn.started":
            return []
        case "turn.completed":
            usage = said["usage"]
            tokens = {
                "input": usage["input_tokens"],
                "cached": usage.get("cached_input_tokens", 0),
                "output": usage["output_tokens"],
                "cost": None,
            }
            return [entry("usage", usage=tokens)]
        case "turn.failed":
            return [entry("error", said["error"]["message"])]
        case "error":
            return [entry("error", said["message"])]
        case "item.started":
            return _codex_started(said["item"])
        case "item.updated":
            return []
        case "item.completed":
            return _codex_completed(said["item"])
    return None


def _codex_started(item: dict[str, Any]) -> list[Entry] | None:
    call = _codex_call(item)
    return [call] if call and item["type"] in _CODEX_IN_TWO else []


_CODEX_IN_TWO: Final = ("command_execution", "mcp_tool_call")


def _codex_completed(item: dict[str, Any]) -> list[Entry] | None:
    match item["type"]:
        case "agent_message":
            return [entry("message", item["text"], role="assistant")]
        case "reasoning":
            return [entry("thinking", item["text"], role="assistant")]
        case "error":
            return [entry("error", item["message"])]
    call = _codex_call(item)
    if call is None:
        return None
    answer = entry("result", _codex_answer(item), role="tool", result=_codex_outcome(item))
    return [answer] if item["type"] in _CODEX_IN_TWO else [call, answer]


def _codex_call(item: dict[str, Any]) -> Entry | None:
    match item["type"]:
        case "command_execution":
            name, given = "shell", {"command": item["command"]}
        case "mcp_tool_call":
            name, given = f"{item['server']}.{item['tool']}", item.get("arguments") or {}
        case "file_change":
            name, given = "file_change", {"changes": item["changes"]}
        case "web_search":
            name, given = "web_search", {"query": item["query"]}
        case "todo_list":
            name, given = "todo_list", {"items": item["items"]}
        case _:
            return None
    return entry("tool", role="assistant", tool={"id": item["id"], "name": name, "input": given})


def _codex_outcome(item: dict[str, Any]) -> dict[str, Any]:
    return {"id": item["id"], "is_error": item.get("status") == "failed" or bool(item.get("exit_code"))}


def _codex_answer(item: dict[str, Any]) -> str:
    match item["type"]:
        case "command_execution":
            return str(item.get("aggregated_output", ""))
        case "mcp_tool_call":
            if item.get("error"):
                return str(item["error"].get("message", ""))
            return _text((item.get("result") or {}).get("content"))
        case "file_change":
            return "\n".join(f"{change.get('kind')} {change['path']}" for change in item["changes"])
        case "todo_list":
            return "\n".join(
                f"[{'x' if step.get('completed') else ' '}] {step['text']}" for step in item["items"]
            )
    return ""


_READERS: Final[dict[str, Callable[[dict[str, Any]], list[Entry] | None]]] = {
    Executor.OutputFormat.CLAUDE: _claude,
    Executor.OutputFormat.CODEX: _codex,
}
