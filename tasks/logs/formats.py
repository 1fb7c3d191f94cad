"""The agents' own formats: each reader takes one line, already parsed, and gives the entries that it makes, or None
where it does not know the shape. What an entry is says tasks/logs/conversation.py.

Sources: Claude Code's `--output-format stream-json` (code.claude.com/docs/en/headless and the Agent SDK's
message types), Codex's `exec --json` (developers.openai.com/codex/noninteractive), Gemini CLI's
`--output-format stream-json` (geminicli.com/docs/cli/headless) and OpenCode's `run --format json`
(opencode.ai/docs/cli).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from tasks.models import Executor

Entry = dict[str, Any]


def entry(kind: str, text: str = "", **rest: Any) -> Entry:
    """Raises TypeError for a text, a role or the name of a tool that is none."""
    role, name = rest.get("role"), rest.get("tool", {}).get("name", "")
    if not (isinstance(text, str) and isinstance(role, str | None) and isinstance(name, str)):
        raise TypeError((text, role, name))
    return {
        "kind": kind, "role": None, "text": text, "tool": None, "result": None, "usage": None, "timestamp": "", **rest
    }  # fmt: skip


# -- Claude ------------------------------------------------------------------------------------


def _claude(said: dict[str, Any]) -> list[Entry] | None:
    match said.get("type"):
        case "system" if said.get("subtype") == "init":
            return [entry("system", f"Session {said['session_id']}, model {said.get('model', 'unknown')}")]
        case "system" if said.get("subtype") == "thinking_tokens":
            return []
        case "rate_limit_event" if said["rate_limit_info"]["status"] == "allowed":
            return []
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
        told = said.get("result") or "\n".join(said.get("errors") or ())
        yield entry("error", str(told or said.get("subtype")))
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
    refused = item.get("status") in ("failed", "declined")
    return {"id": item["id"], "is_error": refused or bool(item.get("exit_code"))}


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


# -- Gemini ------------------------------------------------------------------------------------


def _gemini(said: dict[str, Any]) -> list[Entry] | None:
    match said.get("type"):
        case "init":
            return [entry("system", f"Session {said['session_id']}, model {said.get('model', 'unknown')}")]
        case "message":
            kind = "delta" if said.get("delta") else "message"
            return [entry(kind, said["content"], role=said["role"])]
        case "tool_use":
            tool = {"id": said["tool_id"], "name": said["tool_name"], "input": said["parameters"]}
            return [entry("tool", role="assistant", tool=tool)]
        case "tool_result":
            result = {"id": said["tool_id"], "is_error": said["status"] == "error"}
            return [entry("result", said.get("output") or "", role="tool", result=result)]
        case "error":
            return [entry("error" if said.get("severity") == "error" else "system", said["message"])]
        case "result":
            return list(_gemini_result(said))
    return None


def _gemini_result(said: dict[str, Any]) -> Iterator[Entry]:
    if said["status"] == "error":
        yield entry("error", str((said.get("error") or {}).get("message") or "The run failed."))
    stats = said.get("stats") or {}
    yield entry(
        "usage",
        usage={
            "input": stats.get("input_tokens", 0),
            "cached": stats.get("cached", 0),
            "output": stats.get("output_tokens", 0),
            "cost": None,
        },
    )


# -- OpenCode ----------------------------------------------------------------------------------


def _opencode(said: dict[str, Any]) -> list[Entry] | None:
    match said.get("type"):
        case "step_start":
            return []
        case "text":
            return [entry("message", said["part"]["text"], role="assistant")]
        case "reasoning":
            return [entry("thinking", said["part"]["text"], role="assistant")]
        case "tool_use":
            return _opencode_tool(said["part"])
        case "step_finish":
            return [entry("usage", usage=_opencode_usage(said["part"]))]
        case "error":
            fault = said["error"]
            return [entry("error", str((fault.get("data") or {}).get("message") or fault["name"]))]
    return None


def _opencode_tool(part: dict[str, Any]) -> list[Entry]:
    key, state = part["callID"], part["state"]
    failed = state["status"] == "error"
    text = str(state.get("error" if failed else "output") or "")
    return [
        entry("tool", role="assistant", tool={"id": key, "name": part["tool"], "input": state["input"]}),
        entry("result", text, role="tool", result={"id": key, "is_error": failed}),
    ]


def _opencode_usage(part: dict[str, Any]) -> dict[str, Any]:
    tokens = part["tokens"]
    cached = tokens["cache"]["read"] + tokens["cache"]["write"]
    return {
        "input": tokens["input"] + cached,
        "cached": cached,
        "output": tokens["output"],
        "cost": part.get("cost"),
    }


READERS: Final[dict[str, Callable[[dict[str, Any]], list[Entry] | None]]] = {
    Executor.OutputFormat.CLAUDE: _claude,
    Executor.OutputFormat.CODEX: _codex,
    Executor.OutputFormat.GEMINI: _gemini,
    Executor.OutputFormat.OPENCODE: _opencode,
}
