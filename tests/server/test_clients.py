"""Clients that people use, as they are, against a served pipeline."""

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.manners]

ANSWER = "Blue light scatters most, so the sky looks blue from below."
CONFIG = f"""
models:
  p: {{backend: scripted, length: 40, first_token_s: 0.02, token_s: 0.002}}
  a: {{backend: scripted, text: "{ANSWER}", first_token_s: 0.02, token_s: 0.002}}
  slow: {{backend: scripted, length: 10000, token_s: 0.01}}
  locked: {{backend: scripted, length: 4, fault: {{kind: status_401}}}}
pipelines:
  mix: {{topology: mixture, proposers: [p, p, p], aggregator: a}}
  kept: {{topology: mixture, proposers: [p, p, p], aggregator: a, durable: true}}
  slow: {{topology: single, model: slow}}
  locked: {{topology: single, model: locked}}
"""
ASK = "Why is the sky blue?"
_LISTENING = re.compile(r"listening on (http://[\w.:]+\d)")


@contextmanager
def run_server(folder: Path) -> Iterator[str]:
    """`stairstream serve` in a process of its own; gives its base URL."""
    file = folder / "served.yaml"
    file.write_text(f"{CONFIG}server: {{port: 0, history: true, database: '{folder / 'server.db'}'}}\n")
    command = [sys.executable, "-m", "stairstream", "serve", "-c", str(file)]
    log = folder / "log"
    with log.open("w") as errors, subprocess.Popen(command, stdout=errors, stderr=errors) as process:
        try:
            yield f"{_wait_listening(log, process)}/v1"
        finally:
            process.terminate()
        assert process.wait(timeout=10) == 0
    assert "Traceback" not in log.read_text(), log.read_text()[-3000:]


def _wait_listening(log: Path, process: "subprocess.Popen[bytes]") -> str:
    for _ in range(400):
        if found := _LISTENING.search(log.read_text()):
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_server(tmp_path_factory.mktemp("served")) as url:
        yield url


# The openai SDK


def test_openai_gets_an_answer_and_its_usage(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the extra `clients` is not installed")
    with openai.OpenAI(base_url=base_url, api_key="none") as client:
        answer = client.chat.completions.create(model="mix", messages=[{"role": "user", "content": ASK}])
        assert answer.choices[0].message.content == ANSWER
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer.usage.completion_tokens_details.reasoning_tokens > 0
        assert {"mix", "slow"} <= {model.id for model in client.models.list()}


def test_openai_streams_with_usage_at_the_end(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the extra `clients` is not installed")
    with openai.OpenAI(base_url=base_url, api_key="none") as client:
        chunks = list(
            client.chat.completions.create(
                model="mix",
                messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASK}],
                stream=True,
                stream_options={"include_usage": True},
                max_tokens=100,
                temperature=0.5,
                store=False,
            )
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
        assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 3
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        assert chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices


def test_openai_raises_its_own_errors(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the extra `clients` is not installed")
    messages = [{"role": "user", "content": ASK}]
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="mixx"):
            client.chat.completions.create(model="mixx", messages=messages)
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="mix", messages=messages, n=2)
        assert caught.value.param == "n"


def test_sdks_have_the_id_of_a_request(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the extra `clients` is not installed")
    anthropic = pytest.importorskip("anthropic", reason="the extra `clients` is not installed")
    messages = [{"role": "user", "content": ASK}]
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(model="mix", messages=messages)
        assert answer._request_id == answer.id.removeprefix("chatcmpl-")
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="mixx", messages=messages)
        assert caught.value.request_id
    with anthropic.Anthropic(base_url=base_url.removesuffix("/v1"), api_key="none", max_retries=0) as client:
        message = client.messages.create(model="mix", messages=messages, max_tokens=99)
        assert message._request_id == message.id.removeprefix("msg_")


def test_sdk_does_not_send_a_request_again_that_would_fail_again(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the extra `clients` is not installed")
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=3) as client:
        start_s = time.monotonic()
        with pytest.raises(openai.InternalServerError, match="401"):
            client.chat.completions.create(model="locked", messages=[{"role": "user", "content": ASK}])
        assert time.monotonic() - start_s < 0.4, "the SDK waits half a second before it sends a request again"


def test_openai_async_streams_many_at_once_and_may_leave(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the extra `clients` is not installed")

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:

            async def ask() -> str:
                stream = await client.chat.completions.create(
                    model="mix", messages=[{"role": "user", "content": ASK}], stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            assert await asyncio.gather(*(ask() for _ in range(8))) == [ANSWER] * 8
            stream = await client.chat.completions.create(
                model="slow", messages=[{"role": "user", "content": ASK}], stream=True
            )
            async for _ in stream:
                break
            await stream.close()

    asyncio.run(main())


def test_openai_overrides_the_policy_for_one_request(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the extra `clients` is not installed")
    with openai.OpenAI(base_url=base_url, api_key="none") as client:
        answer = client.chat.completions.with_raw_response.create(
            model="mix:wait", messages=[{"role": "user", "content": ASK}], extra_body={"stairstream": {"keep_s": 0}}
        )
        assert answer.headers["x-stairstream-policy"] == "wait"
        assert answer.parse().model_extra["stairstream"]["updates"] == 0


def test_openai_goes_on_from_an_earlier_response(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the extra `clients` is not installed")
    with openai.OpenAI(base_url=base_url, api_key="none") as client:
        first = client.responses.create(model="mix", input=ASK)
        second = client.responses.create(model="mix", input="And at night?", previous_response_id=first.id)
        assert (second.previous_response_id, second.output_text) == (first.id, ANSWER)
    past = json.loads(run_curl(f"{base_url}/history/{second.id.removeprefix('resp_')}"))
    assert [turn["content"] for turn in past["messages"]] == [ASK, ANSWER, "And at night?"]


def test_openai_shows_and_deletes_an_earlier_response(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the extra `clients` is not installed")
    with openai.OpenAI(base_url=base_url, api_key="none") as client:
        first = client.responses.create(model="mix", input=ASK, instructions="Be brief.", metadata={"chat": "7"})
        again = client.responses.retrieve(first.id)
        assert (again.output_text, again.usage, again.metadata) == (ANSWER, first.usage, {"chat": "7"})
        asked = "And at night?"
        given = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": asked}]
        second = client.responses.create(model="mix", input=given)
        assert second.output_text == ANSWER
        items = list(client.responses.input_items.list(second.id, limit=1, order="asc"))
        assert [(item.role, item.content[0].text) for item in items] == [
            ("assistant", ANSWER),
            ("user", asked),
        ]
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)


def test_openai_completes_a_prompt(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the extra `clients` is not installed")
    with openai.OpenAI(base_url=base_url, api_key="none") as client:
        assert client.completions.create(model="mix", prompt=ASK).choices[0].text == ANSWER
        chunks = list(client.completions.create(model="mix", prompt=[ASK], stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks) == ANSWER and len(chunks) > 3
        assert chunks[-1].choices[0].finish_reason == "stop"
        with pytest.raises(openai.NotFoundError, match="embedding"):
            client.embeddings.create(model="mix", input=ASK)


# LangChain


def test_langchain_invokes_and_streams(base_url: str) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="the extra `clients` is not installed")
    model = langchain.ChatOpenAI(base_url=base_url, api_key="none", model="mix", stream_usage=True)
    answer = model.invoke([("system", "Be brief."), ("human", ASK)])
    assert answer.content == ANSWER
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] == "stop"
    chunks = list(model.stream(ASK))
    assert "".join(chunk.content for chunk in chunks) == ANSWER and len(chunks) > 3

    async def ask() -> str:
        answer = await model.ainvoke(ASK)
        await model.root_async_client.close()
        return str(answer.content)

    assert asyncio.run(ask()) == ANSWER


# llm


def test_llm_prompts_a_pipeline_of_its_model_list(base_url: str, tmp_path: Path) -> None:
    pytest.importorskip("llm", reason="the extra `clients` is not installed")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: sky\n  model_name: mix\n  api_base: {base_url}\n  api_key_name: none\n"
    )
    (tmp_path / "keys.json").write_text('{"none": "none"}')
    for options in ((), ("--no-stream",)):
        command = [sys.executable, "-m", "llm", "-m", "sky", *options, "--no-log", ASK]
        environment = {**os.environ, "LLM_USER_PATH": str(tmp_path)}
        said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (said.stdout.strip(), said.returncode) == (ANSWER, 0), said.stderr


# curl


def run_curl(*arguments: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "-sS", "--max-time", "20", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def body_of(**fields: object) -> tuple[str, ...]:
    body = {"model": "mix", "messages": [{"role": "user", "content": ASK}], **fields}
    return ("-H", "Content-Type: application/json", "-d", json.dumps(body))


def test_curl_gets_a_whole_answer_and_a_stream(base_url: str) -> None:
    answer = json.loads(run_curl(f"{base_url}/chat/completions", *body_of()))
    assert answer["choices"][0]["message"]["content"] == ANSWER
    lines = run_curl("-N", f"{base_url}/chat/completions", *body_of(stream=True)).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == ANSWER


def test_curl_comes_back_to_a_run(base_url: str) -> None:
    first = run_curl("-N", f"{base_url}/runs", *body_of(stairstream={"keep_s": 20}))
    run_id = json.loads(first.split("\n")[1].removeprefix("data: "))["run_id"]
    again = run_curl("-N", f"{base_url}/runs/{run_id}/events", "-H", "Last-Event-ID: 4")
    assert again == first[first.index("id: 5\n") :]
    assert json.loads(run_curl(f"{base_url}/runs/{run_id}"))["answer"] == ANSWER


# Every request that the OpenAPI document allows, and many that it does not


HOOKS = """
import os, schemathesis

@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        body["model"] = "mix"
    return body

@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if path_parameters and "run" in path_parameters and context.operation.method != "delete":
        path_parameters["run"] = os.environ["KEPT_RUN"]
    return path_parameters
"""


@pytest.mark.parametrize("is_known", [False, True], ids=["any model", "a model and a run that are there"])
def test_no_request_gets_a_500(base_url: str, tmp_path: Path, is_known: bool) -> None:
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("the extra `clients` is not installed")
    environment = dict(os.environ)
    if is_known:
        head = run_curl("-D", "-", "-o", os.devnull, f"{base_url}/runs", *body_of(stairstream={"keep_s": 300}))
        found = re.search(r"x-stairstream-run: (\w+)", head)
        assert found
        (tmp_path / "known.py").write_text(HOOKS)
        environment |= {"SCHEMATHESIS_HOOKS": "known", "PYTHONPATH": str(tmp_path), "KEPT_RUN": found[1]}
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", base_url.replace("/v1", "/openapi.json")]
    options = ["--checks", checks, "--max-examples", "15", "--seed", "1", "--request-timeout", "30", "--no-color"]
    said = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert said.returncode == 0, said.stdout[-6000:] + said.stderr[-2000:]
