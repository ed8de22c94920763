"""A fake endpoint in a process of its own, and the backends that reach it; shared by the benchmarks."""

import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from stairstream.backends.base import Backend
from stairstream.backends.capabilities import Capabilities
from stairstream.backends.http import HttpPool
from stairstream.backends.openai import OpenAIBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The address of the fake models, and the process that serves them."""

    base_url: str
    pid: int


@contextmanager
def fake_endpoint(models: Mapping[str, Mapping[str, object]]) -> Iterator[Endpoint]:
    """Serves models with these options of `stairstream fake-server` until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "models.yaml"
        config.write_text(yaml.safe_dump({"models": {name: dict(keys) for name, keys in models.items()}}))
        command = [sys.executable, "-m", "stairstream", "fake-server", "-c", str(config), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                yield Endpoint(base_url=line.rsplit(" ", 1)[-1].strip(), pid=process.pid)
            finally:
                process.terminate()


@asynccontextmanager
async def backends_at(endpoint: Endpoint, *models: str) -> AsyncIterator[dict[str, Backend]]:
    """An `openai` backend for each model, all on one pool of connections."""
    pool = HttpPool()
    with tempfile.TemporaryDirectory() as folder:
        capabilities = Capabilities(path=Path(folder) / "probes.json")
        try:
            yield {
                model: OpenAIBackend(
                    base_url=endpoint.base_url,
                    model=model,
                    pool=pool,
                    capabilities=capabilities,
                    continues="flag",
                )
                for model in models
            }
        finally:
            await pool.aclose()
