"""Settings that only some models know reach the answering model, and no other; where it does not take them that is
said."""

from typing import Any

import pytest

pytest.importorskip("starlette")

from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.session import Setting
from stairstream.sim.clock import run
from tests.server.driving import Got, client_of

CONFIG = """
models:
  p: {backend: scripted, length: 4}
  a: {backend: scripted, length: 4}
pipelines:
  mix: {topology: mixture, proposers: [p, p], aggregator: a}
"""


class Taking(ScriptedBackend):
    """A model that takes some settings."""

    def __init__(self, name: str, *settings: Setting) -> None:
        super().__init__(Script(words=numbered_words(name, 4)), name)
        self.settings = settings
        self.asked: list[tuple[tuple[Setting, bytes], ...]] = []

    @property
    def takes(self) -> Any:
        return frozenset(self.settings)

    @takes.setter
    def takes(self, value: object) -> None:
        pass

    async def open(self, agent: Any, conversation: Any, written: str = "") -> Any:
        self.asked.append(agent.extras.settings)
        return await super().open(agent, conversation, written)


def ask(path: str, *settings: Setting, **fields: object) -> tuple[Got, list[Any], list[Any]]:
    answering, proposing = Taking("a", *settings), Taking("p", "top_k", "verbosity")

    async def go() -> Got:
        async with client_of(CONFIG, overrides={"a": answering, "p": proposing}) as client:
            return await client.post(path, {"model": "mix", **fields})

    return run(go()), answering.asked, proposing.asked


MESSAGES = [{"role": "user", "content": "?"}]
CHAT: dict[str, object] = {
    "messages": MESSAGES,
    "presence_penalty": 0.5,
    "frequency_penalty": -1,
    "logit_bias": {"50256": -100},
    "reasoning_effort": "low",
    "top_k": 40,
    "verbosity": "low",
    "service_tier": "flex",
}


def test_settings_reach_the_answering_model_only() -> None:
    names: tuple[Setting, ...] = (
        *("presence_penalty", "frequency_penalty", "logit_bias", "reasoning_effort", "top_k", "verbosity"),
        "service_tier",
    )
    got, answering, proposing = ask("/v1/chat/completions", *names, **CHAT)
    assert "x-stairstream-ignored" not in got.headers
    assert dict(answering[0]) == {
        "presence_penalty": b"0.5",
        "frequency_penalty": b"-1",
        "logit_bias": b'{"50256":-100}',
        "reasoning_effort": b'"low"',
        "top_k": b"40",
        "verbosity": b'"low"',
        "service_tier": b'"flex"',
    }
    assert proposing == [(), ()]


def test_setting_that_the_answering_model_does_not_take_is_listed() -> None:
    got, answering, _ = ask("/v1/chat/completions", "top_k", **CHAT)
    assert answering == [(("top_k", b"40"),)]
    ignored = got.headers["x-stairstream-ignored"].split(", ")
    assert sorted(ignored) == sorted({*CHAT} - {"messages", "top_k"})


@pytest.mark.parametrize(
    ("path", "fields", "taken"),
    [
        (
            "/v1/responses",
            {"input": "?", "reasoning": {"effort": "low"}, "text": {"verbosity": "high"}, "service_tier": "flex"},
            {"reasoning_effort": b'"low"', "verbosity": b'"high"', "service_tier": b'"flex"'},
        ),
        (
            "/v1/messages",
            {"messages": MESSAGES, "max_tokens": 9, "top_k": 5, "output_config": {"effort": "high"}},
            {"top_k": b"5", "reasoning_effort": b'"high"'},
        ),
    ],
)
def test_other_protocols_have_them_under_their_own_names(
    path: str, fields: dict[str, object], taken: dict[Setting, bytes]
) -> None:
    got, answering, _ = ask(path, *taken, **fields)
    assert got.status == 200 and dict(answering[0]) == taken and "x-stairstream-ignored" not in got.headers
    got, answering, _ = ask(path, **fields)
    known = {"reasoning_effort": "reasoning.effort", "verbosity": "text.verbosity"}
    if path == "/v1/messages":
        known = {"reasoning_effort": "output_config.effort"}
    assert answering == [()]
    assert sorted(got.headers["x-stairstream-ignored"].split(", ")) == sorted(known.get(name, name) for name in taken)


@pytest.mark.parametrize(
    ("field", "value"),
    [("presence_penalty", 3), ("frequency_penalty", "x"), ("logit_bias", [1]), ("top_k", 0.5), ("verbosity", "")],
)
def test_wrong_value_is_named(field: str, value: object) -> None:
    got, _, _ = ask("/v1/chat/completions", messages=MESSAGES, **{field: value})
    assert (got.status, got.json()["error"]["param"]) == (400, field)


def test_list_of_models_says_which_are_taken() -> None:
    async def go() -> Any:
        async with client_of(CONFIG, overrides={"a": Taking("a", "top_k")}) as client:
            return (await client.get("/v1/models/mix")).json()

    details = run(go())["stairstream"]
    assert (details["takes"], details["settings"]) == ([], ["top_k"])
