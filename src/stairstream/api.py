"""The front door from Python: a pipeline opened once and asked often, and helpers that ask once."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from stairstream.backends.base import Backend
from stairstream.config.build import Loading, build_graph, open_backends
from stairstream.config.policies import override_policy
from stairstream.config.schema import Config, MixtureKeys, PipelineConfig, load_config
from stairstream.core.errors import ConfigError, RequestError, RunFailed
from stairstream.core.graph import Graph
from stairstream.core.messages import Conversation, question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import Policy
from stairstream.core.session import Layout
from stairstream.engine.run import Run, open_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a run: the text, and the run's numbers. `models` are the agents' models, by agent."""

    text: str
    pipeline: PipelineConfig
    models: Mapping[str, str]
    layout: Layout | None
    summary: Summary

    def __str__(self) -> str:
        return self.text


class Pipeline:
    """A pipeline with its backends open: ask it as often as you like, also at the same time."""

    def __init__(self, settings: PipelineConfig, graph: Graph, backends: Mapping[str, Backend]) -> None:
        self.settings = settings
        self.graph = graph
        self.backends = backends

    def open_run(self, conversation: Conversation | str) -> AbstractAsyncContextManager[Run]:
        """A run on a conversation, or on a question; leaving the block cancels what still runs."""
        asked = question(conversation) if isinstance(conversation, str) else conversation
        return open_run(self.graph, asked, self.backends, deadline_s=self.settings.keys.deadline_s)

    async def ask(self, conversation: Conversation | str) -> Answer:
        """The whole answer. Raises RunFailed if there is none, or if it broke off."""
        async with self.open_run(conversation) as run:
            events = [event async for event in run.events()]
            answer = self.make_answer(run, summarize(events))
        if answer.summary.reason == "failed":
            raise RunFailed(answer.summary.error or "the run failed")
        return answer

    def make_answer(self, run: Run, summary: Summary) -> Answer:
        """The answer so far of a run of this pipeline."""
        layout = next(one.layout for one in summary.agents if one.name == self.graph.answer)
        models = {agent.name: agent.model for agent in self.graph.agents}
        return Answer(text=run.answer, pipeline=self.settings, models=models, layout=layout, summary=summary)


@asynccontextmanager
async def open_pipeline(
    pipeline: str | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
    settings: Iterable[str] = (),
    loading: Loading = nullcontext,
) -> AsyncIterator[Pipeline]:
    """A pipeline of a configuration, with its backends open for the length of the block.

    `pipeline` None takes the first of the configuration; `config` is a file, None the built-in one with the embedded
    model; `policy` a preset's name or five numbers in place of the pipeline's own; `settings` change single numbers
    of it, as in "first_chunk=16"; `loading` is told when an embedded model is loaded.
    """
    chosen = config if isinstance(config, Config) else load_config(config)
    found = choose_policy(chosen.pipeline(pipeline), policy, settings)
    graph = build_graph(chosen, found)
    async with open_backends(chosen, [graph], loading) as backends:
        yield Pipeline(found, graph, backends)


def choose_policy(pipeline: PipelineConfig, policy: Policy | str | None, settings: Iterable[str]) -> PipelineConfig:
    """The pipeline with another policy, or with some of its numbers changed."""
    settings = tuple(settings)
    if policy is None and not settings:
        return pipeline
    if not isinstance(keys := pipeline.keys, MixtureKeys):
        raise ConfigError(f"pipeline {pipeline.name!r} is a single model, which reads nobody: it takes no policy")
    if isinstance(policy, Policy):
        pipeline, policy = replace(pipeline, policy=policy, policy_name="custom"), None
    numbers, name = override_policy(pipeline.policy, pipeline.policy_name, policy, settings, len(keys.proposers))
    return replace(pipeline, policy=numbers, policy_name=name)


async def ask_async(
    conversation: Conversation | str,
    pipeline: str | None = None,
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
    pipeline: str | None = None,
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
    pipeline: str | None,
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
