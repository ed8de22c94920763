"""Errors: bad requests, text of others in headers, failures before the first token and after it."""

from typing import Any

import pytest

from stairstream.config.schema import parse_config
from stairstream.core.errors import ConfigError, ContextTooLong
from stairstream.server.errors import error_of as error_of_any
from stairstream.sim.clock import run
from tests.server.driving import ASK, Got, client_of

pytestmark = pytest.mark.manners

CONFIG = """
models:
  p: {backend: scripted, length: 20, first_token_s: 0.5, token_s: 0.25}
  a: {backend: scripted, text: "Blue light scatters most.", first_token_s: 0.5, token_s: 0.25}
  spare: {backend: scripted, length: 2}
  busy: {backend: scripted, length: 5, attempts: 1, fault: {kind: status_429, retry_after_s: 6.5}}
  locked: {backend: scripted, length: 5, fault: {kind: status_401}}
  down: {backend: scripted, length: 5, attempts: 1, fault: {kind: status_500}}
  cut: {backend: scripted, length: 5, attempts: 1, token_s: 0.25, fault: {kind: cut, after_tokens: 3}}
  mute: {backend: scripted, length: 5, attempts: 1, deadlines: {first_token_s: 2}, fault: {kind: hang}}
  late: {backend: scripted, length: 5, attempts: 1, deadlines: {first_token_s: 20}, fault: {kind: hang}}
pipelines:
  mix: {topology: mixture, proposers: [p, p, p], aggregator: a}
  "naïve, mix": {topology: mixture, proposers: [p, p, p], aggregator: a, policy: wait}
  single: {topology: single, model: a}
  busy: {topology: single, model: busy}
  locked: {topology: single, model: locked}
  down: {topology: single, model: down}
  cut: {topology: single, model: cut}
  mute: {topology: single, model: mute}
  late: {topology: single, model: late}
  timed: {topology: single, model: p, deadline_s: 0.25}
"""
PATH = "/v1/chat/completions"


def chat(model: str, **fields: Any) -> Got:
    return post({"model": model, "messages": ASK, **fields})


def post(body: object) -> Got:
    async def go() -> Got:
        async with client_of(CONFIG) as client:
            return await client.post(PATH, body)

    return run(go())


def error_of(got: Got) -> tuple[int, str | None, str | None]:
    error = got.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and "\n" not in error["message"]
    return got.status, error["param"], error["code"]


# Bad requests


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"seed": "one"}, "seed"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": -0.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"messages": []}, "messages"),
        ({"messages": "Why?"}, "messages"),
        ({"messages": [*ASK, {"role": "wizard", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "system", "content": " "}]}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"model": 1}, "model"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"stairstream": {"show": "all"}}, "stairstream.show"),
        ({"stairstream": {"keep_s": -1}}, "stairstream.keep_s"),
        ({"stairstream": {"keep_s": 1e6}}, "stairstream.keep_s"),
        ({"stairstream": {"polcy": "wait"}}, "stairstream.polcy"),
        ({"stairstream": {"policy": "wiat"}}, "stairstream.policy"),
        ({"stairstream": {"policy": {"frst_chunk": 2}}}, "stairstream.policy.frst_chunk"),
        ({"stairstream": {"policy": {"first_chunk": 0}}}, "stairstream.policy.first_chunk"),
        ({"stairstream": {"growth": 0.5}}, "stairstream.growth"),
        ({"stairstream": {"quorum": 4}}, "stairstream.quorum"),
        ({"model": "mix:wait", "stairstream": {"policy": "cheap"}}, "stairstream.policy"),
        ({"model": "mix:wiat"}, "model"),
        ({"model": "mix:"}, "model"),
        ({"model": "single:wait"}, "model"),
        ({"model": "single", "stairstream": {"first_chunk": 2}}, "stairstream"),
    ],
)
def test_bad_request_is_a_400_that_names_the_parameter(fields: dict[str, Any], param: str) -> None:
    status, named, _ = error_of(post({"model": "mix", "messages": ASK, **fields}))
    assert (status, named) == (400, param)


@pytest.mark.parametrize(
    "fields",
    [{"n": 2}, {"logprobs": True}, {"top_logprobs": 3}, {"functions": []}, {"function_call": "auto"}],
)
def test_what_would_change_the_answer_is_refused_not_ignored(fields: dict[str, Any]) -> None:
    status, param, code = error_of(chat("mix", **fields))
    assert (status, param, code) == (400, next(iter(fields)), "unsupported_parameter")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"model": "' + b"\xff" + b'"}', b"[" * 50_000]
)
def test_body_that_is_no_request_is_a_400(body: bytes) -> None:
    assert error_of(post(body))[0] == 400


def test_unknown_model_is_a_404_with_the_nearest_name() -> None:
    got = chat("mux:wait")
    assert error_of(got) == (404, "model", "model_not_found")
    assert "did you mean 'mix'?" in got.json()["error"]["message"]


def test_images_are_refused_where_no_model_takes_them() -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
    ]
    got = chat("mix", messages=[{"role": "system", "content": "x"}, {"role": "user", "content": parts}])
    assert error_of(got) == (400, "messages[1].content[1].image_url", "unsupported_parameter")


def test_too_many_messages_are_refused() -> None:
    got = chat("mix", messages=ASK * 1025)
    assert error_of(got) == (400, "messages", None)


def test_colon_in_the_name_of_a_pipeline_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"pipelines\.a:b: a pipeline's name may not hold ':'"):
        parse_config(
            "{models: {m: {backend: scripted, length: 1}}, pipelines: {'a:b': {topology: single, model: m}}}", "c"
        )


# Headers


def test_nothing_that_a_client_wrote_stands_raw_in_a_header() -> None:
    got = chat("naïve, mix", **{"store": True, "a\r\nset-cookie: x": 1, "é, f": 2, "metadata": None, "x" * 200: 1})
    assert got.status == 200
    ignored = got.headers["x-stairstream-ignored"].split(", ")
    assert ignored == ["store", "a%0D%0Aset-cookie: x", "%C3%A9%2C f", "x" * 64]
    assert got.headers["x-stairstream-pipeline"] == "na%C3%AFve%2C mix"


def test_what_is_not_known_inside_of_a_parameter_is_listed_too() -> None:
    turns = [{"role": "user", "content": [{"type": "text", "text": "Why?", "cache_control": {}}], "name": "ann"}] * 2
    got = chat("single", messages=turns, stream_options={"include_usage": None, "x": 1}, stairstream={"show": "none"})
    assert got.headers["x-stairstream-ignored"] == (
        "messages[].content[].cache_control, messages[].name, stream_options.x"
    )
    plain = chat("single", messages=[{"role": "user", "content": "Why?", "name": None}])
    assert "x-stairstream-ignored" not in plain.headers


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"messages": None}, "messages: Expected array, got null"),
        (
            {"messages": [{"role": "usr", "content": "x"}]},
            "messages[0].role: 'usr' is not known here; did you mean 'user'?",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
            "messages[0].content[0].type: 'audio' is not known here; did you mean 'input_audio'?",
        ),
        ({"stairstream": {"show": "evnts"}}, "stairstream.show: 'evnts' is not known here; did you mean 'events'?"),
        (
            {"stairstream": {"first_chunk": "8"}},
            "stairstream.first_chunk: '8' is not known here; there is inf, or a number",
        ),
        ({"tools": [{}]}, "tools[0].function: is missing"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema: is missing"),
    ],
)
def test_an_error_says_what_there_is(fields: dict[str, Any], hint: str) -> None:
    assert post({"model": "mix", "messages": ASK, **fields}).json()["error"]["message"] == hint


def test_long_lists_of_ignored_parameters_are_cut() -> None:
    got = chat("single", **{f"field_{number}": 1 for number in range(100)})
    assert got.headers["x-stairstream-ignored"].endswith("field_31, ...")


def test_what_was_changed_about_the_request_is_noted() -> None:
    got = chat("single", max_tokens=3, max_completion_tokens=2, seed=-1)
    note = "max_completion_tokens (2) counts, not max_tokens (3); a seed below 0 counts as none"
    assert got.headers["x-stairstream-note"] == note
    assert got.json()["choices"][0]["message"]["content"] == "Blue light"
    assert "x-stairstream-note" not in chat("single", max_tokens=2, max_completion_tokens=2).headers


# Failures before the first token


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "code", "at_s"),
    [
        ("busy", 429, "upstream_rate_limited", 0),
        ("locked", 502, "upstream_auth", 0),
        ("down", 502, "upstream_failed", 0),
        ("mute", 504, "upstream_timeout", 2),
        ("timed", 504, "run_deadline", 0.25),
    ],
)
def test_failure_before_the_first_token_is_a_status(
    model: str, status: int, code: str, at_s: float, stream: bool
) -> None:
    got = chat(model, stream=stream)
    assert error_of(got) == (status, None, code)
    assert got.begun_s == at_s and len(got.headers["x-stairstream-run"]) == 32


def test_a_prompt_that_does_not_fit_is_the_clients_to_mend() -> None:
    error = error_of_any(ContextTooLong("m: the request was rejected (400): maximum context length is 8 tokens"))
    assert (error.status, error.kind, error.code) == (400, "invalid_request_error", "context_length_exceeded")


def test_time_that_upstream_asked_for_is_passed_on() -> None:
    got = chat("busy", stream=True)
    assert got.headers["retry-after"] == "7", "whole seconds, never sooner"
    assert got.json()["error"]["type"] == "rate_limit_error"


def test_failure_after_the_first_comment_is_an_event() -> None:
    got = chat("late", stream=True)
    assert (got.status, got.begun_s) == (200, 15.0)
    ((at_s, event),) = got.events()
    assert at_s == 20.0 and event["error"]["code"] == "upstream_timeout"


# Failures after the first token


@pytest.mark.one_by_one
def test_run_that_breaks_ends_with_an_error_and_never_with_stop_or_done() -> None:
    got = chat("cut", stream=True)
    *words, (at_s, last) = got.events()
    assert got.status == 200 and got.text == "cut_1 cut_2 cut_3" and got.is_complete
    assert all(event["choices"][0]["finish_reason"] is None for _, event in words)
    assert at_s == 0.75 and last["error"]["code"] == "upstream_failed"
    assert last["stairstream"]["ended"] == "failed" and b"[DONE]" not in got.body


def test_whole_answer_that_breaks_off_is_an_error() -> None:
    assert error_of(chat("cut")) == (502, None, "upstream_failed")


def test_unknown_paths_and_methods_answer_in_the_same_shape() -> None:
    async def go() -> list[Got]:
        async with client_of(CONFIG) as client:
            return [await client.get("/v1/nothing"), await client.get(PATH)]

    unknown, wrong = run(go())
    assert error_of(unknown) == (404, None, None) and error_of(wrong) == (405, None, None)
    assert wrong.headers["allow"] == "POST"


# Fusion


@pytest.mark.parametrize("model", ["openrouter/fusion", "mix", "a"])
def test_request_may_describe_a_mixture_of_models_of_the_configuration(model: str) -> None:
    plugin = {"id": "fusion", "analysis_models": ["p", "spare"], "model": "a", "max_tool_calls": 3}
    got = chat(model, plugins=[{"id": "web"}, plugin], stairstream={"policy": "wait"})
    assert got.headers["x-stairstream-pipeline"] == "fusion"
    assert got.headers["x-stairstream-ignored"] == "plugins[].max_tool_calls, plugins.web"
    told = got.json()["stairstream"]
    assert [(agent["name"], agent["model"]) for agent in told["agents"]] == [("p", "p"), ("spare", "spare"), ("a", "a")]
    assert (told["policy"], got.json()["model"]) == ("wait", model)


def test_policy_after_the_name_of_a_model_counts_for_its_fusion_too() -> None:
    plugin = {"id": "fusion", "analysis_models": ["p", "p"]}
    assert chat("a:wait", plugins=[plugin]).json()["stairstream"]["policy"] == "wait"
    assert error_of(chat("a:wiat", plugins=[plugin])) == (400, "model", None)
    elsewhere = chat("openrouter/fusion:free", plugins=[plugin | {"model": "a"}])
    assert elsewhere.json()["stairstream"]["policy"] == "balanced"


def test_without_a_model_of_its_own_fusion_takes_the_requests() -> None:
    got = chat("a", plugins=[{"id": "fusion", "analysis_models": ["p", "p"]}])
    assert [agent["model"] for agent in got.json()["stairstream"]["agents"]] == ["p", "p", "a"]
    off = chat("single", plugins=[{"id": "fusion", "analysis_models": ["p", "p"], "enabled": False}])
    assert off.headers["x-stairstream-pipeline"] == "single"


@pytest.mark.parametrize(
    ("plugin", "param"),
    [
        ({"analysis_models": ["p", "gpt-9"], "model": "a"}, "plugins.fusion.analysis_models[1]"),
        ({"analysis_models": ["p"], "model": "gpt-9"}, "plugins.fusion.model"),
        ({"analysis_models": ["p"]}, "plugins.fusion.model"),
        ({"model": "a"}, "plugins.fusion.analysis_models"),
        ({"analysis_models": [], "model": "a"}, "plugins[0].analysis_models"),
        ({"analysis_models": ["p"] * 9, "model": "a"}, "plugins[0].analysis_models"),
    ],
)
def test_fusion_of_what_is_not_there_is_a_400_that_names_it(plugin: dict[str, object], param: str) -> None:
    got = chat("openrouter/fusion", plugins=[{"id": "fusion", **plugin}])
    assert error_of(got)[:2] == (400, param)


# Models


def test_every_pipeline_is_a_model() -> None:
    async def go() -> tuple[Got, Got, Got]:
        async with client_of(CONFIG) as client:
            return await client.get("/v1/models"), await client.get("/v1/models/mix"), await client.get("/v1/models/x")

    everyone, mix, unknown = run(go())
    assert [model["id"] for model in everyone.json()["data"]][:3] == ["mix", "naïve, mix", "single"]
    assert mix.json() == everyone.json()["data"][0]
    assert mix.json()["object"] == "model" and mix.json()["stairstream"]["topology"] == "mixture"
    assert mix.json()["stairstream"]["agents"][3] == {"name": "a", "model": "a", "reads": ["p.1", "p.2", "p.3"]}
    assert error_of(unknown) == (404, "model", "model_not_found")


def test_a_model_with_a_policy_after_its_name_is_one_too() -> None:
    async def go() -> list[Got]:
        names = ("mix:wait", "mix:single", "mix:slowly", "x:wait")
        async with client_of(CONFIG) as client:
            return [await client.get(f"/v1/models/{name}") for name in names]

    wait, alone, misspelt, unknown = run(go())
    assert wait.json()["id"] == "mix:wait" and wait.json()["stairstream"]["policy"] == "wait"
    assert alone.json()["stairstream"] | {"takes": []} == {
        "topology": "single",
        "policy": "none",
        "answer": "a",
        "agents": [{"name": "a", "model": "a", "reads": []}],
        "max_tokens": 1024,
        "takes": [],
        "settings": [],
    }
    assert error_of(misspelt) == error_of(unknown) == (404, "model", "model_not_found")
    assert "slowly" in misspelt.json()["error"]["message"]


@pytest.mark.parametrize("policies", ["[wait, single]", "[adaptive]", "[]"])
def test_policies_that_the_configuration_lists_are_models_of_their_own(policies: str) -> None:
    async def go() -> list[str]:
        async with client_of(f"{CONFIG}server: {{list_policies: {policies}}}\n") as client:
            listed = (await client.get("/v1/models")).json()["data"]
            assert [(await client.get(f"/v1/models/{model['id']}")).json() for model in listed] == listed
            return [model["id"] for model in listed]

    names = run(go())
    found = [name for name in names if name.startswith("mix")]
    assert found == ["mix", *(f"mix:{policy}" for policy in policies.strip("[]").split(", ") if policy)]
    assert not any(name.startswith("single:") for name in names)


def test_policy_to_list_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"list_policies: must be policies, and 'wiat' is none; did you mean 'wait'"):
        parse_config(f"{CONFIG}server: {{list_policies: [wiat]}}\n", "test.yaml", {})
