"""The engine host as its supervisor sees it: started, started again when it dies, and left to its last worker."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from stairstream.backends.remote.unix import listen_at
from stairstream.config.build import count_sessions
from stairstream.config.graphs import build_graph, models_of
from stairstream.config.schema import Config
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Graph
from stairstream.engine.tasks import TaskBlock
from stairstream.server.workers.station import Engines, HostStation, Started, start_process

LEAST_LIFE_S = 5.0
"""A process that dies sooner is started again after a pause, which doubles each time."""
FIRST_PAUSE_S, MOST_PAUSE_S = 0.5, 30.0

END_S = 10.0
"""Time in which a host that nobody uses has to end."""

Tell = Callable[[str], None]


def hosted_models(config: Config) -> tuple[str, ...]:
    """The models of pipelines that have an engine here: all workers share it."""
    graphs = [build_graph(config.models, pipeline) for pipeline in config.pipelines.values()]
    names = dict.fromkeys(name for graph in graphs for name in models_of(graph))
    return tuple(name for name in names if config.models[name].has_engine)


def engines_of(config: Config, models: tuple[str, ...]) -> object:
    """All that the engines of these models depend on: two configurations with the same need no new host.

    Raises ConfigError for a model whose file is not there.
    """
    graphs = [build_graph(config.models, pipeline) for pipeline in config.pipelines.values()]
    return {name: _engine_of(config, graphs, name) for name in models}


def _engine_of(config: Config, graphs: list[Graph], name: str) -> object:
    model = config.models[name]
    changed = {key: _changed_ns(path) for key, path in model.files.items()}
    return model.keys, count_sessions(config, graphs, model.keys), changed


def _changed_ns(path: Path) -> int:
    """The last time at which a file, or one in a folder, was written; 0 if it is not there."""
    files = path.glob("*") if path.is_dir() else [path]
    return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)


def next_pause_s(pause_s: float) -> float:
    """The pause before the next try of a process that has ended before it was ready."""
    return min(MOST_PAUSE_S, max(FIRST_PAUSE_S, 2 * pause_s))


def describe_end(code: int) -> str:
    """How a process has ended."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


class EngineHost:
    """One set of models, in one process at a time. Its socket is ours: who comes while it starts again waits there."""

    def __init__(self, config: Config, models: tuple[str, ...], path: Path, tasks: TaskBlock, tell: Tell) -> None:
        self.engines = engines_of(config, models)
        self._config = config
        self._models = models
        self._path = path
        self._tasks = tasks
        self._tell = tell
        try:
            self._listening = listen_at(path)
        except OSError as exc:
            raise ConfigError(f"can't listen at {path}: {exc.strerror or exc}; TMPDIR names another folder") from None
        self._unused, self._in_use = os.pipe()
        self._is_leaving = False
        self._started: Started | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good."""
        return self._watching is not None and self._watching.done()

    @property
    def station(self) -> Engines:
        """The part that a worker is told."""
        return Engines(models=self._models, path=self._path, in_use=self._in_use)

    async def start(self) -> bool:
        """Whether it comes to serve; else it is over."""
        self._tell(f"the engine host loads {', '.join(self._models)}")
        is_ready = False
        try:
            is_ready = await self._start()
        finally:
            if not is_ready:
                self._close()
        if is_ready:
            self._watching = self._tasks.create_task(self._watch())
        return is_ready

    def leave(self) -> None:
        """It ends once the last worker that knows it has."""
        if not self._is_leaving:
            self._is_leaving = True
            os.close(self._in_use)

    async def end(self) -> None:
        """Wait for its end, when all workers have ended."""
        self.leave()
        if self._watching is not None:
            await asyncio.wait([self._watching], timeout=END_S)
            self._watching.cancel()
        if self._started is not None:
            await self._started.kill()

    async def _start(self) -> bool:
        is_ready = False
        self._started = await start_process(
            "stairstream.server.workers.engine_host",
            lambda line: HostStation(
                models=self._models,
                config=self._config,
                listening=self._listening.fileno(),
                line=line,
                in_use=self._unused,
            ),
        )
        try:
            is_ready = await self._started.wait_ready()
        finally:
            if not is_ready:
                await self._started.kill()
        return is_ready

    async def _watch(self) -> None:
        """Until nobody uses it; one that has ended before is started again."""
        loop = asyncio.get_running_loop()
        try:
            while self._started is not None:
                began_s = loop.time()
                code = await self._started.process.wait()
                if code == 0:  # nobody has its pipe open
                    return
                self._started.line.close()
                how, pause_s = describe_end(code), FIRST_PAUSE_S if loop.time() - began_s < LEAST_LIFE_S else 0.0
                while True:
                    self._tell(f"the engine host ended {how}; another one starts in {pause_s:g} s")
                    await asyncio.sleep(pause_s)
                    if await self._start():
                        break
                    how, pause_s = "before it was ready", next_pause_s(pause_s)
        finally:
            self._close()

    def _close(self) -> None:
        self.leave()
        self._listening.close()
        os.close(self._unused)
        self._path.unlink(missing_ok=True)
