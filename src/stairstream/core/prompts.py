"""The order of things in each layout: contexts become messages. The words are in `wording`.

References are wrapped in a fixed delimiter; where a reference holds that delimiter itself, or a control token of some
chat template, `escaping` breaks it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile
from typing import assert_never

from stairstream.core.context import Context, Reference, Turn
from stairstream.core.escaping import Escaper, escape
from stairstream.core.messages import Conversation, Message, estimate_size
from stairstream.core.session import AskedLayout, Layout

LONG_CONVERSATION_TOKENS = 500
"""From here on references stand after the last user message, so that the history is not prefilled at every update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A point in a prompt: `rest` characters of that message stand after it.

    What is before it stands in the next prompt too; where it `is_marked`, a prompt cache should have it by then.
    """

    message: int
    rest: int
    is_marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Messages for a chat endpoint; with `continues_last` the last one is the assistant's, to be continued.

    `edges` are for endpoints whose prompt cache is told what to keep: see `find_edges`.
    """

    messages: tuple[Message, ...]
    continues_last: bool = False
    edges: tuple[Edge, ...] = ()

    def strip_last(self) -> tuple["Prompt", str]:
        """The prompt without white space at its end, for endpoints that refuse it there; and that white space."""
        if not self.continues_last:
            return self, ""
        *before, last = self.messages
        text = last.content.rstrip()
        kept = (*before, replace(last, content=text)) if text else tuple(before)
        return replace(self, messages=kept, continues_last=bool(text)), last.content[len(text) :]


def settle(asked: AskedLayout, context: Context) -> Layout:
    """The layout that is asked for, as a context stands now: all is shown anew, whole, once every reference has ended.

    Until then no prompt token is computed twice, and from then on the words that follow have read what waiting reads.
    """
    if asked != "regrouped":
        return asked
    return "grouped" if context.is_complete else "rounds"


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
    wording, blocks = context.agent.wording, _blocks(context, context.references.values())
    if not blocks:
        return ""
    return "\n".join([*blocks, wording.complete if context.is_complete else wording.partial])


def _blocks(context: Context, references: Iterable[Reference]) -> list[str]:
    """These references, each in its delimiters; those without a word are left out."""
    labels = _labels(context)
    return [_block(labels[one.agent], escape(one.text)) for one in references if one.text]


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
    material = _material(context, references)
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


def _material(context: Context, references: str) -> str:
    """The references with the task in front of them; it ends the message that holds it."""
    return f"{context.agent.wording.combine}\n{references}" if references else ""


def _is_long(conversation: Conversation) -> bool:
    return sum(estimate_size(message) for message in conversation) > LONG_CONVERSATION_TOKENS


def find_edges(context: Context, layout: Layout, prompt: Prompt) -> tuple[Edge, ...]:
    """The ends of the parts of a prompt that stand in the next one too, in order.

    Marked are what never changes, what the call before this one has marked, so that it is found, and, as long as more
    is to come, all before the first reference that may still grow. None where there is surely but one call.
    """
    if not context.agent.reads or context.agent.one_call or (context.is_complete and len(context.turns) < 2):
        return ()
    return _edges_of_rounds(context, prompt) if layout == "rounds" else _edges_of_references(context, prompt)


def _edges_of_references(context: Context, prompt: Prompt) -> tuple[Edge, ...]:
    """After the task, and after each reference before the first that may still grow."""
    references = list(context.references.values())
    settled = list(takewhile(lambda one: one.is_final, references))
    news = {chunk.agent for chunk in context.turns[-1].chunks} if context.turns else set()
    were_settled = list(takewhile(lambda one: one.agent not in news, settled))
    material = _material(context, _references(context))
    number = next((i for i, one in enumerate(prompt.messages) if material and one.content.endswith(material)), None)
    if number is None:
        return ()
    sizes = [len(context.agent.wording.combine) + 1, *(len(block) + 1 for block in _blocks(context, settled))]
    marked = {0, len(_blocks(context, were_settled))} | ({len(sizes) - 1} if not context.is_complete else set())
    return tuple(
        Edge(message=number, rest=len(material) - end, is_marked=at in marked)
        for at, end in enumerate(accumulate(sizes))
    )


def _edges_of_rounds(context: Context, prompt: Prompt) -> tuple[Edge, ...]:
    """After the last two messages that are not the agent's own: all before them only grows."""
    read = [number for number, message in enumerate(prompt.messages) if message.role != "assistant"]
    marked = read[-2:-1] if context.is_complete else read[-2:]
    return tuple(Edge(message=number, rest=0, is_marked=True) for number in marked)
