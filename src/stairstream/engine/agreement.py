"""Watches the agents that one agent reads, and says once which of them agree: by plain overlap of words, no model is
asked."""

import re
from collections.abc import Callable, Mapping

from stairstream.core.graph import Agreement
from stairstream.engine.log import Log

_WORD = re.compile(r"\w+")


def watch_agreement(agreement: Agreement, logs: Mapping[str, Log], call: Callable[[tuple[str, ...]], None]) -> None:
    """Call with the agents that agree, as soon as enough of them have written `over_tokens` tokens that are alike.

    Agents that end before they have written that much take no part.
    """
    beginnings: dict[str, str] = {}

    def watch(name: str, log: Log) -> None:
        def compare() -> None:
            if agreeing(beginnings, agreement):
                return
            if log.num_tokens < agreement.over_tokens:
                if not log.is_closed:
                    log.watch(agreement.over_tokens, compare)
                return
            beginnings[name] = log.text(0, log.size_of(log.position_at(agreement.over_tokens))[0])
            group = agreeing(beginnings, agreement)
            if group:
                call(group)

        log.watch(agreement.over_tokens, compare)
        if log.num_tokens >= agreement.over_tokens:
            compare()

    for name, log in logs.items():
        watch(name, log)


def similarity(one: str, other: str) -> float:
    """Jaccard index of the lower-cased words of two texts: those in common over all; 1 for two empty ones."""
    a, b = (set(_WORD.findall(text.lower())) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0


def agreeing(beginnings: Mapping[str, str], agreement: Agreement) -> tuple[str, ...]:
    """The first group of `agree` agents whose beginnings are all similar to that of its first; () if there is none."""
    for name, text in beginnings.items():
        group = [
            other for other, its in beginnings.items() if other == name or similarity(text, its) >= agreement.similarity
        ]
        if len(group) >= agreement.agree:
            return tuple(group)
    return ()
