"""A conversation as Python callers give it: text, messages as values, and messages as the `openai` package has them."""

from typing import Any

import pytest

from stairstream.conversations.reading import read_conversation
from stairstream.core.errors import WrongMessage
from stairstream.core.messages import ImagePart, Message, TextPart, ToolCall, question

WHY = {"role": "user", "content": "Why?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def test_text_is_the_users_question() -> None:
    assert read_conversation("Why?") == question("Why?")


def test_dicts_are_read_as_the_server_reads_them() -> None:
    read = read_conversation(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "text", "text": "Say."}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "a cat"}]},
        ]
    )
    assert read == (
        Message(role="system", content="Be brief."),
        Message(role="user", content="What is it?\nSay."),
        Message(role="assistant", content="", tool_calls=(ToolCall(id="c1", name="look", arguments="{}"),)),
        Message(role="tool", content="a cat", tool_call_id="c1"),
    )


def test_images_keep_their_order_among_the_parts() -> None:
    url = {"url": "https://x.example/a.png", "detail": "low"}
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}]
    (read,) = read_conversation([{"role": "user", "content": parts}])
    assert read.parts == (TextPart(text="What is it?"), ImagePart(url="https://x.example/a.png", detail="low"))


def test_message_values_and_dicts_may_be_mixed_in_any_iterable() -> None:
    before = Message(role="assistant", content="Because.")
    assert read_conversation(one for one in (WHY, before)) == (*question("Why?"), before)


def test_what_the_openai_package_returns_is_taken_as_it_is() -> None:
    chat = pytest.importorskip("openai.types.chat")
    said = chat.ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [CALL]})
    expected = Message(role="assistant", content="", tool_calls=(ToolCall(id="c1", name="look", arguments="{}"),))
    assert read_conversation([said]) == (expected,)
    assert read_conversation([{"role": "assistant", "tool_calls": said.tool_calls}]) == (expected,)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (None, "conversation: is None; give a question as text, or a list of messages"),
        (7, "conversation: is of the type int; give a question as text"),
        (b"Why?", "conversation: is of the type bytes; give"),
        (WHY, "conversation: is one message alone; put it into a list"),
        (question("Why?")[0], "conversation: is one message alone"),
        (["Why?"], r"conversation\[0\]: is of the type str; give a dict"),
        ([WHY, None], r"conversation\[1\]: is None; give a dict"),
        ([{"content": "Why?"}], r"conversation\[0\]\.role: is missing"),
        (
            [{"role": "usr", "content": "Why?"}],
            r"conversation\[0\]\.role: 'usr' is not known here; did you mean 'user'",
        ),
        ([{"role": "user"}], r"conversation\[0\]\.content: is missing"),
        ([WHY, {"role": "user", "content": 7}], r"conversation\[1\]\.content: Expected str \| array, got int"),
        (
            [{"role": "user", "content": [{"type": "image", "text": "?"}]}],
            r"conversation\[0\]\.content\[0\]\.type: 'image' is not known here; did you mean 'image_url'",
        ),
        (
            [{"role": "user", "content": [{"type": "input_audio"}]}],
            r"conversation\[0\]\.content\[0\]: no model .* audio",
        ),
        ([{"role": "usr", "content": object()}], r"conversation\[0\]\.role: 'usr'"),
        ([Message(role="users", content="Why?")], r"conversation\[0\]\.role: 'users' is not known here"),  # type: ignore[arg-type]
        ([Message(role="user", content=None)], r"conversation\[0\]\.content: is None; give text"),  # type: ignore[arg-type]
    ],
)
def test_wrong_type_is_one_line_that_names_the_argument(given: Any, problem: str) -> None:
    with pytest.raises(WrongMessage, match=f"^{problem}") as caught:
        read_conversation(given)
    assert "\n" not in str(caught.value)
