"""Watches the agents that one agent reads, and says once which of them agree."""

from collections.abc import Callable, Mapping

from stairstream.core.agreement import agreeing
from stairstream.core.graph import Agreement
from stairstream.engine.log import Log


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

    for name, log in logs.items():
        watch(name, log)
