"""The order of things in each layout: contexts become messages. The words are in `wording`.

References are wrapped in a fixed delimiter; where a reference holds that delimiter itself, or a control token of some
chat template, `escaping` breaks it.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from stairstream.core.context import Context, Turn
from stairstream.core.escaping import Escaper, escape
from stairstream.core.messages import Conversation, Message, estimate_size
from stairstream.core.session import Layout

LONG_CONVERSATION_TOKENS = 500
"""From here on references stand after the last user message, so that the history is not prefilled at every update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Messages for a chat endpoint; with `continues_last` the last one is the assistant's, to be continued."""

    messages: tuple[Message, ...]
    continues_last: bool = False


def render(context: Context, layout: Layout) -> Prompt:
    """The prompt for the next call of a stateless session."""
    match layout:
        case "grouped" | "insert":
            return _grouped(context)
        case "quoted":
            return _quoted(context)
        case "rounds":
            return _rounds(context)
        case never:
            assert_never(never)


def _grouped(context: Context) -> Prompt:
    messages = _with_references(context, _references(context))
    if not context.written:
        return Prompt(messages=messages)
    own = Message(role="assistant", content=context.written)
    return Prompt(messages=(*messages, own), continues_last=True)


def _quoted(context: Context) -> Prompt:
    messages = _with_references(context, _references(context))
    if not context.written:
        return Prompt(messages=messages)
    wording = context.agent.wording
    quote = Message(role="user", content=wording.quote.replace("{written}", escape(context.written)))
    return Prompt(messages=(*messages, quote))


def _rounds(context: Context) -> Prompt:
    """Append-only: a later prompt begins with all of an earlier one."""
    rounds = context.rounds()
    blocks = _turn_blocks(context, rounds)
    messages = list(_with_references(context, blocks[0] if blocks else ""))
    for number, (turn, references) in enumerate(zip(rounds, blocks, strict=True)):
        if number and references:
            more = context.agent.wording.more.replace("{references}", references)
            messages.append(Message(role="user", content=more))
        if turn.words and number and not references and messages[-1].role == "assistant":
            # the news was only that an upstream agent has ended: nothing stands between these words and those before
            messages[-1] = replace(messages[-1], content=messages[-1].content + turn.words)
        elif turn.words:
            messages.append(Message(role="assistant", content=turn.words))
    return Prompt(messages=tuple(messages), continues_last=messages[-1].role == "assistant")


def _references(context: Context) -> str:
    """All references as they stand, grouped by agent, and whether more is to come; "" if there are none."""
    labels, wording = _labels(context), context.agent.wording
    blocks = [
        _block(labels[reference.agent], escape(reference.text))
        for reference in context.references.values()
        if reference.text
    ]
    if not blocks:
        return ""
    return "\n".join([*blocks, wording.complete if context.is_complete else wording.partial])


def _labels(context: Context) -> dict[str, str]:
    """The name of each reference: its number, or its agent's name."""
    if context.agent.wording.labels == "names":
        return {name: name for name in context.references}
    return {name: str(number) for number, name in enumerate(context.references, 1)}


def _block(label: str, escaped: str) -> str:
    return f"<reference {label}>\n{escaped}\n</reference>"


def _turn_blocks(context: Context, rounds: tuple[Turn, ...]) -> list[str]:
    """Per turn, the chunks that it read: escaped as the running text is, so that no delimiter hides across an edge."""
    labels, wording = _labels(context), context.agent.wording
    escapers = {name: Escaper() for name in context.references}
    still_open = set(context.references)
    found = []
    for turn in rounds:
        blocks = []
        for chunk in turn.chunks:
            if chunk.is_final:
                still_open.discard(chunk.agent)
            if chunk.text:
                blocks.append(_block(labels[chunk.agent], escapers[chunk.agent].feed(chunk.text)))
        if blocks:
            blocks.append(wording.partial if still_open else wording.complete)
        found.append("\n".join(blocks))
    return found


def _with_references(context: Context, references: str) -> tuple[Message, ...]:
    """The conversation with the references in front, or after its last user message when it is long."""
    system = [message.content for message in context.conversation if message.role == "system"]
    turns = [message for message in context.conversation if message.role != "system"]
    head = [text for text in (context.agent.instructions, *system) if text]
    material = f"{context.agent.wording.combine}\n{references}" if references else ""
    if material and not _is_long(context.conversation):
        head.append(material)
    elif material:
        last = max((i for i, message in enumerate(turns) if message.role == "user"), default=None)
        if last is not None:
            turns[last] = turns[last].append(material)
        else:
            head.append(material)
    front = (Message(role="system", content="\n\n".join(head)),) if head else ()
    return (*front, *turns)


def _is_long(conversation: Conversation) -> bool:
    return sum(estimate_size(message) for message in conversation) > LONG_CONVERSATION_TOKENS
