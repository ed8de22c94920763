"""The front door from Python: a pipeline opened once and asked often, and helpers that ask once."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stairstream.backends.base import Backend
from stairstream.config.build import Loading, open_backends
from stairstream.config.graphs import build_graph, goals_of
from stairstream.config.models import ModelConfig
from stairstream.config.pipelines import PipelineConfig, change_policy, ready_pipeline
from stairstream.config.policies import REQUEST, read_settings
from stairstream.config.rates import Rates, adapt_agents, why_unadapted
from stairstream.config.reading import Where
from stairstream.config.schema import Config, load_config
from stairstream.config.topologies import check_topology
from stairstream.core.adaptive import Goals
from stairstream.core.asked import NOTHING_ASKED, Asked, ask_of, begin_with, leave_alone
from stairstream.core.costs import cost_of, cost_of_agent, usage_by_model
from stairstream.core.errors import RequestError, RunFailed
from stairstream.core.events import Event, calls_of
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import Conversation, ToolCall, question, split_begun
from stairstream.core.metrics import Summary, model_of, summarize, tokens_saved
from stairstream.core.policy import Policy
from stairstream.core.session import Layout
from stairstream.engine.run import Run, open_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a run: the text, and the run's numbers.

    `graph` has the policies that the agents read by. `models` are those that spoke last for the agents, by agent;
    `costs` by agent too, None where a model has no price; `cost` is None where that leaves it unknown. `tokens_saved`
    is what agents that were stopped early might still have written. `notes` are what is to be said of the run besides
    what is in the summary. `tool_calls` are those of the client's tools that the answer asks for.
    """

    text: str
    pipeline: PipelineConfig
    graph: Graph
    models: Mapping[str, str]
    layout: Layout | None
    summary: Summary
    costs: Mapping[str, float | None]
    cost: float | None
    tokens_saved: int
    notes: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()

    def __str__(self) -> str:
        return self.text


_KEPT = 64


class Pipeline:
    """A pipeline with its backends open: ask it as often as you like, also at the same time."""

    def __init__(
        self,
        settings: PipelineConfig,
        graph: Graph,
        backends: Mapping[str, Backend],
        config: Config,
        rates: Rates | None = None,
    ) -> None:
        """`rates` is where adaptive policies have their numbers from; None: the usual file."""
        self.settings = settings
        self.graph = graph
        self.backends = backends
        self._config = config
        self._models = config.models
        self._prices = {name: model.common.price for name, model in config.models.items() if model.common.price}
        self._goals = goals_of(settings, graph)
        self._rates = rates or Rates()
        self._notes: dict[str, tuple[str, ...]] = {}
        self._with_policy = lru_cache(_KEPT)(self._make_with_policy)
        self._asked_graph = lru_cache(_KEPT)(self._make_asked_graph)

    @property
    def models(self) -> Mapping[str, ModelConfig]:
        """All models of the configuration, by name."""
        return self._models

    def with_policy(
        self, policy: Policy | str | None = None, numbers: Mapping[str, object] | None = None
    ) -> "Pipeline":
        """The same pipeline on the same backends, with another policy (or preset), or with numbers of it changed.

        Cheap: it opens nothing. Raises ConfigError for what is no policy, and for a single model, which has none.
        """
        if policy is None and not numbers:
            return self
        return self._with_policy(policy, tuple(sorted((numbers or {}).items())))

    def _make_with_policy(self, policy: Policy | str | None, numbers: tuple[tuple[str, object], ...]) -> "Pipeline":
        settings = change_policy(self.settings, policy, dict(numbers), _most_read(self.graph), REQUEST)
        graph = build_graph(self._models, settings)
        return Pipeline(settings, graph, self.backends, self._config, self._rates)

    def graph_for(self, conversation: Conversation, asked: Asked = NOTHING_ASKED, written: str = "") -> Graph:
        """The graph that a run of this has: where the results of tools have just come, proposers do not answer anew."""
        has_results = bool(conversation) and conversation[-1].role == "tool"
        # what may be long is not kept
        is_short = not (asked.tools or asked.tool_choice or asked.response_format or asked.stop or asked.user)
        graph = (self._asked_graph if is_short else self._make_asked_graph)(asked, has_results)
        return begin_with(graph, written) if written else graph

    def _make_asked_graph(self, asked: Asked, has_results: bool) -> Graph:
        return ask_of(leave_alone(self.graph) if has_results else self.graph, asked)

    def open_run(
        self, conversation: Conversation | str, *, asked: Asked = NOTHING_ASKED, written: str = ""
    ) -> AbstractAsyncContextManager[Run]:
        """A run on a conversation, or on a question; leaving the block cancels what still runs.

        `asked` is what one request wants of it. The answering agent goes on from `written`, or from the assistant's
        message that the conversation ends with; these words are no part of the answer that the run gives.
        Raises RequestError, before the block is entered, for what the models do not take.
        """
        if isinstance(conversation, str):
            conversation = question(conversation)
        if not written:
            conversation, written = split_begun(conversation)
        graph = self.graph_for(conversation, asked, written)
        limits = self.settings.limits
        goals = self._goals_in(graph, asked)
        rates = self._rates.load(self._models) if goals else {}
        unadapted = why_unadapted(graph, rates, goals) if goals else ()
        opening = open_run(
            adapt_agents(graph, rates, goals) if goals else graph,
            conversation,
            self.backends,
            deadline_s=limits.deadline_s,
            prices=self._prices,
            max_cost=limits.max_cost,
            pace=limits.pace,
        )
        return self._noting(opening, (*_one_calls(graph), *unadapted, *self._why_alone(graph)), goals)

    @asynccontextmanager
    async def _noting(
        self, opening: AbstractAsyncContextManager[Run], notes: tuple[str, ...], goals: Mapping[str, Goals]
    ) -> AsyncIterator[Run]:
        """The run, with what is to be said of it besides; the speed of its models is kept where a policy has goals."""
        async with opening as run:
            self._notes[run.id] = notes
            try:
                yield run
            finally:
                del self._notes[run.id]
        if goals:
            self._rates.observe(self._models, run.graph, [event async for event in run.events()])

    def _goals_in(self, graph: Graph, asked: Asked) -> Mapping[str, Goals]:
        """The goals of the agents that read in this run; an answer that waits has none."""
        if not self._goals:
            return self._goals
        reading = {agent.name for agent in graph.agents if agent.reads} - ({graph.answer} if asked.waits else set())
        return {name: goals for name, goals in self._goals.items() if name in reading}

    def _why_alone(self, graph: Graph) -> list[str]:
        if len(graph.agents) == len(self.graph.agents):
            return []
        return [f"{graph.answer} answers alone: results of tools have come, and others answer once per user turn"]

    async def ask(self, conversation: Conversation | str, *, asked: Asked = NOTHING_ASKED, written: str = "") -> Answer:
        """The whole answer, as `open_run` makes it. Raises RunFailed if there is none, or if it broke off."""
        async with self.open_run(conversation, asked=asked, written=written) as run:
            answer = self.make_answer(run, [event async for event in run.events()])
        if answer.summary.reason == "failed":
            raise RunFailed(answer.summary.error or "the run failed")
        return answer

    def make_answer(self, run: Run, events: Sequence[Event]) -> Answer:
        """The answer so far of a run of this pipeline, while the run's block is open."""
        summary = summarize(events)
        costs = {agent.name: cost_of_agent(events, agent, self._prices) for agent in run.graph.agents}
        return Answer(
            text=run.answer,
            pipeline=self.settings,
            graph=run.graph,
            models={one.name: model_of(one, run.graph) for one in summary.agents},
            layout=next(one.layout for one in summary.agents if one.name == run.graph.answer),
            summary=summary,
            costs=costs,
            cost=self._add_up(events, run.graph),
            tokens_saved=tokens_saved(summary, run.graph),
            notes=self._notes.get(run.id, ()),
            tool_calls=calls_of(events, run.graph.answer),
        )

    def _add_up(self, events: Sequence[Event], graph: Graph) -> float | None:
        """The run's cost: models that run here are free where they have no price, others make it unknown."""
        asked = {name for agent in graph.agents for name in _asked_of(agent)}
        found = None if asked.isdisjoint(self._prices) else 0.0
        for agent in graph.agents:
            for name, usage in usage_by_model(events, agent).items():
                if name in self._prices:
                    found = (found or 0.0) + cost_of(usage, self._prices[name])
                elif self._models[name].is_remote:
                    return None
        return found


def _one_calls(graph: Graph) -> list[str]:
    """A line for each agent whose model would think anew at every update."""
    text = "would think anew at every update, so it answers in one call, once those that it reads have ended"
    return [f"{agent.name}: its model {agent.model} {text}" for agent in graph.agents if agent.one_call]


def _asked_of(agent: Agent) -> tuple[str, ...]:
    return (agent.model, *agent.fallbacks)


@asynccontextmanager
async def open_pipeline(
    pipeline: str | Graph | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
    settings: Iterable[str] = (),
    loading: Loading = nullcontext,
    rates: Path | None = None,
) -> AsyncIterator[Pipeline]:
    """A pipeline of a configuration, with its backends open for the length of the block.

    `pipeline` None takes the first of the configuration; a graph is one of your own, of the configuration's models,
    and takes from them what it leaves at its default. `config` is a file, None the built-in one with the embedded
    model; `policy` a preset's name or six numbers in place of the pipeline's own; `settings` change single numbers
    of it, as in "first_chunk=16"; `loading` is told when an embedded model is loaded; `rates` is the file in which
    adaptive policies keep how fast models are.
    """
    chosen = config if isinstance(config, Config) else load_config(config)
    found = choose_policy(chosen, find_pipeline(chosen, pipeline), policy, settings)
    graph = build_graph(chosen.models, found)
    async with open_backends(chosen, [graph], loading) as backends:
        yield Pipeline(found, graph, backends, chosen, Rates(path=rates) if rates else None)


def find_pipeline(config: Config, pipeline: str | Graph | None) -> PipelineConfig:
    """The pipeline of that name, or one of that graph; ConfigError where it names what is not there."""
    if not isinstance(pipeline, Graph):
        return config.pipeline(pipeline)
    ready = ready_pipeline(pipeline)
    check_topology(ready.keys, config.models, Where(file=config.file, path="graph"))
    return ready


def choose_policy(
    config: Config, pipeline: PipelineConfig, policy: Policy | str | None, settings: Iterable[str]
) -> PipelineConfig:
    """The pipeline with another policy, or with some of its numbers changed."""
    numbers = read_settings(settings)
    if policy is None and not numbers:
        return pipeline
    return change_policy(pipeline, policy, numbers, _most_read(build_graph(config.models, pipeline)))


def _most_read(graph: Graph) -> int:
    return max(len(agent.reads) for agent in graph.agents)


async def ask_async(
    conversation: Conversation | str,
    pipeline: str | Graph | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
) -> Answer:
    """Ask once: open a pipeline, ask, close it. The arguments are those of open_pipeline."""
    if isinstance(conversation, str) and not conversation.strip():
        raise RequestError("the question is empty")
    async with open_pipeline(pipeline, config=config, policy=policy) as opened:
        return await opened.ask(conversation)


def ask(
    conversation: Conversation | str,
    pipeline: str | Graph | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
) -> Answer:
    """As ask_async, for code that is not async; works in a notebook too, where a loop is already running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(ask_async(conversation, pipeline, config=config, policy=policy))
    return _ask_beside(conversation, pipeline, config, policy)


def _ask_beside(
    conversation: Conversation | str,
    pipeline: str | Graph | None,
    config: Config | str | Path | None,
    policy: Policy | str | None,
) -> Answer:
    """Ask on a loop of its own in a thread of its own; an interrupt here ends it there."""
    done: Future[Answer] = Future()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Answer]]] = Future()

    async def main() -> Answer:
        task = asyncio.current_task()
        assert task is not None
        started.set_result((asyncio.get_running_loop(), task))
        return await ask_async(conversation, pipeline, config=config, policy=policy)

    def run() -> None:
        try:
            done.set_result(asyncio.run(main()))
        except BaseException as exc:
            done.set_exception(exc)

    thread = threading.Thread(target=run, name="stairstream-ask")
    thread.start()
    try:
        return done.result()
    except KeyboardInterrupt:
        loop, task = started.result()
        loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()
