"""Engines that hold a model, on replicas of their own: they answer, one is killed, a second turn finds its cache."""

import json
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from stairstream.backends.models import DEFAULT_MODEL, find_model, is_fetched
from stairstream.core.events import Wrote
from tests.cluster.testbed import URL, Testbed, asking, kill
from tests.server.asking import RunClient

pytest.importorskip("ray")
pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

HAS_LLAMA = find_spec("xllamacpp") is not None and is_fetched(DEFAULT_MODEL)
LLAMA_FILE = find_model(DEFAULT_MODEL) if HAS_LLAMA else Path()  # found now: the cluster has a cache folder of its own
ENGINES = ["tiny", *(["llama"] if HAS_LLAMA else [])]

CONFIG = """
models:
  tiny:
    {{backend: torch, model: "{tiny}", threads: 1, max_tokens: 400, temperature: 0, replicas: {{count: 2, cpus: 0.4}}}}
"""
LLAMA = """
  llama:
    {{backend: llamacpp, model: "{llama}", threads: 1, slots: 6, context_tokens: 768, max_tokens: 200, temperature: 0,
      replicas: {{count: 2, cpus: 0.4}}}}
"""
PIPELINES = """
pipelines:
  tiny: {{topology: single, model: tiny}}
  mix tiny: {{topology: mixture, proposers: [tiny, tiny], aggregator: tiny}}
"""
LLAMA_PIPELINES = """
  llama: {{topology: single, model: llama}}
  mix llama: {{topology: mixture, proposers: [llama, llama], aggregator: llama}}
"""
SERVER = """
server: {{port: {port}, database: "{database}", drain_s: 5, replicas: {{count: 2, cpus: 0.4}}}}
"""


def make_tiny(folder: Path) -> Path:
    """A model that says nonsense, slowly enough to be killed meanwhile."""
    from tests.backends.torch.tiny import make_network, make_tokens

    tokens = make_tokens([*map(chr, range(33, 127)), "Ġ", "Ċ"])  # what can be printed
    make_network(vocab_size=len(tokens), num_hidden_layers=20).save_pretrained(folder)
    tokens._tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engines(whole_bed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """The cluster with these engines instead of the scripted one."""
    tiny = make_tiny(tmp_path_factory.mktemp("tiny"))
    parts = [CONFIG, LLAMA, PIPELINES, LLAMA_PIPELINES] if HAS_LLAMA else [CONFIG, PIPELINES]
    whole_bed.deploy("".join([*parts, SERVER]), tiny=tiny, llama=LLAMA_FILE)
    yield whole_bed
    whole_bed.deploy()


@pytest.fixture
def ready(engines: Testbed) -> Testbed:
    """The cluster, healed from the test before."""
    engines.wait_ready()
    return engines


def check_joined(one: RunClient) -> None:
    """Each agent's words follow each other without a gap."""
    ends: dict[str, int] = {}
    for _, event, text in one.events:
        if isinstance(event, Wrote):
            assert (event.start, event.end - event.start) == (ends.get(event.agent, 0), len(text))
            ends[event.agent] = event.end
    assert ends and all(ends.values())


@pytest.mark.parametrize("engine", ENGINES)
def test_agents_answer_by_an_engine(ready: Testbed, engine: str) -> None:
    asked = [RunClient(f"mix {engine}", f"What is number {number}?") for number in range(2)]
    with asking(asked):
        pass
    for one in asked:
        check_joined(one)
        agents = {event.agent for _, event, _ in one.events if isinstance(event, Wrote)}
        assert len(agents) == 3 and one.end in ("stop", "length")


@pytest.mark.parametrize("engine", ENGINES)
def test_another_replica_continues_when_an_engine_dies(ready: Testbed, engine: str) -> None:
    asked = [RunClient(engine, f"Tell me about the sea, part {number}.") for number in range(6)]
    with asking(asked):
        while not all(len(one.text) > 20 for one in asked):
            time.sleep(0.05)
        before = [one.text for one in asked]
        kill(ready.replicas(f"engine-{engine}")[0])
    for one, begun in zip(asked, before, strict=True):
        check_joined(one)
        assert one.text.startswith(begun) and len(one.text) > len(begun)
        assert one.end in ("stop", "length") and one.num_returns == 0
    assert any("retry" in one.notes for one in asked)


@pytest.mark.skipif(not HAS_LLAMA, reason="llama.cpp or its model is not here: stairstream pull")
def test_a_second_turn_finds_its_cache_whichever_front_is_asked(ready: Testbed) -> None:
    def ask(messages: list[dict[str, str]]) -> tuple[str, int]:
        """The answer, and the tokens of its prompt that were cached; on a connection of its own."""
        body = json.dumps({"model": "llama", "messages": messages, "max_tokens": 16}).encode()
        request = urllib.request.Request(f"{URL}/v1/chat/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        usage = answer["usage"]["prompt_tokens_details"]
        return answer["choices"][0]["message"]["content"], usage["cached_tokens"]

    conversations = [[{"role": "user", "content": f"Tell me about the number {number}."}] for number in range(4)]
    for messages in conversations:
        text, cached = ask(messages)
        assert cached == 0
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "And the next one?"}]
    assert all(ask(messages)[1] > 0 for messages in conversations)
