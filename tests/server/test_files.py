"""Files of text, images in results of tools, and instructions alone, as each protocol has them."""

import base64
from typing import Any

import pytest

pytest.importorskip("starlette")

from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.conversations.documents import make_document
from stairstream.core.messages import ImagePart, Message, TextPart, move_images
from stairstream.core.session import Takes
from stairstream.server.runs.finished import Finished
from stairstream.sim.clock import run
from tests.server.driving import Got, client_of
from tests.server.test_chat_tools import CONFIG

TEXT = base64.b64encode(b"a,b\n1,2\n").decode()
PDF = base64.b64encode(b"%PDF-1.7 \xff").decode()
DOCUMENT = "<document t.csv>\na,b\n1,2\n\n</document>"
PNG = "data:image/png;base64,AAAA"
BASE = {
    "/v1/chat/completions": {},
    "/v1/responses": {},
    "/v1/messages": {"max_tokens": 9},
}


def ask(path: str, takes: tuple[Takes, ...] = (), **fields: Any) -> tuple[Got, tuple[Message, ...]]:
    """The answer, and the conversation that was read."""
    told: list[Finished] = []
    answering = ScriptedBackend(Script(words=numbered_words("a", 4)), "a", takes=takes)

    async def go() -> Got:
        async with client_of(CONFIG, told.append, overrides={"a": answering}) as client:
            return await client.post(path, {"model": "single", **BASE[path], **fields})

    got = run(go())
    return got, told[0].request.conversation if told else ()


def file_in(path: str, data: str, name: str = "t.csv") -> dict[str, Any]:
    """A user's message with that file."""
    part: dict[str, Any]
    match path:
        case "/v1/chat/completions":
            part = {"type": "file", "file": {"file_data": data, "filename": name}}
        case _:
            part = {"type": "input_file", "file_data": data, "filename": name}
    field = "input" if path == "/v1/responses" else "messages"
    return {field: [{"role": "user", "content": [part]}]}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("data", [TEXT, f"data:text/csv;base64,{TEXT}", f"data:text/csv;charset=utf-8;base64,{TEXT}"])
def test_file_of_text_is_read(path: str, data: str) -> None:
    got, said = ask(path, **file_in(path, data))
    assert got.status == 200, got.body
    assert said == (Message(role="user", content=DOCUMENT),)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (f"data:application/pdf;base64,{PDF}", "application/pdf"),
        (PDF, "only files of text"),
        ("%%%", "must be base64"),
        ("", "files are not kept here"),
    ],
)
def test_other_files_are_refused_with_the_reason(path: str, data: str, why: str) -> None:
    got, _ = ask(path, **file_in(path, data))
    assert got.status == 400 and why in got.json()["error"]["message"]
    assert got.json()["error"]["param"].endswith("file_data")


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}]},
        ),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}),
    ],
)
def test_audio_is_refused_with_the_reason(path: str, fields: dict[str, Any]) -> None:
    got, _ = ask(path, **fields)
    assert got.status == 400 and "no model here hears audio" in got.json()["error"]["message"]


def test_delimiter_in_a_document_is_broken() -> None:
    assert make_document("a</document>b", "x>\ny") == "<document x y>\na</documen\\t>b\n</document>"


# Images in the results of tools

RESULTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": [
            {"role": "user", "content": "?"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {
                "role": "tool",
                "tool_call_id": "c",
                "content": [{"type": "text", "text": "See:"}, {"type": "image_url", "image_url": {"url": PNG}}],
            },
        ]
    },
    "/v1/responses": {
        "input": [
            {"role": "user", "content": "?"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {
                "type": "function_call_output",
                "call_id": "c",
                "output": [{"type": "input_text", "text": "See:"}, {"type": "input_image", "image_url": PNG}],
            },
        ]
    },
    "/v1/messages": {
        "messages": [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c",
                        "content": [
                            {"type": "text", "text": "See:"},
                            {
                                "type": "image",
                                "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                            },
                        ],
                    }
                ],
            },
        ]
    },
}


@pytest.mark.parametrize("path", RESULTS)
def test_image_in_a_result_is_taken_where_the_model_takes_images(path: str) -> None:
    got, said = ask(path, ("images", "tools"), **RESULTS[path])
    assert got.status == 200, got.body
    assert said[-1].role == "tool" and said[-1].tool_call_id == "c"
    assert [getattr(part, "url", None) or part for part in said[-1].parts] == [TextPart(text="See:"), PNG]
    assert ask(path, **RESULTS[path])[0].status == 400


def test_images_of_results_come_after_all_results_as_chat_endpoints_take_them() -> None:
    image = ImagePart(url=PNG)
    result = Message(role="tool", content="See:", parts=(TextPart(text="See:"), image), tool_call_id="c")
    other = Message(role="tool", content="4", tool_call_id="d")
    after = Message(role="assistant", content="Hm.")
    moved = move_images([result, other, after])
    assert [(one.role, one.content) for one in moved] == [
        ("tool", "See:\n[1 image, shown after the results of tools]"),
        ("tool", "4"),
        ("user", "From the result of the call c:"),
        ("assistant", "Hm."),
    ]
    assert image in moved[2].parts and not moved[0].parts
    assert move_images([result])[-1].role == "user"
    assert move_images([other, after]) == [other, after]


# Anthropic's documents and tools


def document(source: dict[str, Any], **fields: Any) -> tuple[Got, tuple[Message, ...]]:
    block = {"type": "document", "source": source, **fields}
    return ask("/v1/messages", messages=[{"role": "user", "content": [block, {"type": "text", "text": "Why?"}]}])


def test_document_of_plain_text_is_read() -> None:
    _, said = document({"type": "text", "media_type": "text/plain", "data": "a,b\n1,2\n"}, title="t.csv")
    assert said[0].content == f"{DOCUMENT}\nWhy?"
    blocks = {"type": "content", "content": [{"type": "text", "text": "One."}]}
    _, said = document(blocks, context="Old.")
    assert said[0].content == "<document>\nOld.\nOne.\n</document>\nWhy?"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"type": "base64", "media_type": "application/pdf", "data": PDF}, "application/pdf"),
        ({"type": "url", "url": "https://example.org/a.pdf"}, "fetched"),
        ({"type": "file", "file_id": "f"}, "kept"),
    ],
)
def test_other_documents_are_refused_with_the_reason(source: dict[str, Any], why: str) -> None:
    error = document(source)[0].json()["error"]
    assert error["message"].startswith("messages[0].content[0].source") and why in error["message"]


# Instructions alone


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "Name a colour."}]}),
        ("/v1/chat/completions", {"messages": [{"role": "developer", "content": "Name a colour."}]}),
        ("/v1/responses", {"input": [{"role": "developer", "content": "Name a colour."}]}),
        ("/v1/messages", {"messages": [{"role": "system", "content": "Name a colour."}]}),
    ],
)
def test_last_of_instructions_alone_is_asked(path: str, fields: dict[str, Any]) -> None:
    got, said = ask(path, **fields)
    assert got.status == 200 and said == (Message(role="user", content="Name a colour."),)
    assert "there is no user message" in got.headers["x-stairstream-note"]
