"""The Python API: a pipeline that is opened once and asked often, and helpers that ask once."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

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
from stairstream.core.costs import cost_of, cost_of_agent, usage_by_model
from stairstream.core.errors import RequestError, RunFailed
from stairstream.core.events import Event, calls_of
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import Conversation, ToolCall, question, split_begun
from stairstream.core.metrics import Summary, model_of, summarize, tokens_saved
from stairstream.core.options import NO_OPTIONS, RequestOptions, ask_of, begin_with, leave_alone
from stairstream.core.policy import Policy
from stairstream.core.session import Layout
from stairstream.engine.pace import Pace, default_pace
from stairstream.engine.resuming import Resumed
from stairstream.engine.run import Run, open_run
from stairstream.engine.write_ahead import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a run: the text, and the run's numbers.

    `graph` has the policies that the agents used. `models` is the last model of each agent; `costs` is the cost of each
    agent, None where a model has no price; `cost` is None if that leaves it unknown. `tokens_saved` is an estimate of
    the tokens that agents did not write because they were stopped early. `notes` are remarks on the run that are not in
    the summary. `tool_calls` are the calls of the client's tools that the answer asks for.
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


_CACHED_GRAPHS = 64


class Answering(Protocol):
    """A run, or what is kept of one."""

    @property
    def id(self) -> str: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def answer(self) -> str: ...


class Pipeline:
    """A pipeline with its backends open; it can be asked any number of times, also in parallel."""

    def __init__(
        self,
        settings: PipelineConfig,
        graph: Graph,
        backends: Mapping[str, Backend],
        config: Config,
        rates: Rates | None = None,
    ) -> None:
        """`rates` holds the speeds of models in earlier runs, by which calls that gain nothing are not made.

        None: nothing is known of them, and only adaptive policies use, and add to, those in the usual file.
        """
        self.settings = settings
        self.graph = graph
        self.backends = backends
        self._config = config
        self._models = config.models
        self._prices = {name: model.common.price for name, model in config.models.items() if model.common.price}
        self._goals = goals_of(settings, graph)
        self._rates = rates if rates is not None else Rates() if self._goals else None
        self._weighs = rates is not None
        self._notes: dict[str, tuple[str, ...]] = {}
        self._with_policy = lru_cache(_CACHED_GRAPHS)(self._make_with_policy)
        self._request_graph = lru_cache(_CACHED_GRAPHS)(self._make_request_graph)

    @property
    def models(self) -> Mapping[str, ModelConfig]:
        """All models of the configuration, by name."""
        return self._models

    def with_policy(
        self, policy: Policy | str | None = None, numbers: Mapping[str, object] | None = None
    ) -> "Pipeline":
        """The same pipeline on the same backends, with another policy (or preset), or with numbers of it changed.

        Cheap: it opens nothing. Raises ConfigError for an unknown policy, and for a single model, which has none.
        """
        if policy is None and not numbers:
            return self
        return self._with_policy(policy, tuple(sorted((numbers or {}).items())))

    def _make_with_policy(self, policy: Policy | str | None, numbers: tuple[tuple[str, object], ...]) -> "Pipeline":
        settings = change_policy(self.settings, policy, dict(numbers), _most_read(self.graph), REQUEST)
        graph = build_graph(self._models, settings)
        return Pipeline(settings, graph, self.backends, self._config, self.rates)

    @property
    def rates(self) -> Rates | None:
        """The speeds of models in earlier runs, as this pipeline was given them."""
        return self._rates if self._weighs else None

    def graph_for(self, conversation: Conversation, options: RequestOptions = NO_OPTIONS, written: str = "") -> Graph:
        """The graph of a run on this conversation: if it ends with results of tools, proposers do not answer again."""
        has_results = bool(conversation) and conversation[-1].role == "tool"
        # requests with long values are not cached
        given = (options.tools, options.tool_choice, options.response_format, options.stop, options.user)
        is_short = not any((*given, options.settings))
        graph = (self._request_graph if is_short else self._make_request_graph)(options, has_results)
        return begin_with(graph, written) if written else graph

    def _make_request_graph(self, options: RequestOptions, has_results: bool) -> Graph:
        return ask_of(leave_alone(self.graph) if has_results else self.graph, options)

    def open_run(
        self,
        conversation: Conversation | str,
        *,
        options: RequestOptions = NO_OPTIONS,
        written: str = "",
        journal: Journal | None = None,
        resumed: Resumed | None = None,
    ) -> AbstractAsyncContextManager[Run]:
        """Opens a run on a conversation, or on a question; leaving the block cancels whatever still runs.

        `options` are the options of one request. The answering agent continues from `written`, or from the assistant's
        message at the end of the conversation; these words are not part of the run's answer. With a `journal` events
        are written there before they are shown; `resumed` is a run that another process began, which is continued.
        Raises RequestError, before the block is entered, for options that the models do not support.
        """
        if isinstance(conversation, str):
            conversation = question(conversation)
        if not written:
            conversation, written = split_begun(conversation)
        graph = self.graph_for(conversation, options, written)
        limits = self.settings.limits
        goals = self._goals_in(graph, options)
        rates = self._rates.load(self._models) if self._rates and _reads(graph) else {}
        unadapted = why_unadapted(graph, rates, goals) if goals else ()
        graph = adapt_agents(graph, rates, goals) if goals else graph
        opening = open_run(
            graph,
            conversation,
            self.backends,
            deadline_s=limits.deadline_s,
            prices=self._prices,
            max_cost=limits.max_cost,
            pace=_pace_of(graph, options, limits.pace),
            rates=rates if goals or self._weighs else {},
            budgets={name: its.max_prompt_tokens_factor for name, its in goals.items()},
            journal=journal,
            resumed=resumed,
        )
        return self._noting(opening, (*_one_calls(graph), *unadapted, *self._why_alone(graph)))

    @asynccontextmanager
    async def _noting(self, opening: AbstractAsyncContextManager[Run], notes: tuple[str, ...]) -> AsyncIterator[Run]:
        """Keeps the run's notes while it is open; records the speed of its models if an agent reads others."""
        async with opening as run:
            self._notes[run.id] = notes
            try:
                yield run
            finally:
                del self._notes[run.id]
        if self._rates is not None and _reads(run.graph):
            self._rates.observe(self._models, run.graph, run.past)

    def _goals_in(self, graph: Graph, options: RequestOptions) -> Mapping[str, Goals]:
        """The goals of the agents that read in this run; an answering agent that waits has none."""
        if not self._goals:
            return self._goals
        reading = {agent.name for agent in graph.agents if agent.reads} - ({graph.answer} if options.waits else set())
        return {name: goals for name, goals in self._goals.items() if name in reading}

    def _why_alone(self, graph: Graph) -> list[str]:
        if len(graph.agents) == len(self.graph.agents):
            return []
        return [f"{graph.answer} answers alone: results of tools have come, and other agents answer once per user turn"]

    async def ask(
        self, conversation: Conversation | str, *, options: RequestOptions = NO_OPTIONS, written: str = ""
    ) -> Answer:
        """The whole answer of a run, with the arguments of open_run. Raises RunFailed if it failed or was cut off.

        It is not paced: nobody sees its words before the last.
        """
        async with self.open_run(conversation, options=replace(options, pace="raw"), written=written) as run:
            answer = self.make_answer(run, [event async for event in run.events()])
        if answer.summary.reason == "failed":
            raise RunFailed(answer.summary.error or "the run failed")
        return answer

    def make_answer(self, run: Answering, events: Sequence[Event]) -> Answer:
        """The answer so far of a run of this pipeline; call it while the run's block is open."""
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
        """The run's cost. A model without a price is free if it is local, and makes the cost unknown if remote."""
        names = {name for agent in graph.agents for name in _models_of(agent)}
        found = None if names.isdisjoint(self._prices) else 0.0
        for agent in graph.agents:
            for name, usage in usage_by_model(events, agent).items():
                if name in self._prices:
                    found = (found or 0.0) + cost_of(usage, self._prices[name])
                elif self._models[name].is_remote:
                    return None
        return found


def _reads(graph: Graph) -> bool:
    """Whether an agent reads others, so that speeds matter."""
    return any(agent.reads for agent in graph.agents)


def _one_calls(graph: Graph) -> list[str]:
    """Notes on the agents whose model would think again at every update."""
    text = "would think again at every update, so it answers in one call, once the agents that it reads have ended"
    return [f"{agent.name}: its model {agent.model} {text}" for agent in graph.agents if agent.one_call]


def _pace_of(graph: Graph, options: RequestOptions, own: Pace | None) -> Pace:
    """The pace of one run: the request's, else the pipeline's `own`; calls of tools and JSON are not for a reader."""
    return options.pace or ("raw" if options.waits else own or default_pace(graph))


def _models_of(agent: Agent) -> tuple[str, ...]:
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
    """Opens a pipeline of a configuration; its backends stay open until the block ends.

    `pipeline` is a name, None for the first of the configuration, or a graph of your own, whose agents use the
    configuration's models and their defaults. `config` is a file, None the built-in one with the embedded
    model; `policy` replaces the pipeline's own: a preset's name or six numbers; `settings` change single
    numbers of it, as in "first_chunk=16"; `loading` is called when an embedded model is loaded; `rates` is the file in
    which the speeds of models are kept from one process to the next.
    """
    chosen = config if isinstance(config, Config) else load_config(config)
    found = choose_policy(chosen, find_pipeline(chosen, pipeline), policy, settings)
    graph = build_graph(chosen.models, found)
    async with open_backends(chosen, [graph], loading) as backends:
        with closing(Rates(rates)) as kept:
            yield Pipeline(found, graph, backends, chosen, kept)


def find_pipeline(config: Config, pipeline: str | Graph | None) -> PipelineConfig:
    """The pipeline of that name, or one made of that graph. Raises ConfigError for unknown names."""
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
    """Opens a pipeline, asks once and closes it. The arguments are those of open_pipeline."""
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
    """Like ask_async, for code that is not async; also works in a notebook, where a loop is already running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(ask_async(conversation, pipeline, config=config, policy=policy))
    return _ask_in_thread(conversation, pipeline, config, policy)


def _ask_in_thread(
    conversation: Conversation | str,
    pipeline: str | Graph | None,
    config: Config | str | Path | None,
    policy: Policy | str | None,
) -> Answer:
    """Asks on a loop of its own in a thread of its own; an interrupt here cancels it there."""
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
