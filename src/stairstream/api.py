"""The Python API: a pipeline that is opened once and asked often, and runs of any graph on any backends."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import NoneType

from stairstream.answer import Answer, Answering, make_answer
from stairstream.backends.base import Backend
from stairstream.config.arguments import check_type
from stairstream.config.build import Loading, open_backends
from stairstream.config.choosing import choose_policy, find_pipeline, most_read
from stairstream.config.graphs import build_graph, goals_of
from stairstream.config.models import ModelConfig
from stairstream.config.pipelines import PipelineConfig, change_policy
from stairstream.config.policies import REQUEST
from stairstream.config.rates import Rates, adapt_agents, why_unadapted
from stairstream.config.schema import Config, load_config
from stairstream.conversations.reading import Messages, read_conversation
from stairstream.core.adaptive import Goals, Rate
from stairstream.core.costs import Price
from stairstream.core.errors import RunFailed
from stairstream.core.events import Event
from stairstream.core.graph import Graph
from stairstream.core.messages import Conversation, check_question, split_begun
from stairstream.core.options import NO_OPTIONS, RequestOptions, ask_of, begin_with, leave_alone
from stairstream.core.policy import Policy
from stairstream.engine.pace import Pace, default_pace
from stairstream.engine.resuming import Resumed
from stairstream.engine.run import Run
from stairstream.engine.run import open_run as start_run
from stairstream.engine.write_ahead import Journal
from stairstream.words import AsyncWords, Hear

_CACHED_GRAPHS = 64


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
        settings = change_policy(self.settings, policy, dict(numbers), most_read(self.graph), REQUEST)
        graph = build_graph(self._models, settings)
        return Pipeline(settings, graph, self.backends, self._config, self.rates)

    @property
    def rates(self) -> Rates | None:
        """The speeds of models in earlier runs, as this pipeline was given them."""
        return self._rates if self._weighs else None

    def known_rates(self) -> Mapping[str, Rate]:
        """The speeds of its models as they are known now, if its agents read by them."""
        return self._rates.load(self._models) if self._rates and _reads(self.graph) else {}

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
        conversation: Messages,
        *,
        options: RequestOptions = NO_OPTIONS,
        written: str = "",
        journal: Journal | None = None,
        resumed: Resumed | None = None,
        rates: Mapping[str, Rate] | None = None,
    ) -> AbstractAsyncContextManager[Run]:
        """Opens a run on a question or a list of messages; leaving the block cancels whatever still runs.

        Messages are `Message` values, or dicts as the `openai` package has them. `options` are the options of one
        request. The answering agent continues from `written`, or from the assistant's message at the end of the
        conversation; these words are not part of the run's answer. With a `journal` events are written there before
        they are shown; `resumed` is a run that another process began, which is continued, by the `rates` that were
        known then: those of now would be another policy.
        Raises RequestError, before the block is entered, for a conversation that is none or has no question, and for
        options that the models do not support.
        """
        conversation = read_conversation(conversation)
        check_type("options", options, RequestOptions, "a RequestOptions")
        check_type("written", written, str, "text")
        if not written:
            conversation, written = split_begun(conversation)
        graph = self.graph_for(conversation, options, written)
        limits = self.settings.limits
        goals = self._goals_in(graph, options)
        rates = self.known_rates() if rates is None else rates
        unadapted = why_unadapted(graph, rates, goals) if goals else ()
        graph = adapt_agents(graph, rates, goals) if goals else graph
        opening = start_run(
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
        return self._noting(opening, (*self._note(graph), *unadapted))

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

    def _note(self, graph: Graph) -> tuple[str, ...]:
        """Remarks on every run of a graph."""
        return (*_one_calls(graph), *self._why_alone(graph))

    def _why_alone(self, graph: Graph) -> list[str]:
        if len(graph.agents) == len(self.graph.agents):
            return []
        return [f"{graph.answer} answers alone: results of tools have come, and other agents answer once per user turn"]

    async def ask(self, conversation: Messages, *, options: RequestOptions = NO_OPTIONS, written: str = "") -> Answer:
        """The whole answer of a run, with the arguments of open_run. Raises RunFailed if it failed or was cut off.

        It is not paced: nobody sees its words before the last.
        """
        async with self.open_run(conversation, options=replace(options, pace="raw"), written=written) as run:
            answer = self.make_answer(run, [event async for event in run.events()])
        if answer.summary.reason == "failed":
            raise RunFailed(answer.summary.error or "the run failed")
        return answer

    def stream(
        self, conversation: Messages, *, options: RequestOptions = NO_OPTIONS, written: str = ""
    ) -> AsyncWords[Answer]:
        """The answer's words, for `async for`, with the arguments of open_run. Leaving the loop cancels the run.

        Raises RequestError at once for a conversation that is none or has no question.
        """
        read = read_conversation(conversation)
        check_question(read)
        return AsyncWords(lambda hear: self.tell(read, hear, options=options, written=written))

    async def tell(
        self, conversation: Messages, hear: Hear, *, options: RequestOptions = NO_OPTIONS, written: str = ""
    ) -> Answer:
        """The whole answer, as ask has it, but each word is handed to `hear` as it comes."""
        async with self.open_run(conversation, options=options, written=written) as run:
            async for word in run.words():
                hear(word)
            return self.make_answer(run, run.past)

    def make_answer(self, run: Answering, events: Sequence[Event]) -> Answer:
        """The answer so far of a run of this pipeline; call it while the run's block is open."""
        notes = self._notes.get(run.id, self._note(run.graph))
        return make_answer(run, events, pipeline=self.settings, models=self._models, prices=self._prices, notes=notes)


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


@asynccontextmanager
async def open_pipeline(
    pipeline: str | Graph | PipelineConfig | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
    settings: Sequence[str] = (),
    loading: Loading = nullcontext,
    rates: Path | None = None,
) -> AsyncIterator[Pipeline]:
    """Opens a pipeline of a configuration; its backends stay open until the block ends.

    `pipeline` is a name, None for the first of the configuration, an entry of it that was changed, or a graph of your
    own, whose agents use the configuration's models and their defaults. `config` is a file, None the built-in one with
    the embedded model; `policy` replaces the pipeline's own: a preset's name or six numbers; `settings` change single
    numbers of it, as in "first_chunk=16"; `loading` is called when an embedded model is loaded; `rates` is the file in
    which the speeds of models are kept from one process to the next.
    """
    check_type("config", config, (Config, str, Path, NoneType), "the path of a YAML file, or what load_config returns")
    check_type("rates", rates, (Path, NoneType), "the Path of a file")
    chosen = config if isinstance(config, Config) else load_config(config)
    found = choose_policy(chosen, find_pipeline(chosen, pipeline), policy, settings)
    graph = build_graph(chosen.models, found)
    async with open_backends(chosen, [graph], loading) as backends:
        with closing(Rates(rates)) as kept:
            yield Pipeline(found, graph, backends, chosen, kept)


def open_run(
    graph: Graph,
    conversation: Messages,
    backends: Mapping[str, Backend],
    *,
    deadline_s: float | None = None,
    prices: Mapping[str, Price] | None = None,
    max_cost: float | None = None,
    pace: Pace = "raw",
    written: str = "",
) -> AbstractAsyncContextManager[Run]:
    """Starts every agent of a graph on backends of your own; leaving the block cancels what still runs.

    `backends` maps names of models to backends, which stay yours to close. Past `deadline_s`, or once it has cost
    `max_cost` by `prices` (by model; in their currency), the run ends with what it has. `pace` releases the answer
    evenly, or word by word as it is written. The answering agent continues `written`, which is not repeated.
    Raises, before the block is entered, ConfigError for a model without a backend, and RequestError for a conversation
    that is none or has no question, or for what the answering model does not take.
    """
    check_type("graph", graph, Graph, "a Graph, as mixture(...) or topologies make it")
    check_type("backends", backends, Mapping, "a dict of models' names to backends")
    check_type("written", written, str, "text")
    return start_run(
        graph,
        read_conversation(conversation),
        backends,
        deadline_s=deadline_s,
        prices=prices,
        max_cost=max_cost,
        pace=pace,
        written=written,
    )
