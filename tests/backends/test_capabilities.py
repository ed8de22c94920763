"""What is known of an endpoint, how it is found out, and for how long it is kept."""

import asyncio
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from stairstream.backends.capabilities import (
    Capabilities,
    Capability,
    Continues,
    ProbeMode,
    is_hosted,
    look_up,
    probe,
)
from stairstream.backends.scripted import Fault, Script, numbered_words
from stairstream.core.errors import RequestRejected, ServerFailed
from stairstream.server.fake.server import FakeContinues, FakeModel
from tests.backends.endpoints import fake, open_session

pytestmark = pytest.mark.manners

SCRIPT = Script(words=numbered_words("w", 5))
ABLE = Capability(continues="flag", why="tried", echoes=False, is_seen=True)


@pytest.mark.parametrize(
    ("base_url", "model", "continues"),
    [
        ("https://api.openai.com/v1", "gpt-5.6", "none"),
        ("https://x.openai.azure.com/openai/v1", "gpt", "none"),
        ("https://api.anthropic.com/v1", "claude-sonnet-4-5", "prefill"),
        ("https://api.anthropic.com/v1", "claude-sonnet-4-5-20250929", "prefill"),
        ("https://api.anthropic.com/v1", "claude-opus-4-6", "none"),
        ("https://api.anthropic.com/v1", "claude-sonnet-5", "none"),
        ("https://api.deepseek.com/beta", "deepseek-chat", "prefix"),
        ("https://api.deepseek.com/v1", "deepseek-chat", "none"),
        ("https://api.mistral.ai/v1", "mistral-large", "prefix"),
        ("https://api.groq.com/openai/v1", "llama", "prefill"),
    ],
)
def test_known_places_need_no_probe(base_url: str, model: str, continues: Continues) -> None:
    known = look_up(base_url, model)
    assert known is not None and known.continues == continues
    assert is_hosted(base_url, model)


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:8000/v1", "https://notopenai.com/v1", "https://openrouter.ai/api"]
)
def test_other_places_are_unknown(base_url: str) -> None:
    assert look_up(base_url, "some-model") is None


@pytest.mark.parametrize(
    ("answer", "continues", "echoes"),
    [
        (" 4, 5", "flag", False),
        ("1, 2, 3, 4, 5", "flag", True),
        ("4, 5", "none", None),
        ("1, 2", "none", None),
        (" 42", "none", None),
        ("", "none", None),
        ("Sure! 4", "none", None),
    ],
)
def test_a_probe_judges_by_what_comes_next(answer: str, continues: Continues, echoes: bool | None) -> None:
    async def ask(mode: ProbeMode) -> str:
        return answer

    found = asyncio.run(probe(ask))
    assert (found.continues, found.echoes) == (continues, echoes)


def test_a_probe_tries_the_plain_prefill_only_if_the_flag_is_rejected() -> None:
    modes: list[ProbeMode] = []

    async def ask(mode: ProbeMode) -> str:
        modes.append(mode)
        if mode == "flag":
            raise RequestRejected("no such field")
        return " 4"

    assert asyncio.run(probe(ask)).continues == "prefill"
    assert modes == ["flag", "prefill"]


@pytest.mark.parametrize(
    ("fake_continues", "echoes", "continues", "num_calls"),
    [
        ("flag", False, "flag", 1),
        ("prefill", True, "prefill", 1),
        ("prefix", False, "none", 1),
        ("none", False, "none", 1),
        ("reject", False, "none", 0),
    ],
)
def test_warming_an_unknown_endpoint_probes_it_once_for_all(
    fake_continues: FakeContinues, echoes: bool, continues: Continues, num_calls: int, tmp_path: Path
) -> None:
    async def main() -> None:
        model = FakeModel(name="m", script=replace(SCRIPT, first_token_s=0.01), continues=fake_continues, echoes=echoes)
        async with fake(tmp_path, model) as endpoint:
            one, other = endpoint.backend(), endpoint.backend()
            assert one.capability.continues == "none" and "not probed" in one.capability.why
            sessions = [await open_session(backend) for backend in (one, one, other)]
            await asyncio.gather(*(session.warm() for session in sessions))
            assert one.capability == other.capability
            assert one.capability.continues == continues
            assert one.capability.echoes == (echoes if continues != "none" else None)
            assert len(endpoint.calls) == num_calls
            later = Capabilities(path=endpoint.capabilities.path)
            assert later.get(endpoint.base_url, "m") == one.capability

    asyncio.run(main())


def test_warming_a_failing_endpoint_raises_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        model = FakeModel(name="m", script=replace(SCRIPT, fault=Fault(kind="status_500")))
        async with fake(tmp_path, model) as endpoint:
            backend = endpoint.backend()
            await (await open_session(backend)).warm()
            assert "not probed" in backend.capability.why
            with pytest.raises(ServerFailed):
                await backend.settle()

    asyncio.run(main())


def test_what_is_configured_is_not_probed(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=SCRIPT)) as endpoint:
            backend = endpoint.backend(continues="none")
            await (await open_session(backend)).warm()
            assert (await backend.settle()).continues == "none"
            assert endpoint.calls == []

    asyncio.run(main())


def test_a_result_counts_for_thirty_days(tmp_path: Path) -> None:
    today = date(2026, 1, 1)
    kept = Capabilities(path=tmp_path / "deep" / "c.json", today=lambda: today)
    kept.put("http://h/v1", "m", ABLE)
    assert kept.get("http://h/v1/", "m") == ABLE
    assert kept.get("http://h/v1", "n") is None
    assert Capabilities(path=kept.path, today=lambda: today + timedelta(30)).get("http://h/v1", "m") == ABLE
    assert Capabilities(path=kept.path, today=lambda: today + timedelta(31)).get("http://h/v1", "m") is None


def test_results_of_two_processes_are_both_kept(tmp_path: Path) -> None:
    one, other = (Capabilities(path=tmp_path / "c.json") for _ in range(2))
    assert one.get("http://a/v1", "m") is None and other.get("http://b/v1", "m") is None
    one.put("http://a/v1", "m", ABLE)
    other.put("http://b/v1", "m", ABLE)
    both = Capabilities(path=tmp_path / "c.json")
    assert both.get("http://a/v1", "m") == both.get("http://b/v1", "m") == ABLE


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 1, "entries": {"x": 3}}', b"[]"])
def test_a_broken_file_counts_as_empty(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    capabilities = Capabilities(path=path)
    assert capabilities.get("http://h/v1", "m") is None
    capabilities.put("http://h/v1", "m", ABLE)
    assert Capabilities(path=path).get("http://h/v1", "m") == ABLE


def test_names_and_passwords_of_a_url_are_not_kept(tmp_path: Path) -> None:
    capabilities = Capabilities(path=tmp_path / "c.json")
    capabilities.put("http://user:secret@h/v1", "m", ABLE)
    assert b"secret" not in capabilities.path.read_bytes()
