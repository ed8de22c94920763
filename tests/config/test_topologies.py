"""Pipelines of every topology: the graphs that they make, and each mistake in one line."""

import math

import pytest

from stairstream.config.graphs import build_graph, goals_of
from stairstream.config.pipelines import change_policy
from stairstream.config.schema import Config, parse_config
from stairstream.core.adaptive import Goals
from stairstream.core.costs import Price
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Agreement, Graph
from stairstream.core.policy import PRESETS
from stairstream.core.wording import COUNCIL, DEBATE, STEPS
from stairstream.engine.pace import FixedPace

MODELS = """
models:
  a: {backend: scripted, length: 3, max_tokens: 50, seed: 7, fallbacks: [b, c], forward: both, context_tokens: 900}
  b: {backend: scripted, length: 3, temperature: 0.5, price: {prompt: 1, completion: 2, cached: 0.1, cache_write: 1.25}}
  c: {backend: openai, base_url: "http://127.0.0.1:9/v1", model: m, reasoning: always, hedge_after_s: 2,
      max_concurrency: 4, requests_per_minute: 60}
pipelines:
  p: """
ROLES = "{planner: {model: a, instructions: Plan.}, solver: {model: b, max_tokens: 9, temperature: 1}}"
GRAPH = """{planner: {model: a, instructions: Plan.},
  solver: {model: b, reads: [planner], policy: wait, layout: quoted, edges: section, delimiter: "##", max_tokens: 9},
  checker: {model: a, reads: [planner, solver], forward: answer}}"""


def config(pipeline: str) -> Config:
    return parse_config(MODELS + pipeline, "c.yaml", {})


def graph(pipeline: str) -> Graph:
    found = config(pipeline)
    return build_graph(found.models, found.pipeline())


def reads(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {agent.name: agent.reads for agent in graph.agents}


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ("{topology: single, model: a}", {"a": ()}),
        (
            "{topology: mixture, proposers: [a, b], aggregator: c, layers: 2}",
            {"l1.a": (), "l1.b": (), "l2.a": ("l1.a", "l1.b"), "l2.b": ("l1.a", "l1.b"), "c": ("l2.a", "l2.b")},
        ),
        ("{topology: self_mixture, model: a, samples: 2}", {"a.1": (), "a.2": (), "a": ("a.1", "a.2")}),
        (
            "{topology: debate, debaters: [a, b], rounds: 2, judge: c}",
            {
                "r1.a": (),
                "r1.b": (),
                "r2.a": ("r1.a", "r1.b"),
                "r2.b": ("r1.a", "r1.b"),
                "judge": ("r2.a", "r2.b"),
            },
        ),
        ("{topology: debate, debaters: [a, b], answer: 2}", {"r1.a": (), "r1.b": (), "r2.b": ("r1.a", "r1.b")}),
        (
            "{topology: council, members: [a, b], judge: c, answer: a}",
            {"a": (), "b": (), "judge": ("a", "b"), "answer": ("a", "b", "judge")},
        ),
        ("{topology: chain, models: [a, b, a]}", {"a.1": (), "b": ("a.1",), "a.2": ("b",)}),
        (f"{{topology: chain, roles: {ROLES}}}", {"planner": (), "solver": ("planner",)}),
        ("{topology: tree, model: a, depth: 2, branches: 2}", {"t.1": (), "t.2": (), "t": ("t.1", "t.2")}),
        (
            f"{{topology: graph, agents: {GRAPH}}}",
            {"planner": (), "solver": ("planner",), "checker": ("planner", "solver")},
        ),
    ],
)
def test_who_reads_whom(pipeline: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert reads(graph(pipeline)) == expected


def test_agents_of_a_graph_have_what_they_say_and_else_what_their_pipeline_and_model_say() -> None:
    found = graph(f"{{topology: graph, agents: {GRAPH}, policy: cheap, layout: rounds, edges: word, answer: checker}}")
    planner, solver, checker = found.agents
    assert (planner.instructions, planner.sampling.max_tokens, planner.sampling.seed) == ("Plan.", 50, 7)
    assert (planner.forward, planner.fallbacks, planner.context_tokens) == ("both", ("b", "c"), 900)
    assert (solver.policy, solver.layout, solver.edges, solver.delimiter) == (
        PRESETS["wait"],
        "quoted",
        "section",
        "##",
    )
    assert (solver.sampling.max_tokens, solver.sampling.temperature, solver.fallbacks) == (9, 0.5, ())
    assert (checker.policy, checker.layout, checker.edges, checker.delimiter) == (
        PRESETS["cheap"],
        "rounds",
        "word",
        None,
    )
    assert (checker.forward, checker.wording) == ("answer", STEPS)
    assert found.answer == "checker"


def test_roles_of_a_chain_have_their_own_sampling() -> None:
    solver = graph(f"{{topology: chain, roles: {ROLES}}}").agent("solver")
    assert (solver.sampling.max_tokens, solver.sampling.temperature) == (9, 1)


def test_samples_of_a_self_mixture_take_temperatures_in_turn() -> None:
    found = graph("{topology: self_mixture, model: a, samples: 3, temperatures: [0.2, 1]}")
    assert [agent.sampling.temperature for agent in found.agents] == [0.2, 1, 0.2, None]
    assert {agent.sampling.max_tokens for agent in found.agents} == {50}


def test_model_that_always_thinks_answers_in_one_call_where_it_reads() -> None:
    found = graph("{topology: mixture, proposers: [c, a], aggregator: c}")
    assert [agent.one_call for agent in found.agents] == [False, False, True]


def test_council_has_a_patient_judge_unless_it_has_a_policy_of_its_own() -> None:
    keys = "topology: council, members: [a, b], judge: b, answer: a, judge_json: true"
    assert graph(f"{{{keys}}}").agent("judge").policy.first_chunk == 64
    own = graph(f"{{{keys}, judge_policy: {{first_chunk: 5, quorum: 2}}}}")
    assert own.agent("judge").policy.first_chunk == 5
    assert "JSON" in own.agent("judge").instructions
    assert own.agent("answer").wording == COUNCIL


def test_early_stop_needs_as_many_to_read_as_shall_agree() -> None:
    found = graph("{topology: debate, debaters: [a, b], judge: c, stop_when: {agree: 2, over_tokens: 8}}")
    agreement = Agreement(agree=2, over_tokens=8, similarity=0.9)
    assert [agent.agreement for agent in found.agents] == [None, None, agreement, agreement, agreement]


def test_prompts_replace_single_words_of_the_topologys_own() -> None:
    found = graph("{topology: debate, debaters: [a, b], judge: c, prompts: {partial: More., quote: 'On: {written}'}}")
    debater, judge = found.agent("r2.a").wording, found.agent("judge").wording
    assert (debater.partial, debater.quote, debater.combine, debater.labels) == (
        "More.",
        "On: {written}",
        DEBATE.combine,
        "names",
    )
    assert judge.partial == "More."


def test_limits_of_a_run() -> None:
    limits = (
        config("{topology: single, model: b, deadline_s: 5, max_cost: 0.2, pace: {tokens_per_s: 8, hold_s: 0.5}}")
        .pipeline()
        .limits
    )
    assert (limits.deadline_s, limits.max_cost, limits.pace) == (5, 0.2, FixedPace(tokens_per_s=8, hold_s=0.5))


def test_price_of_a_model() -> None:
    price = config("{topology: single, model: b}").models["b"].common.price
    assert price == Price(prompt=1, completion=2, cached=0.1, cache_write=1.25)


MIX = "topology: mixture, proposers: [a, b, b], aggregator: a"


def test_adaptive_policy_has_goals_and_what_rates_do_not_choose() -> None:
    found = config(f"{{{MIX}, policy: adaptive}}").pipeline().reading.policy
    assert (found.name, found.goals, found.policy) == ("adaptive", Goals(), PRESETS["balanced"])
    text = "{adaptive: {max_prompt_tokens_factor: 2, reading_tokens_per_s: 4}, quorum: 2, patience_s: 1, lead: 8}"
    own = config(f"{{{MIX}, policy: {text}}}").pipeline().reading.policy
    assert (own.name, own.goals) == ("adaptive", Goals(max_prompt_tokens_factor=2, reading_tokens_per_s=4))
    assert (own.policy.quorum, own.policy.patience_s, own.policy.lead) == (2, 1, 8)
    assert config(f"{{{MIX}, policy: {{adaptive: }}}}").pipeline().reading.policy.goals == Goals()


def test_which_agents_adapt() -> None:
    def adapting(pipeline: str) -> set[str]:
        found = config(pipeline)
        return set(goals_of(found.pipeline(), build_graph(found.models, found.pipeline())))

    assert adapting(f"{{{MIX}, policy: adaptive, layers: 2}}") == {"l2.a.1", "l2.b.1", "l2.b.2", "a"}
    assert adapting("{topology: council, members: [a, b], judge: b, answer: a, policy: adaptive}") == {"answer"}
    assert adapting(f"{{topology: graph, agents: {GRAPH}, policy: adaptive}}") == {"checker"}
    assert adapting("{topology: mixture, proposers: [a, b], aggregator: c, policy: adaptive}") == set()


def test_another_policy_is_that_of_every_agent_and_numbers_are_of_those_without_their_own() -> None:
    found = config(f"{{topology: graph, agents: {GRAPH}}}")
    waiting = build_graph(found.models, change_policy(found.pipeline(), "wait", {}, 2))
    assert {agent.policy for agent in waiting.agents} == {PRESETS["wait"]}
    changed = build_graph(found.models, change_policy(found.pipeline(), None, {"first_chunk": 4}, 2))
    assert [agent.policy.first_chunk for agent in changed.agents] == [4, math.inf, 4]


WRONG = [
    ("{topology: debate, debaters: [a]}", "pipelines.p: a debate needs at least two debaters, not 1"),
    ("{topology: debate, debaters: [a, b], judge: c, answer: 1}", "pipelines.p.answer: the judge answers; leave one"),
    ("{topology: debate, debaters: [a, b], answer: 3}", "pipelines.p: debater 3 can't answer: there are 2"),
    ("{topology: debate, debaters: [a, d]}", "pipelines.p.debaters[1]: 'd' is not a model"),
    ("{topology: debates, debaters: [a]}", "pipelines.p.topology: 'debates' is not a topology; did you mean 'debate'?"),
    ("{topology: council, members: [], judge: a, answer: b}", "pipelines.p.members: is empty; give at least one"),
    ("{topology: council, members: [a], judge: a, answer: d}", "pipelines.p.answer: 'd' is not a model"),
    (
        "{topology: council, members: [a, b], judge: b, answer: a, judge_policy: {quorum: 3}}",
        "pipelines.p.judge_policy.quorum: 3 is more than an agent reads here (2)",
    ),
    ("{topology: chain}", "pipelines.p: give either models or roles"),
    (f"{{topology: chain, models: [a], roles: {ROLES}}}", "pipelines.p: give either models or roles"),
    ("{topology: chain, models: []}", "pipelines.p.models: is empty; give at least one"),
    ("{topology: chain, roles: {x: {model: a, reads: [x]}}}", "pipelines.p.roles.x.reads: in a chain each reads"),
    ("{topology: tree, model: a, depth: 0}", "pipelines.p.depth: must be a whole number of at least 1, not 0"),
    ("{topology: self_mixture, model: a, temperatures: []}", "pipelines.p.temperatures: is empty; give at least one"),
    (
        "{topology: self_mixture, model: a, temperatures: [hot]}",
        "pipelines.p.temperatures[0]: must be a number of at least 0, not 'hot'",
    ),
    (
        "{topology: graph, agents: {x: {model: a}, y: {model: b, reads: [z]}}}",
        "pipelines.p.agents.y.reads[0]: 'z' is not an agent",
    ),
    (
        "{topology: graph, agents: {x: {model: a, reads: [y]}, y: {model: b, reads: [x]}}}",
        "pipelines.p: agents read each other in a circle",
    ),
    (
        "{topology: graph, agents: {x: {model: a, reads: [y]}, y: {model: b, reads: [x]}}, answer: x}",
        "pipelines.p: agents read each other in a circle: ",
    ),
    (
        "{topology: graph, agents: {x: {model: a, polcy: wait}}}",
        "pipelines.p.agents.x.polcy: unknown key; did you mean 'policy'?",
    ),
    (
        "{topology: graph, agents: {x: {model: a}, y: {model: b, reads: [x], policy: {quorum: 2}}}}",
        "pipelines.p.agents.y.policy.quorum: 2 is more than an agent reads here (1)",
    ),
    ("{topology: graph, agents: {x: {model: a}}, answer: y}", "pipelines.p.answer: 'y' is not an agent"),
    ("{topology: graph, agents: [x]}", "pipelines.p.agents: must be a mapping of names to values, not a list"),
    (f"{{{MIX}, edges: words}}", "pipelines.p.edges: 'words' is not a valid choice; did you mean 'word'?"),
    (f"{{{MIX}, delimiter: '##'}}", "pipelines.p.delimiter: is only used with edges: section"),
    (f"{{{MIX}, stop_when: {{agree: 4}}}}", "pipelines.p.stop_when.agree: 4 is more than an agent reads here (3)"),
    (f"{{{MIX}, stop_when: {{agree: 1}}}}", "pipelines.p.stop_when.agree: must be a whole number of at least 2, not 1"),
    (
        f"{{{MIX}, stop_when: {{similarity: 2}}}}",
        "pipelines.p.stop_when.similarity: must be a number above 0 and up to",
    ),
    (f"{{{MIX}, pace: {{tokens_per_s: 0}}}}", "pipelines.p.pace.tokens_per_s: must be a number above 0, not 0"),
    (f"{{{MIX}, pace: {{hold_s: 1}}}}", "pipelines.p.pace.tokens_per_s: is missing"),
    (f"{{{MIX}, max_cost: 0}}", "pipelines.p.max_cost: must be a number above 0, not 0"),
    (f"{{{MIX}, max_cost: 1}}", "pipelines.p.max_cost: model 'c' has no price, so its cost can't be bounded"),
    (f"{{{MIX}, prompts: {{qoute: x}}}}", "pipelines.p.prompts.qoute: unknown key; did you mean 'quote'?"),
    (f"{{{MIX}, prompts: {{quote: x}}}}", "pipelines.p.prompts.quote: must hold {written} where that text belongs"),
    (f"{{{MIX}, prompts: {{more: x}}}}", "pipelines.p.prompts.more: must hold {references} where that text belongs"),
    (f"{{{MIX}, prompts: {{labels: x}}}}", "pipelines.p.prompts.labels: 'x' is not a valid choice"),
    (f"{{{MIX}, policy: adaptiv}}", "pipelines.p.policy: 'adaptiv' is not a policy; did you mean 'adaptive'?"),
    (
        f"{{{MIX}, policy: {{adaptive: {{}}, growth: 2}}}}",
        "pipelines.p.policy.growth: the policy is adaptive and chooses it itself",
    ),
    (
        f"{{{MIX}, policy: {{adaptive: {{max_prompt_tokens_factor: 0.5}}}}}}",
        "pipelines.p.policy.adaptive.max_prompt_tokens_factor: must be a number of at least 1, not 0.5",
    ),
    ("{topology: single, model: a, edges: word}", "pipelines.p.edges: a single model reads nobody, so it has no edges"),
]


@pytest.mark.parametrize(("pipeline", "said"), WRONG)
def test_mistake_is_one_line_with_its_place(pipeline: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(pipeline)
    assert str(caught.value).startswith(f"c.yaml: {said}")
    assert "\n" not in str(caught.value)


WRONG_MODELS = [
    ("fallbacks: [b, c]", "fallbacks: [a]", "models.a.fallbacks[0]: 'a' is the model itself; name another"),
    ("fallbacks: [b, c]", "fallbacks: [b, b]", "models.a.fallbacks[1]: 'b' is there twice"),
    ("fallbacks: [b, c]", "fallbacks: [bb]", "models.a.fallbacks[0]: 'bb' is not a model; did you mean 'b'?"),
    ("forward: both", "forward: all", "models.a.forward: 'all' is not a valid choice"),
    (
        "context_tokens: 900",
        "context_tokens: 0",
        "models.a.context_tokens: must be a whole number of at least 1, not 0",
    ),
    ("cached: 0.1", "cached: -1", "models.b.price.cached: must be a number of at least 0, not -1"),
    ("reasoning: always", "reasoning: never", "models.c.reasoning: 'never' is not a valid choice"),
    ("hedge_after_s: 2", "hedge_after_s: 0", "models.c.hedge_after_s: must be a number above 0, not 0"),
    (
        "max_concurrency: 4",
        "max_concurrency: 0",
        "models.c.max_concurrency: must be a whole number of at least 1, not 0",
    ),
    (
        "backend: scripted, length: 3, max_tokens: 50",
        "backend: llamacpp, model: m, hedge_after_s: 1",
        "models.a.hedge_after_s: a second try on the same engine would only slow it down",
    ),
    (
        "requests_per_minute: 60",
        "prefetch: true, requests_per_minute: 119",
        "models.c.prefetch: needs requests_per_minute of at least 120: it is never waited for",
    ),
    (
        "max_concurrency: 4",
        "prefetch: true, max_concurrency: 1",
        "models.c.prefetch: needs a max_concurrency of at least 2: it is never waited for",
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), WRONG_MODELS)
def test_mistake_in_a_model_is_one_line_with_its_place(old: str, new: str, said: str) -> None:
    assert old in MODELS
    with pytest.raises(ConfigError) as caught:
        parse_config(MODELS.replace(old, new, 1) + "{topology: single, model: b}", "c.yaml", {})
    assert str(caught.value).startswith(f"c.yaml: {said}")
