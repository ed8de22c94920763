"""Self-distillation: the teacher is the same network after it has read everything."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch.nn.functional import kl_div, log_softmax  # noqa: E402

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.core.policy import PRESETS  # noqa: E402
from stairstream.train.config import Lora, TrainedLayout  # noqa: E402
from stairstream.train.data import EMPTY_ROW, Batch, Cursor, Row, Stream, split_prompts  # noqa: E402
from stairstream.train.drawing import Reading  # noqa: E402
from stairstream.train.head import use_loss_head  # noqa: E402
from stairstream.train.lora import add_adapters  # noqa: E402
from stairstream.train.on_policy import write_drafts  # noqa: E402
from stairstream.train.samples import Draft, lay_out, lay_out_steps  # noqa: E402
from stairstream.train.step import nll_of  # noqa: E402
from stairstream.train.teaching import ask_teacher  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.test_samples import ANSWER, RECORDED, STEPS, TOKENS  # noqa: E402
from tests.train.tiny import ALONE, CPU, losses_of, make_start, run_alone, state_of  # noqa: E402

WAIT = Reading(policy=PRESETS["wait"], layout="grouped")
STAIRS = Reading(policy=replace(PRESETS["balanced"], first_chunk=4), layout="rounds")
TAUGHT = {"epochs": None, "steps": 4, "distill": 0.75, "layouts": {"rounds": 2, "insert": 1, "grouped": 1}, "wait": 0.2}


def lay(layout: TrainedLayout, updates: Any = "all") -> list[Any]:
    return lay_out_steps(TOKENS, RECORDED, STEPS, layout, updates, random.Random(0), taught=True)


def make_taught(seed: int = 1) -> Any:
    network = make_network(seed, vocab_size=len(TOKENS)).train()
    use_loss_head(network)
    return network


@pytest.mark.parametrize("layout", ["rounds", "insert", "grouped"])
def test_the_teacher_judges_the_words_that_the_sample_learns(layout: TrainedLayout) -> None:
    for sample in lay(layout):
        for one in (sample, sample.cut(len(sample.ids) - 3)):
            judged = [one.teaching.ids[index + 1] for index in one.teaching.before]
            assert judged == [token for _, token in one.learned]
    (waited,) = lay_out(TOKENS, RECORDED, WAIT, "all", random.Random(0))
    assert sample.teaching.ids == waited.ids


def test_the_words_of_updates_stand_one_after_the_other_in_the_teaching() -> None:
    befores = [index for sample in lay("grouped") for index in sample.teaching.before]
    assert befores == list(range(befores[0], befores[0] + ANSWER.num_tokens + 1))


def test_the_divergence_is_zero_where_all_was_read() -> None:
    samples = lay_out(TOKENS, RECORDED, WAIT, "all", random.Random(0), taught=True)
    assert float(nll_of(make_taught(), Row(samples=tuple(samples)), CPU, distill=1).detach()) == pytest.approx(
        0, abs=1e-4
    )


def test_the_divergence_is_that_of_whole_distributions() -> None:
    network = make_taught()
    (sample,) = lay("rounds")
    taught = network(torch.tensor([sample.teaching.ids])).logits[0, list(sample.teaching.before)]
    said = network(torch.tensor([sample.ids])).logits[0, [index for index, _ in sample.learned]]
    logs, teacher_logs = (log_softmax(one.detach(), -1) for one in (said, taught))
    expected = float(kl_div(logs, teacher_logs, reduction="sum", log_target=True))
    found = float(nll_of(network, Row(samples=(sample,)), CPU, distill=1).detach())
    nll = float(nll_of(network, Row(samples=(sample,)), CPU).detach())
    assert expected > 0.01
    assert found == pytest.approx(expected, rel=1e-4)
    mixed = float(nll_of(network, Row(samples=(sample,)), CPU, distill=0.25).detach())
    assert mixed == pytest.approx(0.25 * expected + 0.75 * nll, rel=1e-5)


def test_the_teacher_has_no_gradient_and_no_adapters() -> None:
    network, row = make_taught(), Row(samples=tuple(lay("rounds")))
    before = ask_teacher(network, row, CPU)
    assert not before.requires_grad
    add_adapters(network, Lora(rank=2, dropout=0.5), "float32")
    with torch.no_grad():
        for name, one in network.named_parameters():
            if "lora_B" in name:
                one.normal_()
    learning = [one.requires_grad for one in network.parameters()]
    assert torch.equal(ask_teacher(network, row, CPU), before)
    assert [one.requires_grad for one in network.parameters()] == learning
    assert network.training
    assert not torch.equal(
        network(torch.tensor([row.samples[0].ids])).logits, make_taught()(torch.tensor([row.samples[0].ids])).logits
    )


def test_a_row_that_teaches_nothing_has_a_teacher_too() -> None:
    assert float(nll_of(make_taught(), EMPTY_ROW, CPU, distill=1).detach()) == 0


def write_one(network: Any, ends: bool = True, seed: int = 0) -> Any:
    draft = Draft(recorded=replace(RECORDED, ends=ends), reading=STAIRS)
    (sample,) = lay_out(TOKENS, RECORDED, STAIRS, "all", random.Random(0), taught=True)
    torch.manual_seed(seed)
    batch = Batch(rows=(Row(samples=(sample,), drafts={0: draft}),), after=Cursor())
    return write_drafts(network, TOKENS, batch, ALONE, "float32").rows[0].samples[0]


def test_drafts_are_what_the_network_writes_in_the_context_that_it_has() -> None:
    network = make_taught()
    with torch.no_grad():
        network.lm_head.weight *= 50  # it is sure of each word, so that the likeliest is drawn
    sample = write_one(network, ends=False)
    logits = network(torch.tensor([sample.ids])).logits[0]
    for index, token in sample.learned:
        best = logits[index].clone()
        best[2] = -torch.inf
        assert int(best.argmax()) == token
    assert len(sample.learned) == ANSWER.num_tokens
    assert sample.teaching.is_own
    assert [sample.teaching.ids[i + 1] for i in sample.teaching.before] == [token for _, token in sample.learned]


def test_drafts_are_drawn_by_the_seed_and_end_in_their_last_step_alone() -> None:
    network = make_taught()
    assert write_one(network) == write_one(network) != write_one(network, seed=1)
    with torch.no_grad():
        network.lm_head.weight[2] = 0
        network.model.norm.weight.zero_()  # all words are as likely as any other
    for seed in range(20):
        said = [token for _, token in write_one(network, seed=seed).learned]
        assert 2 not in said[:-1]


def test_only_the_teacher_judges_what_the_network_wrote() -> None:
    network = make_taught()
    row = Row(samples=(write_one(network),))
    half, whole = (float(nll_of(network, row, CPU, distill=share).detach()) for share in (0.5, 1))
    assert half == whole > 0


def test_a_share_of_the_samples_in_rounds_is_written_anew(tmp_path: Path) -> None:
    write_data(tmp_path)
    config = make_config(tmp_path, {**TAUGHT, "on_policy": 0.5, "layouts": {"rounds": 1, "insert": 1}, "steps": 40})
    stream = Stream(config, config.stages[0], split_prompts(config), make_start().tokens)
    drawn = [one for one, _ in zip(stream.samples(Cursor()), range(200), strict=False)]
    rounds = [one for one in drawn if one.reading.layout == "rounds"]
    assert 0.35 < sum(one.draft is not None for one in rounds) / len(rounds) < 0.65
    assert all(one.draft is None for one in drawn if one.reading.layout != "rounds")


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 2, "dropout": 0.1}])
def test_a_run_with_a_teacher_continues_to_the_bit(tmp_path: Path, lora: Any) -> None:
    write_data(tmp_path)
    stage = {**TAUGHT, "on_policy": 0.5}
    whole, said = run_alone(make_config(tmp_path, stage, lora=lora, output=str(tmp_path / "whole")))
    config = make_config(tmp_path, stage, lora=lora, save_every=2, keep=9)
    _, first = run_alone(config)
    latest = tmp_path / "out" / "checkpoints"
    (latest / "latest").write_text("00-0000002")
    again, rest = run_alone(config)
    assert losses_of(first) == losses_of(said)
    assert losses_of(rest) == losses_of(said)[2:]
    weights = state_of(whole.network)
    assert all(torch.equal(weight, weights[name]) for name, weight in again.network.state_dict().items())


@pytest.mark.slow
def test_the_staircase_learns_what_waiting_says(tmp_path: Path) -> None:
    write_data(tmp_path)
    stage = {**TAUGHT, "distill": 1, "steps": 12, "layouts": "rounds", "wait": 0}
    _, said = run_alone(make_config(tmp_path, stage, lora={"rank": 8}))
    losses = losses_of(said)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


@pytest.mark.parametrize(
    ("stage", "keys", "problem"),
    [
        ({"on_policy": 0.5}, {}, "stages[0].on_policy: needs a teacher: give distill a share above 0"),
        ({"distill": 2}, {}, "stages[0].distill: "),
        ({"distil": 1}, {}, "stages[0].distil: unknown key; did you mean 'distill'?"),
        ({"distill": 1, "on_policy": 1, "layouts": "insert"}, {}, "on_policy: is a share of samples in rounds"),
        ({"distill": 1}, {"parallel": {"pp": 2}}, "stages[0].distill: does not work with pipeline stages yet"),
        ({"distill": 1, "on_policy": 1}, {"offload": "parameters"}, "on_policy: works in one process that holds its"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, stage: dict[str, Any], keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(tmp_path, stage, **keys)
    assert problem in str(caught.value)
