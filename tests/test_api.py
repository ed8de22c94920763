"""The public names, and asking from async code, from plain code, and from code inside a running loop."""

import asyncio
import subprocess
import sys
import threading
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import stairstream
from stairstream.config.schema import parse_config
from stairstream.core.errors import ConfigError, RequestError, RunFailed
from stairstream.core.events import Event, Reading
from stairstream.core.messages import Message, ToolCall, question
from stairstream.core.metrics import AgentSummary, Summary
from stairstream.core.options import RequestOptions
from stairstream.core.policy import PRESETS
from stairstream.core.session import Note, Usage

CONFIG = Path(__file__).parent / "scripted.yaml"
ANSWER = "Blue light scatters most."


def test_public_names_are_few_and_all_there() -> None:
    values = {kind.__name__ for kind in (*get_args(Event), Reading, Note, Usage, ToolCall, Summary, AgentSummary)}
    assert len({*stairstream.__all__} - values - {"Event"}) <= 24
    assert all(getattr(stairstream, name) is not None for name in stairstream.__all__)
    assert set(stairstream.__all__) == set(stairstream._HOMES)


def test_events_and_what_they_hold_are_public() -> None:
    """Whatever class a field of an event, or of the numbers of an answer, has."""
    missing = {kind.__name__ for kind in get_args(Event)} - {*stairstream.__all__}
    for kind in (*get_args(Event), Summary, AgentSummary):
        for hint in get_type_hints(kind).values():
            held = {one for one in (hint, *get_args(hint)) if is_dataclass(one) and isinstance(one, type)}
            missing |= {one.__name__ for one in held} - {*stairstream.__all__}
    assert missing == set()


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'aks'"):
        _ = stairstream.aks  # type: ignore[attr-defined]


def test_import_loads_no_engine_and_no_third_party_package() -> None:
    code = "import sys, stairstream; print({'aiohttp', 'yaml', 'msgspec', 'xllamacpp'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_plain_code_asks_in_one_line() -> None:
    answer = stairstream.ask("Why?", config=CONFIG)
    assert str(answer) == answer.text == ANSWER
    assert answer.models == {"p.1": "p", "p.2": "p", "p.3": "p", "a": "a"}
    assert answer.pipeline.policy_name == "balanced"


def test_helper_works_where_a_loop_is_running_and_leaves_no_thread() -> None:
    async def cell() -> str:
        return stairstream.ask("Why?", "single", config=CONFIG).text

    assert asyncio.run(cell()) == ANSWER
    assert [thread.name for thread in threading.enumerate() if "stairstream" in thread.name] == []


def test_async_code_asks_one_pipeline_several_times_at_once() -> None:
    async def main() -> list[str]:
        async with stairstream.open_pipeline("mix", config=CONFIG, settings=["first_chunk=4"]) as pipeline:
            return [answer.text for answer in await asyncio.gather(*(pipeline.ask("Why?") for _ in range(3)))]

    assert asyncio.run(main()) == [ANSWER] * 3


@pytest.mark.parametrize("policy", ["wait", PRESETS["wait"]])
def test_policy_may_be_a_name_or_numbers(policy: str | stairstream.Policy) -> None:
    answer = stairstream.ask("Why?", config=CONFIG, policy=policy)
    assert answer.pipeline.policy == PRESETS["wait"]
    assert answer.summary.updates == 0


def test_empty_question_and_wrong_names_are_refused() -> None:
    with pytest.raises(RequestError, match="question is empty"):
        stairstream.ask("  ", config=CONFIG)
    with pytest.raises(ConfigError, match="no pipeline is called 'mux'; did you mean 'mix'"):
        stairstream.ask("Why?", "mux", config=CONFIG)
    with pytest.raises(ConfigError, match="it takes no policy"):
        stairstream.ask("Why?", "single", config=CONFIG, policy="wait")


def test_failed_answer_raises_run_failed(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models: {m: {backend: scripted, length: 3, attempts: 1, fault: {kind: status_500}}}\n"
        "pipelines: {one: {topology: single, model: m}}"
    )
    with pytest.raises(RunFailed, match="500"):
        stairstream.ask("Why?", config=file)


def test_graph_of_ones_own_takes_from_the_configuration_what_it_leaves_open(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models:\n"
        "  m: {backend: scripted, text: 'One two three.', max_tokens: 2, temperature: 0.5, seed: 4, fallbacks: [n]}\n"
        "  n: {backend: scripted, length: 9}\n"
        "pipelines: {one: {topology: single, model: m}}"
    )
    graph = stairstream.topologies.chain(["m", "m"], policy=PRESETS["cheap"], sampling=stairstream.Sampling(seed=9))
    answer = stairstream.ask("Why?", graph, config=file)
    assert answer.text == "One two"
    own = answer.graph.agent("m.2")
    assert (own.sampling.seed, own.sampling.temperature, own.sampling.max_tokens) == (9, 0.5, 2)
    assert (own.fallbacks, answer.pipeline.policy_name) == (("n",), "cheap")
    waiting = stairstream.ask("Why?", graph, config=file, policy="wait")
    assert waiting.graph.agent("m.2").policy == PRESETS["wait"]
    with pytest.raises(ConfigError, match=r"graph\.x\.model: 'x' is not a model"):
        stairstream.ask("Why?", stairstream.topologies.single("x"), config=file)


def test_rates_are_kept_in_a_file_of_ones_choice(tmp_path: Path) -> None:
    async def main() -> list[stairstream.Answer]:
        opening = stairstream.open_pipeline("mix", config=CONFIG, policy="adaptive", rates=tmp_path / "r.json")
        async with opening as pipeline:
            return [await pipeline.ask("Why?") for _ in range(2)]

    first, second = asyncio.run(main())
    assert len(first.notes) == 1 and second.notes == ()
    assert (tmp_path / "r.json").is_file()


def test_model_that_always_thinks_is_said_to_answer_in_one_call(tmp_path: Path) -> None:
    graph = stairstream.topologies.mixture(proposers=["p", "p"], aggregator="a")
    agents = tuple(replace(agent, one_call=bool(agent.reads)) for agent in graph.agents)
    answer = stairstream.ask("Why?", replace(graph, agents=agents), config=CONFIG)
    assert "a: its model a would think again at every update, so it answers in one call" in answer.notes[0]
    assert answer.summary.updates == 0


def test_another_policy_opens_no_backend_again() -> None:
    async def main() -> None:
        async with stairstream.open_pipeline("mix", config=CONFIG) as mix:
            waiting = mix.with_policy("wait")
            assert waiting.backends is mix.backends
            assert waiting.settings.policy_name == "wait"
            assert waiting.graph.agent(waiting.graph.answer).policy == PRESETS["wait"]
            assert mix.with_policy("wait") is waiting
            assert mix.with_policy() is mix
            changed = mix.with_policy("paper", {"first_chunk": 4})
            assert changed.graph.agent(changed.graph.answer).policy == replace(PRESETS["paper"], first_chunk=4)
            assert (await waiting.ask("Why?")).text == ANSWER

    asyncio.run(main())


def test_a_mistake_in_a_requests_policy_names_it_as_the_request_does() -> None:
    async def main() -> None:
        async with stairstream.open_pipeline("mix", config=CONFIG) as mix:
            with pytest.raises(ConfigError, match=r"^policy: 'wiat' is not a policy; did you mean 'wait'"):
                mix.with_policy("wiat")
            with pytest.raises(ConfigError, match=r"^growth: must be a number of at least 1"):
                mix.with_policy(numbers={"growth": 0.5})

    asyncio.run(main())


def test_an_assistants_message_at_the_end_is_continued() -> None:
    async def main() -> None:
        async with stairstream.open_pipeline("mix", config=CONFIG) as mix:
            begun = Message(role="assistant", content="Blue light")
            assert (await mix.ask((*question("Why?"), begun))).text == " scatters most."
            assert (await mix.ask("Why?", written="Blue light")).text == " scatters most."

    asyncio.run(main())


def test_where_tools_have_answered_proposers_do_not_answer_again() -> None:
    async def main() -> None:
        async with stairstream.open_pipeline("mix", config=CONFIG) as mix:
            call = ToolCall(id="c1", name="look", arguments="{}")
            asked = Message(role="assistant", content="", tool_calls=(call,))
            result = Message(role="tool", content="blue", tool_call_id="c1")
            answer = await mix.ask((*question("Why?"), asked, result))
            assert answer.text == ANSWER
            assert [agent.name for agent in answer.graph.agents] == [mix.graph.answer]
            assert "answers alone" in answer.notes[-1]

    asyncio.run(main())


def test_what_a_request_asks_bounds_its_answer() -> None:
    async def main() -> None:
        async with stairstream.open_pipeline("mix", config=CONFIG) as mix:
            answer = await mix.ask("Why?", options=RequestOptions(max_tokens=2))
            assert (answer.text, answer.summary.reason) == ("Blue light", "length")
            assert (await mix.ask("Why?", options=RequestOptions(stop=("most",)))).text == "Blue light scatters "

    asyncio.run(main())


def test_cost_has_what_a_paid_fallback_of_a_free_model_took() -> None:
    text = """
models:
  free: {backend: scripted, length: 3, attempts: 1, fallbacks: [paid], fault: {kind: status_500}}
  paid: {backend: scripted, length: 3, price: {prompt: 0, completion: 1000000}}
pipelines: {one: {topology: single, model: free}}
"""

    answer = stairstream.ask("Why?", config=parse_config(text, "c.yaml", {}))
    assert answer.cost == 3.0
