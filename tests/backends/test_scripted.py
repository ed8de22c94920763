"""How the tokens of a scripted model come: in batches, without text, with usage that says less than there was."""

import asyncio
from dataclasses import replace

import pytest

from stairstream.backends.scripted import Fault, Manner, Reported, Script, ScriptedBackend, numbered_words
from stairstream.core.errors import StreamCut
from stairstream.core.graph import Agent
from stairstream.core.messages import ToolCall, question
from stairstream.core.session import Delta, Ended, Layout, ToolDelta, WriteItem
from stairstream.sim.clock import run

WORDS = numbered_words("w", 12)
PLAIN = Script(words=WORDS, first_token_s=0.5, token_s=0.25)


def write(
    manner: Manner, limit: int = 100, num_writes: int = 1, layout: Layout | None = None, **others: object
) -> list[tuple[float, WriteItem]]:
    """What the last of several writes gave, with the time since it began."""

    async def main() -> list[tuple[float, WriteItem]]:
        loop = asyncio.get_running_loop()
        backend = ScriptedBackend(replace(PLAIN, manner=manner, **others))  # type: ignore[arg-type]
        session = await backend.open(Agent(name="a", model="m", layout=layout), question("Why?"))
        for _ in range(num_writes):
            start_s = loop.time()
            found = [(loop.time() - start_s, item) async for item in session.write(limit)]
        return found

    return run(main())


def deltas(items: list[tuple[float, WriteItem]]) -> list[tuple[float, str, int]]:
    return [(at_s, item.text, item.num_tokens) for at_s, item in items if isinstance(item, Delta)]


def end(items: list[tuple[float, WriteItem]]) -> Ended:
    _, last = items[-1]
    assert isinstance(last, Ended)
    return last


def test_a_batch_comes_with_its_last_token() -> None:
    items = write(Manner(batch=5))
    # one question word is the prompt, its prefill is free; the last batch is what is left
    assert deltas(items) == [
        (0.5 + 4 * 0.25, "w1 w2 w3 w4 w5", 5),
        (0.5 + 9 * 0.25, " w6 w7 w8 w9 w10", 5),
        (0.5 + 11 * 0.25, " w11 w12", 2),
    ]
    assert end(items).reason == "stop"


def test_random_batches_are_the_same_for_the_same_seed_and_call() -> None:
    def sizes(seed: int, num_writes: int = 1) -> list[int]:
        words = numbered_words("w", 400)
        items = write(Manner(batch=(1, 6), seed=seed), limit=200, num_writes=num_writes, words=words)
        return [count for _, _, count in deltas(items)]

    assert sizes(1) == sizes(1) != sizes(2)
    assert sizes(1) != sizes(1, num_writes=2)
    assert set(sizes(1)) == {1, 2, 3, 4, 5, 6} and sum(sizes(1)) == 200


def test_the_limit_holds_over_batches() -> None:
    items = write(Manner(batch=5), limit=7)
    assert [count for _, _, count in deltas(items)] == [5, 2]
    assert end(items).reason == "limit"
    assert [count for _, _, count in deltas(write(Manner(batch=5), limit=7, num_writes=2))] == [5]


def test_a_token_without_text_takes_its_time_and_is_counted_with_the_next() -> None:
    items = write(Manner(silent_every=3), limit=7)
    assert deltas(items) == [
        (0.5, "w1", 1),
        (0.75, " w2", 1),
        (1.25, " w3", 2),
        (1.5, " w4", 1),
        (2.0, " w5", 2),
    ]
    usage = end(items).usage
    assert usage is not None and usage.completion_tokens == 7
    assert end(items).reason == "limit"


def test_a_token_without_text_at_the_limit_is_in_the_usage_alone() -> None:
    items = write(Manner(silent_every=3), limit=6)
    assert sum(count for _, _, count in deltas(items)) == 5
    usage = end(items).usage
    assert usage is not None and usage.completion_tokens == 6
    assert end(items).reason == "limit"


def test_an_answer_ends_with_a_word_and_stops() -> None:
    items = write(Manner(silent_every=4, batch=(1, 3)))
    assert "".join(text for _, text, _ in deltas(items)) == "".join(WORDS)
    assert end(items).reason == "stop"
    usage = end(items).usage
    assert usage is not None and usage.completion_tokens == 12 + 3


@pytest.mark.parametrize(("usage", "said"), [("exact", 12), ("at_end", 12), ("rounded", 10), ("none", None)])
def test_what_is_said_of_the_usage(usage: Reported, said: int | None) -> None:
    items = write(Manner(batch=5, usage=usage))
    told = end(items).usage
    assert (told.completion_tokens if told else None) == said
    estimates = {item.is_estimate for _, item in items if isinstance(item, Delta)}
    assert estimates == {usage != "exact"}
    counts = [count for _, _, count in deltas(items)]
    # an estimate by the text of a delta sees one token in few letters
    assert counts == ([5, 5, 2] if usage == "exact" else [1, 1, 1])


def test_no_batch_goes_over_a_fault() -> None:
    found: list[str] = []

    async def main() -> None:
        fault = Fault(kind="cut", after_tokens=7)
        session = await ScriptedBackend(replace(PLAIN, manner=Manner(batch=5), fault=fault)).open(
            Agent(name="a", model="m"), question("Why?")
        )
        async for item in session.write(100):
            if isinstance(item, Delta):
                found.append(item.text)

    with pytest.raises(StreamCut):
        run(main())
    assert "".join(found) == "".join(WORDS[:7])


def test_thoughts_and_calls_come_in_batches_of_their_own() -> None:
    agent_calls = (ToolCall(id="c1", name="look", arguments='{"at": "the sea"}'),)

    async def main() -> list[WriteItem]:
        script = replace(
            PLAIN, manner=Manner(batch=4), thoughts=("hm", " well"), tool_calls=agent_calls, before_calls=WORDS
        )
        agent = Agent(name="a", model="m")
        agent = replace(agent, extras=replace(agent.extras, tools=b"[]"))
        session = await ScriptedBackend(script).open(agent, question("Why?"))
        return [item async for item in session.write(100)]

    items = run(main())
    assert [item.num_tokens for item in items if isinstance(item, Delta)] == [2, 4, 4, 4]
    assert "".join(item.arguments for item in items if isinstance(item, ToolDelta)) == agent_calls[0].arguments


def test_what_ignores_a_prefill_begins_anew_unless_it_is_quoted() -> None:
    assert deltas(write(Manner(), limit=3, num_writes=2, ignores_prefill=True))[0][1] == "w1"
    assert deltas(write(Manner(), limit=3, num_writes=2, ignores_prefill=True, layout="quoted"))[0][1] == " w4"
