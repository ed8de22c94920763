"""The page for Prometheus: runs that are over become numbers per pipeline and model."""

from dataclasses import replace

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from stairstream.core.events import Noted
from stairstream.core.session import Note, Usage
from stairstream.server.http.watching import AnsweredRequest
from stairstream.server.observing.metrics import Metrics, errors_by_model, tokens_by_kind, used_by_model
from stairstream.server.runs.finished import Finished
from tests.server.finished import finish


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    return {
        (sample.name.removeprefix("stairstream_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_run_becomes_numbers_of_its_pipeline() -> None:
    metrics = Metrics()
    metrics.count_in_flight(3)
    for finished in finish("mix", "mix"):
        metrics.count_run(finished)
    found = samples(metrics)
    assert found["runs_total", "stop", "mix"] == 2
    assert found["runs_in_flight",] == 3
    # two words of each proposer at 0.75 s, then a call of 0.25 s
    assert found["first_token_seconds_sum", "mix"] == 2 * 1.0
    assert found["first_token_seconds_bucket", "1.0", "mix"] == 2
    assert found["first_token_seconds_bucket", "0.75", "mix"] == 0
    assert found["longest_gap_seconds_count", "mix"] == 2
    assert found["updates_total", "mix"] >= 2


def test_tokens_and_money_are_those_of_each_model() -> None:
    metrics = Metrics()
    (finished,) = finish("mix")
    metrics.count_run(finished)
    found, used = samples(metrics), used_by_model(finished)
    assert found["tokens_total", "completion", "p", "mix"] == used["p"].completion_tokens == 8
    assert found["tokens_total", "unknown", "a", "mix"] == used["a"].prompt_tokens
    assert found["cost_total", "p", "mix"] == (used["p"].prompt_tokens * 100 + 8 * 1000) / 1e6
    assert ("cost_total", "a", "mix") not in found  # no price: unknown, which is not 0


def test_prompt_tokens_are_cached_computed_or_unknown() -> None:
    known = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3)
    assert tokens_by_kind(known) == {"cached": 4, "computed": 6, "completion": 3}
    unknown = Usage(prompt_tokens=10, completion_tokens=3)
    assert tokens_by_kind(unknown) == {"unknown": 10, "completion": 3}


def test_failures_are_counted_for_the_model_that_failed() -> None:
    failing, broken = finish("failing", "broken")
    errors = errors_by_model(failing)
    assert errors["bad", "retry"] == errors["bad", "failover"] == 1
    assert errors["broken", "failed"] == 1
    metrics = Metrics()
    metrics.count_run(failing)
    metrics.count_run(broken)
    found = samples(metrics)
    assert found["degraded_runs_total", "failing"] == 1
    assert found["runs_total", "failed", "broken"] == 1
    assert found["upstream_errors_total", "failed", "broken", "broken"] == 1


def test_a_standstill_is_counted() -> None:
    broken = finish("failing")[0]
    assert samples_of(broken)["standstills_total", "failing"] == 0
    noted = Noted(at_s=1.0, agent="agg", note=Note(kind="standstill", text="agg waits"))
    assert samples_of(replace(broken, events=[*broken.events, noted]))["standstills_total", "failing"] == 1


def samples_of(finished: Finished) -> dict[tuple[str, ...], float]:
    metrics = Metrics()
    metrics.count_run(finished)
    return samples(metrics)


def test_path_that_is_none_of_ours_is_no_label() -> None:
    metrics = Metrics()
    for path in ("/a", "/b"):
        metrics.count_request(AnsweredRequest(method="GET", route=None, path=path, status=404, total_s=0.0))
    metrics.count_request(
        AnsweredRequest(method="GET", route="/v1/runs/{id}", path="/v1/runs/7", status=None, total_s=0.0)
    )
    found = samples(metrics)
    assert found["requests_total", "none", "404"] == 2
    assert found["requests_total", "/v1/runs/{id}", "left"] == 1


def test_two_servers_of_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.count_run(finish("broken")[0])
    assert ("runs_total", "failed", "broken") not in samples(other)
