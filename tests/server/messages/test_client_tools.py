"""Tools by Anthropic's own schemas, and what this server does not keep for its clients."""

from typing import Any

import msgspec
import pytest

pytest.importorskip("starlette")

from tests.server.messages.test_requests import ask, ask_for

CLIENT_TOOLS: list[dict[str, Any]] = [
    {"type": "bash_20250124", "name": "bash"},
    {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 100},
    {"type": "computer_20250124", "name": "computer", "display_width_px": 800, "display_height_px": 600},
    {"type": "memory_20250818", "name": "memory"},
]


def test_client_tools_have_their_schema_for_the_model() -> None:
    got, asked = ask_for(tools=CLIENT_TOOLS)
    assert got.status == 200
    tools = [tool["function"] for tool in msgspec.json.decode(asked.tools or b"")]
    assert [tool["name"] for tool in tools] == ["bash", "str_replace_based_edit_tool", "computer", "memory"]
    assert [tool["parameters"]["required"] for tool in tools] == [[], ["command", "path"], ["action"], ["command"]]
    assert "800 x 600" in tools[2]["description"]


@pytest.mark.parametrize(
    "kind", ["web_search_20250305", "web_fetch_20260209", "code_execution_20250825", "computer_toolset_20260801", "x"]
)
def test_server_tools_are_refused_by_name(kind: str) -> None:
    error = ask(tools=[{"type": kind, "name": "tool"}])[0].json()["error"]
    assert error["message"].startswith(f"tools[0].type: {kind} is run by Anthropic")


def test_empty_lists_of_what_is_not_supported_are_nothing() -> None:
    got, _ = ask(mcp_servers=[], container=None)
    assert got.status == 200


@pytest.mark.parametrize("thread", [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}])
def test_thread_is_refused_as_its_clients_fall_back(thread: dict[str, str]) -> None:
    got, _ = ask(thread=thread)
    assert got.status == 400
    assert got.json()["error"]["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    assert ask(thread=None)[0].status == 200
