"""The commands on scripted models: what they print, and that each mistake is one line and an exit code."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stairstream import __version__
from stairstream.cli.main import main

CONFIG = str(Path(__file__).parent.parent / "scripted.yaml")
ANSWER = "Blue light scatters most."
Captured = pytest.CaptureFixture[str]


def failing(tmp_path: Path, fault: str, role: str = "a") -> str:
    """A configuration in which one model fails at once."""
    models = {"p": "length: 20, token_s: 0.001", "a": f"text: '{ANSWER}'"}
    models[role] += f", attempts: 1, fault: {fault}"
    lines = [f"  {name}: {{backend: scripted, {keys}}}" for name, keys in models.items()]
    file = tmp_path / "c.yaml"
    text = "\n".join(["models:", *lines, "pipelines:", "  mix: {topology: mixture, proposers: [p, p], aggregator: a}"])
    file.write_text(text)
    return str(file)


def test_version(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stairstream {__version__}\n"


def test_without_arguments_it_explains_itself(capsys: Captured) -> None:
    assert main([]) == 0
    assert "fake-server" in capsys.readouterr().out


def test_ask_prints_only_the_answer_to_standard_output(capsys: Captured) -> None:
    assert main(["ask", "-c", CONFIG, "Why?"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ANSWER + "\n"
    assert printed.err.startswith("layout: grouped (")
    assert "policy balanced" in printed.err


def test_ask_reads_the_question_from_standard_input(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Why?\n"))
    assert main(["ask", "-c", CONFIG, "-p", "single", "-"]) == 0
    assert capsys.readouterr().out == ANSWER + "\n"


def test_json_has_all_numbers_and_nothing_else_is_printed(capsys: Captured) -> None:
    assert main(["ask", "-c", CONFIG, "--policy", "paper", "--set", "lead=inf", "--json", "Why?"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.err == ""
    assert found["answer"] == ANSWER
    assert found["policy"] == "custom"
    numbers = {"first_chunk": 8, "growth": 1, "quorum": "all", "patience_s": 0, "lead": "inf", "slope": 1}
    assert found["policy_numbers"] == numbers
    assert found["layout"] == "grouped"
    assert found["degraded"] == []
    assert 0 < found["first_token_s"] <= found["total_s"]
    assert {"longest_gap_s", "stall_s", "updates"} <= found.keys()
    assert [agent["name"] for agent in found["agents"]] == ["p.1", "p.2", "p.3", "a"]
    own = found["agents"][-1]
    assert (own["model"], own["completion_tokens"], own["cached_tokens"]) == ("a", 4, None)
    assert own["prompt_tokens"] > 0 and own["first_token_s"] == found["first_token_s"]


def test_json_says_who_answered_who_was_cut_and_what_it_cost(capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models:\n"
        "  p: {backend: scripted, length: 60, max_tokens: 40, price: {prompt: 0, completion: 1000}}\n"
        "  long: {backend: scripted, length: 900, token_s: 0.01}\n"
        "  a: {backend: scripted, length: 9, first_token_s: 0.05, attempts: 1, fallbacks: [b],"
        " fault: {kind: cut, after_tokens: 3}}\n"
        "  b: {backend: scripted, length: 9}\n"
        "pipelines:\n"
        "  mix: {topology: mixture, proposers: [p, long], aggregator: a, policy: {first_chunk: 4, quorum: 1}}\n"
    )
    assert main(["ask", "-c", str(file), "--json", "Why?"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answered_by"] == {"agent": "a", "model": "b"}
    assert found["cut"] == ["long"]
    assert found["tokens_saved_at_most"] >= 900
    assert len(found["degraded"]) == 1 and "b continues" in found["degraded"][0]
    agents = {agent["name"]: agent for agent in found["agents"]}
    assert [note["kind"] for note in agents["a"]["notes"]] == ["failover"]
    assert (agents["p"]["cost"], agents["a"]["cost"], found["cost"]) == (0.04, None, 0.04)
    assert (agents["p"]["ended"], agents["long"]["ended"], agents["a"]["ended"]) == ("length", "cancelled", "stop")
    assert agents["a"]["policy_numbers"]["first_chunk"] == 4 and agents["p"]["policy_numbers"] is None
    assert agents["a"]["reads"] == ["p", "long"]


def test_run_that_its_deadline_ends_says_so(capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models: {m: {backend: scripted, length: 90, token_s: 0.02}}\n"
        "pipelines: {one: {topology: single, model: m, deadline_s: 0.05}}"
    )
    assert main(["ask", "-c", str(file), "Why?"]) == 0
    assert "ended: deadline: the answer is what there was by then" in capsys.readouterr().err


def test_answer_that_is_cut_off_says_so(capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models: {m: {backend: scripted, length: 90, max_tokens: 9}}\n"
        "pipelines: {one: {topology: single, model: m}, all: {topology: self_mixture, model: m}}"
    )
    assert main(["ask", "-c", str(file), "Why?"]) == 0
    assert "ended: length: the answer is cut off, at max_tokens" in capsys.readouterr().err
    assert main(["ask", "-c", CONFIG, "Why?"]) == 0
    assert "ended:" not in capsys.readouterr().err
    assert main(["demo", "-c", str(file), "-p", "all", "--max-tokens", "4", "Why?"]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("the answer is"))
    assert row.split()[3:] == ["cut", "off"] * 3
    assert main(["demo", "-c", CONFIG, "Why?"]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("the answer is"))
    assert row.split()[3:] == ["whole"] * 3


def test_drawing_goes_below_the_answer_to_standard_error(capsys: Captured) -> None:
    assert main(["ask", "-c", CONFIG, "--draw", "Why?"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ANSWER + "\n"
    lanes = [line.split()[0] for line in printed.err.splitlines() if "\u25c6" in line]
    assert lanes[:4] == ["a", "p.1", "p.2", "p.3"]


def test_adaptive_policy_says_when_it_knows_nothing_and_learns(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAIRSTREAM_CACHE", str(tmp_path))
    assert main(["ask", "-c", CONFIG, "--policy", "adaptive", "Why?"]) == 0
    assert "adaptive: no earlier run has shown the speed of a and p; balanced for a" in capsys.readouterr().err
    assert main(["ask", "-c", CONFIG, "--policy", "adaptive", "--json", "Why?"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["policy"], found["notes"]) == ("adaptive", [])
    assert found["policy_numbers"]["first_chunk"] != 16
    assert (tmp_path / "rates.json").is_file()


def test_demo_takes_any_topology_whose_agents_read(capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models: {m: {backend: scripted, length: 5}}\npipelines: {all: {topology: tree, model: m, branches: 3}}"
    )
    assert main(["demo", "-c", str(file), "Why?"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("t.3 ") >= 2 and "m answers alone" in printed


def test_check_copes_with_every_topology_and_fallbacks(capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models:\n"
        "  m: {backend: scripted, length: 5, max_tokens: 60, fallbacks: [n]}\n"
        "  n: {backend: scripted, length: 5, max_tokens: 60, fallbacks: [m], forward: thinking}\n"
        "pipelines:\n"
        "  debate: {topology: debate, debaters: [m, n], policy: adaptive}\n"
        "  council: {topology: council, members: [m, n], judge: m, answer: n, stop_when: {agree: 2}}\n"
        "  chain: {topology: chain, models: [m, n, m], edges: sentence}\n"
    )
    assert main(["check", "-c", str(file)]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert [["debate", "adaptive"], ["debate", "wait"], ["debate", "m"]] == [
        row for row in rows if row[:1] == ["debate"]
    ]
    assert ["council", "balanced"] in rows and ["chain", "wait"] in rows


def test_single_model_has_no_policy(capsys: Captured) -> None:
    assert main(["ask", "-c", CONFIG, "-p", "single", "--json", "Why?"]) == 0
    assert json.loads(capsys.readouterr().out)["policy"] is None


def test_dropped_proposer_is_told(capsys: Captured, tmp_path: Path) -> None:
    config = failing(tmp_path, "{kind: status_500}", role="p")
    assert main(["ask", "-c", config, "Why?"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ANSWER + "\n"
    assert "degraded: p.1 was dropped" in printed.err
    assert main(["ask", "-c", config, "--json", "Why?"]) == 0
    assert len(json.loads(capsys.readouterr().out)["degraded"]) == 3


def test_answer_that_breaks_off_is_an_error_but_its_words_stay(capsys: Captured, tmp_path: Path) -> None:
    assert main(["ask", "-c", failing(tmp_path, "{kind: cut, after_tokens: 2}"), "Why?"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "Blue light\n"
    assert printed.err.splitlines()[-1].startswith("stairstream: error: ")


def test_control_characters_of_a_model_do_not_reach_the_terminal(capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        'models: {m: {backend: scripted, words: ["red\\e[31m", " and\\n", "blue\\x9b"]}}\n'
        "pipelines: {one: {topology: single, model: m}}"
    )
    assert main(["ask", "-c", str(file), "Why?"]) == 0
    assert capsys.readouterr().out == "red[31m and\nblue\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ask", "-c", CONFIG, ""], "the question is empty"),
        (["ask", "-c", CONFIG, "  \n"], "the question is empty"),
        (["demo", "-c", CONFIG, " "], "the question is empty"),
        (["ask"], "Missing argument"),
        (["ask", "-c", CONFIG, "two", "questions"], "unexpected extra argument"),
        (["ask", "--polcy", "wait", "x"], "No such option: --polcy"),
        (["aks", "x"], "No such command 'aks'"),
        (["ask", "-c", "/", "x"], "/: is a directory"),
        (["ask", "-c", "absent.yaml", "x"], "absent.yaml: no such file"),
        (["ask", "-c", CONFIG, "-p", "mux", "x"], "no pipeline is called 'mux'; did you mean 'mix'?"),
        (["ask", "-c", CONFIG, "--policy", "papr", "x"], "--policy: 'papr' is not a policy; did you mean 'paper'?"),
        (["ask", "-c", CONFIG, "--set", "groth=2", "x"], "--set: groth: unknown key; did you mean 'growth'?"),
        (["ask", "-c", CONFIG, "--set", "growth=-2", "x"], "--set: growth: must be a number of at least 1, not -2"),
        (["ask", "-c", CONFIG, "-p", "single", "--policy", "wait", "x"], "it takes no policy"),
        (["demo", "-c", CONFIG, "-p", "single"], "the demo compares agents that read with one"),
        (["demo", "-c", CONFIG, "--max-tokens", "0"], "0 is not in the range x>=1"),
        (["pull", "smolm2"], "there is no model 'smolm2' to fetch"),
        (["fake-server", "--port", "99999"], "99999 is not in the range 0<=x<=65535"),
        (["fake-server", "--length", "-1"], "fake-server: length: must be a whole number of at least 1, not -1"),
        (["fake-server", "--fault", "hnag"], "fault.kind: 'hnag' is not a valid choice; did you mean 'hang'?"),
        (["fake-server", "--batch", "6-1"], "batch: must be a number of tokens, as 4, or a range, as 1-6, not '6-1'"),
        (["fake-server", "--batch", "0"], "batch: must be a number of tokens, as 4, or a range, as 1-6, not '0'"),
        (["fake-server", "--batch", "some"], "batch: must be a number of tokens, as 4, or a range, as 1-6, not 'some'"),
        (["fake-server", "--silent-every", "1"], "silent_every: must be a whole number of at least 2, not 1"),
        (["fake-server", "--usage", "round"], "usage: 'round' is not a valid choice; did you mean 'rounded'?"),
        (["fake-server", "--continues", "never"], "continues: 'never' is not a valid choice"),
        (["fake-server", "--token-s", "1", "--tokens-per-s", "1"], "give either token_s or tokens_per_s, not both"),
        (["fake-server", "-c", CONFIG, "--model", "x"], "give either a file with models or the options of models"),
        (["fake-server", "-c", CONFIG], "pipelines: unknown key; there is models"),
        (["check", "-c", "absent.yaml"], "absent.yaml: no such file"),
    ],
)
def test_users_mistake_is_one_line_and_exit_code_2(arguments: list[str], said: str, capsys: Captured) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("stairstream: error: ")
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_embedded_model_that_is_not_there_says_how_to_get_it(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAIRSTREAM_CACHE", str(tmp_path))
    assert main(["ask", "Why?"]) == 2
    assert "stairstream pull smollm2-135m-instruct" in capsys.readouterr().err


def test_file_that_is_no_gguf_is_one_line(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("hello")
    file = tmp_path / "c.yaml"
    file.write_text(
        f"models: {{m: {{backend: llamacpp, model: {tmp_path}/m.gguf}}}}\n"
        "pipelines: {one: {topology: single, model: m}}"
    )
    assert main(["ask", "-c", str(file), "Why?"]) == 1
    printed = capsys.readouterr()
    assert "is not a GGUF file" in printed.err
    assert printed.err.count("\n") == 1


def test_demo_away_from_a_terminal_prints_lines_and_the_table(capsys: Captured) -> None:
    assert main(["demo", "-c", CONFIG, "Why?"]) == 0
    printed = capsys.readouterr().out
    assert printed.count(ANSWER) == 3
    assert "a: first token" in printed
    rows = {line.split("  ")[0] for line in printed.splitlines()}
    assert {"first word after", "longest pause", "whole answer after", "tokens sent to models"} <= rows


def test_demo_limits_answers(capsys: Captured) -> None:
    assert main(["demo", "-c", CONFIG, "--max-tokens", "2", "Why?"]) == 0
    assert "Blue light\n" in capsys.readouterr().out


def test_check_says_layouts_and_costs(capsys: Captured) -> None:
    assert main(["check", "-c", CONFIG]) == 0
    printed = capsys.readouterr().out
    assert "a  scripted  layout grouped" in printed
    waiting = next(line.split() for line in printed.splitlines() if line.startswith("mix") and " wait " in line)
    alone = next(line.split() for line in printed.splitlines() if line.startswith("single"))
    # each of three proposers is asked 50 tokens; the aggregator reads that and three answers of 300
    assert (waiting[2], waiting[4:]) == ("4", ["0", "1200"])
    assert 4 * 50 + 3 * 300 < int(waiting[3]) < 1300
    assert alone == ["single", "a", "alone", "1", "50", "0", "300"]
    assert "price" not in printed
    assert "With tools or a response_format a pipeline answers as with `wait`" in printed


@pytest.mark.parametrize(("length", "warns"), [(20, True), (300, False)])
def test_check_warns_where_an_answer_comes_no_sooner_than_with_wait(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, warns: bool
) -> None:
    monkeypatch.setenv("STAIRSTREAM_CACHE", str(tmp_path))
    file = tmp_path / "c.yaml"
    file.write_text(
        f"models: {{m: {{backend: scripted, length: {length}, first_token_s: 0.05}}}}\n"
        "pipelines: {mix: {topology: mixture, proposers: [m, m], aggregator: m}}"
    )
    assert main(["check", "-c", str(file)]) == 0
    assert "single model" not in capsys.readouterr().out  # nothing is known
    known = {"scripted m": {"first_token_s": 0.5, "tokens_per_s": 50, "answer_tokens": length}}
    (tmp_path / "rates.json").write_text(json.dumps({"rates": known}))
    assert main(["check", "-c", str(file)]) == 0
    assert ("mix: as fast as its models were in earlier runs" in capsys.readouterr().out) == warns


def test_check_shows_prices_where_the_file_has_them(capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models: {m: {backend: scripted, length: 3, price: {prompt: 10, completion: 100}}}\n"
        "pipelines: {one: {topology: single, model: m}}"
    )
    assert main(["check", "-c", str(file)]) == 0
    # 50 tokens at 10 and 300 at 100 per million
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("one"))
    assert row.split()[-2:] == ["0.0305", "0.0305"]


def test_check_asks_every_model_before_it_fails(capsys: Captured, tmp_path: Path) -> None:
    assert main(["check", "-c", failing(tmp_path, "{kind: status_500}", role="p")]) == 1
    printed = capsys.readouterr()
    assert "a  scripted  layout grouped" in printed.out
    assert "p  scripted  fails: " in printed.out
    assert printed.err.startswith("stairstream: error: model 'p': ")


@pytest.mark.slow
def test_interrupt_ends_at_once_with_130(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models: {m: {backend: scripted, length: 3, first_token_s: 60}}\npipelines: {one: {topology: single, model: m}}"
    )
    command = [sys.executable, "-m", "stairstream", "ask", "-c", str(file), "Why?"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        process.communicate(timeout=4)  # until it has begun, on a busy machine too
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGINT)
    printed = process.communicate(timeout=20)  # the answer would take a minute
    assert (process.returncode, *printed) == (130, "", "stairstream: interrupted\n")


@pytest.mark.slow
def test_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m stairstream ask -c {CONFIG} -p single Why? | head -c 1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "B"
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
