"""Texts that are read: exactly what upstream had shown by then, in whole chunks, once by each session."""

from collections.abc import Iterator

from stairstream.core.edges import EdgeFinder
from stairstream.core.session import Chunk
from stairstream.sim.prove.facts import AgentFacts, Facts
from stairstream.sim.prove.tape import Entry


def check_readings(facts: Facts) -> Iterator[str]:
    """Every chunk continues the one before it, and the readings of a step say what its session has."""
    for one in facts.agents.values():
        if one.agent.reads:
            yield from _Reading(facts, one).check()


class _Reading:
    """The texts that one agent has read so far."""

    def __init__(self, facts: Facts, one: AgentFacts) -> None:
        self._facts = facts
        self._one = one
        self._seen = dict.fromkeys(one.agent.reads, "")
        self._final = dict.fromkeys(one.agent.reads, False)
        self._held: tuple[Chunk, ...] | None = None
        self._step = 0

    def check(self) -> Iterator[str]:
        name, ends = self._one.agent.name, dict.fromkeys(self._one.agent.reads, 0)
        prefetched: object = None
        for entry in self._one.entries:
            match entry.mark:
                case "opened":
                    self._seen = dict.fromkeys(self._seen, "")
                    self._final = dict.fromkeys(self._final, False)
                    self._held = None
                case "foresee":
                    yield from self._check_foreseen(entry)
                case "prefetch":
                    prefetched = entry.value
                case "prefetched" if entry.value:
                    self._held = prefetched  # type: ignore[assignment]
                case "read":
                    yield from self._check_chunks(entry)
                case "write":
                    self._held = None
                case _:
                    pass
        for step in self._one.starts:
            for reading in step.readings:
                if reading.start != ends[reading.agent] or reading.end < reading.start:
                    # a fallback reads again, and its readings say what is new beyond what was read before
                    before = ends[reading.agent]
                    yield f"{name}: step {step.step} reads {reading.agent} from {reading.start}, not {before}"
                ends[reading.agent] = reading.end
                if reading.end and reading.end not in self._facts.agents[reading.agent].borders and self._is_exact:
                    yield f"{name}: step {step.step} reads {reading.agent} to {reading.end}, inside a delta"

    @property
    def _is_exact(self) -> bool:
        return self._one.agent.edges == "token"

    def _check_foreseen(self, entry: Entry) -> Iterator[str]:
        chunks: tuple[Chunk, ...] = entry.value  # type: ignore[assignment]
        for chunk in chunks:
            if not self._facts.agents[chunk.agent].forwarded.startswith(chunk.text):
                yield f"{self._one.agent.name} was to foresee of {chunk.agent} {chunk.text!r}, which it has not written"

    def _check_chunks(self, entry: Entry) -> Iterator[str]:
        name, chunks = self._one.agent.name, entry.value
        assert isinstance(chunks, tuple)
        if self._held is not None and chunks != self._held:
            yield f"{name} reads {chunks} where {self._held} was prefetched"
        if len({chunk.agent for chunk in chunks}) < len(chunks):
            yield f"{name} reads an agent twice at once"
        for chunk in chunks:
            yield from self._check_chunk(entry, chunk)

    def _check_chunk(self, entry: Entry, chunk: Chunk) -> Iterator[str]:
        name, upstream = self._one.agent.name, self._facts.agents[chunk.agent]
        before, seen = self._seen[chunk.agent], self._seen[chunk.agent] + chunk.text
        if not upstream.forwarded.startswith(seen):
            yield f"{name} reads {chunk.text!r} of {chunk.agent} after {before!r}, which wrote {upstream.forwarded!r}"
        if len(seen) > upstream.visible(entry.after):
            yield f"{name} reads {len(seen)} characters of {chunk.agent}, which had {upstream.visible(entry.after)}"
        if self._final[chunk.agent]:
            yield f"{name} reads {chunk.agent} after its end"
        has_ended = upstream.end is not None and upstream.end_index < entry.after
        if chunk.is_final and not (has_ended and len(seen) == len(upstream.forwarded)):
            yield f"{name} is told that {chunk.agent} had ended at {len(seen)} of {len(upstream.forwarded)} characters"
        if not chunk.text and not chunk.is_final:
            yield f"{name} reads nothing of {chunk.agent}"
        if not self._is_exact and not has_ended and not self._at_edge(upstream, len(seen)):
            yield f"{name} reads {chunk.agent} to {len(seen)}, which is no edge of a {self._one.agent.edges}"
        self._seen[chunk.agent], self._final[chunk.agent] = seen, chunk.is_final

    def _at_edge(self, upstream: AgentFacts, size: int) -> bool:
        """Whether a chunk may end there: at an edge, or at a delta's end before one."""
        finder = EdgeFinder(self._one.agent.edges, self._one.agent.delimiter)
        start, edges = 0, {0}
        for end in upstream.shown_sizes:
            edges.add(finder.feed(upstream.forwarded[start:end]))
            start = end
        return size in edges or (size in upstream.borders and size <= max(edges))
