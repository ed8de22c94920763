"""Where in an answer a staircase loses: nats over `wait`, by part of the answer and layout.

    python -m bench.retention_where --model RUN/model --data RUN/held_out.jsonl --limit 10

`wait` has read everything in every word. Of a staircase, words of the first step have read the first chunks, those of
the last step everything: what is lost there comes of the way in which the references lie in the context alone.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.arguments import arguments, one_or_more
from stairstream.backends.models import find_weights
from stairstream.backends.torch.load import Loaded
from stairstream.cli.eval_replays import load_torch
from stairstream.cli.eval_retention import read_policy
from stairstream.core.graph import Agent
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import AskedLayout
from stairstream.eval.data import PROPOSERS, REFERENCE
from stairstream.eval.recorded import RecordedPrompt, pick, read_prompts
from stairstream.eval.retention.forcing import Case
from stairstream.eval.retention.spelled import spell
from stairstream.eval.retention.timetable import Speed, TimedStep, make_timetable

_LAYOUTS: tuple[AskedLayout, ...] = ("rounds", "regrouped", "grouped", "insert")
_PARTS = ("the first step", "steps between", "the last step")
_AGENT = Agent(name="aggregator", model="aggregator", reads=PROPOSERS)


class Losses:
    """Of all prompts so far: tokens of each part, nats that each layout loses there, and what waiting gives in all."""

    def __init__(self) -> None:
        self.tokens = Counter[str]()
        self.nats = defaultdict[tuple[str, str], float](float)
        self.gain = 0.0

    def add(self, case: Case, policy: Policy) -> None:
        """Score one answer."""
        steps = make_timetable(policy, case.upstream_tokens, case.answer_tokens, Speed()).steps
        wait = make_timetable(PRESETS["wait"], case.upstream_tokens, case.answer_tokens, Speed()).steps
        waited = case.force(wait, "grouped")
        self.gain += case.force_alone().nll - waited.nll
        parts = list(_parts_of(steps))
        self.tokens.update(parts)
        for layout in _LAYOUTS:
            for part, nll, least in zip(parts, case.force(steps, layout).nlls, waited.nlls, strict=True):
                self.nats[part, layout] += nll - least

    def print(self) -> None:
        """The table."""
        print(f"| nats over `wait` in | tokens | {' | '.join(_LAYOUTS)} |\n|{'---|' * (2 + len(_LAYOUTS))}")
        for part in _PARTS:
            _print_row(part, self.tokens[part], [f"{self.nats[part, one]:.1f}" for one in _LAYOUTS])
        lost = [sum(self.nats[part, one] for part in _PARTS) for one in _LAYOUTS]
        _print_row("retention", self.tokens.total(), [f"{1 - nats / self.gain:.3f}" for nats in lost])


def _parts_of(steps: Sequence[TimedStep]) -> Iterator[str]:
    """The part of each token; an answer of one step is its last."""
    for number, step in enumerate(steps):
        part = _PARTS[2] if number == len(steps) - 1 else _PARTS[min(number, 1)]
        yield from [part] * (step.end - step.start)


def _print_row(name: str, tokens: int, cells: Sequence[str]) -> None:
    print(f"| {name} | {tokens} | {' | '.join(cells)} |")


def _open_case(loaded: Loaded, prompt: RecordedPrompt, cut: int) -> Case:
    *proposals, answer = (spell(loaded.tokens, prompt.outputs[name], cut) for name in (*PROPOSERS, REFERENCE))
    return Case(loaded, _AGENT, prompt.instruction, proposals, answer)


def main() -> None:
    """Score and print."""
    args = _parse()
    policy, losses = read_policy(args.policy), Losses()
    loaded = load_torch(find_weights(args.model), args.dtype, args.threads)
    for prompt in pick(read_prompts(args.data), args.limit):
        losses.add(_open_case(loaded, prompt, args.cut), policy)
    losses.print()


def _parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--data", type=Path, required=True, help="recorded answers, as eval retention reads them")
    parser.add_argument("--limit", type=one_or_more, default=10, help="prompts")
    parser.add_argument("--policy", default="first_chunk=16")
    parser.add_argument("--cut", type=one_or_more, default=256, help="texts are cut after so many tokens")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--threads", type=one_or_more)
    return parser.parse_args()


if __name__ == "__main__":
    main()
