"""Prompts: references stay data, and append-only layouts only append."""

from hypothesis import given
from hypothesis import strategies as st

from stairstream.core.context import Context
from stairstream.core.escaping import escape
from stairstream.core.graph import Agent
from stairstream.core.messages import Message, question
from stairstream.core.prompts import Prompt, find_edges, render
from stairstream.core.session import Chunk, Layout
from stairstream.core.topologies import council, debate, mixture
from stairstream.core.wording import Wording

LAYOUTS: tuple[Layout, ...] = ("grouped", "quoted", "rounds", "insert")
AGG = Agent(name="agg", model="m", reads=("p1", "p2"))


def context(instructions: str = "") -> Context:
    agent = Agent(name="agg", model="m", reads=("p1", "p2"), instructions=instructions)
    return Context(agent=agent, conversation=question("why?"))


def chunk(agent: str, text: str, is_final: bool = False) -> Chunk:
    return Chunk(agent=agent, text=text, is_final=is_final)


def test_grouped_keeps_each_reference_together_and_continues_own_words() -> None:
    one = context()
    one.read([chunk("p1", "red"), chunk("p2", "blue")])
    one.wrote("So ")
    one.read([chunk("p1", " rose", is_final=True)])
    prompt = render(one, "grouped")
    assert [message.role for message in prompt.messages] == ["system", "user", "assistant"]
    assert "<reference 1>\nred rose\n</reference>\n<reference 2>\nblue\n</reference>" in prompt.messages[0].content
    assert prompt.messages[0].content.endswith(Wording().partial)
    assert prompt.continues_last and prompt.messages[-1].content == "So "


def test_aggregator_is_told_when_references_are_complete() -> None:
    one = context()
    one.read([chunk("p1", "red", is_final=True), chunk("p2", "", is_final=True)])
    assert render(one, "grouped").messages[0].content.endswith(Wording().complete)


def test_without_references_the_conversation_is_as_it_was() -> None:
    one = context()
    one.read([chunk("p1", "", is_final=True), chunk("p2", "", is_final=True)])
    assert render(one, "grouped").messages == question("why?")


def test_instructions_and_the_clients_system_message_come_first() -> None:
    one = context("Be brief.")
    one.conversation = (Message(role="system", content="In German."), *one.conversation)
    one.read([chunk("p1", "red")])
    assert render(one, "grouped").messages[0].content.startswith("Be brief.\n\nIn German.\n\n")


def test_long_conversation_has_its_references_behind_the_last_question() -> None:
    one = context()
    one.conversation = (Message(role="user", content="long " * 1000),)
    one.read([chunk("p1", "red")])
    messages = render(one, "grouped").messages
    assert len(messages) == 1 and "<reference 1>\nred" in messages[0].content


def test_quoted_asks_to_go_on_in_a_last_user_turn() -> None:
    one = context()
    one.read([chunk("p1", "red")])
    assert [message.role for message in render(one, "quoted").messages] == ["system", "user"]
    one.wrote("So </begun> far")
    prompt = render(one, "quoted")
    assert [message.role for message in prompt.messages] == ["system", "user", "user"]
    assert not prompt.continues_last
    assert prompt.messages[-1].content.count("</begun>") == 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["p1", "p2"]), st.sampled_from(["</refer", "ence>", "red ", "<reference 1>"])),
        max_size=8,
    )
)
def test_rounds_only_appends_and_no_delimiter_hides_across_an_edge(chunks: list[tuple[str, str]]) -> None:
    one, before = context(), ""
    for agent, text in chunks:
        one.read([chunk(agent, text)])
        flat = "\n".join(f"{message.role}: {message.content}" for message in render(one, "rounds").messages)
        assert flat.startswith(before)
        before = flat
        one.wrote("word ")
    for message in render(one, "rounds").messages:
        body = message.content.partition("Several")[0] + message.content.partition("to you.")[2]
        assert body.count("</reference>") == body.count("<reference ")


def test_rounds_have_no_turn_for_the_news_that_somebody_has_ended() -> None:
    one = context()
    one.read([chunk("p1", "red"), chunk("p2", "blue")])
    one.wrote("So ")
    one.read([chunk("p1", "", is_final=True)])
    assert render(one, "rounds").continues_last
    one.wrote("it is")
    one.read([chunk("p2", " sky", is_final=True)])
    messages = render(one, "rounds").messages
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2].content == "So it is"
    assert messages[3].content.count(Wording().complete) == 1


@given(st.text(alphabet="</>refncbgu 1", max_size=40), st.text(alphabet="</>refncbgu 1", max_size=40))
def test_escape_never_changes_what_was_escaped_before(text: str, more: str) -> None:
    assert escape(text + more).startswith(escape(text))
    assert "</reference" not in escape(text + more)
    assert "<reference" not in escape(text + more)


def test_whoever_answers_is_told_to_answer_in_the_language_of_the_question() -> None:
    """Proposers may answer in another; a chain's agents have tasks of their own, which may be to translate."""
    two = ["m", "n"]
    debates = debate(debaters=two), debate(debaters=two, judge="m")
    for graph in (mixture(proposers=two, aggregator="m"), *debates, council(members=two, judge="m", answer="n")):
        agent = graph.agent(graph.answer)
        for layout in LAYOUTS:
            one = Context(agent=agent, conversation=question("Warum?"))
            one.read([chunk(name, "Because.") for name in agent.reads])
            said = "\n".join(message.content for message in render(one, layout).messages)
            assert "in the language that the question is in or asks for" in said


# What stays the same from one prompt to the next


def heads_of(one: Context, prompt: Prompt, layout: Layout, *, marked: bool = True) -> list[str]:
    """All that stands before each edge."""
    edges = [edge for edge in find_edges(one, layout, prompt) if edge.is_marked or not marked]
    return ["".join(m.content for m in prompt.messages[: e.message + 1])[: -e.rest or None] for e in edges]


def test_all_before_the_first_reference_that_may_still_grow_is_marked() -> None:
    for conversation in (question("why?"), question("why? " * 600)):
        one = Context(agent=AGG, conversation=conversation)
        one.read([chunk("p1", "red"), chunk("p2", "blue")])
        first = heads_of(one, render(one, "grouped"), "grouped")
        assert [head.endswith(f"{Wording().combine}\n") for head in first] == [True]
        one.wrote("So ")
        one.read([chunk("p1", " rose", is_final=True)])
        second = heads_of(one, render(one, "grouped"), "grouped")
        assert second[0] == first[0] and second[1].endswith("red rose\n</reference>\n")
        one.read([chunk("p2", " sky", is_final=True)])
        for layout in ("grouped", "quoted"):
            last = render(one, layout)
            # what the call before has marked is found, and nothing new is written: there is no call after this
            assert heads_of(one, last, layout) == second
            assert "".join(message.content for message in last.messages).startswith(second[1])


def test_rounds_mark_what_was_read_last_and_what_was_read_before() -> None:
    one = context()
    one.read([chunk("p1", "red"), chunk("p2", "blue")])
    first = heads_of(one, render(one, "rounds"), "rounds")
    one.wrote("So ")
    one.read([chunk("p1", " rose")])
    second = heads_of(one, render(one, "rounds"), "rounds")
    assert second[0] == first[-1] and "rose" in second[1]


def test_nothing_is_marked_where_there_is_one_call() -> None:
    one = context()
    one.read([chunk("p1", "red", is_final=True), chunk("p2", "blue", is_final=True)])
    assert find_edges(one, "grouped", render(one, "grouped")) == ()
    alone = Context(agent=Agent(name="a", model="m"), conversation=question("why?"))
    assert find_edges(alone, "grouped", render(alone, "grouped")) == ()


@given(st.lists(st.lists(st.tuples(st.sampled_from(["p1", "p2"]), st.text("ab<>/ \n", max_size=6)), max_size=3)))
def test_what_stands_before_a_marked_edge_stands_in_the_next_prompt(reads: list[list[tuple[str, str]]]) -> None:
    one = context("Be brief.")
    before: list[str] = []
    ends = {name: max((i for i, read in enumerate(reads) if name in dict(read)), default=-1) for name in ("p1", "p2")}
    for number, read in enumerate(reads):
        texts = {name: "".join(text for by, text in read if by == name) for name, _ in read}
        one.read([chunk(name, text, ends[name] == number) for name, text in texts.items()])
        prompt = render(one, "grouped")
        whole = "".join(message.content for message in prompt.messages)
        assert all(whole.startswith(head) for head in before)
        before = heads_of(one, prompt, "grouped")
        one.wrote("x ")


def test_a_prompt_without_white_space_at_its_end() -> None:
    one = context()
    one.read([chunk("p1", "red")])
    one.wrote("So\n ")
    prompt, stripped = render(one, "grouped").strip_last()
    assert (prompt.messages[-1].content, prompt.continues_last, stripped) == ("So", True, "\n ")
    blank = context()
    blank.wrote("\n")
    prompt, stripped = render(blank, "grouped").strip_last()
    assert (prompt.messages[-1].role, prompt.continues_last, stripped) == ("user", False, "\n")
